//! A whole event, folded by stream and partition key while it is read.
//!
//! Per key the script needs all sequence numbers, to count those above the watermark, but of the
//! payloads only the latest: what 10,000 records hold in memory is their sequence numbers and one
//! payload a device.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use contract::{redis, topic};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use crate::event::{self, Record};
use crate::record::{self, Rejection};
use crate::sequence;

/// The records of one event.
#[derive(Debug)]
pub struct Batch {
    /// When the function got it.
    pub started: Instant,
    /// Number of records, whatever became of them.
    pub records: usize,
    /// Sequence number of the first record, as it came; where a retry of the whole batch starts.
    pub first: Option<String>,
    /// The records that can be taken.
    pub groups: Vec<Group>,
    /// Those that cannot, in the event's order.
    pub rejected: Vec<Rejected>,
    /// Records that the event holds more than once, beyond the first copy; not in [`groups`](Self::groups).
    pub repeated: usize,
}

/// The records of one stream and partition key.
///
/// There may be as many groups as records, so what is said elsewhere already is a range of it.
#[derive(Debug, Default)]
pub struct Group {
    /// Key of the watermark.
    pub mark_key: String,
    /// Number of records.
    pub records: usize,
    /// Their sequence numbers' digits, ascending, a space between any two.
    pub sequences: String,
    /// Arrival of the latest record, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Payload of the latest record.
    pub payload: Vec<u8>,
    /// Where the device stands in `mark_key`, which it ends.
    device: usize,
    /// Where the highest number stands in `sequences`.
    last: Range<usize>,
    /// Where the latest record's number stands in `sequences`.
    latest: Range<usize>,
    unordered: bool,
}

/// A record that cannot be taken.
#[derive(Debug)]
pub struct Rejected {
    /// Its sequence number, as it came.
    pub sequence_number: String,
    /// Who sent it.
    pub device: String,
    /// Why.
    pub reason: Rejection,
}

impl Batch {
    /// Folds an event.
    ///
    /// # Errors
    /// When the text is no Kinesis event.
    pub fn parse(event: &str) -> serde_json::Result<Self> {
        let mut fold = Fold {
            batch: Self {
                started: Instant::now(),
                records: 0,
                first: None,
                groups: Vec::new(),
                rejected: Vec::new(),
                repeated: 0,
            },
            places: HashMap::new(),
            payload: Vec::new(),
        };
        event::each_record(event, |record| fold.add(record))?;
        let mut batch = fold.batch;
        for group in &mut batch.groups {
            batch.repeated += group.sort();
        }
        Ok(batch)
    }
}

/// For the Lambda runtime, which asks for a type that owns what it holds; [`intake`](crate::intake) is
/// the shorter way.
impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // In one piece, because the runtime tracks the path of every field, with a copy of its name.
        let event = <&RawValue>::deserialize(deserializer)?;
        Self::parse(event.get()).map_err(D::Error::custom)
    }
}

type Key<'a> = (Cow<'a, str>, Cow<'a, str>);

struct Fold<'a> {
    batch: Batch,
    places: HashMap<Key<'a>, usize>,
    /// The record at hand, decoded; swapped with the group's when it is the later one.
    payload: Vec<u8>,
}

impl<'a> Fold<'a> {
    fn add(&mut self, record: Record<'a>) {
        let batch = &mut self.batch;
        let kinesis = record.kinesis;
        batch.records += 1;
        if batch.first.is_none() {
            batch.first = Some(kinesis.sequence_number.to_string());
        }
        let taken = record::take(
            &kinesis.partition_key,
            &kinesis.sequence_number,
            &kinesis.data,
            &mut self.payload,
        );
        let digits = match taken {
            Ok(digits) => digits,
            Err(reason) => {
                batch.rejected.push(Rejected {
                    sequence_number: kinesis.sequence_number.to_string(),
                    device: topic::device(&kinesis.partition_key).to_owned(),
                    reason,
                });
                return;
            }
        };
        let groups = &mut batch.groups;
        let place = *self
            .places
            .entry((record.event_source_arn, kinesis.partition_key))
            .or_insert_with_key(|(stream, key)| {
                groups.push(Group::new(stream, key));
                groups.len() - 1
            });
        groups[place].add(digits, kinesis.arrival, &mut self.payload);
    }
}

impl Group {
    fn new(stream: &str, key: &str) -> Self {
        let mark_key = redis::mark_key(stream, key);
        let device = mark_key.len() - topic::device(key).len();
        Self {
            mark_key,
            device,
            ..Self::default()
        }
    }

    /// Who sent the records.
    pub fn device(&self) -> &str {
        &self.mark_key[self.device..]
    }

    /// The highest sequence number.
    pub fn last(&self) -> &str {
        &self.sequences[self.last.clone()]
    }

    /// Sequence number of the latest record.
    pub fn latest(&self) -> &str {
        &self.sequences[self.latest.clone()]
    }

    /// `digits` are of [`sequence::digits`]; `payload` is swapped for another buffer if it is kept.
    fn add(&mut self, digits: &str, at: u64, payload: &mut Vec<u8>) {
        let first = self.records == 0;
        let higher = first || sequence::compare(digits, self.last()) == Ordering::Greater;
        let order = at
            .cmp(&self.at)
            .then_with(|| sequence::compare(digits, self.latest()));
        if !first {
            self.sequences.push(' ');
        }
        let place = self.sequences.len()..self.sequences.len() + digits.len();
        self.sequences.push_str(digits);
        if higher {
            self.last = place.clone();
        } else {
            self.unordered = true;
        }
        if first || order == Ordering::Greater {
            self.at = at;
            self.latest = place;
            std::mem::swap(&mut self.payload, payload);
        }
        self.records += 1;
    }

    /// Kinesis delivers a key's records in order and once; whoever does not is put right here.
    /// Answers how many records came again.
    fn sort(&mut self) -> usize {
        if !self.unordered {
            return 0;
        }
        let mut sequences: Vec<&str> = self.sequences.split(' ').collect();
        sequences.sort_unstable_by(|a, b| sequence::compare(a, b));
        sequences.dedup();
        let repeated = self.records - sequences.len();
        let mut sorted = String::with_capacity(self.sequences.len());
        let mut latest = 0..0;
        for digits in &sequences {
            if !sorted.is_empty() {
                sorted.push(' ');
            }
            self.last = sorted.len()..sorted.len() + digits.len();
            if *digits == self.latest() {
                latest = self.last.clone();
            }
            sorted.push_str(digits);
        }
        self.records = sequences.len();
        self.latest = latest;
        self.sequences = sorted;
        self.unordered = false;
        repeated
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `stream key sequence arrival payload` a line; the payload `!` stands for bad base64.
    fn batch(lines: &[&str]) -> Batch {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let records: Vec<_> = lines
            .iter()
            .map(|line| {
                let mut parts = line.split(' ');
                let mut next = || parts.next().unwrap();
                let (stream, key, sequence) = (next(), next(), next());
                let arrival: f64 = next().parse().unwrap();
                let data = match next() {
                    "!" => "!".to_owned(),
                    payload => STANDARD.encode(payload),
                };
                json!({"eventSourceARN": stream, "kinesis": {
                    "partitionKey": key, "sequenceNumber": sequence,
                    "approximateArrivalTimestamp": arrival, "data": data,
                }})
            })
            .collect();
        Batch::parse(&json!({ "Records": records }).to_string()).unwrap()
    }

    fn groups(batch: &Batch) -> Vec<String> {
        let group = |group: &Group| {
            let Group {
                mark_key,
                records,
                sequences,
                at,
                payload,
                ..
            } = group;
            let (device, last, latest) = (group.device(), group.last(), group.latest());
            let payload = String::from_utf8_lossy(payload);
            format!("{mark_key} {device} {records} [{sequences}] {last} {at} {latest} {payload}")
        };
        batch.groups.iter().map(group).collect()
    }

    #[test]
    fn records_are_folded_by_stream_and_key() {
        let batch = batch(&[
            "arn:a topic/sensors/x 9 1.001 first",
            "arn:a topic/sensors 10 1.002 bare",
            "arn:a topic/sensors/x 010 1.003 second",
            "arn:b topic/sensors/x 1 1.004 other",
            "arn:a topic/sensors/x 011 1.003 third",
        ]);
        assert_eq!(
            groups(&batch),
            [
                "sensorMark:arn:a:topic/sensors/x x 3 [9 10 11] 11 1003 11 third",
                "sensorMark:arn:a:topic/sensors topic/sensors 1 [10] 10 1002 10 bare",
                "sensorMark:arn:b:topic/sensors/x x 1 [1] 1 1004 1 other",
            ]
        );
        assert_eq!((batch.records, batch.repeated), (5, 0));
        assert_eq!(batch.first.as_deref(), Some("9"));
    }

    #[test]
    fn later_is_who_arrived_later() {
        let batch = batch(&["a k 1 2 early", "a k 2 1 late", "a k 3 2 tie"]);
        assert_eq!(groups(&batch), ["sensorMark:a:k k 3 [1 2 3] 3 2000 3 tie"]);
    }

    #[test]
    fn disorder_and_repetition_are_put_right() {
        let batch = batch(&["a k 10 1 a", "a k 9 2 b", "a k 10 1 a", "a k 9 2 b"]);
        assert_eq!(groups(&batch), ["sensorMark:a:k k 2 [9 10] 10 2000 9 b"]);
        assert_eq!((batch.records, batch.repeated), (4, 2));
    }

    #[test]
    fn rejected_records_do_not_touch_the_others() {
        let batch = batch(&[
            "a k 1 1 good",
            "a topic/sensors/k 2 2 !",
            "a k 3 3 !",
            "a k 4 1 good",
        ]);
        assert_eq!(groups(&batch), ["sensorMark:a:k k 2 [1 4] 4 1000 4 good"]);
        let rejected: Vec<_> = batch
            .rejected
            .iter()
            .map(|r| (r.sequence_number.as_str(), r.device.as_str()))
            .collect();
        assert_eq!(rejected, [("2", "k"), ("3", "k")]);
    }

    #[test]
    fn the_runtimes_deserializer_is_served() {
        let event = include_bytes!("../tests/events/kinesis.json");
        let mut json = serde_json::Deserializer::from_slice(event);
        let batch = Batch::deserialize(&mut json).unwrap();
        assert_eq!(batch.records, 2);
    }
}
