//! A whole event, folded by stream and partition key while it is read.
//!
//! Per key the script needs all sequence numbers, to count those above the watermark, but of the
//! payloads only the latest. What is folded stays where the event has it, and leaves as one piece of
//! bytes: see [`Groups`].

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Instant;

use contract::topic;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use crate::event::{self, Record};
use crate::json::Malformed;
use crate::pack::Packer;
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
    pub groups: Groups,
    /// Those that cannot, in the event's order.
    pub rejected: Vec<Rejected>,
    /// Records that the event holds more than once, beyond the first copy; not in [`groups`](Self::groups).
    pub repeated: usize,
}

/// The records that can be taken, by stream and partition key, as the script wants to have them.
#[derive(Debug, Default)]
pub struct Groups {
    /// ARNs of the streams, which groups name by their place.
    pub streams: Vec<String>,
    /// MessagePack: a list of [`WIDTH`] values a group, `batch.lua` says which.
    pub packed: Vec<u8>,
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

/// Values of a group in [`Groups::packed`].
pub const WIDTH: usize = 9;

/// Where in the script's arguments the first stream stands: Lua counts from one, and two come before.
const FIRST_STREAM: usize = 3;

impl Batch {
    /// Folds an event.
    ///
    /// # Errors
    /// When the text is no Kinesis event.
    pub fn parse(event: &str) -> Result<Self, Malformed> {
        let started = Instant::now();
        let mut fold = Fold::default();
        event::each_record(event, |record| fold.add(record))?;
        let (groups, repeated) = fold.pack();
        Ok(Self {
            started,
            records: fold.records,
            first: fold.first,
            groups,
            rejected: fold.rejected,
            repeated,
        })
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

impl Groups {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }
}

/// What is known of an event so far. Nothing is allocated for each record: it is a number's place in
/// `numbers`, and the payload of a key's latest record a place in `payloads`.
#[derive(Default)]
struct Fold<'a> {
    records: usize,
    first: Option<String>,
    rejected: Vec<Rejected>,
    streams: Vec<Cow<'a, str>>,
    groups: Vec<Group<'a>>,
    places: HashMap<(usize, Cow<'a, str>), usize>,
    numbers: Vec<Number<'a>>,
    payloads: Vec<u8>,
}

/// The records of one stream and partition key.
struct Group<'a> {
    stream: usize,
    key: Cow<'a, str>,
    records: u32,
    /// Arrival of the latest record, in milliseconds since the Unix epoch.
    at: u64,
    payload: Place,
    /// Places in [`Fold::numbers`]: of the first record, of the last one that came, of the highest
    /// number, and of the latest record's.
    first: u32,
    end: u32,
    highest: u32,
    latest: u32,
    unordered: bool,
}

/// Where in [`Fold::payloads`] a payload is, and how many bytes fit there.
#[derive(Clone, Copy, Default)]
struct Place {
    start: usize,
    length: u32,
    room: u32,
}

/// A sequence number's digits, and the place of the next one of the same group.
struct Number<'a> {
    digits: Cow<'a, str>,
    next: u32,
}

impl<'a> Fold<'a> {
    fn add(&mut self, record: Record<'a>) {
        let kinesis = record.kinesis;
        self.records += 1;
        if self.first.is_none() {
            self.first = Some(kinesis.sequence_number.to_string());
        }
        let start = self.payloads.len();
        let taken = record::take(
            &kinesis.partition_key,
            &kinesis.sequence_number,
            &kinesis.data,
            &mut self.payloads,
        );
        let digits = match taken {
            Ok(digits) => digits.len(),
            Err(reason) => {
                self.payloads.truncate(start);
                self.rejected.push(Rejected {
                    device: topic::device(&kinesis.partition_key).to_owned(),
                    sequence_number: kinesis.sequence_number.into_owned(),
                    reason,
                });
                return;
            }
        };
        let place = self.place(record.event_source_arn, kinesis.partition_key);
        self.count(
            place,
            kinesis.sequence_number,
            digits,
            kinesis.arrival,
            start,
        );
    }

    /// Place of the group of a stream and key.
    fn place(&mut self, stream: Cow<'a, str>, key: Cow<'a, str>) -> usize {
        // One as a rule, so looking at each is quickest.
        let stream = match self.streams.iter().position(|known| *known == stream) {
            Some(place) => place,
            None => {
                self.streams.push(stream);
                self.streams.len() - 1
            }
        };
        let groups = &mut self.groups;
        *self
            .places
            .entry((stream, key))
            .or_insert_with_key(|(stream, key)| {
                groups.push(Group {
                    stream: *stream,
                    key: key.clone(),
                    records: 0,
                    at: 0,
                    payload: Place::default(),
                    first: 0,
                    end: 0,
                    highest: 0,
                    latest: 0,
                    unordered: false,
                });
                groups.len() - 1
            })
    }

    /// Adds a record to a group. The number's last `digits` bytes count; the payload stands at the end
    /// of `payloads`, from `start`.
    fn count(&mut self, group: usize, number: Cow<'a, str>, digits: usize, at: u64, start: usize) {
        let group = &mut self.groups[group];
        // An event has some megabytes, so these never come near their ends.
        let place = self.numbers.len() as u32;
        let digits = match number {
            Cow::Borrowed(number) => Cow::Borrowed(&number[number.len() - digits..]),
            Cow::Owned(number) => Cow::Owned(number[number.len() - digits..].to_owned()),
        };
        let compare = |other: u32| sequence::compare(&digits, &self.numbers[other as usize].digits);
        let is_first = group.records == 0;
        let is_latest =
            is_first || at.cmp(&group.at).then_with(|| compare(group.latest)) == Ordering::Greater;
        if is_first || compare(group.highest) == Ordering::Greater {
            group.highest = place;
        } else {
            group.unordered = true;
        }
        if is_first {
            group.first = place;
        } else {
            self.numbers[group.end as usize].next = place;
        }
        group.end = place;
        group.records += 1;
        self.numbers.push(Number {
            digits,
            next: place,
        });
        if is_latest {
            group.at = at;
            group.latest = place;
            keep(&mut self.payloads, &mut group.payload, start);
        } else {
            self.payloads.truncate(start);
        }
    }

    /// The groups as the script wants them, and how many records came again.
    fn pack(&self) -> (Groups, usize) {
        if self.groups.is_empty() {
            return (Groups::default(), 0);
        }
        let numbers: usize = self
            .numbers
            .iter()
            .map(|number| number.digits.len() + 1)
            .sum();
        let keys: usize = self.groups.iter().map(|group| group.key.len() * 2).sum();
        let bytes = numbers + keys + self.payloads.len() + 96 * self.groups.len();
        let mut packer = Packer::list(WIDTH * self.groups.len(), bytes);
        let mut repeated = 0;
        for group in &self.groups {
            repeated += self.pack_group(group, &mut packer);
        }
        let groups = Groups {
            streams: self
                .streams
                .iter()
                .map(|stream| stream.to_string())
                .collect(),
            packed: packer.bytes,
        };
        (groups, repeated)
    }

    fn pack_group(&self, group: &Group, packer: &mut Packer) -> usize {
        let mut digits = self.digits(group);
        // Kinesis delivers a key's records in order and once; whoever does not is put right here.
        if group.unordered {
            digits.sort_unstable_by(|a, b| sequence::compare(a, b));
            digits.dedup();
        }
        let number = |place: u32| &*self.numbers[place as usize].digits;
        let (highest, latest) = (number(group.highest), number(group.latest));
        let device = topic::device(&group.key);
        packer.number(FIRST_STREAM + group.stream);
        packer.text(group.key.as_bytes());
        packer.number(device.len());
        packer.number(digits.len());
        packer.written(|bytes| {
            for (place, digits) in digits.iter().enumerate() {
                if place > 0 {
                    bytes.push(b' ');
                }
                bytes.extend_from_slice(digits.as_bytes());
            }
        });
        // What can be told from the value before stays empty: there may be ten thousand of them.
        packer.text(if digits.len() == 1 { "" } else { highest }.as_bytes());
        packer.text(if latest == highest { "" } else { latest }.as_bytes());
        packer.text(group.at.to_string().as_bytes());
        packer.written(|bytes| {
            let Place { start, length, .. } = group.payload;
            let payload = &self.payloads[start..start + length as usize];
            record::write_message(bytes, device, payload, group.at);
        });
        group.records as usize - digits.len()
    }

    /// A group's sequence numbers in the order they came.
    fn digits(&self, group: &Group) -> Vec<&str> {
        let mut place = group.first as usize;
        let mut digits = Vec::with_capacity(group.records as usize);
        for _ in 0..group.records {
            digits.push(&*self.numbers[place].digits);
            place = self.numbers[place].next as usize;
        }
        digits
    }
}

/// Makes the payload at the end of `payloads`, from `start`, that of `place`: where the one before was,
/// if it fits there, so that what a device sent before it is no burden.
fn keep(payloads: &mut Vec<u8>, place: &mut Place, start: usize) {
    let length = payloads.len() - start;
    if length <= place.room as usize {
        payloads.copy_within(start.., place.start);
        payloads.truncate(start);
    } else {
        place.start = start;
        place.room = length as u32;
    }
    place.length = length as u32;
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

    /// Reads what [`Packer`] writes, numbers as text.
    fn unpack(mut bytes: &[u8]) -> Vec<String> {
        let mut next = |length: usize| bytes.split_off(..length).unwrap();
        let length = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
        assert_eq!(next(1), [0xdd]);
        let values = length(next(4));
        let mut value = |_| match next(1)[0] {
            number @ ..0x80 => number.to_string(),
            0xce => length(next(4)).to_string(),
            short @ 0xa0..0xc0 => String::from_utf8(next(short as usize & 0x1f).to_vec()).unwrap(),
            0xdb => {
                let length = length(next(4));
                String::from_utf8(next(length).to_vec()).unwrap()
            }
            other => panic!("{other:x}"),
        };
        let list = (0..values).map(&mut value).collect();
        assert!(bytes.is_empty());
        list
    }

    /// `stream key device records [sequences] highest latest arrival payload` of every group.
    fn groups(batch: &Batch) -> Vec<String> {
        let list = unpack(&batch.groups.packed);
        let group = |group: &[String]| {
            let [
                stream,
                key,
                device,
                records,
                sequences,
                highest,
                latest,
                at,
                message,
            ] = group
            else {
                panic!("{group:?}")
            };
            let stream: usize = stream.parse().unwrap();
            let stream = &batch.groups.streams[stream - FIRST_STREAM];
            let device = &key[key.len() - device.parse::<usize>().unwrap()..];
            let message: contract::message::Message = serde_json::from_str(message).unwrap();
            assert_eq!(
                (message.device.as_str(), &message.at.to_string()),
                (device, at)
            );
            let payload = message.payload.get();
            let either =
                |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
            let highest = either(highest, sequences);
            let latest = either(latest, &highest);
            format!(
                "{stream} {key} {device} {records} [{sequences}] {highest} {latest} {at} {payload}"
            )
        };
        list.chunks(WIDTH).map(group).collect()
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
                r#"arn:a topic/sensors/x x 3 [9 10 11] 11 11 1003 "third""#,
                r#"arn:a topic/sensors topic/sensors 1 [10] 10 10 1002 "bare""#,
                r#"arn:b topic/sensors/x x 1 [1] 1 1 1004 "other""#,
            ]
        );
        assert_eq!((batch.records, batch.repeated), (5, 0));
        assert_eq!(batch.first.as_deref(), Some("9"));
    }

    #[test]
    fn later_is_who_arrived_later() {
        let batch = batch(&["a k 1 2 early", "a k 2 1 late", "a k 3 2 tie"]);
        assert_eq!(groups(&batch), [r#"a k k 3 [1 2 3] 3 3 2000 "tie""#]);
        let batch = self::batch(&["a k 1 3 late", "a k 2 1 a-longer-one,but-early"]);
        assert_eq!(groups(&batch), [r#"a k k 2 [1 2] 2 1 3000 "late""#]);
    }

    #[test]
    fn disorder_and_repetition_are_put_right() {
        let batch = batch(&["a k 10 1 a", "a k 9 2 b", "a k 10 1 a", "a k 9 2 b"]);
        assert_eq!(groups(&batch), [r#"a k k 2 [9 10] 10 9 2000 "b""#]);
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
        assert_eq!(groups(&batch), [r#"a k k 2 [1 4] 4 4 1000 "good""#]);
        let rejected: Vec<_> = batch
            .rejected
            .iter()
            .map(|r| (r.sequence_number.as_str(), r.device.as_str()))
            .collect();
        assert_eq!(rejected, [("2", "k"), ("3", "k")]);
    }

    #[test]
    fn payloads_of_growing_and_shrinking_size_keep_apart() {
        let lines: Vec<String> = [3, 1, 9, 40, 2, 0, 77]
            .iter()
            .enumerate()
            .flat_map(|(n, size)| {
                let line = |key: char| format!("a {key} {n} {n} {}", key.to_string().repeat(*size));
                [line('p'), line('q')]
            })
            .collect();
        for end in 1..lines.len() {
            let lines: Vec<&str> = lines[..end].iter().map(String::as_str).collect();
            let batch = batch(&lines);
            for (group, line) in groups(&batch).iter().zip(&lines[end.saturating_sub(2)..]) {
                let key = &group[2..3];
                let payload = group.rsplit(' ').next().unwrap();
                assert_eq!(payload.trim_matches('"').replace(key, ""), "", "{line}");
            }
        }
    }

    #[test]
    fn escaped_names_and_numbers_are_understood() {
        let event = r#"{"Records":[{"eventSourceARN":"\u0061","kinesis":{"approximateArrivalTimestamp":1,
            "data":"AA==","partitionKey":"\u0062","sequenceNumber":"\u0030\u0037"}}]}"#;
        let batch = Batch::parse(event).unwrap();
        assert_eq!(groups(&batch), [r#"a b b 1 [7] 7 7 1000 "\u0000""#]);
    }

    #[test]
    fn the_runtimes_deserializer_is_served() {
        let event = include_bytes!("../tests/events/kinesis.json");
        let mut json = serde_json::Deserializer::from_slice(event);
        let batch = Batch::deserialize(&mut json).unwrap();
        assert_eq!(batch.records, 2);
    }
}
