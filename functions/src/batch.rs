//! A whole event, folded by stream and partition key while it is read.
//!
//! Per key the script needs all sequence numbers, to count those above the watermark, but of the
//! payloads only the latest. What is kept is copied together, so that the event, two thirds of which is
//! of no use, can go before the command for the cache is made.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
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
    pub fn parse(event: &str) -> Result<Self, Malformed> {
        let mut fold = Fold {
            batch: Self {
                started: Instant::now(),
                records: 0,
                first: None,
                groups: Groups::default(),
                rejected: Vec::new(),
                repeated: 0,
            },
            places: HashMap::new(),
        };
        event::each_record(event, |record| fold.add(record))?;
        let mut batch = fold.batch;
        batch.repeated = batch.groups.sort();
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

struct Fold<'a> {
    batch: Batch,
    /// The groups' places by stream and key.
    places: HashMap<(usize, Cow<'a, str>), usize>,
}

impl<'a> Fold<'a> {
    fn add(&mut self, record: Record<'a>) {
        let batch = &mut self.batch;
        let kinesis = record.kinesis;
        batch.records += 1;
        if batch.first.is_none() {
            batch.first = Some(kinesis.sequence_number.to_string());
        }
        let groups = &mut batch.groups;
        let start = groups.payloads.len();
        let taken = record::take(
            &kinesis.partition_key,
            &kinesis.sequence_number,
            &kinesis.data,
            &mut groups.payloads,
        );
        let digits = match taken {
            Ok(digits) => digits,
            Err(reason) => {
                groups.payloads.truncate(start);
                batch.rejected.push(Rejected {
                    sequence_number: kinesis.sequence_number.to_string(),
                    device: topic::device(&kinesis.partition_key).to_owned(),
                    reason,
                });
                return;
            }
        };
        let stream = groups.stream(&record.event_source_arn);
        let place = *self
            .places
            .entry((stream, kinesis.partition_key))
            .or_insert_with_key(|(stream, key)| groups.open(*stream, key));
        groups.add(place, digits, kinesis.arrival, start);
    }
}

/// The records that can be taken, by stream and partition key.
///
/// Nothing is allocated for each record, nor for each group: there may be ten thousand of either.
/// Places and lengths have 32 bits, which is a thousand times what an event can have.
#[derive(Debug, Default)]
pub struct Groups {
    /// ARNs of the streams; groups name them by their place.
    pub streams: Vec<String>,
    groups: Vec<Group>,
    /// All records' sequence numbers; a group's are chained.
    numbers: Vec<Number>,
    /// Partition keys, and digits of sequence numbers.
    text: String,
    /// Payloads of the groups' latest records, and what could not be used again of earlier ones.
    payloads: Vec<u8>,
}

#[derive(Debug)]
struct Group {
    stream: u32,
    key: Span,
    records: u32,
    /// Places of the first and the last number, in the order they came.
    ends: (u32, u32),
    /// Place of the highest number.
    highest: u32,
    /// Place of the latest record's number.
    latest: u32,
    /// Arrival of the latest record, in milliseconds since the Unix epoch.
    at: u64,
    payload: Span,
    /// Bytes that fit where the payload is.
    room: u32,
    unordered: bool,
}

#[derive(Debug)]
struct Number {
    digits: Span,
    /// Place of the same group's next one; its own, if there is none.
    next: u32,
}

/// Where something stands.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    length: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            length: (end - start) as u32,
        }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..(self.start + self.length) as usize
    }
}

impl Groups {
    /// Values of a group in what is packed.
    pub const WIDTH: usize = 10;

    /// Where in the script's arguments the first stream stands: Lua counts from one, and two come
    /// before it.
    pub const FIRST_STREAM: usize = 3;

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Place of a stream. There is one as a rule, so looking at each is quickest.
    fn stream(&mut self, arn: &str) -> usize {
        let known = self.streams.iter().position(|stream| stream == arn);
        known.unwrap_or_else(|| {
            self.streams.push(arn.to_owned());
            self.streams.len() - 1
        })
    }

    fn keep(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span::new(start, self.text.len())
    }

    /// A new group's place.
    fn open(&mut self, stream: usize, key: &str) -> usize {
        let key = self.keep(key);
        self.groups.push(Group {
            stream: stream as u32,
            key,
            records: 0,
            ends: (0, 0),
            highest: 0,
            latest: 0,
            at: 0,
            payload: Span::default(),
            room: 0,
            unordered: false,
        });
        self.groups.len() - 1
    }

    /// Adds a record to a group. `digits` are of [`sequence::digits`]; the payload is what stands in
    /// `payloads` from `start` on.
    fn add(&mut self, group: usize, digits: &str, at: u64, start: usize) {
        let place = self.numbers.len() as u32;
        let number = Number {
            digits: self.keep(digits),
            next: place,
        };
        self.numbers.push(number);
        let (numbers, text) = (&mut self.numbers, &self.text);
        let compare = |numbers: &[Number], other: u32| {
            let other = &text[numbers[other as usize].digits.range()];
            sequence::compare(digits, other)
        };
        let group = &mut self.groups[group];
        let is_first = group.records == 0;
        let is_latest = is_first
            || at
                .cmp(&group.at)
                .then_with(|| compare(numbers, group.latest))
                == Ordering::Greater;
        if is_first {
            group.ends.0 = place;
            group.highest = place;
        } else {
            numbers[group.ends.1 as usize].next = place;
            if compare(numbers, group.highest) == Ordering::Greater {
                group.highest = place;
            } else {
                group.unordered = true;
            }
        }
        group.ends.1 = place;
        group.records += 1;
        if is_latest {
            group.at = at;
            group.latest = place;
            group.replace_payload(&mut self.payloads, start);
        } else {
            self.payloads.truncate(start);
        }
    }

    /// A group's numbers in their order.
    fn numbers(&self, group: &Group) -> impl Iterator<Item = u32> {
        let mut place = group.ends.0;
        (0..group.records).map(move |_| {
            let this = place;
            place = self.numbers[place as usize].next;
            this
        })
    }

    fn digits(&self, number: u32) -> &str {
        &self.text[self.numbers[number as usize].digits.range()]
    }

    /// Kinesis delivers a key's records in order and once; whoever does not is put right here.
    /// Answers how many records came again.
    fn sort(&mut self) -> usize {
        let mut repeated = 0;
        for place in 0..self.groups.len() {
            let group = &self.groups[place];
            if !group.unordered {
                continue;
            }
            let mut order: Vec<u32> = self.numbers(group).collect();
            order.sort_unstable_by(|a, b| sequence::compare(self.digits(*a), self.digits(*b)));
            order.dedup_by(|a, b| self.digits(*a) == self.digits(*b));
            for pair in order.windows(2) {
                self.numbers[pair[0] as usize].next = pair[1];
            }
            let group = &mut self.groups[place];
            repeated += group.records as usize - order.len();
            group.records = order.len() as u32;
            if let [first, .., last] | [first @ last] = order[..] {
                group.ends = (first, last);
            }
            group.unordered = false;
        }
        repeated
    }

    /// The groups as the script wants them, see `batch.lua`.
    pub fn pack(&self) -> Vec<u8> {
        let groups = self.groups.len();
        let room = self.text.len() + self.payloads.len() + (self.text.len() / 2) + 96 * groups;
        let mut packer = Packer::list(Self::WIDTH * groups, room);
        for group in &self.groups {
            self.pack_group(group, &mut packer);
        }
        packer.bytes
    }

    fn pack_group(&self, group: &Group, packer: &mut Packer) {
        let key = &self.text[group.key.range()];
        let device = topic::device(key);
        packer.number(Self::FIRST_STREAM + group.stream as usize);
        packer.text(key.as_bytes());
        packer.number(device.len());
        packer.number(group.records as usize);
        let (highest, latest) = (self.digits(group.highest), self.digits(group.latest));
        let mut numbers = self.numbers(group).map(|number| self.digits(number));
        let lowest = numbers.next().unwrap_or_default();
        let common = sequence::common(lowest, highest);
        packer.written(|bytes| {
            bytes.extend_from_slice(lowest.as_bytes());
            for digits in numbers {
                bytes.push(b' ');
                bytes.extend_from_slice(&digits.as_bytes()[common..]);
            }
        });
        packer.number(common);
        // What can be told from the value before stays empty: there may be ten thousand of them.
        packer.text(if group.records == 1 { "" } else { highest }.as_bytes());
        packer.text(if latest == highest { "" } else { latest }.as_bytes());
        packer.text(group.at.to_string().as_bytes());
        packer.written(|bytes| {
            let payload = &self.payloads[group.payload.range()];
            record::write_message(bytes, device, payload, group.at);
        });
    }
}

impl Group {
    /// Takes what stands in `payloads` from `start` on: where the payload before it was, if it fits
    /// there, so that what a device sent before is no burden.
    fn replace_payload(&mut self, payloads: &mut Vec<u8>, start: usize) {
        let end = payloads.len();
        if end - start <= self.room as usize {
            payloads.copy_within(start.., self.payload.start as usize);
            payloads.truncate(start);
            self.payload.length = (end - start) as u32;
        } else {
            self.payload = Span::new(start, end);
            self.room = self.payload.length;
        }
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
        let list = unpack(&batch.groups.pack());
        let group = |group: &[String]| {
            let [
                stream,
                key,
                device,
                records,
                sequences,
                common,
                highest,
                latest,
                at,
                message,
            ] = group
            else {
                panic!("{group:?}")
            };
            let stream: usize = stream.parse().unwrap();
            let stream = &batch.groups.streams[stream - Groups::FIRST_STREAM];
            let device = &key[key.len() - device.parse::<usize>().unwrap()..];
            let message: contract::message::Message = serde_json::from_str(message).unwrap();
            assert_eq!(
                (message.device.as_str(), &message.at.to_string()),
                (device, at)
            );
            let payload = message.payload.get();
            let (lowest, rest) = sequences.split_once(' ').unwrap_or((sequences, ""));
            let front = &lowest[..common.parse().unwrap()];
            let mut sequences = lowest.to_owned();
            for rest in rest.split_terminator(' ') {
                sequences += &format!(" {front}{rest}");
            }
            let either =
                |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
            let highest = either(highest, &sequences);
            let latest = either(latest, &highest);
            format!(
                "{stream} {key} {device} {records} [{sequences}] {highest} {latest} {at} {payload}"
            )
        };
        list.chunks(Groups::WIDTH).map(group).collect()
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
    fn what_sequence_numbers_have_in_common_is_packed_once() {
        let batch = batch(&["a k 1234567 1 1", "a k 1234571 1 2", "a k 1234580 1 3"]);
        let packed = unpack(&batch.groups.pack());
        assert_eq!(packed[4..7], ["1234567 71 80", "5", "1234580"]);
        assert_eq!(
            groups(&batch),
            ["a k k 3 [1234567 1234571 1234580] 1234580 1234580 1000 3"]
        );
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
