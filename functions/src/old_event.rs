//! What Lambda sends for a Kinesis stream, read without copying.
//!
//! Field for field what `aws_lambda_events::event::kinesis::KinesisEvent` understands (a test compares
//! the two on AWS's sample events), but text stays where Lambda's body has it, base64 is decoded only by
//! who needs it, and records are handed on one by one instead of being collected.
//!
//! Lambda writes all records alike, so what stands between the values of one is looked for, as it is, in
//! the next, which is several times as fast as reading it; see `Layout`.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>

use std::borrow::Cow;

use crate::old_json::{Malformed, Reader};

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
        let mut layout = Layout::default();
        json.list("a list of Kinesis records", |json| {
            let record = match layout.read(json) {
                Some(record) => record,
                None => record(json, &mut layout)?,
            };
            take(record);
            Ok(())
        })
    })?;
    json.end()?;
    found
        .then_some(())
        .ok_or_else(|| json.malformed("missing field `Records`"))
}

fn record<'a>(json: &mut Reader<'a>, layout: &mut Layout<'a>) -> Result<Record<'a>, Malformed> {
    let mut record = Record::default();
    let mut found = false;
    layout.begin(json);
    json.object("a record", |json, field| {
        match field {
            "eventID" => layout.pass(json, Value::Other, Reader::skip)?,
            "eventSourceARN" => record.event_source_arn = json.string()?,
            "kinesis" => {
                if std::mem::replace(&mut found, true) {
                    // The second one counts, with none of the first one's values.
                    layout.give_up();
                }
                record.kinesis = kinesis(json, layout)?;
            }
            _ => json.skip()?,
        }
        Ok(())
    })?;
    if !found {
        return Err(json.malformed("missing field `kinesis`"));
    }
    layout.end(json, &record);
    Ok(record)
}

fn kinesis<'a>(json: &mut Reader<'a>, layout: &mut Layout<'a>) -> Result<Kinesis<'a>, Malformed> {
    let mut kinesis = Kinesis::default();
    let (mut arrival, mut data) = (None, None);
    json.object("a Kinesis record", |json, field| {
        match field {
            "approximateArrivalTimestamp" => {
                let seconds = layout.pass(json, Value::Arrival, Reader::number)?;
                arrival = Some(milliseconds(seconds));
            }
            "data" => data = Some(layout.pass(json, Value::Data, Reader::string)?),
            "partitionKey" => {
                kinesis.partition_key = layout.pass(json, Value::PartitionKey, Reader::string)?;
            }
            "sequenceNumber" => {
                kinesis.sequence_number =
                    layout.pass(json, Value::SequenceNumber, Reader::string)?;
            }
            _ => json.skip()?,
        }
        Ok(())
    })?;
    kinesis.data = data.ok_or_else(|| json.malformed("missing field `data`"))?;
    kinesis.arrival =
        arrival.ok_or_else(|| json.malformed("missing field `approximateArrivalTimestamp`"))?;
    Ok(kinesis)
}

/// A value that differs from record to record.
#[derive(Clone, Copy, Debug)]
enum Value {
    Arrival,
    Data,
    PartitionKey,
    SequenceNumber,
    /// One that nobody asks for.
    Other,
}

/// How the last record that was read as JSON is written: texts that are expected again as they are, and
/// a value behind each of them.
///
/// A text goes from the end of one value to the start of the next, so where all texts are the same, what
/// is between them is what reading the record as JSON would find there: a number, or a string's
/// characters, which hold neither quote nor backslash. Any other record is read as JSON.
#[derive(Debug, Default)]
struct Layout<'a> {
    /// Text in front of each value, quotes included.
    values: Vec<(&'a str, Value)>,
    /// Text behind the last value.
    rest: &'a str,
    /// A string that is part of the texts.
    event_source_arn: Cow<'a, str>,
    /// Where the text that comes next starts, while a record is read.
    from: usize,
    known: bool,
}

impl<'a> Layout<'a> {
    /// A record comes.
    fn begin(&mut self, json: &Reader<'a>) {
        self.values.clear();
        self.from = json.at();
        self.known = true;
    }

    /// A value comes, which `read` reads. One that is no string as it should be is text like any other.
    fn pass<T>(
        &mut self,
        json: &mut Reader<'a>,
        value: Value,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        let is_text = json.peek() == b'"';
        let start = json.at();
        let result = read(json)?;
        let quotes = usize::from(is_text);
        if is_text == !matches!(value, Value::Arrival) {
            let before = json.between(self.from, start + quotes);
            self.values.push((before, value));
            self.from = json.at() - quotes;
        }
        Ok(result)
    }

    /// The record is not one to go by.
    fn give_up(&mut self) {
        self.known = false;
    }

    /// The record was this.
    fn end(&mut self, json: &Reader<'a>, record: &Record<'a>) {
        self.rest = json.since(self.from);
        self.event_source_arn = record.event_source_arn.clone();
    }

    /// The next record, if it is written as the last one; else the reader stays where it is.
    fn read(&self, json: &mut Reader<'a>) -> Option<Record<'a>> {
        if !self.known {
            return None;
        }
        let mut ahead = json.clone();
        let mut kinesis = Kinesis::default();
        for (before, value) in &self.values {
            ahead.pass(before)?;
            match value {
                Value::Arrival => kinesis.arrival = milliseconds(ahead.number().ok()?),
                Value::Data => kinesis.data = Cow::Borrowed(ahead.characters()?),
                Value::PartitionKey => kinesis.partition_key = Cow::Borrowed(ahead.characters()?),
                Value::SequenceNumber => {
                    kinesis.sequence_number = Cow::Borrowed(ahead.characters()?);
                }
                Value::Other => drop(ahead.characters()?),
            }
        }
        ahead.pass(self.rest)?;
        *json = ahead;
        Some(Record {
            event_source_arn: self.event_source_arn.clone(),
            kinesis,
        })
    }
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
    use proptest::prelude::*;

    use super::*;

    /// A record in one of some ways to write it, of which Lambda's is the first.
    fn written(style: usize, values: &[String; 5], arrival: u32) -> String {
        let [key, sequence, data, id, arn] = values.each_ref().map(|value| {
            let text = serde_json::Value::from(value.as_str()).to_string();
            match style {
                // Every escape of JSON may stand for a plain character.
                1 => text.replace('a', r"\u0061"),
                _ => text,
            }
        });
        let kinesis = format!(
            r#""partitionKey":{key},"sequenceNumber":{sequence},"data":{data},"approximateArrivalTimestamp":{arrival}.5"#
        );
        match style {
            0 | 1 => format!(
                r#"{{"kinesis":{{"x":"1.0",{kinesis}}},"eventID":{id},"eventSourceARN":{arn}}}"#
            ),
            2 => format!(
                r#" {{ "eventSourceARN" : {arn} , "kinesis" : {{ {kinesis} , "data" : {key} }} , "eventID" : 7 }} "#
            ),
            3 => format!(
                r#"{{"kinesis":{{{kinesis}}},"kinesis":{{"data":{data},"approximateArrivalTimestamp":1e3}},"eventID":{id}}}"#
            ),
            4 => format!(
                r#"{{"eventID":{id},"eventID":{arn},"kinesis":{{"approximateArrivalTimestamp": 7 ,"y":{{"data":{key}}},"data":{data}}}}}"#
            ),
            _ => format!(r#"{{"kinesis":{{{kinesis},"sequenceNumber":{id}}},"z":{key}}}"#),
        }
    }

    fn read(event: &str) -> Vec<String> {
        let mut records = Vec::new();
        each_record(event, |record| records.push(format!("{record:?}"))).unwrap();
        records
    }

    proptest! {
        #[test]
        fn a_record_is_read_alike_alone_and_behind_others(
            style in 0..6_usize,
            records in proptest::collection::vec((0..24_usize, any::<[u8; 5]>(), 0..3_u32), 0..12),
        ) {
            // Values that look like what is around them.
            const VALUES: [&str; 10] = [
                "", "a", "49590338", "\"", "\\", "ü", "\",\"data\":\"", "}", "\\\"", "arn:a",
            ];
            let records: Vec<_> = records
                .into_iter()
                .map(|(other, values, arrival)| {
                    // Most are written alike.
                    let style = if other < 6 { other } else { style };
                    // Half of them plain.
                    let value = |n: u8| VALUES[usize::from(n) % 20 % 10 % if n < 128 { 3 } else { 10 }];
                    written(style, &values.map(|n| value(n).to_owned()), arrival)
                })
                .collect();
            let alone: Vec<_> = records
                .iter()
                .flat_map(|record| read(&format!(r#"{{"Records":[{record}]}}"#)))
                .collect();
            prop_assert_eq!(read(&format!(r#"{{"Records":[{}]}}"#, records.join(","))), alone);
        }
    }

    #[test]
    fn records_that_are_written_alike_are_read_by_the_layout_of_the_one_before() {
        let one = written(0, &["k", "1", "YQ==", "s:1", "arn"].map(str::to_owned), 1);
        let other = written(0, &["key", "23", "", "s:23", "arn"].map(str::to_owned), 20);
        let event = [one.as_str(), other.as_str()].concat();
        let mut json = Reader::new(&event);
        let mut layout = Layout::default();
        assert!(layout.read(&mut json).is_none());
        record(&mut json, &mut layout).unwrap();
        let by_layout = layout.read(&mut json).unwrap();
        assert_eq!(by_layout.kinesis.partition_key, "key");
        assert_eq!(by_layout.kinesis.sequence_number, "23");
        assert_eq!(by_layout.kinesis.data, "");
        assert_eq!(by_layout.kinesis.arrival, 20_500);
        assert_eq!(by_layout.event_source_arn, "arn");
        json.end().unwrap();
    }

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

/// The old reader is the oracle for the new one.
#[cfg(test)]
mod oracle {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use crate::event::Event;

    /// Stream, key, number, arrival, payload.
    type Read = (String, String, String, u64, Option<Vec<u8>>);

    fn old(event: &str) -> Option<Vec<Read>> {
        let mut records = Vec::new();
        super::each_record(event, |record| {
            let kinesis = record.kinesis;
            records.push((
                record.event_source_arn.into_owned(),
                kinesis.partition_key.into_owned(),
                kinesis.sequence_number.into_owned(),
                kinesis.arrival,
                STANDARD.decode(kinesis.data.as_bytes()).ok(),
            ));
        })
        .ok()?;
        Some(records)
    }

    fn new(event: &str) -> serde_json::Result<Vec<Read>> {
        let records = Event::parse(event)?.records;
        let read = records.iter().map(|record| {
            (
                records.streams()[record.stream].clone(),
                record.partition_key.to_owned(),
                record.sequence_number.to_owned(),
                record.arrival,
                record.payload.ok().map(<[u8]>::to_vec),
            )
        });
        Ok(read.collect())
    }

    fn check(event: &str) {
        match new(event) {
            Ok(new) => assert_eq!(old(event), Some(new), "{event}"),
            Err(error) => {
                let error = error.to_string();
                // Stricter than the old reader: JSON's grammar everywhere, no field twice, no
                // infinite arrival.
                let stricter = serde_json::from_str::<IgnoredAny>(event).is_err()
                    || error.contains("duplicate field")
                    || error.contains("number out of range");
                assert!(stricter || old(event).is_none(), "{error}: {event}");
            }
        }
    }

    /// Values that look like what is around them.
    const TEXTS: [&str; 16] = [
        "",
        "a",
        "49590338",
        "\"",
        "\\",
        "ü",
        "\",\"data\":\"",
        "}",
        "\\\"",
        "arn:a",
        "YQ==",
        "AP/+",
        "AAA",
        "topic/sensors/kitchen",
        "\u{0}\n\u{2028}",
        "🌡",
    ];
    const UNKNOWN: [&str; 8] = [
        "null",
        "true",
        "-1.5e+7",
        r#""x\u00fc\"""#,
        "[]",
        r#"{"data":"]}"}"#,
        r#"[[1,{"a":"]}"}],"\"]"]"#,
        r#"{"kinesis":{"data":1}}"#,
    ];
    const NUMBERS: [&str; 10] = [
        "1545084650.987",
        "1480641523.477",
        "0",
        "-0.0",
        "-7.5",
        "1e3",
        "1E-3",
        "7",
        "null",
        "253402300799.999",
    ];

    /// One field: which, its value, how it is written.
    type Field = (usize, usize, usize);

    fn text(value: usize, style: usize) -> String {
        let text = serde_json::Value::from(TEXTS[value % TEXTS.len()]).to_string();
        match style % 8 {
            // Every character may be escaped.
            0 => text.replace('a', r"\u0061").replace('/', r"\/"),
            // A value of another type.
            1 if value.is_multiple_of(7) => UNKNOWN[value % UNKNOWN.len()].to_owned(),
            _ => text,
        }
    }

    fn object(fields: &[Field], names: &[&str], inner: &[String]) -> String {
        let member = |(which, value, style): &Field| {
            let name = names[which % names.len()];
            let value = match name {
                "approximateArrivalTimestamp" => NUMBERS[value % NUMBERS.len()].to_owned(),
                "kinesis" => inner[value % inner.len()].clone(),
                "x" => UNKNOWN[value % UNKNOWN.len()].to_owned(),
                _ => text(*value, *style),
            };
            match style % 3 {
                0 => format!("\"{name}\":{value}"),
                1 => format!(" \"{name}\" :\t{value}\n"),
                _ => format!("\"\\u00{:02x}{}\":{value}", name.as_bytes()[0], &name[1..]),
            }
        };
        format!(
            "{{{}}}",
            fields.iter().map(member).collect::<Vec<_>>().join(",")
        )
    }

    fn field(fields: usize) -> impl Strategy<Value = Field> {
        (
            0..fields,
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
        )
            .prop_map(|(which, value, style)| (which, value.index(1 << 16), style.index(1 << 16)))
    }

    /// All fields that a record needs, in any order, and now and then one more.
    fn fields(count: usize) -> impl Strategy<Value = Vec<Field>> {
        let all: Vec<usize> = (0..count).collect();
        let more = prop::collection::vec(field(count), 0..2);
        let values = prop::collection::vec(field(count), count);
        (
            Just(all).prop_shuffle(),
            values,
            prop::bool::weighted(0.2),
            more,
        )
            .prop_map(|(order, values, odd, more)| {
                let all = order
                    .into_iter()
                    .zip(values)
                    .map(|(which, field)| (which, field.1, field.2));
                let mut fields: Vec<Field> = all.collect();
                if odd {
                    fields.pop();
                    fields.extend(more);
                }
                fields
            })
    }

    const KINESIS: [&str; 6] = [
        "partitionKey",
        "sequenceNumber",
        "data",
        "approximateArrivalTimestamp",
        "x",
        "encryptionType",
    ];
    const RECORD: [&str; 4] = ["kinesis", "eventSourceARN", "eventID", "x"];

    proptest! {
        #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]
        #[test]
        fn both_readers_read_the_same(
            records in prop::collection::vec((fields(6), fields(4), 0..4_usize), 0..6),
            cut in any::<prop::sample::Index>(),
            byte in prop::sample::select(&b"\"\\{}[],:0e-. n\x01"[..]),
        ) {
            let mut written: Vec<String> = Vec::new();
            for (kinesis, record, like) in &records {
                // Most records are written as the one before, as Lambda writes them.
                let text = match (like, written.last()) {
                    (1.., Some(last)) => last.replace("49590338", "49590339"),
                    _ => object(record, &RECORD, &[object(kinesis, &KINESIS, &[])]),
                };
                written.push(text);
            }
            let event = format!(r#"{{"Records":[{}],"window":{{}}}}"#, written.join(","));
            check(&event);
            // Cut off, and with one byte changed.
            let at = cut.index(event.len());
            if event.is_char_boundary(at) {
                check(&event[..at]);
            }
            let mut changed = event.into_bytes();
            changed[at] = byte;
            if let Ok(changed) = String::from_utf8(changed) {
                check(&changed);
            }
        }
    }
}
