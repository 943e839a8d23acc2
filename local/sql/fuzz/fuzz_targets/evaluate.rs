//! Any statement on any payload: `cargo +nightly fuzz run evaluate`.
//!
//! The input is a statement, a zero byte, and the payload.

#![no_main]

use iot_sql::{Context, Message, Outcome, Rule, SqlVersion, Template};
use libfuzzer_sys::fuzz_target;

struct Fixed;

impl Context for Fixed {
    fn random(&self) -> f64 {
        0.5
    }

    fn new_uuid(&self) -> String {
        "123e4567-e89b-42d3-a456-426614174000".into()
    }

    fn account_id(&self) -> &str {
        "123456789012"
    }
}

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (sql, payload) = data.split_at(end);
    let Ok(sql) = std::str::from_utf8(sql) else { return };
    let payload = payload.get(1..).unwrap_or_default();
    let message = Message { topic: "fuzz/a/b", payload, ..Message::default() };
    for version in [SqlVersion::V20151008, SqlVersion::V20160323] {
        match Rule::compile(sql, version) {
            Ok(rule) => {
                if let Outcome::Fired(output) = rule.evaluate(&message, &Fixed) {
                    let _ = output.elements();
                }
            }
            Err(error) => {
                let _ = error.to_string();
            }
        }
        if let Ok(template) = Template::compile(sql, version) {
            let _ = template.evaluate(&message, &Fixed);
        }
    }
});
