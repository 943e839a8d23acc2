//! The calls that settings imply, held against policies: one grant less, one more.

mod pipeline;

use cfn::evaluate::{ManagedPolicies, Policies};
use cfn::integration::{Declared, DeviceCall, FindingKind, calls, check};
use serde_json::json;

fn findings(edit: impl FnOnce(&mut serde_json::Value)) -> Vec<(FindingKind, String)> {
    let resolved = pipeline::edited(edit);
    let findings = check(&resolved, &ManagedPolicies::new(), &Declared::default());
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
    assert_eq!(removed, 9);
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

/// What is found with one element of the template set.
fn with(pointer: &str, value: serde_json::Value) -> Vec<(FindingKind, String)> {
    findings(|template| match pointer.strip_suffix("/-") {
        Some(list) => {
            let list = template.pointer_mut(list).unwrap();
            list.as_array_mut().unwrap().push(value);
        }
        None => *template.pointer_mut(pointer).expect(pointer) = value,
    })
}

#[test]
fn whoever_is_admitted_and_not_needed_is_found() {
    let policy = "/Resources/ArchivePolicy/Properties/PolicyDocument/Statement/-";
    let key = "/Resources/AlarmKey/Properties/KeyPolicy/Statement/-";
    let trust = "/Resources/RuleRole/Properties/AssumeRolePolicyDocument/Statement/0/Principal";
    let allow = |principal: serde_json::Value, action: &str| {
        json!({
            "Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*",
        })
    };
    let account = json!({ "AWS": "arn:aws:iam::210987654321:root" });
    let cases = [
        (
            policy,
            allow(json!("*"), "s3:GetObject"),
            FindingKind::Wildcard,
            "allows s3:GetObject to everyone: list the needed principals",
        ),
        (
            policy,
            allow(account.clone(), "s3:GetObject"),
            FindingKind::Unused,
            "allows s3:GetObject to account 210987654321, which nothing in this template needs: remove it",
        ),
        (
            policy,
            allow(
                json!({ "Service": "logs.eu-central-1.amazonaws.com" }),
                "s3:PutObject",
            ),
            FindingKind::Unused,
            "allows s3:PutObject to logs.eu-central-1.amazonaws.com, which nothing in this template needs: remove it",
        ),
        (
            key,
            allow(account.clone(), "kms:*"),
            FindingKind::Unused,
            "allows kms:* to account 210987654321, which nothing in this template needs: remove it",
        ),
        (
            key,
            allow(json!({ "Service": "cloudwatch.amazonaws.com" }), "kms:*"),
            FindingKind::Wildcard,
            "allows kms:* to cloudwatch.amazonaws.com: name what is needed",
        ),
        (
            key,
            allow(
                json!({ "AWS": "arn:aws:iam::123456789012:root" }),
                "dynamodb:Scan",
            ),
            FindingKind::Unused,
            "allows dynamodb:Scan, which has nothing to do with arn:aws:kms:",
        ),
        (
            trust,
            json!({ "Service": "iot.amazonaws.com", "AWS": "*" }),
            FindingKind::Unused,
            "trusts everybody, which nothing in this template needs: remove it",
        ),
        (
            trust,
            json!({ "Service": "iot.amazonaws.com", "AWS": "arn:aws:iam::210987654321:root" }),
            FindingKind::Unused,
            "trusts account 210987654321, which nothing in this template needs: remove it",
        ),
    ];
    for (pointer, value, kind, expected) in cases {
        let found = with(pointer, value);
        assert!(
            found
                .iter()
                .any(|(of, text)| *of == kind && text.contains(expected)),
            "expected {expected:?} in {found:#?}"
        );
    }
}

#[test]
fn bucket_without_denial_of_plain_http_and_key_without_administrator_are_found() {
    let found = with(
        "/Resources/ArchivePolicy/Properties/PolicyDocument/Statement/0/Resource",
        json!({ "Fn::Sub": "${Archive.Arn}/*" }),
    );
    let [(FindingKind::Missing, text)] = &found[..] else {
        panic!("{found:#?}")
    };
    assert!(
        text.starts_with("Archive: s3:ListBucket on arn:aws:s3:::"),
        "{text}"
    );
    assert!(
        text.contains("denies s3:* to everyone if aws:SecureTransport is false"),
        "{text}"
    );
    let found = findings(|template| {
        let statements = &mut template["Resources"]["AlarmKey"]["Properties"]["KeyPolicy"];
        statements["Statement"].as_array_mut().unwrap().remove(0);
    });
    let expected = "AlarmKey: no principal can administer the key: allow kms:* to account 123456789012 in its KeyPolicy";
    assert_eq!(found, [(FindingKind::Missing, expected.to_owned())]);
}

#[test]
fn action_that_another_one_means_already_is_found() {
    let found = with(
        "/Resources/RuleRole/Properties/Policies/0/PolicyDocument/Statement/0/Action",
        json!(["kinesis:PutRecord", "kinesis:putrecord"]),
    );
    let expected = "RuleRole: Properties.Policies.0.PolicyDocument statement 0: allows kinesis:putrecord, which kinesis:PutRecord means already: remove it";
    assert_eq!(found, [(FindingKind::Unused, expected.to_owned())]);
}

#[test]
fn devices_may_do_what_is_declared_as_themselves_and_nothing_else() {
    let device = |action: &str, resource: &str| DeviceCall {
        action: action.to_owned(),
        resource: resource.to_owned(),
    };
    let declared = Declared {
        devices: vec![
            device("iot:Connect", "client/{thing}"),
            device("iot:Publish", "topic/topic/sensors/{thing}"),
        ],
        ..Declared::default()
    };
    let found = |pointer: &str, value: serde_json::Value| {
        let resolved = pipeline::edited(|template| {
            let pointer = format!("/Resources/DevicePolicy/Properties/PolicyDocument/{pointer}");
            *template.pointer_mut(&pointer).unwrap() = value;
        });
        let findings = check(&resolved, &ManagedPolicies::new(), &declared);
        findings
            .into_iter()
            .map(|it| it.to_string())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let all = json!("arn:aws:iot:eu-central-1:123456789012:topic/topic/sensors/*");
    let cases = [
        ("Version", json!("2012-10-17"), ""),
        (
            "Statement/1/Action",
            json!("iot:Receive"),
            "DevicePolicy: no IoT policy allows a device iot:Publish on topic/topic/sensors/${iot:Connection.Thing.ThingName}: add it",
        ),
        (
            "Statement/1/Action",
            json!(["iot:Publish", "iot:Subscribe"]),
            "statement 1: allows iot:Subscribe on",
        ),
        (
            "Statement/1/Resource",
            all,
            "lets iot:Publish on what is another device's: name it by ${iot:Connection.Thing.ThingName}",
        ),
        (
            "Statement/0/Resource",
            json!("*"),
            "lets iot:Connect by a certificate without Thing: ask for iot:Connection.Thing.IsAttached",
        ),
    ];
    for (pointer, value, expected) in cases {
        let found = found(pointer, value);
        assert!(found.contains(expected), "expected {expected:?} in {found}");
        assert_eq!(found.is_empty(), expected.is_empty(), "{found}");
    }
}
