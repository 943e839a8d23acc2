//! What Lambda sends for a Kinesis stream, read without copying.
//!
//! Field for field what `aws_lambda_events::event::kinesis::KinesisEvent` understands (a test compares
//! the two on AWS's sample events), but text stays where Lambda's body has it, base64 is decoded only by
//! who needs it, and records are handed on one by one instead of being collected.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

/// One record of the event.
#[derive(Debug, Deserialize)]
pub struct Record<'a> {
    /// ARN of the stream.
    #[serde(rename = "eventSourceARN", borrow, default)]
    pub event_source_arn: Cow<'a, str>,
    /// The record as Kinesis has it.
    #[serde(borrow)]
    pub kinesis: Kinesis<'a>,
}

/// A Kinesis record.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kinesis<'a> {
    /// Arrival at the stream, in milliseconds since the Unix epoch.
    /// Not guaranteed to grow from record to record.
    #[serde(
        rename = "approximateArrivalTimestamp",
        deserialize_with = "milliseconds"
    )]
    pub arrival: u64,
    /// The payload in base64.
    #[serde(borrow)]
    pub data: Cow<'a, str>,
    /// Partition key: the MQTT topic.
    #[serde(borrow, default)]
    pub partition_key: Cow<'a, str>,
    /// Sequence number, see [`sequence`](crate::sequence).
    #[serde(borrow, default)]
    pub sequence_number: Cow<'a, str>,
}

/// Calls `take` with every record of the event in turn.
///
/// # Errors
/// When the text is not such an event; some records may have been handed out by then.
pub fn each_record<'a>(event: &'a str, take: impl FnMut(Record<'a>)) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_str(event);
    json.deserialize_map(Event(take))?;
    json.end()
}

/// Lambda writes seconds with a fraction of three digits.
fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    // Far below 2^53, so rounding finds the exact millisecond; `as` turns a negative into zero.
    Ok((seconds * 1000.0).round() as u64)
}

#[derive(Deserialize)]
enum Field {
    Records,
    #[serde(other)]
    Other,
}

struct Event<F>(F);

impl<'de, F: FnMut(Record<'de>)> Visitor<'de> for Event<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a Kinesis event with `Records`")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Records if found => return Err(de::Error::duplicate_field("Records")),
                Field::Records => {
                    found = true;
                    map.next_value_seed(Records(&mut self.0))?;
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if found {
            Ok(())
        } else {
            Err(A::Error::missing_field("Records"))
        }
    }
}

struct Records<'f, F>(&'f mut F);

impl<'de, F: FnMut(Record<'de>)> DeserializeSeed<'de> for Records<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Record<'de>)> Visitor<'de> for Records<'_, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of Kinesis records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<(), A::Error> {
        while let Some(record) = records.next_element()? {
            (self.0)(record);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::event::kinesis::KinesisEvent;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// In the form of the events that AWS's documentation and SDKs show: plain, encrypted, and with a
    /// window.
    const SAMPLES: &[&str] = &[
        include_str!("../tests/events/kinesis.json"),
        include_str!("../tests/events/kinesis-encrypted.json"),
        include_str!("../tests/events/kinesis-window.json"),
        r#"{"Records":[]}"#,
    ];

    #[test]
    fn reads_what_aws_lambda_events_reads() {
        for sample in SAMPLES {
            let theirs: KinesisEvent = serde_json::from_str(sample).unwrap();
            let mut ours = Vec::new();
            each_record(sample, |record| ours.push(record)).unwrap();
            assert_eq!(ours.len(), theirs.records.len());
            for (ours, theirs) in ours.iter().zip(&theirs.records) {
                let arrival = theirs
                    .kinesis
                    .approximate_arrival_timestamp
                    .timestamp_millis();
                assert_eq!(ours.kinesis.arrival as i64, arrival);
                assert_eq!(
                    Some(ours.event_source_arn.as_ref()),
                    theirs.event_source_arn.as_deref()
                );
                assert_eq!(ours.kinesis.partition_key, theirs.kinesis.partition_key);
                assert_eq!(ours.kinesis.sequence_number, theirs.kinesis.sequence_number);
                assert_eq!(
                    STANDARD.decode(ours.kinesis.data.as_bytes()).unwrap(),
                    theirs.kinesis.data.0
                );
            }
        }
    }

    #[test]
    fn text_is_borrowed_from_the_event() {
        each_record(SAMPLES[0], |record| {
            assert!(matches!(record.event_source_arn, Cow::Borrowed(_)));
            assert!(matches!(record.kinesis.data, Cow::Borrowed(_)));
            assert!(matches!(record.kinesis.partition_key, Cow::Borrowed(_)));
            assert!(matches!(record.kinesis.sequence_number, Cow::Borrowed(_)));
        })
        .unwrap();
    }

    #[test]
    fn escapes_are_understood() {
        let event = r#"{"Records":[{"kinesis":{"approximateArrivalTimestamp":1,"data":"\/w==","partitionKey":"k\u00fc"}}]}"#;
        each_record(event, |record| {
            assert_eq!(record.kinesis.data, "/w==");
            assert_eq!(record.kinesis.partition_key, "kü");
        })
        .unwrap();
    }

    #[test]
    fn what_is_no_kinesis_event_is_an_error() {
        for (event, expected) in [
            ("{}", "missing field `Records`"),
            ("[]", "expected a Kinesis event with `Records`"),
            (r#"{"Records":{}}"#, "expected a list of Kinesis records"),
            (r#"{"Records":[{}]}"#, "missing field `kinesis`"),
            (r#"{"Records":[]} x"#, "trailing characters"),
            (
                r#"{"Records":[{"kinesis":{"approximateArrivalTimestamp":1}}]}"#,
                "missing field `data`",
            ),
        ] {
            let error = each_record(event, drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{event}: {error}");
        }
    }
}
