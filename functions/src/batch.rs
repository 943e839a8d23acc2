//! The records of an event, grouped by stream and partition key for `batch.lua`.
//!
//! Per group the script needs all sequence numbers, to count those above the watermark, and the latest
//! payload only.

use std::cmp::Ordering;
use std::collections::HashMap;

use contract::topic;
use rmp::encode::{ByteBuf, write_array_len, write_str_len, write_uint};

use crate::message;
use crate::record::{Record, Records, Rejection};
use crate::sequence;

/// The records of one event, grouped.
#[derive(Debug)]
pub struct Batch<'r> {
    /// The accepted records.
    pub groups: Groups<'r>,
    /// The rejected records, in the event's order.
    pub rejected: Vec<(Record<'r>, Rejection)>,
    /// Number of records that repeat another one of the event; not in [`groups`](Self::groups).
    pub repeated: usize,
}

impl<'r> Batch<'r> {
    /// Groups the records of an event.
    pub fn new(records: &'r Records) -> Self {
        let mut groups = Groups {
            streams: records.streams(),
            groups: Vec::new(),
            numbers: Vec::with_capacity(records.len()),
        };
        let mut rejected = Vec::new();
        let mut indexes: HashMap<(usize, &str), usize> = HashMap::new();
        for record in records.iter() {
            match accept(&record) {
                Ok((digits, payload)) => {
                    let index = *indexes
                        .entry((record.stream, record.partition_key))
                        .or_insert_with(|| groups.open(&record));
                    groups.add(index, digits, record.arrival, payload);
                }
                Err(rejection) => rejected.push((record, rejection)),
            }
        }
        let repeated = groups.sort();
        Self {
            groups,
            rejected,
            repeated,
        }
    }
}

/// Digits of a record's sequence number, and its payload.
fn accept<'r>(record: &Record<'r>) -> Result<(&'r str, &'r [u8]), Rejection> {
    if record.partition_key.is_empty() {
        return Err(Rejection::EmptyPartitionKey);
    }
    let digits = sequence::digits(record.sequence_number).ok_or(Rejection::SequenceNumber)?;
    let payload = record.payload.map_err(Rejection::clone)?;
    Ok((digits, payload))
}

/// The accepted records, by stream and partition key.
///
/// There can be ten thousand groups or ten thousand records in a group, so neither allocates.
#[derive(Debug)]
pub struct Groups<'r> {
    /// ARNs of the streams; groups refer to them by index.
    pub streams: &'r [String],
    groups: Vec<Group<'r>>,
    /// Sequence numbers of all groups; those of one group are a linked list.
    numbers: Vec<Number<'r>>,
}

#[derive(Debug)]
struct Group<'r> {
    stream: usize,
    key: &'r str,
    records: u32,
    /// Indexes of the first and the last number in the event's order.
    ends: (u32, u32),
    highest: &'r str,
    /// Sequence number, arrival in milliseconds since the Unix epoch, and payload of the latest record.
    latest: &'r str,
    at: u64,
    payload: &'r [u8],
    unordered: bool,
}

#[derive(Debug)]
struct Number<'r> {
    digits: &'r str,
    /// Index of the group's next number; its own index if there is none.
    next: u32,
}

impl<'r> Groups<'r> {
    /// Values of a group in the packed list.
    pub const WIDTH: usize = 10;

    /// Index of the first stream in the script's arguments: Lua counts from one, and two arguments come
    /// before it.
    pub const FIRST_STREAM: usize = 3;

    /// Whether there is nothing to count.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds a group without records. Returns its index.
    fn open(&mut self, record: &Record<'r>) -> usize {
        self.groups.push(Group {
            stream: record.stream,
            key: record.partition_key,
            records: 0,
            ends: (0, 0),
            highest: "",
            latest: "",
            at: 0,
            payload: &[],
            unordered: false,
        });
        self.groups.len() - 1
    }

    /// Adds a record to a group. `digits` are from [`sequence::digits`].
    fn add(&mut self, group: usize, digits: &'r str, at: u64, payload: &'r [u8]) {
        let index = self.numbers.len() as u32;
        self.numbers.push(Number {
            digits,
            next: index,
        });
        let group = &mut self.groups[group];
        if group.records == 0 {
            group.ends.0 = index;
        } else {
            self.numbers[group.ends.1 as usize].next = index;
        }
        group.ends.1 = index;
        group.records += 1;
        // The empty text is below every number.
        if sequence::compare(digits, group.highest) == Ordering::Greater {
            group.highest = digits;
        } else {
            group.unordered = true;
        }
        let later = at
            .cmp(&group.at)
            .then_with(|| sequence::compare(digits, group.latest));
        if later == Ordering::Greater {
            (group.latest, group.at, group.payload) = (digits, at, payload);
        }
    }

    /// Indexes of a group's numbers, in their order.
    fn numbers(&self, group: &Group<'r>) -> impl Iterator<Item = u32> {
        let mut next = group.ends.0;
        (0..group.records).map(move |_| {
            let index = next;
            next = self.numbers[index as usize].next;
            index
        })
    }

    fn digits(&self, number: u32) -> &'r str {
        self.numbers[number as usize].digits
    }

    /// Sorts the numbers of each group and removes repetitions; Kinesis delivers the records of a key in
    /// order and once. Returns the number of repetitions.
    fn sort(&mut self) -> usize {
        let mut repeated = 0;
        for index in 0..self.groups.len() {
            let group = &self.groups[index];
            if !group.unordered {
                continue;
            }
            let mut order: Vec<u32> = self.numbers(group).collect();
            order.sort_unstable_by(|a, b| sequence::compare(self.digits(*a), self.digits(*b)));
            order.dedup_by(|a, b| self.digits(*a) == self.digits(*b));
            for pair in order.windows(2) {
                self.numbers[pair[0] as usize].next = pair[1];
            }
            let group = &mut self.groups[index];
            repeated += group.records as usize - order.len();
            group.records = order.len() as u32;
            if let [first, .., last] | [first @ last] = order[..] {
                group.ends = (first, last);
            }
            group.unordered = false;
        }
        repeated
    }

    /// The groups as `batch.lua` reads them: one list in MessagePack, because ninety thousand small
    /// arguments would cost the function and Redis more.
    pub fn pack(&self) -> Vec<u8> {
        let sizes = self.groups.iter().map(Group::packed_size);
        let size = sizes.sum::<usize>() + 12 * self.numbers.len();
        let mut list = ByteBuf::with_capacity(size);
        let Ok(_) = write_array_len(&mut list, (Self::WIDTH * self.groups.len()) as u32);
        let mut text = Vec::new();
        for group in &self.groups {
            self.pack_group(group, &mut list, &mut text);
        }
        list.into_vec()
    }

    /// `text` is reused from group to group.
    fn pack_group(&self, group: &Group<'r>, list: &mut ByteBuf, text: &mut Vec<u8>) {
        let device = topic::device(group.key);
        write_number(list, Self::FIRST_STREAM + group.stream);
        write_text(list, group.key.as_bytes());
        write_number(list, device.len());
        write_number(list, group.records as usize);
        let mut numbers = self.numbers(group).map(|number| self.digits(number));
        let lowest = numbers.next().unwrap_or_default();
        let common = sequence::common(lowest, group.highest);
        text.clear();
        text.extend_from_slice(lowest.as_bytes());
        for digits in numbers {
            text.push(b' ');
            text.extend_from_slice(&digits.as_bytes()[common..]);
        }
        write_text(list, text);
        write_number(list, common);
        // Empty if it equals the value before: there may be ten thousand of them.
        let highest = if group.records == 1 {
            ""
        } else {
            group.highest
        };
        let latest = if group.latest == group.highest {
            ""
        } else {
            group.latest
        };
        write_text(list, highest.as_bytes());
        write_text(list, latest.as_bytes());
        write_text(list, group.at.to_string().as_bytes());
        text.clear();
        message::write(text, device, group.payload, group.at);
        write_text(list, text);
    }
}

impl Group<'_> {
    /// Estimated bytes of a group with one record when packed.
    fn packed_size(&self) -> usize {
        2 * self.key.len() + 2 * self.highest.len() + self.payload.len() + 96
    }
}

// Writing to memory does not fail, so there are no errors to handle.

fn write_number(list: &mut ByteBuf, number: usize) {
    let Ok(_) = write_uint(list, number as u64);
}

/// Lua's strings are bytes: valid UTF-8 is not required.
fn write_text(list: &mut ByteBuf, text: &[u8]) {
    let Ok(_) = write_str_len(list, text.len() as u32);
    list.as_mut_vec().extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::Event;

    /// One record a line: `stream key sequence arrival payload`; the payload `!` is invalid base64.
    fn records(lines: &[&str]) -> Records {
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
        let event = json!({ "Records": records }).to_string();
        Event::parse(&event).unwrap().records
    }

    /// The packed list, numbers as text.
    fn unpack(mut bytes: &[u8]) -> Vec<String> {
        use rmp::Marker;
        use rmp::decode::{read_array_len, read_int, read_str_from_slice};
        let values = read_array_len(&mut bytes).unwrap();
        let list = (0..values)
            .map(|_| match Marker::from_u8(bytes[0]) {
                Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                    let (text, rest) = read_str_from_slice(bytes).unwrap();
                    bytes = rest;
                    text.to_owned()
                }
                _ => read_int::<u64, _>(&mut bytes).unwrap().to_string(),
            })
            .collect();
        assert!(bytes.is_empty());
        list
    }

    /// `stream key device records [sequences] highest latest arrival payload` of every group.
    fn groups(batch: &Batch<'_>) -> Vec<String> {
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
    fn records_are_grouped_by_stream_and_key() {
        let records = records(&[
            "arn:a topic/sensors/x 9 1.001 first",
            "arn:a topic/sensors 10 1.002 bare",
            "arn:a topic/sensors/x 010 1.003 second",
            "arn:b topic/sensors/x 1 1.004 other",
            "arn:a topic/sensors/x 011 1.003 third",
        ]);
        let batch = Batch::new(&records);
        assert_eq!(
            groups(&batch),
            [
                r#"arn:a topic/sensors/x x 3 [9 10 11] 11 11 1003 "third""#,
                r#"arn:a topic/sensors topic/sensors 1 [10] 10 10 1002 "bare""#,
                r#"arn:b topic/sensors/x x 1 [1] 1 1 1004 "other""#,
            ]
        );
        assert_eq!(batch.repeated, 0);
    }

    #[test]
    fn the_common_prefix_of_sequence_numbers_is_packed_once() {
        let records = records(&["a k 1234567 1 1", "a k 1234571 1 2", "a k 1234580 1 3"]);
        let batch = Batch::new(&records);
        let packed = unpack(&batch.groups.pack());
        assert_eq!(packed[4..7], ["1234567 71 80", "5", "1234580"]);
        assert_eq!(
            groups(&batch),
            ["a k k 3 [1234567 1234571 1234580] 1234580 1234580 1000 3"]
        );
    }

    fn check(lines: &[&str], expected: &[&str], repeated: usize) {
        let records = records(lines);
        let batch = Batch::new(&records);
        assert_eq!(groups(&batch), expected);
        assert_eq!(batch.repeated, repeated);
    }

    #[test]
    fn the_latest_record_is_the_one_that_arrived_last() {
        check(
            &["a k 1 2 early", "a k 2 1 late", "a k 3 2 tie"],
            &[r#"a k k 3 [1 2 3] 3 3 2000 "tie""#],
            0,
        );
        check(
            &["a k 1 3 late", "a k 2 1 a-longer-one,but-early"],
            &[r#"a k k 2 [1 2] 2 1 3000 "late""#],
            0,
        );
    }

    #[test]
    fn records_are_sorted_and_repetitions_removed() {
        check(
            &["a k 10 1 a", "a k 9 2 b", "a k 10 1 a", "a k 9 2 b"],
            &[r#"a k k 2 [9 10] 10 9 2000 "b""#],
            2,
        );
    }

    #[test]
    fn rejected_records_do_not_touch_the_others() {
        let records = records(&[
            "a k 1 1 good",
            "a topic/sensors/k 2 2 !",
            "a k x 3 bad-number",
            "a k 4 1 good",
            "a  5 1 no-key",
        ]);
        let batch = Batch::new(&records);
        assert_eq!(groups(&batch), [r#"a k k 2 [1 4] 4 4 1000 "good""#]);
        let rejected: Vec<_> = batch
            .rejected
            .iter()
            .map(|(record, rejection)| {
                let reason = rejection.to_string();
                let reason = reason.split(':').next().unwrap_or_default().to_owned();
                (record.sequence_number, record.device(), reason)
            })
            .collect();
        assert_eq!(
            rejected,
            [
                ("2", "k", "invalid data".to_owned()),
                ("x", "k", "invalid sequence number".to_owned()),
                ("5", "", "invalid partition key \"\"".to_owned()),
            ]
        );
    }
}
