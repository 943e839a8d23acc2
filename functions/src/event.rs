//! What Lambda sends for a Kinesis stream, read without copying.
//!
//! Field for field what `aws_lambda_events::event::kinesis::KinesisEvent` understands (a test compares
//! the two on AWS's sample events), but text stays where Lambda's body has it, base64 is decoded only by
//! who needs it, and records are handed on one by one instead of being collected.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>

use std::borrow::Cow;

use crate::json::{Malformed, Reader};

/// One record of the event.
#[derive(Debug, Default)]
pub struct Record<'a> {
    /// ARN of the stream.
    pub event_source_arn: Cow<'a, str>,
    /// The record as Kinesis has it.
    pub kinesis: Kinesis<'a>,
}

/// A Kinesis record.
#[derive(Debug, Default)]
pub struct Kinesis<'a> {
    /// Arrival at the stream, in milliseconds since the Unix epoch.
    /// Not guaranteed to grow from record to record.
    pub arrival: u64,
    /// The payload in base64.
    pub data: Cow<'a, str>,
    /// Partition key: the MQTT topic.
    pub partition_key: Cow<'a, str>,
    /// Sequence number, see [`sequence`](crate::sequence).
    pub sequence_number: Cow<'a, str>,
}

/// Calls `take` with every record of the event in turn.
///
/// # Errors
/// When the text is not such an event; some records may have been handed out by then.
pub fn each_record<'a>(event: &'a str, mut take: impl FnMut(Record<'a>)) -> Result<(), Malformed> {
    let mut json = Reader::new(event);
    let mut found = false;
    json.object("a Kinesis event with `Records`", |json, field| {
        if field != "Records" {
            return json.skip();
        }
        if std::mem::replace(&mut found, true) {
            return Err(json.malformed("a second `Records`"));
        }
        json.list("a list of Kinesis records", |json| {
            take(record(json)?);
            Ok(())
        })
    })?;
    json.end()?;
    found
        .then_some(())
        .ok_or_else(|| json.malformed("missing field `Records`"))
}

fn record<'a>(json: &mut Reader<'a>) -> Result<Record<'a>, Malformed> {
    let mut record = Record::default();
    let mut found = false;
    json.object("a record", |json, field| {
        match field {
            "eventSourceARN" => record.event_source_arn = json.string()?,
            "kinesis" => {
                found = true;
                record.kinesis = kinesis(json)?;
            }
            _ => json.skip()?,
        }
        Ok(())
    })?;
    found
        .then_some(record)
        .ok_or_else(|| json.malformed("missing field `kinesis`"))
}

fn kinesis<'a>(json: &mut Reader<'a>) -> Result<Kinesis<'a>, Malformed> {
    let mut kinesis = Kinesis::default();
    let (mut arrival, mut data) = (None, None);
    json.object("a Kinesis record", |json, field| {
        match field {
            "approximateArrivalTimestamp" => arrival = Some(milliseconds(json.number()?)),
            "data" => data = Some(json.string()?),
            "partitionKey" => kinesis.partition_key = json.string()?,
            "sequenceNumber" => kinesis.sequence_number = json.string()?,
            _ => json.skip()?,
        }
        Ok(())
    })?;
    kinesis.data = data.ok_or_else(|| json.malformed("missing field `data`"))?;
    kinesis.arrival =
        arrival.ok_or_else(|| json.malformed("missing field `approximateArrivalTimestamp`"))?;
    Ok(kinesis)
}

/// Lambda writes seconds with a fraction of three digits.
fn milliseconds(seconds: f64) -> u64 {
    // Far below 2^53, so rounding finds the exact millisecond; `as` turns a negative into zero.
    (seconds * 1000.0).round() as u64
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
            ("null", "expected a Kinesis event with `Records`"),
            (r#"{"Records":{}}"#, "expected a list of Kinesis records"),
            (r#"{"Records":[{}]}"#, "missing field `kinesis`"),
            (r#"{"Records":[]} x"#, "expected the end"),
            (r#"{"Records":[],"Records":[]}"#, "a second `Records`"),
            (
                r#"{"Records":[{"kinesis":{"approximateArrivalTimestamp":1}}]}"#,
                "missing field `data`",
            ),
            (
                r#"{"Records":[{"kinesis":{"data":""}}]}"#,
                "missing field `approximateArrivalTimestamp`",
            ),
        ] {
            let error = each_record(event, drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{event}: {error}");
        }
    }
}
