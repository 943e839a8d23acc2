//! Changes that a reviewer must understand, made to the emitted templates, and what the review says.

use std::collections::BTreeMap;

use review::{Input, Stack, review};
use serde_json::{Value as Json, json};
use stack::Stage;

/// The alarm that a test removes.
const ALARM: &str = "FunctionErrorsAlarm";

/// Both stages' stacks as they are emitted, the new side edited in the named stages.
fn input(stages: &[Stage], edit: &dyn Fn(&mut Json)) -> Input {
    let mut stacks = Vec::new();
    for stage in Stage::ALL {
        for synthesized in stack::synth(stage).unwrap_or_else(|it| panic!("{it}")) {
            let mut before: Json = serde_json::from_str(&synthesized.template).expect("is JSON");
            // One alarm is enough here: a new one shall not change what these tests show.
            let resources = before["Resources"].as_object_mut().expect("has resources");
            resources.retain(|id, it| it["Type"] != "AWS::CloudWatch::Alarm" || id == ALARM);
            let mut after = before.clone();
            if synthesized.name == stack::stack_name(stage) && stages.contains(&stage) {
                edit(&mut after);
            }
            let places: BTreeMap<String, Json> =
                serde_json::from_str(&synthesized.sources).expect("is JSON");
            // Lines move with every change of the code; files do not.
            let places: BTreeMap<String, String> = places
                .into_iter()
                .map(|(id, place)| {
                    (
                        id,
                        format!("{}:LINE", place["file"].as_str().expect("is text")),
                    )
                })
                .collect();
            stacks.push(Stack {
                stage: stage.to_string(),
                name: synthesized.name,
                before: Some(before.to_string()),
                after: Some(after.to_string()),
                places_before: places.clone(),
                places,
            });
        }
    }
    Input {
        base: "main (1a2b3c4)".to_owned(),
        stacks,
        ..Input::default()
    }
}

/// What the review says of a change in both stages, and whether it is grave.
fn told(edit: impl Fn(&mut Json)) -> (String, bool) {
    told_of(&Stage::ALL, edit)
}

fn told_of(stages: &[Stage], edit: impl Fn(&mut Json)) -> (String, bool) {
    let review = review(&input(stages, &edit)).unwrap_or_else(|it| panic!("{it}"));
    (review.text(&|_, text| text.to_owned()), review.is_grave())
}

fn properties<'a>(template: &'a mut Json, id: &str) -> &'a mut Json {
    let properties = &mut template["Resources"][id]["Properties"];
    assert!(properties.is_object(), "{id} is emitted");
    properties
}

/// The whole template with one logical ID replaced by another, where it stands alone.
fn rename(template: &mut Json, old: &str, new: &str) {
    let (quoted, renamed) = (format!("\"{old}\""), format!("\"{new}\""));
    let text = template.to_string();
    assert!(text.contains(&quoted), "{old} is emitted");
    *template = serde_json::from_str(&text.replace(&quoted, &renamed)).expect("is JSON");
}

#[test]
fn nothing_changed_is_nothing() {
    let (text, grave) = told(|_| {});
    insta::assert_snapshot!("nothing", text);
    assert!(!grave);
}

#[test]
fn moved_lines_are_nothing() {
    let (text, grave) = told(|template| {
        let resources = template["Resources"]
            .as_object_mut()
            .expect("has resources");
        let last = resources.keys().next_back().cloned().expect("has some");
        let moved = resources.remove(&last).expect("is there");
        let rest = std::mem::take(resources);
        resources.insert(last, moved);
        resources.extend(rest);
    });
    assert!(text.contains("stays as it is"), "{text}");
    assert!(!grave);
}

#[test]
fn widened_action() {
    let (text, grave) = told(|template| {
        let policy = &mut properties(template, "RuleToStreamRole")["Policies"][0];
        policy["PolicyDocument"]["Statement"][0]["Action"] = json!(["kinesis:*"]);
    });
    insta::assert_snapshot!("widened-action", text);
    assert!(grave);
}

#[test]
fn wildcard_resource() {
    let (text, grave) = told(|template| {
        let policy = &mut properties(template, "RuleToArchiveRole")["Policies"][0];
        policy["PolicyDocument"]["Statement"][0]["Resource"] = json!(["*"]);
    });
    insta::assert_snapshot!("wildcard-resource", text);
    assert!(grave);
}

#[test]
fn opened_port() {
    let (text, grave) = told_of(&[Stage::Dev], |template| {
        template["Resources"]["CacheFromAnywhere"] = json!({
            "Type": "AWS::EC2::SecurityGroupIngress",
            "Properties": {
                "GroupId": {"Fn::GetAtt": ["CacheSecurityGroup", "GroupId"]},
                "IpProtocol": "tcp", "FromPort": 6379, "ToPort": 6379, "CidrIp": "0.0.0.0/0",
            }
        });
    });
    insta::assert_snapshot!("opened-port", text);
    assert!(grave);
}

#[test]
fn public_bucket() {
    let (text, grave) = told(|template| {
        let bucket = properties(template, "ArchiveBucket");
        bucket["PublicAccessBlockConfiguration"]["BlockPublicPolicy"] = json!(false);
        bucket["PublicAccessBlockConfiguration"]["RestrictPublicBuckets"] = json!(false);
        let policy = &mut properties(template, "ArchiveBucketPolicy")["PolicyDocument"];
        policy["Statement"]
            .as_array_mut()
            .expect("is a list")
            .push(json!({
                "Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"],
                "Resource": [{"Fn::Sub": "${ArchiveBucket.Arn}/*"}],
            }));
    });
    insta::assert_snapshot!("public-bucket", text);
    assert!(grave);
}

#[test]
fn shorter_retention() {
    let (text, grave) = told_of(&[Stage::Prod], |template| {
        properties(template, "FunctionLogs")["RetentionInDays"] = json!(7);
        properties(template, "SensorStream")["RetentionPeriodHours"] = json!(24);
    });
    insta::assert_snapshot!("shorter-retention", text);
    assert!(grave);
}

#[test]
fn changed_cache_subnet_group() {
    let (text, grave) = told(|template| {
        let mut group = template["Resources"]["CacheSubnetGroup"].clone();
        group["Properties"]["SubnetIds"] = json!([{"Ref": "PrivateSubnet1"}]);
        group["Properties"]["Description"] = json!("One zone alone");
        template["Resources"]["OtherCacheSubnetGroup"] = group;
        properties(template, "Cache")["CacheSubnetGroupName"] =
            json!({"Ref": "OtherCacheSubnetGroup"});
    });
    insta::assert_snapshot!("changed-cache-subnet-group", text);
    assert!(grave);
}

#[test]
fn renamed_resource() {
    let (text, grave) = told(|template| rename(template, "SensorStream", "Readings"));
    insta::assert_snapshot!("renamed-resource", text);
    assert!(grave);
}

#[test]
fn renamed_and_changed_resource() {
    let (text, grave) = told_of(&[Stage::Dev], |template| {
        rename(template, "RuleErrors", "RefusedMessages");
        properties(template, "RefusedMessages")["RetentionInDays"] = json!(14);
    });
    insta::assert_snapshot!("renamed-and-changed-resource", text);
    assert!(grave);
}

#[test]
fn removed_alarm() {
    let (text, grave) = told(|template| {
        let resources = template["Resources"]
            .as_object_mut()
            .expect("has resources");
        resources.remove(ALARM).expect("the alarm is emitted");
    });
    insta::assert_snapshot!("removed-alarm", text);
    assert!(grave);
}

#[test]
fn larger_instance() {
    let (text, grave) = told_of(&[Stage::Dev], |template| {
        properties(template, "Cache")["CacheNodeType"] = json!("cache.t4g.medium");
        let options = properties(template, "DashboardEnvironment")["OptionSettings"]
            .as_array_mut()
            .expect("is a list");
        for option in options {
            if option["OptionName"] == "InstanceTypes" {
                option["Value"] = json!("t4g.large");
            }
        }
    });
    insta::assert_snapshot!("larger-instance", text);
    assert!(!grave);
}

#[test]
fn changed_rule_sql() {
    let (text, grave) = told(|template| {
        properties(template, "DeviceTopicsToStream")["TopicRulePayload"]["Sql"] =
            json!("SELECT * FROM 'topic/sensors/+' WHERE temperature > 50");
    });
    insta::assert_snapshot!("changed-rule-sql", text);
    assert!(!grave);
}

#[test]
fn what_only_a_certificate_brings_is_reviewed_too() {
    let (text, grave) = told_of(&[Stage::Dev], |template| {
        let text = template.to_string();
        let weak = text.replace(
            "ELBSecurityPolicy-TLS13-1-2-2021-06",
            "ELBSecurityPolicy-2016-08",
        );
        assert_ne!(text, weak, "the policy is emitted");
        *template = serde_json::from_str(&weak).expect("is JSON");
    });
    insta::assert_snapshot!("where-a-certificate-is-given", text);
    assert!(grave);
}

#[test]
fn a_narrowed_wildcard_and_a_smaller_block_are_not_grave() {
    let (_, grave) = told(|template| {
        let ingress = &mut properties(template, "BalancerSecurityGroup")["SecurityGroupIngress"];
        for rule in ingress.as_array_mut().expect("is a list") {
            rule["CidrIp"] = json!("192.0.2.0/24");
        }
    });
    assert!(!grave);
}

#[test]
fn hostile_text_stays_text_in_markdown() {
    let input = input(&[Stage::Dev], &|template| {
        properties(template, "DeviceTopicsToStream")["TopicRulePayload"]["Sql"] =
            json!("<img src=x> @everybody [link](https://example.com) `code`");
    });
    let markdown = review(&input)
        .unwrap_or_else(|it| panic!("{it}"))
        .markdown();
    insta::assert_snapshot!("markdown", markdown);
}

#[test]
fn hostile_text_does_not_move_the_cursor_of_a_terminal() {
    let input = input(&[Stage::Dev], &|template| {
        properties(template, "DeviceTopicsToStream")["TopicRulePayload"]["Sql"] =
            json!("SELECT\u{1b}[2K\u{1b}[1A\n\nnothing is replaced\u{202e}");
    });
    let review = review(&input).unwrap_or_else(|it| panic!("{it}"));
    let text = review.text(&|_, text| text.to_owned());
    assert!(
        text.contains(r"SELECT\u{1b}[2K\u{1b}[1A\n\nnothing is replaced\u{202e}"),
        "{text}"
    );
    for c in ['\u{1b}', '\u{202e}'] {
        assert!(!text.contains(c) && !review.markdown().contains(c), "{c:?}");
    }
}

#[test]
fn cache_that_asks_nobody_for_a_password() {
    let (text, grave) = told(|template| {
        let user = properties(template, "FunctionCacheUser");
        user["AuthenticationMode"]["Type"] = json!("no-password-required");
        let group = properties(template, "CacheUsers");
        let ids = group["UserIds"].as_array_mut().expect("is a list");
        ids.push(json!("default"));
    });
    insta::assert_snapshot!("cache-without-password", text);
    assert!(grave);
}

#[test]
fn condition_that_goes() {
    let (text, grave) = told(|template| {
        let policy = properties(template, "AlarmTopicPolicy");
        let statement = &mut policy["PolicyDocument"]["Statement"][0];
        let members = statement.as_object_mut().expect("is an object");
        members.remove("Condition");
    });
    insta::assert_snapshot!("condition-that-goes", text);
    assert!(grave);
}

#[test]
fn encryption_and_deletion_policy_that_go() {
    let (text, grave) = told(|template| {
        let stream = properties(template, "SensorStream");
        let members = stream.as_object_mut().expect("is an object");
        members.remove("StreamEncryption");
        template["Resources"]["ArchiveBucket"]["DeletionPolicy"] = json!("Delete");
    });
    insta::assert_snapshot!("encryption-and-deletion-policy", text);
    assert!(grave);
}

#[test]
fn what_cloudformation_refuses_is_said() {
    let (text, grave) = told_of(&[Stage::Dev], |template| {
        rename(template, "FunctionCacheUser", "CacheWriter");
        template["Resources"]["FailureBucket"]["Type"] = json!("AWS::SQS::Queue");
        template["Resources"]["FailureBucket"]["Properties"] = json!({});
    });
    insta::assert_snapshot!("refused-by-cloudformation", text);
    assert!(grave);
}

#[test]
fn what_comes_new_is_weighed_too() {
    let (text, grave) = told_of(&[Stage::Dev], |template| {
        template["Resources"]["Open"] = json!({ "Type": "AWS::S3::Bucket" });
        template["Resources"]["Guest"] = json!({
            "Type": "AWS::ElastiCache::User",
            "Properties": {
                "AccessString": "on ~* +@all",
                "Engine": "valkey",
                "NoPasswordRequired": true,
                "UserId": "guest",
                "UserName": "guest",
            },
        });
    });
    insta::assert_snapshot!("what-comes-new", text);
    assert!(grave);
}

#[test]
fn a_stack_that_comes_or_goes_is_told_in_a_line() {
    let mut input = input(&[], &|_| {});
    input.stacks[0].before = None;
    input.stacks[2].after = None;
    let review = review(&input).unwrap_or_else(|it| panic!("{it}"));
    insta::assert_snapshot!("stacks", review.text(&|_, text| text.to_owned()));
    assert!(review.is_grave());
}
