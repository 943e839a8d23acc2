//! The message that the cache keeps for a record, as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::message::Encoding;
use serde::Serialize;
use serde_json::value::RawValue;

/// Deepest JSON that is kept as JSON; what is nested deeper is kept as text. Many parsers fail some
/// levels further down, and sensors do not need it.
pub const MAX_JSON_DEPTH: usize = 64;

/// Appends the [`Message`](contract::message::Message) of a payload to `text`.
///
/// JSON is kept as the device wrote it, with duplicate keys and every digit, but without the white space
/// around it. The empty payload is the empty text. Supersets of JSON, with `NaN` or comments, are text.
pub fn write(text: &mut Vec<u8>, device: &str, payload: &[u8], at: u64) {
    match std::str::from_utf8(payload) {
        Ok(payload) => match json(payload) {
            Some(payload) => write_as(text, device, payload, Encoding::Json, at),
            None => write_as(text, device, payload, Encoding::Text, at),
        },
        Err(_) => write_as(text, device, STANDARD.encode(payload), Encoding::Base64, at),
    }
}

fn json(payload: &str) -> Option<&RawValue> {
    // Most text is rejected by its first byte.
    let first = payload.trim_ascii_start().bytes().next()?;
    if !matches!(
        first,
        b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'
    ) {
        return None;
    }
    let json = serde_json::from_str::<&RawValue>(payload).ok()?;
    // A level takes two bytes, so most payloads need no second pass.
    let is_flat = payload.len() <= 2 * MAX_JSON_DEPTH || depth(json.get()) <= MAX_JSON_DEPTH;
    is_flat.then_some(json)
}

/// Depth of valid JSON.
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

fn write_as(
    text: &mut Vec<u8>,
    device: &str,
    payload: impl Serialize,
    encoding: Encoding,
    at: u64,
) {
    /// [`contract::message::Message`] that borrows the payload.
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
    .expect("strings and numbers are valid JSON, and writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &[u8], encoding: Encoding, expected: &str) {
        let mut text = Vec::new();
        write(&mut text, "the \"kitchen\"", payload, 1_545_084_650_987);
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
            check(payload.as_bytes(), Encoding::Json, payload);
        }
        check(b" \n{} \r\n", Encoding::Json, "{}");
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
            check(payload.as_bytes(), Encoding::Text, expected);
        }
    }

    #[test]
    fn other_bytes_are_base64() {
        check(&[0, 255, 254], Encoding::Base64, r#""AP/+""#);
        check(b"{\"a\":\"\xff\"}", Encoding::Base64, r#""eyJhIjoi/yJ9""#);
    }

    #[test]
    fn json_nested_too_deep_is_text() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let deepest = nested(MAX_JSON_DEPTH);
        check(deepest.as_bytes(), Encoding::Json, &deepest);
        let deeper = nested(MAX_JSON_DEPTH + 1);
        check(deeper.as_bytes(), Encoding::Text, &format!("\"{deeper}\""));
        let hostile = nested(500_000);
        check(
            hostile.as_bytes(),
            Encoding::Text,
            &format!("\"{hostile}\""),
        );
        let brackets_in_text = format!("[\"\\\"{}\"]", "[".repeat(1000));
        check(
            brackets_in_text.as_bytes(),
            Encoding::Json,
            &brackets_in_text,
        );
    }
}
