//! The IAM actions that exist, and to which resources each can be limited.
//!
//! From `schemas/actions.json`, which AWS publishes as the service authorization reference. A handler's
//! permissions in a registry schema may name what is no action (`s3:REST.PUT.OBJECT`); IAM refuses a
//! policy with it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// Resource types by action and ARN formats by resource type; all keys are in lower case.
#[derive(Deserialize)]
struct Facts {
    actions: BTreeMap<String, String>,
    resources: BTreeMap<String, String>,
}

static FACTS: LazyLock<Facts> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../schemas/actions.json"))
        .expect("the committed file is JSON of two maps of texts; a test reads it")
});

/// Whether IAM knows an action, such as `kinesis:PutRecord`; the case does not matter.
pub fn exists(action: &str) -> bool {
    FACTS.actions.contains_key(&action.to_lowercase())
}

/// Formats of the ARNs that an action can be limited to, such as
/// `arn:${Partition}:kinesis:${Region}:${Account}:stream/*`; none when it can be allowed on `*` only, or does
/// not exist.
pub fn arn_formats(action: &str) -> Vec<&'static str> {
    let action = action.to_lowercase();
    let (Some(types), Some((service, _))) = (FACTS.actions.get(&action), action.split_once(':'))
    else {
        return Vec::new();
    };
    let mut formats: Vec<&str> = list(types)
        .filter_map(|name| {
            FACTS
                .resources
                .get(&format!("{service}:{}", name.to_lowercase()))
        })
        .flat_map(|formats| list(formats))
        .collect();
    formats.sort_unstable();
    formats.dedup();
    formats
}

/// The actions of which a pattern such as `autoscaling:Describe*` speaks, in lower case.
pub fn matching(pattern: &str) -> impl Iterator<Item = &'static str> {
    let pattern = pattern.to_lowercase();
    FACTS
        .actions
        .keys()
        .map(String::as_str)
        .filter(move |it| match pattern.split_once('*') {
            None => *it == pattern,
            Some((start, end)) => {
                it.len() >= start.len() + end.len() && it.starts_with(start) && it.ends_with(end)
            }
        })
}

fn list(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split(", ").filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_known_with_the_arns_they_can_be_limited_to() {
        assert!(exists("kinesis:PutRecord"));
        assert!(!exists("s3:REST.PUT.OBJECT"));
        assert_eq!(
            arn_formats("kinesis:PutRecord"),
            ["arn:${Partition}:kinesis:${Region}:${Account}:stream/*"]
        );
        assert_eq!(arn_formats("ec2:DescribeVpcs"), [""; 0]);
        assert_eq!(arn_formats("nothing:Here"), [""; 0]);
    }

    #[test]
    fn patterns_name_actions() {
        let of = |pattern| matching(pattern).count();
        assert_eq!(of("kinesis:PutRecord"), 1);
        assert_eq!(of("kinesis:PutRecord*"), 2);
        assert_eq!(of("kinesis:Nothing*"), 0);
    }

    #[test]
    fn every_resource_type_of_an_action_has_an_arn() {
        for (action, types) in &FACTS.actions {
            let service = action.split(':').next().unwrap_or_default();
            for name in types.split(", ").filter(|it| !it.is_empty()) {
                let key = format!("{service}:{}", name.to_lowercase());
                assert!(FACTS.resources.contains_key(&key), "{action}: {key}");
            }
        }
    }
}
