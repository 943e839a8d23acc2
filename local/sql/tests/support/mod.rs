//! A context whose every answer is known, and one way to evaluate.

#![allow(dead_code, reason = "each test program uses a part")]

use iot_sql::{Context, Message, Outcome, Rule, SqlVersion};

pub(crate) const UUID: &str = "123e4567-e89b-42d3-a456-426614174000";

pub(crate) struct Known {
    pub(crate) account_id: String,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            account_id: "123456789012".into(),
        }
    }
}

impl Context for Known {
    fn random(&self) -> f64 {
        0.823_190_919_164_070_3
    }

    fn new_uuid(&self) -> String {
        UUID.into()
    }

    fn account_id(&self) -> &str {
        &self.account_id
    }
}

pub(crate) fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Message<'a> {
    Message {
        topic,
        payload,
        timestamp_ms: 1_481_825_251_155,
        client_id: Some("device"),
        ..Message::default()
    }
}

/// The output as text; none where the rule does not fire.
#[track_caller]
pub(crate) fn run(sql: &str, version: SqlVersion, message: &Message<'_>) -> Option<String> {
    let rule = Rule::compile(sql, version).unwrap_or_else(|error| panic!("{error}"));
    match rule.evaluate(message, &Known::default()) {
        Outcome::Fired(output) => Some(String::from_utf8_lossy(output.bytes()).into_owned()),
        Outcome::NotFired => None,
        Outcome::Failed(error) => panic!("{sql}: {error}"),
    }
}

/// What an expression gives as `SELECT VALUE`; `undefined` where that is empty.
#[track_caller]
pub(crate) fn value(expression: &str, version: SqlVersion, payload: &str) -> String {
    let sql = format!("SELECT VALUE ({expression})");
    let text =
        run(&sql, version, &message("a/b/c", payload.as_bytes())).expect("there is no WHERE");
    if text.is_empty() {
        "undefined".into()
    } else {
        text
    }
}

/// Evaluates `(expression, payload, expected)` in version 2016-03-23.
#[track_caller]
pub(crate) fn check(table: &[(&str, &str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(expression, payload, expected)| {
            let got = value(expression, SqlVersion::V20160323, payload);
            (got != *expected)
                .then(|| format!("{expression} on {payload}: got {got}, expected {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
