//! One record: whether it can be taken, and the message that it becomes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::message::Encoding;
use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::sequence;

/// Payloads above this many bytes are rejected: what Kinesis itself allows for a record unless the
/// stream's `MaxRecordSizeInKiB` is raised, and eight times what AWS IoT lets a device publish.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// JSON nested deeper than this is kept as text: many readers give up, or worse, some levels further
/// down, and no sensor needs it.
pub const MAX_JSON_DEPTH: usize = 64;

/// Why a record cannot be taken.
/// Decided from the record alone, so that each retry decides the same.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Rejection {
    /// Nobody can be said to have sent it.
    #[error("its partition key is empty; expected the MQTT topic")]
    EmptyPartitionKey,
    /// It cannot be ordered, and so not be counted once.
    #[error(
        "its sequence number is not a decimal number of at most {} digits",
        sequence::MAX_DIGITS
    )]
    SequenceNumber,
    /// The payload cannot be read.
    #[error("its data is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The payload is too large.
    #[error("its payload has more than {MAX_PAYLOAD_BYTES} bytes")]
    TooLarge,
}

/// Takes a record's three fields: answers the digits of its sequence number, which end it, and appends
/// its payload's bytes to `payloads`.
///
/// # Errors
/// See [`Rejection`]; something may have been appended all the same.
pub fn take<'r>(
    partition_key: &str,
    sequence_number: &'r str,
    data: &str,
    payloads: &mut Vec<u8>,
) -> Result<&'r str, Rejection> {
    if partition_key.is_empty() {
        return Err(Rejection::EmptyPartitionKey);
    }
    let digits = sequence::digits(sequence_number).ok_or(Rejection::SequenceNumber)?;
    // Four characters hold at most three bytes: far too large ones are not even decoded.
    if data.len() / 4 > MAX_PAYLOAD_BYTES.div_ceil(3) {
        return Err(Rejection::TooLarge);
    }
    let before = payloads.len();
    STANDARD.decode_vec(data, payloads)?;
    if payloads.len() - before > MAX_PAYLOAD_BYTES {
        return Err(Rejection::TooLarge);
    }
    Ok(digits)
}

/// Writes the [`Message`](contract::message::Message) of a payload as JSON.
///
/// JSON is kept as the device wrote it, number by number and with duplicate keys, only without the
/// white space around it; the empty payload is the empty text; JSON's relatives with `NaN` or comments
/// are text.
pub fn write_message(text: &mut Vec<u8>, device: &str, payload: &[u8], at: u64) {
    match std::str::from_utf8(payload) {
        Ok(payload) => match json(payload) {
            Some(payload) => write(text, device, payload, Encoding::Json, at),
            None => write(text, device, payload, Encoding::Text, at),
        },
        Err(_) => write(text, device, STANDARD.encode(payload), Encoding::Base64, at),
    }
}

fn json(payload: &str) -> Option<&RawValue> {
    // A cheap look first: most text is none.
    let first = payload.trim_ascii_start().bytes().next()?;
    if !matches!(
        first,
        b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'
    ) {
        return None;
    }
    let json = serde_json::from_str::<&RawValue>(payload).ok()?;
    // Every level takes two bytes, so most need no second look.
    let is_flat = payload.len() <= 2 * MAX_JSON_DEPTH || depth(json.get()) <= MAX_JSON_DEPTH;
    is_flat.then_some(json)
}

/// Nesting of valid JSON.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

fn write(text: &mut Vec<u8>, device: &str, payload: impl Serialize, encoding: Encoding, at: u64) {
    /// [`contract::message::Message`], without a copy of the payload.
    #[derive(Serialize)]
    struct Message<'a, P> {
        device: &'a str,
        payload: P,
        encoding: Encoding,
        at: u64,
    }
    serde_json::to_writer(
        text,
        &Message {
            device,
            payload,
            encoding,
            at,
        },
    )
    .expect("strings and numbers always become JSON, and memory takes all of it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_take(key: &str, sequence: &str, data: String, expected: Result<usize, Rejection>) {
        let before = b"what was there before";
        let mut payloads = before.to_vec();
        let taken =
            take(key, sequence, &data, &mut payloads).map(|_| payloads.len() - before.len());
        match (&taken, &expected) {
            (Err(Rejection::Base64(_)), Err(Rejection::Base64(_))) => {}
            _ => assert_eq!(taken, expected, "{key} {sequence}"),
        }
    }

    #[test]
    fn what_can_be_taken_is_decided_from_the_record_alone() {
        let bytes = |count: usize| STANDARD.encode(vec![7; count]);
        let bad = Err(Rejection::Base64(base64::DecodeError::InvalidLength(1)));
        check_take("t", "12", bytes(5), Ok(5));
        check_take("t", "12", bytes(0), Ok(0));
        check_take("t", "12", bytes(MAX_PAYLOAD_BYTES), Ok(MAX_PAYLOAD_BYTES));
        check_take(
            "t",
            "12",
            bytes(MAX_PAYLOAD_BYTES + 1),
            Err(Rejection::TooLarge),
        );
        check_take(
            "t",
            "12",
            bytes(MAX_PAYLOAD_BYTES + 9),
            Err(Rejection::TooLarge),
        );
        check_take("", "12", bytes(5), Err(Rejection::EmptyPartitionKey));
        check_take("t", "", bytes(5), Err(Rejection::SequenceNumber));
        check_take("t", "1f", bytes(5), Err(Rejection::SequenceNumber));
        for data in ["*", "AAA", "AA=A", "AA", "AAAA AAAA", "AAA_"] {
            check_take("t", "12", data.to_owned(), bad.clone());
        }
    }

    fn check_message(payload: &[u8], encoding: Encoding, expected: &str) {
        let mut text = Vec::new();
        write_message(&mut text, "the \"kitchen\"", payload, 1_545_084_650_987);
        let message: contract::message::Message = serde_json::from_slice(&text).unwrap();
        assert_eq!(message.device, "the \"kitchen\"");
        assert_eq!(message.at, 1_545_084_650_987);
        assert_eq!(message.encoding, encoding, "{payload:?}");
        assert_eq!(message.payload.get(), expected);
        assert_eq!(
            serde_json::to_vec(&message).unwrap(),
            text,
            "the contract writes the same text"
        );
    }

    #[test]
    fn json_is_kept_as_it_was_written() {
        for payload in [
            r#"{"temperature":21.50}"#,
            r#"{ "a" : 1e999999, "a" : 12345678901234567890123456789 }"#,
            r#"[1, 2,	3]"#,
            "0.10",
            "null",
            r#""\ud800""#,
        ] {
            check_message(payload.as_bytes(), Encoding::Json, payload);
        }
        check_message(b" \n{} \r\n", Encoding::Json, "{}");
    }

    #[test]
    fn text_that_is_not_json_is_a_string() {
        for (payload, expected) in [
            ("", r#""""#),
            ("   ", r#""   ""#),
            ("NaN", r#""NaN""#),
            ("{'a':1}", r#""{'a':1}""#),
            ("{\"a\":NaN}", r#""{\"a\":NaN}""#),
            ("01", r#""01""#),
            ("1 2", r#""1 2""#),
            ("\u{feff}{}", "\"\u{feff}{}\""),
            ("<script>\u{0}\u{202e}", "\"<script>\\u0000\u{202e}\""),
        ] {
            check_message(payload.as_bytes(), Encoding::Text, expected);
        }
    }

    #[test]
    fn other_bytes_are_base64() {
        check_message(&[0, 255, 254], Encoding::Base64, r#""AP/+""#);
        check_message(b"{\"a\":\"\xff\"}", Encoding::Base64, r#""eyJhIjoi/yJ9""#);
    }

    #[test]
    fn json_nested_too_deep_is_text() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let deepest = nested(MAX_JSON_DEPTH);
        check_message(deepest.as_bytes(), Encoding::Json, &deepest);
        let deeper = nested(MAX_JSON_DEPTH + 1);
        check_message(deeper.as_bytes(), Encoding::Text, &format!("\"{deeper}\""));
        let hostile = nested(500_000);
        check_message(
            hostile.as_bytes(),
            Encoding::Text,
            &format!("\"{hostile}\""),
        );
        let brackets_in_text = format!("[\"\\\"{}\"]", "[".repeat(1000));
        check_message(
            brackets_in_text.as_bytes(),
            Encoding::Json,
            &brackets_in_text,
        );
    }
}
