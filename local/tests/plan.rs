//! What is made of a template: `fixtures/pipeline.json`, as it is and edited.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cfn::document::Document;
use local::event_source_mapping::plan::OnFailure;
use local::events::Reporter;
use local::iot::plan::{Reference, Target};
use local::kinesis::Mode;
use local::permission::{Authorizer, Permission};
use local::plan::Plan;
use local::run::{Options, Run};
use local::status::Status;
use local::template::Unplannable;
use serde_json::{Value as Json, json};

fn template() -> Json {
    serde_json::from_str(include_str!("fixtures/pipeline.json")).unwrap()
}

fn plan(template: &Json) -> Result<Plan, Unplannable> {
    let document: Document = serde_json::from_value(template.clone()).unwrap();
    Plan::new(document, "eu-central-1", "sensors-local", BTreeMap::new())
}

/// The template with the value at a JSON pointer replaced.
fn edited(pointer: &str, value: Json) -> Json {
    let mut template = template();
    *template.pointer_mut(pointer).expect(pointer) = value;
    template
}

#[track_caller]
fn check_refused(template: &Json, expected: &[&str]) {
    let message = plan(template).unwrap_err().to_string();
    for expected in expected {
        assert!(
            message.contains(expected),
            "expected {expected:?} in:\n{message}"
        );
    }
}

#[test]
fn numbers_of_the_template_are_what_runs() {
    let plan = plan(&template()).unwrap();
    assert_eq!(plan.streams.len(), 1);
    let stream = &plan.streams[0];
    assert_eq!(stream.mode, Mode::Provisioned { shard_count: 2 });
    assert_eq!(stream.retention, Duration::from_secs(86_400));
    assert!(
        stream
            .arn
            .starts_with("arn:aws:kinesis:eu-central-1:000000000000:stream/")
    );
    assert_eq!(plan.rules.len(), 4);
    let rule = plan
        .rules
        .iter()
        .find(|it| it.logical_id == "DeviceTopicsToStream")
        .unwrap();
    assert_eq!(rule.sql, "SELECT * FROM 'topic/sensors/+'");
    let Target::Stream {
        stream,
        partition_key,
    } = &rule.actions[0].target
    else {
        panic!("expected a stream, got {:?}", rule.actions)
    };
    assert_eq!(
        (stream, partition_key.as_deref()),
        (
            &Reference::Resource("SensorStream".to_owned()),
            Some("${topic()}")
        )
    );
    assert!(matches!(
        rule.error_action.as_ref().unwrap().target,
        Target::LogGroup { .. }
    ));

    let on_demand = json!({ "StreamModeDetails": { "StreamMode": "ON_DEMAND" } });
    let on_demand = edited("/Resources/SensorStream/Properties", on_demand);
    assert_eq!(
        self::plan(&on_demand).unwrap().streams[0].mode,
        Mode::OnDemand
    );
}

#[test]
fn what_does_nothing_here_is_listed_by_logical_id() {
    let mut template = template();
    let sns = json!({ "Sns": { "TargetArn": "arn", "RoleArn": { "Fn::GetAtt": ["RuleErrorsRole", "Arn"] } } });
    template["Resources"]["BareTopicToStream"]["Properties"]["TopicRulePayload"]["Actions"]
        .as_array_mut()
        .unwrap()
        .push(sns);
    let plan = plan(&template).unwrap();
    let listed: Vec<_> = plan
        .not_emulated
        .iter()
        .map(|it| (it.logical_id.as_str(), it.what.as_str()))
        .collect();
    assert_eq!(
        listed,
        [
            ("AlarmTopic", "AWS::SNS::Topic"),
            ("BareTopicToStream", "TopicRulePayload.Actions.1.Sns"),
        ]
    );
}

#[test]
fn queues_and_buckets_are_targets_of_rules_and_queues_take_failed_batches() {
    let mut template = template();
    template["Resources"]["Failures"] = json!({ "Type": "AWS::SQS::Queue", "Properties": {} });
    let role = json!({ "Fn::GetAtt": ["RuleErrorsRole", "Arn"] });
    let payload = &mut template["Resources"]["BareTopicToStream"]["Properties"]["TopicRulePayload"];
    payload["Actions"] = json!([
        { "S3": { "BucketName": { "Ref": "ArchiveBucket" }, "Key": "${topic()}", "RoleArn": role } },
        { "Kinesis": { "StreamName": "stream-${topic(3)}", "RoleArn": role } },
    ]);
    payload["ErrorAction"] =
        json!({ "Sqs": { "QueueUrl": { "Ref": "Failures" }, "RoleArn": role, "UseBase64": true } });
    let mapping = template["Resources"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .find(|it| it["Type"] == "AWS::Lambda::EventSourceMapping")
        .unwrap();
    let destination = "/Properties/DestinationConfig/OnFailure/Destination";
    *mapping.pointer_mut(destination).unwrap() = json!({ "Fn::GetAtt": ["Failures", "Arn"] });
    let plan = plan(&template).unwrap();
    assert_eq!(
        plan.mappings[0].on_failure,
        Some(OnFailure::Queue("Failures".to_owned()))
    );
    let rule = plan
        .rules
        .iter()
        .find(|it| it.logical_id == "BareTopicToStream")
        .unwrap();
    let Target::Object { bucket, key } = &rule.actions[0].target else {
        panic!("{:?}", rule.actions)
    };
    assert_eq!(
        (bucket.as_str(), key.as_str()),
        ("ArchiveBucket", "${topic()}")
    );
    let Target::Stream { stream, .. } = &rule.actions[1].target else {
        panic!("{:?}", rule.actions)
    };
    assert_eq!(
        *stream,
        Reference::Template("stream-${topic(3)}".to_owned())
    );
    let error_action = &rule.error_action.as_ref().unwrap().target;
    let Target::Queue { queue, use_base64 } = error_action else {
        panic!("{error_action:?}")
    };
    assert_eq!((queue.as_str(), *use_base64), ("Failures", true));
    assert_eq!(plan.queues[0].max_message_bytes, 1 << 20);
    assert!(plan.queues[0].url.starts_with("https://sqs.eu-central-1."));

    let fifo = json!({ "FifoQueue": true });
    template["Resources"]["Failures"]["Properties"] = fifo;
    check_refused(
        &template,
        &[
            "BareTopicToStream.Properties.TopicRulePayload.ErrorAction.Sqs.QueueUrl: got the FIFO queue Failures",
            "DestinationConfig.OnFailure.Destination: got the FIFO queue Failures",
        ],
    );
}

#[test]
fn error_action_that_is_not_emulated_is_remembered_with_its_kind() {
    let rule = "/Resources/BareTopicToStream/Properties/TopicRulePayload/ErrorAction";
    let sns = json!({ "Sns": { "TargetArn": "arn", "RoleArn": { "Fn::GetAtt": ["RuleErrorsRole", "Arn"] } } });
    let plan = plan(&edited(rule, sns)).unwrap();
    let rule = plan
        .rules
        .iter()
        .find(|it| it.logical_id == "BareTopicToStream")
        .unwrap();
    assert_eq!(rule.error_action_not_emulated.as_deref(), Some("Sns"));
}

#[test]
fn unsupported_templates_are_refused_with_every_reason() {
    let rule = "/Resources/BareTopicToStream/Properties/TopicRulePayload";
    check_refused(
        &edited(
            "/Resources/SensorStream/Properties",
            json!({ "ShardCount": 0, "Shards": 2 }),
        ),
        &["SensorStream", "Shards"],
    );
    check_refused(
        &edited("/Resources/SensorStream/Properties/ShardCount", json!(0)),
        &["SensorStream.Properties.ShardCount: got 0, expected 1 to 100000"],
    );
    check_refused(
        &edited(
            &format!("{rule}/Actions/0/Kinesis/StreamName"),
            json!("elsewhere"),
        ),
        &["BareTopicToStream", "StreamName: got `elsewhere`"],
    );
    check_refused(
        &edited(&format!("{rule}/AwsIotSqlVersion"), json!("2020-01-01")),
        &["BareTopicToStream", "AwsIotSqlVersion", "2020-01-01"],
    );
    check_refused(
        &edited(
            "/Resources/FunctionToCache/Properties/GroupId",
            json!({ "Ref": "Nowhere" }),
        ),
        &["FunctionToCache", "Nowhere"],
    );
    check_refused(
        &edited(
            &format!("{rule}/Sql"),
            json!("SELECT get_thing_shadow('a', 'b') FROM 't'"),
        ),
        &[
            "BareTopicToStream.Properties.TopicRulePayload.Sql: ",
            "get_thing_shadow",
            "column 8",
            "^",
        ],
    );
    check_refused(
        &edited(
            &format!("{rule}/Actions/0/Kinesis/PartitionKey"),
            json!("${topic(}"),
        ),
        &["BareTopicToStream", "Actions.0.Kinesis.PartitionKey", "^"],
    );
    let unknown_operator = json!({ "StringSounds": { "aws:SourceAccount": "1" } });
    let path =
        "/Resources/RuleToStreamRole/Properties/AssumeRolePolicyDocument/Statement/0/Condition";
    check_refused(
        &edited(path, unknown_operator),
        &["RuleToStreamRole", "StringSounds"],
    );
}

#[test]
fn permission_left_out_of_a_role_is_denied_by_its_names() {
    let status = Status::new();
    let permission = |template: &Json| {
        let plan = plan(template).unwrap();
        let calls = plan
            .template
            .calls_of("BareTopicToStream", "TopicRulePayload.Actions.0.Kinesis");
        assert_eq!(calls.len(), 1, "{calls:?}");
        let needed = [(calls[0].action.clone(), calls[0].resource.clone())];
        let policies = Arc::clone(&plan.template.policies);
        let authorizer = Authorizer::of("BareTopicToStream", calls, policies, Arc::clone(&status));
        Permission::new(authorizer, &needed)
    };
    assert_eq!(permission(&template()).check(), Ok(()));
    let path =
        "/Resources/RuleToStreamRole/Properties/Policies/0/PolicyDocument/Statement/0/Action";
    let denied = permission(&edited(path, json!("kinesis:PutRecords")))
        .check()
        .unwrap_err();
    let message = denied.to_string();
    for expected in ["RuleToStreamRole", "kinesis:PutRecord ", ":stream/"] {
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(status.denials.get(), 1);
    let path =
        "/Resources/RuleToStreamRole/Properties/AssumeRolePolicyDocument/Statement/0/Principal";
    let service = json!({ "Service": "lambda.amazonaws.com" });
    let message = permission(&edited(path, service))
        .check()
        .unwrap_err()
        .to_string();
    assert!(message.contains("sts:AssumeRole"), "{message}");
}

#[test]
fn addresses_of_the_cache_reach_the_environment_of_who_uses_it() {
    let plan = plan(&template()).unwrap();
    let addresses = BTreeMap::from([("Cache".to_owned(), ("localhost".to_owned(), 4711))]);
    let resolved = plan.template.with_addresses(&addresses).unwrap();
    let function = resolved.resource("Function").unwrap();
    let url = function.text("/Environment/Variables/REDIS_URL");
    assert_eq!(url.as_deref(), Some("rediss://localhost:4711"));
}

/// The template with a cache that two users may sign in to, the second of them as given.
fn with_users(second: Json) -> Json {
    let mut template = template();
    let resources = &mut template["Resources"];
    resources["First"] = json!({"Type": "AWS::ElastiCache::User", "Properties": {
        "Engine": "valkey", "UserId": "first", "UserName": "first", "AccessString": "on ~* +get",
        "AuthenticationMode": {"Type": "iam"},
    }});
    resources["Second"] = json!({"Type": "AWS::ElastiCache::User", "Properties": second});
    resources["Users"] = json!({"Type": "AWS::ElastiCache::UserGroup", "Properties": {
        "Engine": "valkey", "UserGroupId": "users", "UserIds": [{"Ref": "First"}, {"Ref": "Second"}],
    }});
    resources["Cache"]["Properties"]["UserGroupIds"] = json!([{"Ref": "Users"}]);
    resources["Cache"]["Properties"]["TransitEncryptionEnabled"] = json!(true);
    template
}

#[test]
fn users_of_the_cache_are_those_that_sign_in_with_iam() {
    let iam = json!({
        "Engine": "valkey", "UserId": "second", "UserName": "second", "AccessString": "on ~* +set",
        "AuthenticationMode": {"Type": "iam"},
    });
    let second = plan(&with_users(iam.clone())).unwrap();
    let guard = second.caches[0].guard.as_ref().unwrap();
    assert_eq!(
        (guard.cache.as_str(), guard.region.as_str()),
        ("sensors-local-cache", "eu-central-1")
    );
    assert!(
        guard
            .cache_arn
            .ends_with(":replicationgroup:sensors-local-cache")
    );
    let users: Vec<_> = guard
        .users
        .iter()
        .map(|it| (&*it.id, &*it.access_string))
        .collect();
    assert_eq!(users, [("first", "on ~* +get"), ("second", "on ~* +set")]);

    // Whoever has a password is not let in here, and that is said.
    let mut password = iam.clone();
    password["AuthenticationMode"] =
        json!({"Type": "password", "Passwords": ["a-long-password-indeed"]});
    let plan_with_password = plan(&with_users(password)).unwrap();
    assert_eq!(
        plan_with_password.caches[0]
            .guard
            .as_ref()
            .unwrap()
            .users
            .len(),
        1
    );
    let told = &plan_with_password.not_emulated;
    assert!(
        told.iter()
            .any(|it| it.logical_id == "Second" && it.what == "a user without IAM")
    );

    let mut other = iam.clone();
    other["UserName"] = json!("other");
    check_refused(
        &with_users(other),
        &["Second", "Properties.UserName", "expected `second`"],
    );

    let mut plain = with_users(iam);
    plain["Resources"]["Cache"]["Properties"]["TransitEncryptionEnabled"] = json!(false);
    check_refused(
        &plain,
        &[
            "Cache",
            "Properties.UserGroupIds",
            "needs TransitEncryptionEnabled: true",
        ],
    );
    assert!(plan(&template()).unwrap().caches[0].guard.is_none());
}

#[test]
fn filter_criteria_are_read_and_what_is_wrong_with_them_is_named() {
    let mapping = |filters: Json| {
        let mut template = template();
        let resources = template["Resources"].as_object_mut().unwrap();
        let is_mapping = |it: &&mut Json| it["Type"] == "AWS::Lambda::EventSourceMapping";
        let mapping = resources.values_mut().find(is_mapping).unwrap();
        mapping["Properties"]["FilterCriteria"] = json!({ "Filters": filters });
        template
    };
    let pattern = json!({ "data": { "temperature": [{ "numeric": [">", 30] }] } }).to_string();
    let plan = plan(&mapping(json!([{ "Pattern": pattern }]))).unwrap();
    assert_eq!(plan.mappings[0].config.filters.len(), 1);

    let wrong = json!({ "data": { "temperature": [{ "above": 30 }] } }).to_string();
    check_refused(
        &mapping(json!([{ "Pattern": wrong }])),
        &["Properties.FilterCriteria.Filters.0.Pattern", "`above`"],
    );
    check_refused(
        &mapping(json!(vec![json!({ "Pattern": pattern }); 6])),
        &["got 6 filters, expected at most 5"],
    );
}

#[test]
fn settings_out_of_range_are_told_in_one_go_before_anything_starts() {
    let mut template = edited(
        "/Resources/FunctionEventSource/Properties/BatchSize",
        json!(70_000),
    );
    let resources = &mut template["Resources"];
    resources["FunctionEventSource"]["Properties"]["ParallelizationFactor"] = json!(11);
    resources["Function"]["Properties"]["Timeout"] = json!(901);
    resources["Function"]["Properties"]["Environment"]["Variables"]["AWS_REGION"] = json!("x");
    let archive = &mut resources["ArchiveStream"]["Properties"];
    archive["ExtendedS3DestinationConfiguration"]["BufferingHints"]["SizeInMBs"] = json!(129);
    check_refused(
        &template,
        &[
            "FunctionEventSource.Properties.BatchSize: got 70000, expected 1 to 10000",
            "FunctionEventSource.Properties.ParallelizationFactor: got 11, expected 1 to 10",
            "Function.Properties.Timeout: got 901, expected 1 to 900",
            "Function.Properties.Environment.Variables: got AWS_REGION, which Lambda reserves",
            "ArchiveStream.Properties.ExtendedS3DestinationConfiguration: BufferingHints.SizeInMBs is 129, expected 1 to 128",
        ],
    );
}

#[tokio::test]
async fn another_template_changes_the_parts_whose_inputs_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = async |template: &Json| {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = Options {
            functions: Vec::new(),
            bundles: Vec::new(),
            mqtt: free,
            dashboard: free,
            redis: None,
            data: folder.path().to_owned(),
        };
        let reporter = Reporter::new(true);
        let plan = plan(template).unwrap();
        let run = Run::open(plan, &options, reporter, None).await;
        run.unwrap().inputs().unwrap()
    };
    let before = inputs(&template()).await;
    let check = async |template: &Json, expected: &[&str]| {
        let after = inputs(template).await;
        let ids: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed: Vec<&String> = ids
            .into_iter()
            .filter(|id| before.get(*id) != after.get(*id))
            .collect();
        assert_eq!(changed, expected);
    };
    check(&template(), &[]).await;
    let mapping = "/Resources/FunctionEventSource/Properties/BatchSize";
    check(&edited(mapping, json!(7)), &["FunctionEventSource"]).await;
    let function = "/Resources/Function/Properties/Timeout";
    check(&edited(function, json!(7)), &["Function"]).await;
    let sql = "/Resources/BareTopicToStream/Properties/TopicRulePayload/Sql";
    let other = json!("SELECT a FROM 'topic/sensors'");
    check(&edited(sql, other), &["BareTopicToStream"]).await;
    let mut removed = template();
    let resources = removed["Resources"].as_object_mut().unwrap();
    resources.remove("BareTopicToStream").unwrap();
    check(&removed, &["BareTopicToStream"]).await;
    // Nobody is told of alarms.
    let mut alarm = template();
    alarm["Resources"]["Topic"] = json!({ "Type": "AWS::SNS::Topic" });
    check(&alarm, &[]).await;
    // A role concerns those that use it, and a key those that are encrypted with it.
    let action =
        "/Resources/RuleToStreamRole/Properties/Policies/0/PolicyDocument/Statement/0/Action";
    let rules = ["BareTopicToStream", "DeviceTopicsToStream"];
    check(&edited(action, json!("kinesis:*")), &rules).await;
    let hours = "/Resources/SensorStream/Properties/RetentionPeriodHours";
    check(&edited(hours, json!(48)), &["SensorStream"]).await;
    // Programs are told the cache's port.
    let port = edited("/Resources/Cache/Properties/Port", json!(6400));
    check(&port, &["Cache", "DashboardEnvironment", "Function"]).await;
}

#[test]
fn on_demand_streams_run_with_four_shards_and_say_what_is_not_emulated() {
    let stream = |properties: Json| edited("/Resources/SensorStream/Properties", properties);
    let on_demand = |name: &str, value: Json| {
        let mode = json!({ "StreamMode": "ON_DEMAND" });
        stream(json!({ "StreamModeDetails": mode, name: value }))
    };
    let plan = plan(&on_demand("RetentionPeriodHours", json!(48))).unwrap();
    assert_eq!(plan.streams[0].mode, Mode::OnDemand);
    assert_eq!(plan.streams[0].mode.shard_count(), 4);
    let strategy = "SensorStream.Properties.RecordDistributionStrategy: AUTO";
    check_refused(
        &on_demand("RecordDistributionStrategy", json!("AUTO")),
        &[strategy, "is not emulated: remove it"],
    );
    check_refused(
        &on_demand("WarmThroughputMiBps", json!(100)),
        &["SensorStream.Properties.WarmThroughputMiBps: warm throughput is not emulated"],
    );
    check_refused(
        &stream(json!({ "ShardCount": 2, "RecordDistributionStrategy": "AUTO" })),
        &[strategy, "needs StreamMode ON_DEMAND"],
    );
    check_refused(
        &on_demand("ShardCount", json!(2)),
        &["SensorStream.Properties.ShardCount: must be absent"],
    );
}
