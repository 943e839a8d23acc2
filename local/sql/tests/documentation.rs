//! The cases of AWS's documentation in `cases.json`, all of them.

mod support;

use base64::prelude::{BASE64_STANDARD, Engine};
use iot_sql::{Message, Outcome, Rule, SqlVersion, Template};
use serde::Deserialize;
use serde_json::Value;
use support::Known;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    sql: String,
    sql_version: String,
    topic: String,
    #[serde(default)]
    payload: Value,
    payload_raw_base64: Option<String>,
    rule_fires: bool,
    expected: Option<Value>,
    compare: Option<String>,
    clock_ms: Option<u64>,
    #[serde(default)]
    context: CaseContext,
    substitution: Option<Substitution>,
}

#[derive(Default, Deserialize)]
struct CaseContext {
    client_id: Option<String>,
    account_id: Option<String>,
}

#[derive(Deserialize)]
struct Substitution {
    template: String,
    result: String,
}

impl Case {
    fn check(&self) -> Result<(), String> {
        let version: SqlVersion = self
            .sql_version
            .parse()
            .map_err(|error| format!("{error}"))?;
        let rule = Rule::compile(&self.sql, version).map_err(|error| error.to_string())?;
        let payload = match &self.payload_raw_base64 {
            Some(raw) => BASE64_STANDARD
                .decode(raw)
                .map_err(|error| error.to_string())?,
            None => self.payload.to_string().into_bytes(),
        };
        let message = Message {
            client_id: self.context.client_id.as_deref(),
            timestamp_ms: self.clock_ms.unwrap_or_default(),
            ..support::message(&self.topic, &payload)
        };
        let mut context = Known::default();
        if let Some(account_id) = &self.context.account_id {
            context.account_id.clone_from(account_id);
        }
        let routed = rule.takes(&self.topic);
        let fired = match rule.evaluate(&message, &context) {
            Outcome::Fired(output) if routed => Some(output),
            Outcome::Fired(_) | Outcome::NotFired => None,
            Outcome::Failed(error) => return Err(error.to_string()),
        };
        if fired.is_some() != self.rule_fires {
            return Err(format!("fires: {}", fired.is_some()));
        }
        if let Some(Substitution { template, result }) = &self.substitution {
            let template =
                Template::compile(template, version).map_err(|error| error.to_string())?;
            let got = template
                .evaluate(&message, &context)
                .map_err(|error| error.to_string())?;
            if got != *result {
                return Err(format!("template gives {got}"));
            }
        }
        let (Some(output), Some(expected)) = (fired, &self.expected) else {
            return Ok(());
        };
        let got: Value =
            serde_json::from_slice(output.bytes()).map_err(|error| error.to_string())?;
        if self.same(&got, expected) {
            Ok(())
        } else {
            Err(format!("got {got}, expected {expected}"))
        }
    }

    fn same(&self, got: &Value, expected: &Value) -> bool {
        let number = |value: &Value| value.get("r").and_then(Value::as_f64).unwrap_or(f64::NAN);
        match self.compare.as_deref() {
            None => got == expected,
            Some("numeric") => number(got) == number(expected),
            Some("range:[0.0,1.0)") => (0.0..1.0).contains(&number(got)),
            Some(how) => {
                if let Some(tolerance) = how.strip_prefix("approx:") {
                    (number(got) - number(expected)).abs() <= tolerance.parse().unwrap()
                } else if let Some(pattern) = how.strip_prefix("regex:") {
                    regex::Regex::new(pattern)
                        .unwrap()
                        .is_match(got["r"].as_str().unwrap_or_default())
                } else {
                    panic!("unknown comparison {how}")
                }
            }
        }
    }
}

#[test]
fn every_case_of_the_documentation_holds() {
    let cases: Cases = serde_json::from_str(include_str!("cases.json")).unwrap();
    assert!(cases.cases.len() >= 110);
    let wrong: Vec<String> = cases
        .cases
        .iter()
        .filter_map(|case| {
            case.check()
                .err()
                .map(|error| format!("{}: {}: {error}", case.id, case.sql))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
