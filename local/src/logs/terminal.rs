//! An event as people watching the run want to see it.
//!
//! Programs log JSON for machines; a person wants the message first and its fields after it.
//! What is no JSON object with a message is shown as it is.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::{Map, Value as Json};
use tracing::Level;

/// Fields that the terminal's own line has already, or nobody wants on it.
const LEFT_OUT: [&str; 4] = ["timestamp", "level", "target", "message"];

/// Characters of a field that are shown.
const LONGEST_FIELD: usize = 120;

/// The event's level and its text in one line.
pub(super) fn line(event: &str) -> (Level, Cow<'_, str>) {
    let as_it_is = (Level::INFO, Cow::Borrowed(event));
    if !event.starts_with('{') {
        return as_it_is;
    }
    let Ok(fields) = serde_json::from_str::<Map<String, Json>>(event) else {
        return as_it_is;
    };
    let Some(Json::String(message)) = fields.get("message") else {
        return as_it_is;
    };
    let level = match fields.get("level").and_then(Json::as_str) {
        Some("ERROR" | "FATAL") => Level::ERROR,
        Some("WARN") => Level::WARN,
        Some("DEBUG") => Level::DEBUG,
        Some("TRACE") => Level::TRACE,
        _ => Level::INFO,
    };
    let mut text = message.clone();
    for (name, value) in &fields {
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let value = match value {
            Json::String(value) if !value.contains(char::is_whitespace) => value.clone(),
            value => value.to_string(),
        };
        // Writing to a string cannot fail.
        let _ = match value.char_indices().nth(LONGEST_FIELD) {
            None => write!(text, " {name}={value}"),
            Some((end, _)) => write!(text, " {name}={}…", &value[..end]),
        };
    }
    (level, Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_comes_first_and_its_fields_after_it() {
        let check = |event: &str, level: Level, expected: &str| {
            let (seen, text) = line(event);
            assert_eq!((seen, text.as_ref()), (level, expected), "{event}");
        };
        check(
            r#"{"timestamp":"2026-11-23T05:00:00Z","level":"INFO","message":"batch","records":3,"new":2,"request_id":"a-b"}"#,
            Level::INFO,
            "batch new=2 records=3 request_id=a-b",
        );
        check(
            r#"{"level":"WARN","message":"the cache is unreachable","error":"connect: refused","target":"webui::follower"}"#,
            Level::WARN,
            r#"the cache is unreachable error="connect: refused""#,
        );
        check(
            r#"{"message":"nested","device":{"name":"a"},"none":null}"#,
            Level::INFO,
            r#"nested device={"name":"a"} none=null"#,
        );
        for plain in [
            "START RequestId: a",
            "{not json",
            "{}",
            r#"{"message":7}"#,
            "",
        ] {
            check(plain, Level::INFO, plain);
        }
    }

    #[test]
    fn long_field_is_cut_between_characters() {
        let event = format!(r#"{{"message":"m","payload":"{}"}}"#, "ü".repeat(500));
        let (_, text) = line(&event);
        assert_eq!(
            text,
            format!("m payload={}…", "ü".repeat(LONGEST_FIELD)).as_str()
        );
    }
}
