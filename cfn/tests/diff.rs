//! What a change of the template does, mutation by mutation.

mod pipeline;

use std::collections::BTreeMap;

use cfn::diff::{Action, Changes, Disposition, Side, Types, diff};
use cfn::document::Document;
use serde_json::{Value as Json, json};

fn create_only(r#type: &str) -> Vec<String> {
    let paths: &[&str] = match r#type {
        "AWS::ElastiCache::ReplicationGroup" => {
            &["/properties/CacheSubnetGroupName", "/properties/Port"]
        }
        "AWS::ElastiCache::SubnetGroup" => &["/properties/CacheSubnetGroupName"],
        "AWS::EC2::SecurityGroup" => &["/properties/GroupDescription", "/properties/VpcId"],
        "AWS::EC2::SecurityGroupIngress" => {
            &["/properties/GroupId", "/properties/SourceSecurityGroupId"]
        }
        "AWS::Kinesis::Stream" => &["/properties/Name"],
        "AWS::S3::Bucket" => &["/properties/BucketName"],
        _ => &[],
    };
    paths.iter().map(|it| (*it).to_owned()).collect()
}

fn state(r#type: &str) -> Option<String> {
    (r#type == "AWS::ElastiCache::ReplicationGroup").then(|| "the live state".to_owned())
}

fn changes_between(before: &Document, after: &Document) -> Changes {
    let parameters = BTreeMap::new();
    let side = |document| Side {
        document,
        parameters: &parameters,
    };
    let types = Types {
        create_only: &create_only,
        state: &state,
    };
    diff(side(before), side(after), types).unwrap_or_else(|it| panic!("{it:#?}"))
}

fn changes(edit: impl FnOnce(&mut Json)) -> Changes {
    changes_between(&pipeline::document(|_| {}), &pipeline::document(edit))
}

fn texts(rows: &[cfn::access::Row]) -> Vec<String> {
    rows.iter().map(|row| row.join(" ")).collect()
}

fn ids(changes: &Changes) -> Vec<&str> {
    changes.resources.keys().map(String::as_str).collect()
}

#[test]
fn nothing_changed_is_no_change_however_it_is_written() {
    let changes = changes(|it| {
        it["Resources"]["Stream"]["Properties"]["ShardCount"] = json!(2);
        it["Resources"]["CacheFromFunction"]["Properties"]["GroupId"] =
            json!({"Ref": "CacheGroup"});
    });
    assert!(changes.is_empty(), "{changes:#?}");
}

#[test]
fn a_number_updates_in_place() {
    let changes = changes(|it| it["Resources"]["Stream"]["Properties"]["ShardCount"] = json!(4));
    assert_eq!(ids(&changes), ["Stream"]);
    let change = &changes.resources["Stream"];
    assert_eq!(change.action, Action::Update);
    assert_eq!(change.settings[0].path, "Properties.ShardCount");
    assert_eq!(
        (&change.settings[0].before, &change.settings[0].after),
        (&Some(json!(2)), &Some(json!(4)))
    );
    assert!(!changes.is_grave());
}

#[test]
fn a_create_only_property_replaces_and_says_what_is_lost() {
    let changes = changes(|it| it["Resources"]["Cache"]["Properties"]["Port"] = json!(6380));
    let change = &changes.resources["Cache"];
    let because = vec!["Properties.Port".to_owned()];
    assert_eq!(
        change.action,
        Action::Replace {
            because,
            old: Disposition::Deleted
        }
    );
    assert_eq!(change.lost.as_deref(), Some("the live state"));
    // Its address changes with it.
    let function = &changes.resources["Function"];
    assert_eq!(function.action, Action::Update);
    let settings = &function.settings[0];
    assert_eq!(settings.path, "Properties.Environment.Variables.REDIS_URL");
    assert!(changes.is_grave());
}

#[test]
fn replacement_goes_on_through_create_only_references() {
    let changes = changes(|it| {
        it["Resources"]["CacheGroup"]["Properties"]["GroupDescription"] = json!("another");
    });
    let action = |id: &str| &changes.resources[id].action;
    assert!(matches!(action("CacheGroup"), Action::Replace { .. }));
    assert!(
        matches!(action("CacheFromFunction"), Action::Replace { because, .. } if because == &["Properties.GroupId"])
    );
    assert_eq!(*action("Cache"), Action::Update);
    assert_eq!(
        changes.resources["Cache"].settings[0].after,
        Some(json!("the new CacheGroup"))
    );
}

#[test]
fn a_renamed_resource_is_one_that_comes_and_one_that_goes() {
    let changes = changes(|it| {
        let resources = it["Resources"].as_object_mut().unwrap();
        let log = resources.remove("FunctionLog").unwrap();
        resources.insert("FunctionLogs".to_owned(), log);
        let text = serde_json::to_string(it)
            .unwrap()
            .replace("\"FunctionLog\"", "\"FunctionLogs\"");
        *it = serde_json::from_str(&text).unwrap();
    });
    assert_eq!(changes.resources["FunctionLogs"].action, Action::Add);
    assert_eq!(
        changes.resources["FunctionLog"].action,
        Action::Remove(Disposition::Deleted)
    );
    assert_eq!(changes.renamed["FunctionLogs"], "FunctionLog");
    assert!(changes.permissions.widened.is_empty(), "{changes:#?}");
}

#[test]
fn what_is_kept_is_not_lost() {
    let changes = changes(|it| {
        let resources = it["Resources"].as_object_mut().unwrap();
        for id in ["Archive", "ArchivePolicy", "Mapping"] {
            resources.remove(id);
        }
        let statements = resources["FunctionRole"]
            .pointer_mut("/Properties/Policies/0/PolicyDocument/Statement");
        statements
            .unwrap()
            .as_array_mut()
            .unwrap()
            .retain(|it| it["Sid"] != "Fail" && it["Sid"] != "List");
    });
    assert_eq!(
        changes.resources["Archive"].action,
        Action::Remove(Disposition::Kept)
    );
    assert_eq!(
        texts(&changes.permissions.widened),
        [
            "EVERYBODY DENY s3:* arn:aws:s3:::Archive if aws:SecureTransport Bool false",
            "EVERYBODY DENY s3:* arn:aws:s3:::Archive/* if aws:SecureTransport Bool false",
        ],
        "a deny that goes widens"
    );
    assert_eq!(changes.permissions.narrowed.len(), 2);
}

#[test]
fn permissions_and_edges_that_widen_are_told_apart_from_those_that_narrow() {
    let changes = changes(|it| {
        it.pointer_mut("/Resources/RuleRole/Properties/Policies/0/PolicyDocument/Statement/0")
            .unwrap()["Action"] = json!("kinesis:*");
        let group = &mut it["Resources"]["CacheGroup"]["Properties"];
        group["SecurityGroupIngress"] =
            json!([{"IpProtocol": "tcp", "FromPort": 6379, "ToPort": 6379, "CidrIp": "0.0.0.0/0"}]);
        it["Resources"]
            .as_object_mut()
            .unwrap()
            .remove("PublicAssociation");
    });
    let stream = "arn:aws:kinesis:{region}:{account}:stream/Stream";
    assert_eq!(
        texts(&changes.permissions.widened),
        [format!("RuleRole allow kinesis:* {stream}")]
    );
    assert_eq!(
        texts(&changes.permissions.narrowed),
        [] as [String; 0],
        "kinesis:* covers what was allowed"
    );
    assert_eq!(
        texts(&changes.network.widened),
        ["in 0.0.0.0/0 → CacheGroup tcp 6379"]
    );
    assert_eq!(
        texts(&changes.network.narrowed),
        [
            "route PublicSubnet → internet by internet gateway Gateway",
            "route PublicSubnet → internet no way",
        ]
    );
}

#[test]
fn parameters_conditions_and_outputs_count_by_their_effect() {
    let document = pipeline::document(|_| {});
    let (before, mut after) = (BTreeMap::new(), BTreeMap::new());
    after.insert("Replicas".to_owned(), "one".to_owned());
    let types = Types {
        create_only: &create_only,
        state: &state,
    };
    let changes = diff(
        Side {
            document: &document,
            parameters: &before,
        },
        Side {
            document: &document,
            parameters: &after,
        },
        types,
    )
    .unwrap();
    assert_eq!(ids(&changes), ["Cache", "ReplicaAlarmTopic"]);
    assert_eq!(changes.resources["ReplicaAlarmTopic"].action, Action::Add);
    let names: Vec<&str> = changes.outputs.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["ReplicaTopic"]);
}

#[test]
fn a_first_deployment_adds_everything() {
    let changes = changes_between(&Document::default(), &pipeline::document(|_| {}));
    assert!(
        changes
            .resources
            .values()
            .all(|it| it.action == Action::Add)
    );
    assert!(
        changes
            .permissions
            .narrowed
            .iter()
            .all(|it| it[1] == "DENY")
    );
}
