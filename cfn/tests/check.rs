//! What is wrong with a template is said at synth: all at once, each with place, got and expected.

use cfn::document::Document;
use serde_json::{Value as Json, json};

/// The problems of a template whose resources these are, one line each.
fn problems(resources: &Json) -> Vec<String> {
    problems_of(&json!({ "Resources": resources }))
}

fn problems_of(template: &Json) -> Vec<String> {
    let text = template.to_string();
    let document = Document::parse(&text).expect("the case is a template");
    cfn::check::document(&document, text.len())
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[track_caller]
fn check(resource: &Json, expected: &[&str]) {
    assert_eq!(problems(&json!({ "It": resource })), expected);
}

fn stream(properties: &Json) -> Json {
    json!({ "Type": "AWS::Kinesis::Stream", "Properties": properties })
}

#[test]
fn literals_are_checked_against_the_schema() {
    check(
        &stream(&json!({ "ShardCount": 2, "RetentionPeriodHours": 24 })),
        &[],
    );
    check(
        &stream(&json!({ "ShardCount": 0 })),
        &["It.ShardCount: got 0, expected 1 to 100000"],
    );
    check(
        &stream(&json!({ "ShardCount": "0" })),
        &["It.ShardCount: got 0, expected 1 to 100000"],
    );
    check(
        &stream(&json!({ "ShardCount": "many" })),
        &["It.ShardCount: got `\"many\"`, expected a whole number"],
    );
    check(
        &stream(&json!({ "Name": "no spaces" })),
        &["It.Name: got `\"no spaces\"`, expected text that matches `^[a-zA-Z0-9_.-]+$`"],
    );
    check(
        &stream(&json!({ "Name": "" })).clone(),
        &[
            "It.Name: got 0 characters, expected 1 to 128",
            "It.Name: got `\"\"`, expected text that matches `^[a-zA-Z0-9_.-]+$`",
        ],
    );
    check(
        &stream(&json!({ "StreamModeDetails": { "StreamMode": "AUTOMATIC" } })),
        &[
            "It.StreamModeDetails.StreamMode: got `\"AUTOMATIC\"`, expected one of `ON_DEMAND`, `PROVISIONED`",
        ],
    );
    check(
        &stream(&json!({ "StreamEncryption": { "EncryptionType": "KMS" } })),
        &["It.StreamEncryption.KeyId: is missing, but the property is required"],
    );
    check(
        &stream(&json!({ "StreamModeDetails": { "Mode": 1, "StreamMode": "ON_DEMAND" } })),
        &["It.StreamModeDetails.Mode: is not a property, expected one of `StreamMode`"],
    );
    check(
        &stream(&json!({ "DesiredShardLevelMetrics": ["ALL", "ALL"] })),
        &["It.DesiredShardLevelMetrics[1]: got `\"ALL\"` twice, expected different items"],
    );
}

#[test]
fn everything_is_reported_at_once() {
    let found = problems(&json!({
        "One": stream(&json!({ "ShardCount": 0, "Name": "a b" })),
        "Two": { "Type": "AWS::Lambda::Function", "Properties": { "Timeout": 0 } },
    }));
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn both_branches_of_an_if_are_checked() {
    let template = json!({
        "Conditions": { "Large": { "Fn::Equals": ["a", "b"] } },
        "Resources": { "It": stream(&json!({ "ShardCount": { "Fn::If": ["Large", 0, 3] } })) },
    });
    assert_eq!(
        problems_of(&template),
        ["It.ShardCount: got 0, expected 1 to 100000"]
    );
}

#[test]
fn intrinsics_and_dynamic_references_are_taken_for_what_they_yield() {
    check(
        &stream(&json!({ "Name": { "Fn::Sub": "${AWS::StackName}-stream" } })),
        &[],
    );
    check(
        &stream(&json!({ "Name": "{{resolve:ssm:stream-name}}" })),
        &[],
    );
}

#[test]
fn dangling_references_are_found_wherever_they_stand() {
    for (value, expected) in [
        (
            json!({ "Ref": "Nobody" }),
            "It.Name: got a reference to `Nobody`, which the template does not define",
        ),
        (
            json!({ "Fn::GetAtt": ["Nobody", "Arn"] }),
            "It.Name: got a reference to `Nobody`, which the template does not define",
        ),
        (
            json!({ "Fn::GetAtt": "Nobody.Arn" }),
            "It.Name: got a reference to `Nobody`, which the template does not define",
        ),
        (
            json!({ "Fn::Sub": "a${Nobody}" }),
            "It.Name: got a reference to `Nobody`, which the template does not define",
        ),
        (
            json!({ "Fn::Join": ["", ["a", { "Ref": "Nobody" }]] }),
            "It.Name[1][1]: got a reference to `Nobody`, which the template does not define",
        ),
        (
            json!({ "Fn::If": ["Never", "a", "b"] }),
            "It.Name: got condition `Never`, expected one that the template declares",
        ),
        (
            json!({ "Fn::FindInMap": ["Nothing", "a", "b"] }),
            "It.Name: got mapping `Nothing`, expected one that the template declares",
        ),
        (
            json!({ "Fn::Sub": "${open" }),
            "It.Name: got Fn::Sub `${open`, whose `${` has no end",
        ),
    ] {
        check(&stream(&json!({ "Name": value })), &[expected]);
    }
    check(
        &stream(&json!({ "Name": { "Fn::Sub": "${!NotAReference}" } })),
        &[],
    );
    check(
        &stream(&json!({ "Name": { "Fn::Sub": ["${Own}", { "Own": "x" }] } })),
        &[],
    );
}

#[test]
fn attributes_that_a_type_does_not_have_are_found() {
    let found = problems(&json!({
        "Stream": stream(&json!({})),
        "Other": stream(&json!({ "Name": { "Fn::GetAtt": ["Stream", "StreamArn"] } })),
    }));
    assert_eq!(
        found,
        ["Other.Name: got attribute `StreamArn` of `Stream`, AWS::Kinesis::Stream has `Arn`"]
    );
}

#[test]
fn a_cycle_is_named_by_its_resources() {
    let found = problems(&json!({
        "A": stream(&json!({ "Name": { "Ref": "B" } })),
        "B": stream(&json!({ "Name": { "Fn::Sub": "${C.Arn}" } })),
        "C": { "Type": "AWS::Kinesis::Stream", "DependsOn": "A" },
    }));
    assert_eq!(
        found,
        [
            "A: refers to itself through A → B → C → A; break the cycle, for instance by a separate rule or policy resource"
        ],
    );
}

#[test]
fn resource_attributes_are_checked() {
    let mut resource = stream(&json!({}));
    resource["DependsOn"] = json!(["It", "Nobody"]);
    resource["DeletionPolicy"] = json!("Keep");
    resource["UpdateReplacePolicy"] = json!("RetainExceptOnCreate");
    resource["Condition"] = json!("Never");
    check(
        &resource,
        &[
            "It: got condition `Never`, expected one that the template declares",
            "It: depends on itself",
            "It.DependsOn: got `Nobody`, expected the logical ID of a resource of this template",
            "It.DeletionPolicy: got `Keep`, expected one of `Delete`, `Retain`, `RetainExceptOnCreate`, `Snapshot`",
            "It.UpdateReplacePolicy: got `RetainExceptOnCreate`, expected one of `Delete`, `Retain`, `Snapshot`",
        ],
    );
}

#[test]
fn rules_between_properties_are_checked() {
    let vpc = |properties: Json| json!({ "Type": "AWS::EC2::VPC", "Properties": properties });
    check(
        &vpc(json!({})),
        &["It: got none, expected exactly one of `CidrBlock`, `Ipv4IpamPoolId`"],
    );
    check(&vpc(json!({ "CidrBlock": "10.0.0.0/16" })), &[]);
}

#[test]
fn limits_of_cloudformation_are_checked() {
    let resources: serde_json::Map<String, Json> = (0..501)
        .map(|index| (format!("Stream{index}"), stream(&json!({}))))
        .collect();
    assert_eq!(
        problems(&Json::Object(resources)),
        ["Resources: got 501 resources, CloudFormation takes at most 500"]
    );
    assert_eq!(
        problems(&json!({})),
        ["Resources: got none, CloudFormation needs at least one resource"]
    );
    let described =
        json!({ "Description": "x".repeat(1025), "Resources": { "It": stream(&json!({})) } });
    assert_eq!(
        problems_of(&described),
        ["Description: got 1025 bytes, CloudFormation takes at most 1024"]
    );
    assert_eq!(
        problems(&json!({ "my-stream": stream(&json!({})) })).len(),
        1
    );
}
