//! What becomes of a device's message: the topic rules that take it, and the records that they emit.

use cfn::resolve::{Resolved, ResolvedResource};
use iot_sql::{Context, Message, Outcome, Rule, SqlVersion};
use serde_json::Value as Json;

use crate::Load;

/// The devices' messages in one stack.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    pub(crate) load: Load,
    /// The rules that take the messages, by logical ID.
    pub(crate) rules: Vec<Taken>,
}

/// A topic rule that takes each message.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) logical_id: String,
    /// Number of its actions.
    pub(crate) actions: usize,
    /// What its actions put elsewhere.
    puts: Vec<Put>,
}

#[derive(Clone, Debug)]
struct Put {
    /// Logical ID of the stream or delivery stream.
    target: String,
    /// Bytes of a record.
    bytes: f64,
}

/// Records that a stream or delivery stream gets for each message.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Records {
    /// Records for a message.
    pub(crate) count: f64,
    /// Bytes of one.
    pub(crate) bytes: f64,
}

impl Traffic {
    /// Whether any rule takes the messages.
    pub(crate) fn is_taken(&self) -> bool {
        !self.rules.is_empty()
    }

    /// What a stream or delivery stream gets.
    pub(crate) fn records(&self, logical_id: &str) -> Records {
        let puts = self.rules.iter().flat_map(|rule| &rule.puts);
        let puts: Vec<&Put> = puts.filter(|put| put.target == logical_id).collect();
        if puts.is_empty() {
            return Records::default();
        }
        let count = puts.len() as f64;
        Records {
            count,
            bytes: puts.iter().map(|put| put.bytes).sum::<f64>() / count,
        }
    }
}

/// What becomes of the messages in a stack.
pub(crate) fn traffic(stack: &Resolved, load: Load) -> Traffic {
    let topic = contract::topic::of_device("sensor-00001");
    let payload = payload(load.bytes);
    let rules = stack.of_type("AWS::IoT::TopicRule");
    let rules = rules.filter_map(|rule| taken(stack, rule, &topic, &payload));
    Traffic {
        load,
        rules: rules.collect(),
    }
}

fn taken(stack: &Resolved, rule: &ResolvedResource, topic: &str, payload: &[u8]) -> Option<Taken> {
    if rule.flag("/TopicRulePayload/RuleDisabled") == Some(true) {
        return None;
    }
    let sql = rule.text("/TopicRulePayload/Sql")?;
    // The version decides about details of values, not about sizes.
    let compiled = Rule::compile(&sql, SqlVersion::V20160323).ok();
    if compiled.as_ref().is_some_and(|rule| !rule.takes(topic)) {
        return None;
    }
    let message = Message {
        topic,
        payload,
        timestamp_ms: 1_700_000_000_000,
        ..Message::default()
    };
    // What the sample does not show is counted as emitting the payload.
    let emitted = compiled.map_or(payload.len(), |rule| {
        match rule.evaluate(&message, &Sample) {
            Outcome::Fired(output) => output.bytes().len(),
            _ => payload.len(),
        }
    });
    let actions = rule.items("/TopicRulePayload/Actions");
    let puts = actions
        .iter()
        .filter_map(|action| put(stack, action, emitted));
    Some(Taken {
        logical_id: rule.logical_id.clone(),
        actions: actions.len(),
        puts: puts.collect(),
    })
}

fn put(stack: &Resolved, action: &Json, bytes: usize) -> Option<Put> {
    let (r#type, name) = match (&action["Kinesis"], &action["Firehose"]) {
        (Json::Object(kinesis), _) => ("AWS::Kinesis::Stream", kinesis.get("StreamName")),
        (_, Json::Object(firehose)) => (
            "AWS::KinesisFirehose::DeliveryStream",
            firehose.get("DeliveryStreamName"),
        ),
        _ => return None,
    };
    let target = stack.find(r#type, name?.as_str()?)?;
    let separator = action["Firehose"]["Separator"].as_str().unwrap_or_default();
    Some(Put {
        target: target.logical_id.clone(),
        bytes: (bytes + separator.len()) as f64,
    })
}

/// A payload of so many bytes, JSON of one reading where that fits.
fn payload(bytes: u64) -> Vec<u8> {
    let frame = r#"{"temperature":21.5,"note":""}"#.len();
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    match bytes.checked_sub(frame) {
        Some(rest) => {
            format!(r#"{{"temperature":21.5,"note":"{}"}}"#, "x".repeat(rest)).into_bytes()
        }
        None => b"1".repeat(bytes),
    }
}

/// What a statement can ask for beside the message.
struct Sample;

impl Context for Sample {
    fn random(&self) -> f64 {
        0.5
    }

    fn new_uuid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".to_owned()
    }

    fn account_id(&self) -> &str {
        "123456789012"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_has_exactly_the_bytes_that_were_asked_for() {
        for bytes in [1, 29, 30, 31, 300, 131_072] {
            assert_eq!(payload(bytes).len() as u64, bytes);
        }
    }
}
