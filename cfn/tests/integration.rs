//! The calls that settings imply, held against policies: one grant less, one more.

mod pipeline;

use cfn::evaluate::{ManagedPolicies, Policies};
use cfn::integration::{FindingKind, calls, check};
use serde_json::json;

fn findings(edit: impl FnOnce(&mut serde_json::Value)) -> Vec<(FindingKind, String)> {
    let resolved = pipeline::edited(edit);
    let findings = check(&resolved, &ManagedPolicies::new());
    findings
        .into_iter()
        .map(|it| (it.kind, it.to_string()))
        .collect()
}

#[test]
fn a_pipeline_with_exactly_its_grants_has_no_finding() {
    assert_eq!(findings(|_| {}), []);
}

#[test]
fn every_statement_of_a_role_is_missed_when_it_goes() {
    let template = pipeline::template();
    let mut removed = 0;
    for (id, resource) in template["Resources"].as_object().unwrap() {
        let pointers = [
            "/Policies/0/PolicyDocument/Statement",
            "/PolicyDocument/Statement",
        ];
        for pointer in pointers.map(|it| format!("/Resources/{id}/Properties{it}")) {
            let is_identity = matches!(
                resource["Type"].as_str(),
                Some("AWS::IAM::Role" | "AWS::IAM::Policy")
            );
            let count = template
                .pointer(&pointer)
                .and_then(|it| it.as_array())
                .map_or(0, Vec::len);
            for index in 0..if is_identity { count } else { 0 } {
                let found = findings(|template| {
                    template
                        .pointer_mut(&pointer)
                        .unwrap()
                        .as_array_mut()
                        .unwrap()
                        .remove(index);
                });
                let role = if id == "ErrorPolicy" { "ErrorRole" } else { id };
                assert!(
                    found.iter().any(|(kind, text)| *kind == FindingKind::Missing && text.starts_with(role)),
                    "{id} without statement {index}: {found:#?}"
                );
                removed += 1;
            }
        }
    }
    assert_eq!(removed, 7);
}

#[test]
fn a_missing_grant_is_named_with_role_action_resource_and_fix() {
    let found = findings(|template| {
        template["Resources"]["RuleRole"]["Properties"]["Policies"] = json!([]);
    });
    assert_eq!(
        found,
        [(
            FindingKind::Missing,
            "RuleRole: User: arn:aws:sts::123456789012:assumed-role/sensors-test-RuleRole/Rule is not authorized to perform: kinesis:PutRecord on resource: arn:aws:kinesis:eu-central-1:123456789012:stream/sensors-test-Stream because no identity-based policy allows the kinesis:PutRecord action; Rule needs it (TopicRulePayload.Actions.0.Kinesis): add kinesis:PutRecord on arn:aws:kinesis:eu-central-1:123456789012:stream/sensors-test-Stream to a policy of RuleRole".to_owned()
        )]
    );
}

#[test]
fn needless_and_wide_grants_are_found() {
    let statement = "/Resources/RuleRole/Properties/Policies/0/PolicyDocument/Statement/0";
    for (key, value, kind, words) in [
        (
            "Action",
            json!(["kinesis:PutRecord", "kinesis:DeleteStream"]),
            FindingKind::Unused,
            "allows kinesis:DeleteStream",
        ),
        (
            "Action",
            json!("kinesis:*"),
            FindingKind::Wildcard,
            "name what is needed, kinesis:PutRecord",
        ),
        (
            "Resource",
            json!("*"),
            FindingKind::Wildcard,
            "means every resource: name what is needed, arn:aws:kinesis:",
        ),
        (
            "Resource",
            json!([{"Fn::GetAtt": ["Stream", "Arn"]}, "arn:aws:s3:::other"]),
            FindingKind::Unused,
            "means arn:aws:s3:::other",
        ),
        (
            "Resource",
            json!("arn:aws:kinesis:*:*:stream/*"),
            FindingKind::Wildcard,
            "means arn:aws:kinesis:*:*:stream/*: name what is needed, arn:aws:kinesis:eu-central-1",
        ),
    ] {
        let found = findings(|template| template.pointer_mut(statement).unwrap()[key] = value);
        let [(got, text)] = found.as_slice() else {
            panic!("{words}: {found:#?}")
        };
        assert_eq!(*got, kind, "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn trust_must_admit_the_service_for_this_resource() {
    for (pointer, value) in [
        ("/Principal/Service", json!("firehose.amazonaws.com")),
        (
            "/Condition/StringEquals/aws:SourceAccount",
            json!("999999999999"),
        ),
        (
            "/Condition/ArnLike/aws:SourceArn",
            json!("arn:aws:iot:us-east-1:123456789012:*"),
        ),
    ] {
        let found = findings(|template| {
            let trust = "/Resources/RuleRole/Properties/AssumeRolePolicyDocument/Statement/0";
            *template.pointer_mut(&format!("{trust}{pointer}")).unwrap() = value;
        });
        let found: Vec<_> = found
            .into_iter()
            .filter(|(kind, _)| *kind != FindingKind::Unused)
            .collect();
        let [(kind, text)] = found.as_slice() else {
            panic!("{pointer}: {found:#?}")
        };
        assert_eq!(*kind, FindingKind::Untrusted, "{text}");
        assert!(
            text.contains("RuleRole: cannot be assumed by iot.amazonaws.com for Rule"),
            "{text}"
        );
    }
}

#[test]
fn a_topic_key_that_does_not_admit_cloudwatch_is_found() {
    for edit in [
        |it: &mut serde_json::Value| {
            it["Resources"]["AlarmKey"]["Properties"]["KeyPolicy"]["Statement"]
                .as_array_mut()
                .unwrap()
                .truncate(1);
        },
        |it: &mut serde_json::Value| {
            it["Resources"]["Alarms"]["Properties"]["KmsMasterKeyId"] = json!("alias/aws/sns");
        },
    ] {
        let found = findings(edit);
        // The key's own statements are then for nothing, which is said, too.
        let found: Vec<_> = found
            .into_iter()
            .filter(|(kind, _)| *kind != FindingKind::Unused)
            .collect();
        assert!(
            found.iter().all(|(kind, _)| *kind == FindingKind::Missing),
            "{found:#?}"
        );
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found[0]
                .1
                .contains("cloudwatch.amazonaws.com is not authorized to perform: kms:Decrypt")
        );
    }
}

#[test]
fn what_is_not_understood_is_found_and_nothing_else_is_said() {
    let found = findings(|template| {
        let statement = "/Resources/RuleRole/Properties/Policies/0/PolicyDocument/Statement/0";
        template.pointer_mut(statement).unwrap()["Condition"] =
            json!({"StringMatches": {"aws:Nobody": "x"}});
    });
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, FindingKind::Unreadable);
    assert!(
        found[0]
            .1
            .starts_with("RuleRole: Properties.Policies.0.PolicyDocument.Statement.0 (Put)")
    );
}

#[test]
fn a_call_is_decided_on_the_object_that_is_written() {
    let resolved = pipeline::edited(|_| {});
    let policies = Policies::collect(&resolved, &ManagedPolicies::new()).unwrap();
    let calls = calls(&resolved);
    let put = calls
        .iter()
        .find(|it| it.from == "Mapping" && it.action == "s3:PutObject")
        .unwrap();
    let bucket = resolved
        .resource("Archive")
        .unwrap()
        .arn()
        .unwrap()
        .to_owned();
    assert!(
        put.decide_on(&policies, "s", &format!("{bucket}/any/key"))
            .is_ok()
    );
    assert!(
        put.decide_on(&policies, "s", "arn:aws:s3:::another/any/key")
            .is_err()
    );
    let mut plain = put.clone();
    plain
        .context
        .set("aws:SecureTransport", vec!["false".to_owned()]);
    let denial = plain.decide(&policies, "s").unwrap_err();
    assert!(
        denial.ends_with("with an explicit deny in a resource-based policy"),
        "{denial}"
    );
}

#[test]
fn needless_trust_and_needless_grants_to_services_are_found() {
    let trust = "/Resources/RuleRole/Properties/AssumeRolePolicyDocument/Statement/0";
    let key = "/Resources/AlarmKey/Properties/KeyPolicy/Statement/1";
    for (pointer, element, value, expected) in [
        (
            trust,
            "Principal",
            json!({"Service": ["iot.amazonaws.com", "ec2.amazonaws.com"]}),
            "RuleRole: Properties.AssumeRolePolicyDocument statement 0: trusts ec2.amazonaws.com, which nothing in this template needs: remove it",
        ),
        (
            trust,
            "Action",
            json!(["sts:AssumeRole", "sts:TagSession"]),
            "RuleRole: Properties.AssumeRolePolicyDocument statement 0: allows sts:TagSession, but services need sts:AssumeRole alone",
        ),
        (
            key,
            "Action",
            json!(["kms:Decrypt", "kms:GenerateDataKey*", "kms:PutKeyPolicy"]),
            "AlarmKey: Properties.KeyPolicy statement 1: allows kms:PutKeyPolicy to cloudwatch.amazonaws.com, which nothing in this template needs: remove it",
        ),
    ] {
        let found = findings(|template| template.pointer_mut(pointer).unwrap()[element] = value);
        assert_eq!(found, [(FindingKind::Unused, expected.to_owned())]);
    }
}

/// A cache with two users, the function's settings refer to the cache and perhaps to a user of it.
fn signing_in(user: Option<&str>, resources: serde_json::Value) -> Vec<(FindingKind, String)> {
    findings(|template| {
        let user_of = |id: &str| {
            json!({"Type": "AWS::ElastiCache::User", "Properties": {
                "Engine": "valkey", "UserId": id, "UserName": id,
                "AccessString": "on ~* +get", "AuthenticationMode": {"Type": "iam"},
            }})
        };
        let all = &mut template["Resources"];
        all["Writer"] = user_of("writer");
        all["Reader"] = user_of("reader");
        all["Users"] = json!({"Type": "AWS::ElastiCache::UserGroup", "Properties": {
            "Engine": "valkey", "UserGroupId": "users", "UserIds": [{"Ref": "Writer"}, {"Ref": "Reader"}],
        }});
        all["SignInCache"] = json!({"Type": "AWS::ElastiCache::ReplicationGroup", "Properties": {
            "ReplicationGroupDescription": "x", "ReplicationGroupId": "group",
            "TransitEncryptionEnabled": true, "UserGroupIds": [{"Ref": "Users"}],
        }});
        let variables = &mut all["Function"]["Properties"]["Environment"]["Variables"];
        variables["NAME"] = json!({"Ref": "SignInCache"});
        if let Some(user) = user {
            variables["USER"] = json!({"Ref": user});
        }
        let policy = json!({"PolicyName": "Connect", "PolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "elasticache:Connect", "Resource": resources}],
        }});
        let policies = &mut all["FunctionRole"]["Properties"]["Policies"];
        policies.as_array_mut().unwrap().push(policy);
    })
}

#[test]
fn signing_in_needs_exactly_the_cache_and_the_user_of_the_settings() {
    let group = "arn:aws:elasticache:eu-central-1:123456789012:replicationgroup:group";
    let user = |name: &str| format!("arn:aws:elasticache:eu-central-1:123456789012:user:{name}");
    let (writer, reader) = (user("writer"), user("reader"));
    for (named, resources, expected) in [
        (Some("Writer"), json!([group, writer]), &[][..]),
        (
            Some("Writer"),
            json!([group]),
            &[(
                FindingKind::Missing,
                "add elasticache:Connect on arn:aws:elasticache:eu-central-1:123456789012:user:writer to a policy of FunctionRole",
            )],
        ),
        (
            Some("Writer"),
            json!([writer]),
            &[(
                FindingKind::Missing,
                "replicationgroup:group to a policy of FunctionRole",
            )],
        ),
        (
            Some("Writer"),
            json!([group, writer, reader]),
            &[(
                FindingKind::Unused,
                "means arn:aws:elasticache:eu-central-1:123456789012:user:reader, which nothing",
            )],
        ),
        (
            Some("Reader"),
            json!([group, writer]),
            &[
                (FindingKind::Missing, "user:reader to a policy"),
                (FindingKind::Unused, "user:writer, which nothing"),
            ],
        ),
        (
            Some("Writer"),
            json!([
                group,
                "arn:aws:elasticache:eu-central-1:123456789012:user:*"
            ]),
            &[(
                FindingKind::Wildcard,
                "name what is needed, arn:aws:elasticache:eu-central-1:123456789012:user:writer",
            )],
        ),
        // Which one the program takes cannot be seen.
        (None, json!([group, writer]), &[]),
        (None, json!([group, writer, reader]), &[]),
    ] {
        let found = signing_in(named, resources.clone());
        let fits = found.len() == expected.len()
            && found
                .iter()
                .zip(expected)
                .all(|(found, expected)| found.0 == expected.0 && found.1.contains(expected.1));
        assert!(fits, "{named:?} {resources}: {found:#?}");
    }
}
