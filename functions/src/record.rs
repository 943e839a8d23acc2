//! The records of an event, decoded.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::topic;
use thiserror::Error;

use crate::event;
use crate::sequence;

/// Largest payload that is accepted, in bytes: Kinesis's own limit for a record unless the stream's
/// `MaxRecordSizeInKiB` is raised, and eight times what AWS IoT lets a device publish.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Why a record is rejected.
/// Decided from the record alone, so that each retry decides the same.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Rejection {
    /// The sender is unknown.
    #[error("invalid partition key \"\": expected the MQTT topic")]
    EmptyPartitionKey,
    /// The record has no place in the order, so it cannot be counted once.
    #[error(
        "invalid sequence number: expected a decimal number of at most {} digits",
        sequence::MAX_DIGITS
    )]
    SequenceNumber,
    /// The payload cannot be decoded.
    #[error("invalid data: expected base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The payload is too large.
    #[error("invalid payload: expected at most {MAX_PAYLOAD_BYTES} bytes")]
    TooLarge,
}

/// A decoded record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'r> {
    /// Index of its stream in [`Records::streams`].
    pub stream: usize,
    /// The MQTT topic; not yet checked.
    pub partition_key: &'r str,
    /// As it is in the event; not yet checked.
    pub sequence_number: &'r str,
    /// Arrival at the stream, in milliseconds since the Unix epoch.
    pub arrival: u64,
    /// The device's bytes.
    pub payload: Result<&'r [u8], &'r Rejection>,
}

impl<'r> Record<'r> {
    /// The device that sent it.
    pub fn device(&self) -> &'r str {
        topic::device(self.partition_key)
    }
}

/// The records of an event, in the event's order.
///
/// They own what they hold, so that the event can be freed before they are processed. Their texts and
/// payloads are contiguous: an event of 10,000 records would otherwise take 30,000 allocations.
#[derive(Debug, Default)]
pub struct Records {
    records: Vec<Stored>,
    /// Partition keys and sequence numbers.
    text: String,
    payloads: Vec<u8>,
    streams: Vec<String>,
}

/// A record, its texts by position.
#[derive(Debug)]
struct Stored {
    stream: u32,
    partition_key: Span,
    sequence_number: Span,
    arrival: u64,
    payload: Result<Span, Rejection>,
}

/// Start and end, in bytes. An event has at most 6 MB.
#[derive(Debug)]
struct Span(u32, u32);

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Self(start as u32, end as u32)
    }

    fn range(&self) -> Range<usize> {
        self.0 as usize..self.1 as usize
    }
}

impl Records {
    /// Decodes and appends a record of an event.
    pub fn push(&mut self, record: &event::Record<'_>) {
        let kinesis = &record.kinesis;
        let stored = Stored {
            stream: self.stream(&record.event_source_arn),
            partition_key: self.copy(&kinesis.partition_key),
            sequence_number: self.copy(&kinesis.sequence_number),
            arrival: kinesis.arrival(),
            payload: self.decode(&kinesis.data),
        };
        self.records.push(stored);
    }

    /// Index of a stream. An event has one stream, so a linear search is fastest.
    fn stream(&mut self, arn: &str) -> u32 {
        let known = self.streams.iter().position(|stream| stream == arn);
        known.unwrap_or_else(|| {
            self.streams.push(arn.to_owned());
            self.streams.len() - 1
        }) as u32
    }

    fn copy(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span::new(start, self.text.len())
    }

    fn decode(&mut self, data: &str) -> Result<Span, Rejection> {
        // Four characters hold at most three bytes: a payload that is far too large is not decoded.
        if data.len() / 4 > MAX_PAYLOAD_BYTES.div_ceil(3) {
            return Err(Rejection::TooLarge);
        }
        let start = self.payloads.len();
        let decoded = STANDARD.decode_vec(data, &mut self.payloads);
        let end = self.payloads.len();
        let rejection = match decoded {
            Ok(()) if end - start <= MAX_PAYLOAD_BYTES => return Ok(Span::new(start, end)),
            Ok(()) => Rejection::TooLarge,
            Err(error) => error.into(),
        };
        self.payloads.truncate(start);
        Err(rejection)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the event had no records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// ARNs of the streams.
    pub fn streams(&self) -> &[String] {
        &self.streams
    }

    /// Iterates over the records.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.records.iter().map(|record| Record {
            stream: record.stream as usize,
            partition_key: &self.text[record.partition_key.range()],
            sequence_number: &self.text[record.sequence_number.range()],
            arrival: record.arrival,
            payload: match &record.payload {
                Ok(payload) => Ok(&self.payloads[payload.range()]),
                Err(rejection) => Err(rejection),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: String, expected: Result<usize, Rejection>) {
        let mut records = Records::default();
        for data in ["Zmlyc3Q=", &data, "bGFzdA=="] {
            records.push(&event::Record {
                event_source_arn: "arn".into(),
                kinesis: event::Kinesis {
                    approximate_arrival_timestamp: 1.5,
                    data: data.into(),
                    partition_key: "topic".into(),
                    sequence_number: "7".into(),
                },
            });
        }
        let records: Vec<Record<'_>> = records.iter().collect();
        assert_eq!(records[0].payload, Ok(&b"first"[..]));
        assert_eq!(records[2].payload, Ok(&b"last"[..]));
        match (records[1].payload, &expected) {
            (Err(Rejection::Base64(_)), Err(Rejection::Base64(_))) => {}
            (payload, expected) => assert_eq!(
                payload.map(<[u8]>::len),
                expected.as_ref().map(|length| *length)
            ),
        }
    }

    #[test]
    fn a_payload_is_base64_of_at_most_one_mebibyte() {
        let bytes = |count: usize| STANDARD.encode(vec![7; count]);
        check(bytes(5), Ok(5));
        check(bytes(0), Ok(0));
        check(bytes(MAX_PAYLOAD_BYTES), Ok(MAX_PAYLOAD_BYTES));
        check(bytes(MAX_PAYLOAD_BYTES + 1), Err(Rejection::TooLarge));
        check(bytes(MAX_PAYLOAD_BYTES + 9), Err(Rejection::TooLarge));
        let invalid = Rejection::Base64(base64::DecodeError::InvalidLength(1));
        for data in ["*", "AAA", "AA=A", "AA", "AAAA AAAA", "AAA_"] {
            check(data.to_owned(), Err(invalid.clone()));
        }
    }
}
