//! Topic filters of a template's rules: whether a message that is published reaches any of them.

use anyhow::Context;
use cfn::document::{Document, Resource};
use iot_sql::{BasicIngest, Rule, SqlVersion};

/// Whether an enabled topic rule of the template takes messages of this topic.
///
/// What cannot be known counts as taken: a statement that is not a literal string, and Basic Ingest, which
/// names its rule.
///
/// # Errors
/// The template cannot be read.
pub(crate) fn takes(template: &str, topic: &str) -> anyhow::Result<bool> {
    let document = Document::parse(template).context("cannot read the deployed template")?;
    let mut rules = document
        .resources
        .values()
        .filter(|resource| resource.r#type == "AWS::IoT::TopicRule");
    Ok(BasicIngest::parse(topic).is_some() || rules.any(|rule| may_take(rule, topic)))
}

fn may_take(rule: &Resource, topic: &str) -> bool {
    let payload = &rule.properties["TopicRulePayload"];
    if payload["RuleDisabled"].as_bool() == Some(true) {
        return false;
    }
    let Some(sql) = payload["Sql"].as_str() else {
        return true;
    };
    // The version decides what a statement evaluates to, not which topics it takes.
    Rule::compile(sql, SqlVersion::V20160323).map_or(true, |rule| rule.takes(topic))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use stack::Stage;

    use super::*;

    #[test]
    fn deployed_rules_take_the_topics_of_devices_and_no_others() {
        let deployed = crate::deploy::synth(Stage::Dev).unwrap();
        let template = &deployed.last().unwrap().template;
        for (topic, expected) in [
            (contract::topic::BARE, true),
            ("topic/sensors/kitchen", true),
            ("topic/sensor/kitchen", false),
            ("topic/sensors/kitchen/window", false),
            ("commands/kitchen", false),
        ] {
            assert_eq!(takes(template, topic).unwrap(), expected, "{topic}");
        }
    }

    #[test]
    fn what_cannot_be_known_counts_as_taken_and_a_disabled_rule_does_not() {
        let check = |sql: Json, disabled: Json, topic: &str, expected: bool| {
            let payload = json!({ "Sql": sql, "RuleDisabled": disabled, "Actions": [] });
            let rule = json!({
                "Type": "AWS::IoT::TopicRule", "Properties": { "TopicRulePayload": payload },
            });
            let template = json!({ "Resources": { "Rule": rule } }).to_string();
            assert_eq!(takes(&template, topic).unwrap(), expected, "{template}");
        };
        let sql = || json!("SELECT * FROM 'a/+'");
        check(sql(), json!(false), "a/b", true);
        check(sql(), Json::Null, "b", false);
        check(sql(), json!(true), "a/b", false);
        check(json!({ "Fn::Sub": "SELECT" }), json!(false), "b", true);
        check(json!("not SQL"), json!(false), "b", true);
        check(sql(), json!(false), "$aws/rules/another", true);
        assert!(takes("{", "a").is_err());
    }
}
