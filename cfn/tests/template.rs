//! What is written in Rust is what stands in the template.

use cfn::intrinsic::{self, Sub, pseudo};
use cfn::policy::{Condition, Document};
use cfn::resources::{ec2, iam, kinesis, s3};
use cfn::{
    ConditionExpression, DeletionPolicy, List, ParameterProps, ResourceAttributes, Template,
    UpdateReplacePolicy, Value,
};
use serde_json::{Value as Json, json};

fn emit(template: &Template) -> Json {
    let synthesized = template
        .synth()
        .unwrap_or_else(|problems| panic!("{problems}"));
    serde_json::from_str(&synthesized.template).expect("a template is JSON")
}

#[track_caller]
fn check<T: serde::Serialize>(value: &T, expected: &Json) {
    assert_eq!(
        &serde_json::to_value(value).expect("a value is JSON"),
        expected
    );
}

#[test]
fn every_section_is_emitted_in_the_order_of_definition() {
    let mut template = Template::new("Everything");
    template.metadata("Note", json!("for people"));
    let name = template.parameter::<String>(
        "StreamName",
        ParameterProps {
            default: Some(String::new()),
            ..Default::default()
        },
    );
    let named = template.condition(
        "Named",
        ConditionExpression::negate(ConditionExpression::equals(name.reference(), "")),
    );
    let sizes = template.mapping("Sizes", [("dev", &[("shards", json!(1))])]);
    let second = template.define(
        "Zebra",
        kinesis::Stream {
            shard_count: Some(intrinsic::find_in_map(sizes, "dev", "shards")),
            ..Default::default()
        },
    );
    let first = template.define_with(
        "Aardvark",
        kinesis::Stream {
            name: Some(intrinsic::only_if(named, name.reference())),
            ..Default::default()
        },
        ResourceAttributes {
            condition: Some(named),
            depends_on: vec![second.logical_id()],
            deletion_policy: Some(DeletionPolicy::Retain),
            update_replace_policy: Some(UpdateReplacePolicy::Retain),
            ..Default::default()
        },
    );
    template.output_if("StreamArn", "The stream", first.arn(), Some(named));
    template.export(
        "StreamArn",
        Sub::new()
            .value(pseudo::stack_name())
            .text("-stream")
            .build(),
    );
    assert_eq!(
        emit(&template),
        json!({
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": "Everything",
            "Metadata": { "Note": "for people" },
            "Parameters": { "StreamName": { "Type": "String", "Default": "" } },
            "Mappings": { "Sizes": { "dev": { "shards": 1 } } },
            "Conditions": { "Named": { "Fn::Not": [{ "Fn::Equals": [{ "Ref": "StreamName" }, ""] }] } },
            "Resources": {
                "Zebra": { "Type": "AWS::Kinesis::Stream", "Properties": { "ShardCount": { "Fn::FindInMap": ["Sizes", "dev", "shards"] } } },
                "Aardvark": {
                    "Type": "AWS::Kinesis::Stream",
                    "Condition": "Named",
                    "DependsOn": ["Zebra"],
                    "DeletionPolicy": "Retain",
                    "UpdateReplacePolicy": "Retain",
                    "Properties": { "Name": { "Fn::If": ["Named", { "Ref": "StreamName" }, { "Ref": "AWS::NoValue" }] } },
                },
            },
            "Outputs": {
                "StreamArn": {
                    "Description": "The stream",
                    "Value": { "Fn::GetAtt": ["Aardvark", "Arn"] },
                    "Condition": "Named",
                    "Export": { "Name": { "Fn::Sub": "${AWS::StackName}-stream" } },
                },
            },
        })
    );
    let text = template.synth().expect("has no problems").template;
    assert!(
        text.find("Zebra") < text.find("Aardvark"),
        "in the order of definition, not of the alphabet"
    );
}

#[test]
fn intrinsic_functions_are_written_as_cloudformation_reads_them() {
    check(
        &intrinsic::join("-", ["a", "b"].map(Value::<String>::from)),
        &json!({ "Fn::Join": ["-", ["a", "b"]] }),
    );
    check(
        &intrinsic::select(1, intrinsic::availability_zones()),
        &json!({ "Fn::Select": ["1", { "Fn::GetAZs": "" }] }),
    );
    check(
        &intrinsic::split(",", pseudo::region()),
        &json!({ "Fn::Split": [",", { "Ref": "AWS::Region" }] }),
    );
    check(
        &intrinsic::cidr("10.0.0.0/16", 4, 8),
        &json!({ "Fn::Cidr": ["10.0.0.0/16", 4, "8"] }),
    );
    check(&intrinsic::base64("text"), &json!({ "Fn::Base64": "text" }));
    check(
        &intrinsic::import_value::<String>("other"),
        &json!({ "Fn::ImportValue": "other" }),
    );
    check(
        &intrinsic::ssm_parameter("/name"),
        &json!("{{resolve:ssm:/name}}"),
    );
    check(
        &intrinsic::secret("id", "key"),
        &json!("{{resolve:secretsmanager:id:SecretString:key}}"),
    );
    check(
        &Value::<String>::no_value(),
        &json!({ "Ref": "AWS::NoValue" }),
    );
}

#[test]
fn sub_escapes_what_only_looks_like_a_reference() {
    check(&Sub::new().text("${topic()}").build(), &json!("${topic()}"));
    check(
        &Sub::new()
            .value(pseudo::region())
            .text("/${topic()}")
            .build(),
        &json!({ "Fn::Sub": "${AWS::Region}/${!topic()}" }),
    );
}

#[test]
fn a_grant_stands_in_the_role_under_the_resources_name() {
    let mut template = Template::new("Grants");
    let role = template.define(
        "Role",
        iam::Role::new(Document::trust(
            "iot.amazonaws.com",
            &[Condition::source_account()],
        )),
    );
    let stream = template.define("SensorStream", kinesis::Stream::default());
    stream.grant_put(&mut template, role);
    assert_eq!(
        emit(&template)["Resources"]["Role"]["Properties"],
        json!({
            "AssumeRolePolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [{
                    "Effect": "Allow",
                    "Principal": { "Service": "iot.amazonaws.com" },
                    "Action": ["sts:AssumeRole"],
                    "Condition": { "StringEquals": { "aws:SourceAccount": { "Ref": "AWS::AccountId" } } },
                }],
            },
            "Policies": [{
                "PolicyName": "SensorStreamPut",
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [{
                        "Effect": "Allow",
                        "Action": ["kinesis:PutRecord"],
                        "Resource": [{ "Fn::GetAtt": ["SensorStream", "Arn"] }],
                    }],
                },
            }],
        })
    );
}

#[test]
fn a_grant_to_a_role_of_another_template_is_a_problem() {
    let mut other = Template::new("Other");
    let role = other.define(
        "Role",
        iam::Role::new(Document::trust("iot.amazonaws.com", &[])),
    );
    let mut template = Template::new("This");
    let stream = template.define("SensorStream", kinesis::Stream::default());
    stream.grant_put(&mut template, role);
    let problems = template.synth().expect_err("the role is not here");
    assert_eq!(
        problems.0[0].to_string(),
        "Role: gets a grant, but is no role of this template: grant to the role's own template"
    );
}

#[test]
fn problems_name_the_line_that_defined_the_resource() {
    let mut template = Template::new("Wrong");
    let properties = kinesis::Stream {
        shard_count: Some(0.into()),
        ..Default::default()
    };
    template.define("SensorStream", properties);
    let line = line!() - 1;
    let problems = template.synth().expect_err("no shards").to_string();
    assert!(
        problems.starts_with("SensorStream.ShardCount: got 0, expected 1 to 100000 (defined at "),
        "{problems}"
    );
    assert!(
        problems.contains(&format!("template.rs:{line}:")),
        "{problems}"
    );
}

#[test]
fn a_logical_id_defined_twice_names_both_places() {
    let mut template = Template::new("Twice");
    template.define("SensorStream", kinesis::Stream::default());
    template.define("SensorStream", s3::Bucket::default());
    let problems = template.synth().expect_err("defined twice").to_string();
    assert_eq!(problems.matches("template.rs:").count(), 3, "{problems}");
    assert!(
        problems.contains("logical IDs are unique: rename one"),
        "{problems}"
    );
}

#[test]
fn sources_name_file_and_line_of_each_resource() {
    let mut template = Template::new("Sources");
    template.define("SensorStream", kinesis::Stream::default());
    let line = line!() - 1;
    let sources: Json = serde_json::from_str(&template.synth().expect("has no problems").sources)
        .expect("sources are JSON");
    assert_eq!(sources["SensorStream"]["line"], json!(line));
    assert!(
        sources["SensorStream"]["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("tests/template.rs"))
    );
}

#[test]
fn resolved_properties_are_read_as_the_struct_that_wrote_them() {
    let read =
        cfn::resource::read::<kinesis::Stream>("It", &json!({ "ShardCount": "2", "Name": "s" }))
            .expect("is a stream");
    assert_eq!(read.shard_count, Some(2.into()));
    let unknown = cfn::resource::read::<kinesis::Stream>(
        "It",
        &json!({ "StreamModeDetails": { "Modus": 1 } }),
    )
    .expect_err("is none");
    assert!(
        unknown
            .to_string()
            .starts_with("It.StreamModeDetails.Modus: unknown field `Modus`"),
        "{unknown}"
    );
    let groups: List<ec2::SecurityGroupId> =
        serde_json::from_value(json!(["sg-1"])).expect("a list");
    assert_eq!(
        groups
            .literals()
            .map(ec2::SecurityGroupId::as_str)
            .collect::<Vec<_>>(),
        ["sg-1"]
    );
}
