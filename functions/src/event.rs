//! The event that Lambda sends for a Kinesis stream, read with serde.
//!
//! The structs borrow text from the event and name only the fields that the function uses.
//! `aws_lambda_events` has the whole event as types, but they own every text and decode every date:
//! three times the CPU (docs/PERFORMANCE.md). A test compares both on AWS's sample events.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>

use std::borrow::Cow;
use std::fmt;
use std::time::Instant;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::record::Records;

/// An event, its records decoded.
#[derive(Debug)]
pub struct Event {
    /// When the function got it.
    pub started: Instant,
    /// Its records.
    pub records: Records,
}

impl Event {
    /// Parses an event.
    ///
    /// # Errors
    /// The text is not a Kinesis event in JSON. A record that is merely unusable is not an error, see
    /// [`Rejection`](crate::record::Rejection).
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        /// <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct KinesisEvent {
            records: Records,
        }
        let started = Instant::now();
        let KinesisEvent { records } = serde_json::from_str(text)?;
        Ok(Self { started, records })
    }
}

/// What the Lambda runtime calls with the body of an invocation. The body is dropped before the handler
/// runs, so one copy of the event is in memory, and none beside the command for the cache.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text first, then its fields by `parse`: the runtime's own deserializer allocates a copy of
        // each field's name, which costs more than this second pass over the text.
        let text = <&RawValue>::deserialize(deserializer)?;
        Self::parse(text.get()).map_err(D::Error::custom)
    }
}

/// A record of the event.
#[derive(Debug, Deserialize)]
pub struct Record<'a> {
    /// ARN of the stream.
    #[serde(borrow, default, rename = "eventSourceARN")]
    pub event_source_arn: Cow<'a, str>,
    /// The Kinesis record.
    #[serde(borrow)]
    pub kinesis: Kinesis<'a>,
}

/// A Kinesis record.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kinesis<'a> {
    /// Arrival at the stream, in seconds since the Unix epoch with three decimals.
    /// Can decrease from record to record.
    pub approximate_arrival_timestamp: f64,
    /// The payload in base64.
    #[serde(borrow)]
    pub data: Cow<'a, str>,
    /// The MQTT topic.
    #[serde(borrow, default)]
    pub partition_key: Cow<'a, str>,
    /// Up to 129 digits, see [`sequence`](crate::sequence).
    #[serde(borrow, default)]
    pub sequence_number: Cow<'a, str>,
}

impl Kinesis<'_> {
    /// Arrival at the stream, in milliseconds since the Unix epoch.
    pub fn arrival(&self) -> u64 {
        // Far below 2^53, so rounding gives the exact millisecond; `as` turns a negative into zero.
        (self.approximate_arrival_timestamp * 1000.0).round() as u64
    }
}

/// Decodes each record as it is parsed: a list of parsed records would be a fifth of the event's size.
impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Records;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of Kinesis records")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Records, A::Error> {
                let mut records = Records::default();
                while let Some(record) = list.next_element::<Record<'de>>()? {
                    records.push(&record);
                }
                Ok(records)
            }
        }

        deserializer.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::event::kinesis::KinesisEvent;

    use super::*;

    /// In the form of the events in AWS's documentation and SDKs: plain, encrypted, and with a window.
    const SAMPLES: &[&str] = &[
        include_str!("../tests/events/kinesis.json"),
        include_str!("../tests/events/kinesis-encrypted.json"),
        include_str!("../tests/events/kinesis-window.json"),
        r#"{"Records":[]}"#,
    ];

    #[test]
    fn an_event_is_parsed_as_by_aws_lambda_events() {
        for sample in SAMPLES {
            let expected: KinesisEvent = serde_json::from_str(sample).unwrap();
            let records = Event::parse(sample).unwrap().records;
            assert_eq!(records.len(), expected.records.len());
            for (record, expected) in records.iter().zip(&expected.records) {
                let kinesis = &expected.kinesis;
                let arrival = kinesis.approximate_arrival_timestamp.timestamp_millis();
                assert_eq!(record.arrival as i64, arrival);
                assert_eq!(
                    Some(&records.streams()[record.stream]),
                    expected.event_source_arn.as_ref()
                );
                assert_eq!(record.partition_key, kinesis.partition_key);
                assert_eq!(record.sequence_number, kinesis.sequence_number);
                assert_eq!(record.payload, Ok(&kinesis.data.0[..]));
            }
        }
    }

    #[test]
    fn text_is_borrowed_from_the_event() {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Borrowed<'a> {
            #[serde(borrow)]
            records: Vec<Record<'a>>,
        }
        let event: Borrowed<'_> = serde_json::from_str(SAMPLES[0]).unwrap();
        for record in event.records {
            let kinesis = record.kinesis;
            for text in [
                record.event_source_arn,
                kinesis.data,
                kinesis.partition_key,
                kinesis.sequence_number,
            ] {
                assert!(matches!(text, Cow::Borrowed(_)), "{text}");
            }
        }
    }

    #[test]
    fn escapes_are_decoded() {
        let event = r#"{"Records":[{"eventSourceARN":"\u0061","kinesis":{
            "approximateArrivalTimestamp":1,"data":"\/w==","partitionKey":"k\u00fc",
            "sequenceNumber":"\u0030\u0037"}}]}"#;
        let records = Event::parse(event).unwrap().records;
        let record = records.iter().next().unwrap();
        assert_eq!(records.streams(), ["a"]);
        assert_eq!(record.payload, Ok(&[255][..]));
        assert_eq!((record.partition_key, record.sequence_number), ("kü", "07"));
    }

    #[test]
    fn the_lambda_runtime_gets_the_same_event_and_the_reason_of_an_error() {
        let parse = |text: &'static str| {
            let mut json = serde_json::Deserializer::from_slice(text.as_bytes());
            Event::deserialize(&mut json)
        };
        assert_eq!(parse(SAMPLES[0]).unwrap().records.len(), 2);
        let error = parse(r#"{"detail-type":"Scheduled Event"}"#).unwrap_err();
        assert!(
            error.to_string().contains("missing field `Records`"),
            "{error}"
        );
    }

    #[test]
    fn unknown_fields_of_any_depth_are_ignored() {
        let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let event = format!(
            r#"{{"x":{nested},"Records":[{{"y":{nested},"kinesis":{{"z":{nested},
            "data":"","approximateArrivalTimestamp":-1}}}}]}}"#
        );
        let records = Event::parse(&event).unwrap().records;
        assert_eq!(records.iter().next().unwrap().arrival, 0);
    }

    #[test]
    fn what_is_not_a_kinesis_event_is_an_error() {
        for (event, expected) in [
            ("", "EOF"),
            ("{}", "missing field `Records`"),
            ("null", "invalid type: null"),
            (r#"{"Records":{}}"#, "expected a list of Kinesis records"),
            (r#"{"Records":[{}]}"#, "missing field `kinesis`"),
            (r#"{"Records":[]} x"#, "trailing characters"),
            (
                r#"{"Records":[],"Records":[]}"#,
                "duplicate field `Records`",
            ),
            (
                r#"{"Records":[{"kinesis":{"approximateArrivalTimestamp":1}}]}"#,
                "missing field `data`",
            ),
            (
                r#"{"Records":[{"kinesis":{"data":""}}]}"#,
                "missing field `approximateArrivalTimestamp`",
            ),
        ] {
            let error = Event::parse(event).unwrap_err().to_string();
            assert!(error.contains(expected), "{event}: {error}");
        }
        for end in 0..SAMPLES[0].len() - 1 {
            assert!(
                Event::parse(&SAMPLES[0][..end]).is_err(),
                "cut off at {end}"
            );
        }
    }
}
