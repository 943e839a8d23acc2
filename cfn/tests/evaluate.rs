//! Policy evaluation by tables: who, what, under which condition.

mod pipeline;

use cfn::evaluate::{
    Decision, Keys, ManagedPolicies, Policies, Policy, PolicyKind, Principal, Request, evaluate,
};
use serde_json::{Value as Json, json};

const ROLE: &str = "arn:aws:iam::123456789012:role/path/Role";

fn policy(kind: PolicyKind, statements: Json) -> Policy {
    let document = json!({"Version": "2012-10-17", "Statement": statements});
    Policy::parse(kind, "Owner", "Doc", &document).unwrap_or_else(|it| panic!("{it:#?}"))
}

fn request(action: &str, resource: &str, context: Keys) -> Request {
    Request {
        principal: Principal::Role {
            arn: ROLE.to_owned(),
            session: "session".to_owned(),
        },
        action: action.to_owned(),
        resource: resource.to_owned(),
        context,
    }
}

/// `allow`, `deny` or `none` for one statement of an identity-based policy.
fn decide(statement: Json, action: &str, resource: &str, context: Keys) -> &'static str {
    let policy = policy(PolicyKind::Identity, json!([statement]));
    match evaluate(&[policy], &[], &request(action, resource, context)) {
        Decision::Allowed(_) => "allow",
        Decision::ExplicitDeny(_) => "deny",
        Decision::ImplicitDeny(_) => "none",
    }
}

#[test]
fn actions_and_resources_match_as_in_iam() {
    let arn = "arn:aws:kinesis:eu:1:stream/s";
    for (statement, expected) in [
        (
            json!({"Effect": "Allow", "Action": "kinesis:PutRecord", "Resource": arn}),
            "allow",
        ),
        (
            json!({"Effect": "Allow", "Action": "KINESIS:putrecord", "Resource": arn}),
            "allow",
        ),
        (
            json!({"Effect": "Allow", "Action": "kinesis:Put*", "Resource": arn}),
            "allow",
        ),
        (
            json!({"Effect": "Allow", "Action": "kinesis:PutRecor?", "Resource": "arn:aws:kinesis:*:*:stream/s"}),
            "allow",
        ),
        (
            json!({"Effect": "Allow", "Action": "*", "Resource": "*"}),
            "allow",
        ),
        (
            json!({"Effect": "Allow", "Action": "kinesis:PutRecords", "Resource": arn}),
            "none",
        ),
        (
            json!({"Effect": "Allow", "Action": "kinesis:PutRecord", "Resource": "arn:aws:kinesis:eu:1:stream/S"}),
            "none",
        ),
        (
            json!({"Effect": "Allow", "Action": "kinesis:PutRecord", "Resource": "arn:aws:kinesis:eu:1:stream/t"}),
            "none",
        ),
        (
            json!({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}),
            "allow",
        ),
        (
            json!({"Effect": "Allow", "NotAction": "kinesis:*", "Resource": "*"}),
            "none",
        ),
        (
            json!({"Effect": "Allow", "Action": "kinesis:*", "NotResource": arn}),
            "none",
        ),
        (
            json!({"Effect": "Allow", "Action": "kinesis:*", "NotResource": "arn:aws:s3:::b"}),
            "allow",
        ),
        (
            json!({"Effect": "Deny", "Action": "kinesis:*", "Resource": "*"}),
            "deny",
        ),
    ] {
        assert_eq!(
            decide(statement.clone(), "kinesis:PutRecord", arn, Keys::new()),
            expected,
            "{statement}"
        );
    }
}

#[test]
fn conditions_hold_as_in_iam() {
    let keys = || {
        Keys::new()
            .with("aws:SourceAccount", "123456789012")
            .with("aws:SourceArn", "arn:aws:iot:eu:1:rule/R")
            .with("aws:SecureTransport", "true")
            .with("aws:SourceIp", "10.1.2.3")
            .with("aws:CurrentTime", "2026-11-23T00:00:00Z")
            .with("aws:EpochTime", "100")
            .with("iot:Connection.Thing.ThingName", "kitchen")
    };
    for (condition, expected) in [
        (
            json!({"StringEquals": {"aws:SourceAccount": "123456789012"}}),
            true,
        ),
        (
            json!({"StringEquals": {"AWS:sourceaccount": ["1", "123456789012"]}}),
            true,
        ),
        (json!({"StringEquals": {"aws:SourceAccount": "1"}}), false),
        (
            json!({"StringNotEquals": {"aws:SourceAccount": ["1", "2"]}}),
            true,
        ),
        (
            json!({"StringNotEquals": {"aws:SourceAccount": ["1", "123456789012"]}}),
            false,
        ),
        (
            json!({"StringEqualsIgnoreCase": {"iot:Connection.Thing.ThingName": "KITCHEN"}}),
            true,
        ),
        (
            json!({"StringEquals": {"iot:Connection.Thing.ThingName": "kit*"}}),
            false,
        ),
        (
            json!({"StringLike": {"iot:Connection.Thing.ThingName": "kit*"}}),
            true,
        ),
        (
            json!({"StringNotLike": {"iot:Connection.Thing.ThingName": "kit*"}}),
            false,
        ),
        (json!({"StringEquals": {"iot:ClientId": "x"}}), false),
        (json!({"StringEqualsIfExists": {"iot:ClientId": "x"}}), true),
        (json!({"StringNotEquals": {"iot:ClientId": "x"}}), true),
        (json!({"Null": {"iot:ClientId": "true"}}), true),
        (json!({"Null": {"iot:ClientId": "false"}}), false),
        (json!({"Null": {"aws:SourceArn": "false"}}), true),
        (
            json!({"ArnLike": {"aws:SourceArn": "arn:aws:iot:eu:1:*"}}),
            true,
        ),
        (
            json!({"ArnEquals": {"aws:SourceArn": "arn:aws:iot:*:1:rule/?"}}),
            true,
        ),
        (
            json!({"ArnLike": {"aws:SourceArn": "arn:aws:iot:*:rule/R"}}),
            false,
        ),
        (
            json!({"ArnNotLike": {"aws:SourceArn": "arn:aws:iot:eu:2:*"}}),
            true,
        ),
        (json!({"Bool": {"aws:SecureTransport": true}}), true),
        (json!({"Bool": {"aws:SecureTransport": "false"}}), false),
        (
            json!({"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}),
            true,
        ),
        (json!({"IpAddress": {"aws:SourceIp": "10.1.0.0/16"}}), true),
        (
            json!({"IpAddress": {"aws:SourceIp": ["10.2.0.0/16", "192.168.0.1"]}}),
            false,
        ),
        (
            json!({"DateLessThan": {"aws:CurrentTime": "2027-01-01T00:00:00Z"}}),
            true,
        ),
        (
            json!({"DateGreaterThanEquals": {"aws:CurrentTime": "2027-01-01"}}),
            false,
        ),
        (
            json!({"NumericLessThanEquals": {"aws:EpochTime": 100}}),
            true,
        ),
        (
            json!({"NumericGreaterThan": {"aws:EpochTime": "100"}}),
            false,
        ),
        (
            json!({"StringEquals": {"aws:SourceAccount": "${aws:PrincipalAccount}"}}),
            true,
        ),
        (
            json!({"ForAnyValue:StringEquals": {"kms:EncryptionContext:many": ["b"]}}),
            true,
        ),
        (
            json!({"ForAllValues:StringEquals": {"kms:EncryptionContext:many": ["b"]}}),
            false,
        ),
        (
            json!({"ForAllValues:StringLike": {"kms:EncryptionContext:many": ["a*", "b"]}}),
            true,
        ),
        (
            json!({"ForAllValues:StringEquals": {"kms:EncryptionContext:none": ["b"]}}),
            true,
        ),
        (
            json!({"ForAnyValue:StringEquals": {"kms:EncryptionContext:none": ["b"]}}),
            false,
        ),
        (
            json!({"StringEquals": {"aws:SourceAccount": "123456789012"}, "Bool": {"aws:SecureTransport": "false"}}),
            false,
        ),
    ] {
        let mut keys = keys();
        keys.set(
            "kms:EncryptionContext:many",
            vec!["a1".to_owned(), "b".to_owned()],
        );
        let statement =
            json!({"Effect": "Allow", "Action": "x:Y", "Resource": "*", "Condition": condition});
        let expected = if expected { "allow" } else { "none" };
        assert_eq!(decide(statement, "x:Y", "*", keys), expected, "{condition}");
    }
}

#[test]
fn what_is_not_understood_is_an_error() {
    let allow = |key: &str, value: Json| {
        let mut statement =
            json!({"Sid": "S", "Effect": "Allow", "Action": "x:Y", "Resource": "*"});
        statement[key] = value;
        statement
    };
    for (statement, expected) in [
        (
            allow(
                "Condition",
                json!({"StringMatches": {"aws:SourceArn": "x"}}),
            ),
            "condition operator `StringMatches` is not supported",
        ),
        (
            allow(
                "Condition",
                json!({"StringEquals": {"aws:Sourcearnn": "x"}}),
            ),
            "condition key `aws:Sourcearnn` is not supported",
        ),
        (
            allow(
                "Condition",
                json!({"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}),
            ),
            "condition key `aws:SourceVpce` is not known for any request, and this condition would then let requests through",
        ),
        (
            allow(
                "Condition",
                json!({"NumericLessThan": {"aws:EpochTime": "soon"}}),
            ),
            "NumericLessThan cannot compare aws:EpochTime with `soon`",
        ),
        (
            allow("Actions", json!("x:Y")),
            "element `Actions` is not supported in a statement",
        ),
        (
            allow("Effect", json!("Maybe")),
            "Effect must be \"Allow\" or \"Deny\"",
        ),
        (
            allow("Action", json!("kinesis.PutRecord")),
            "`kinesis.PutRecord` is no action such as kinesis:PutRecord",
        ),
        (
            allow("Resource", json!("stream/s")),
            "`stream/s` is no ARN and not *",
        ),
        (
            allow("NotAction", json!("x:Z")),
            "needs either Action or NotAction",
        ),
        (
            allow("Principal", json!("*")),
            "an identity-based policy has no Principal",
        ),
    ] {
        let document = json!({"Version": "2012-10-17", "Statement": [statement]});
        let problems = Policy::parse(PolicyKind::Identity, "Owner", "Doc", &document).unwrap_err();
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [format!("Owner.Doc.Statement.0 (S): {expected}")]);
    }
    // A key that is not known here is harmless where its absence closes.
    decide(
        allow(
            "Condition",
            json!({"StringEquals": {"aws:SourceVpce": "vpce-1"}}),
        ),
        "x:Y",
        "*",
        Keys::new(),
    );
}

#[test]
fn identity_and_resource_policies_combine() {
    let allow = |principal: Option<Json>| {
        let mut statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
        match principal {
            Some(principal) => {
                statement["Principal"] = principal;
                policy(PolicyKind::Resource, json!([statement]))
            }
            None => policy(PolicyKind::Identity, json!([statement])),
        }
    };
    let root = || json!({"AWS": "arn:aws:iam::123456789012:root"});
    let identity = vec![allow(None)];
    for (action, identity, resource, expected) in [
        ("s3:GetObject", vec![], vec![], false),
        ("s3:GetObject", identity.clone(), vec![], true),
        ("s3:GetObject", vec![], vec![allow(Some(json!("*")))], true),
        (
            "s3:GetObject",
            vec![],
            vec![allow(Some(json!({"AWS": ROLE})))],
            true,
        ),
        (
            "s3:GetObject",
            vec![],
            vec![allow(Some(
                json!({"AWS": "arn:aws:iam::123456789012:role/Other"}),
            ))],
            false,
        ),
        (
            "s3:GetObject",
            vec![],
            vec![allow(Some(
                json!({"AWS": "arn:aws:sts::123456789012:assumed-role/Role/session"}),
            ))],
            true,
        ),
        ("s3:GetObject", vec![], vec![allow(Some(root()))], false),
        (
            "s3:GetObject",
            vec![],
            vec![allow(Some(json!({"Service": "iot.amazonaws.com"})))],
            false,
        ),
        (
            "kms:Decrypt",
            identity.clone(),
            vec![allow(Some(root()))],
            true,
        ),
        (
            "kms:Decrypt",
            identity.clone(),
            vec![allow(Some(json!({"AWS": "123456789012"})))],
            true,
        ),
        (
            "kms:Decrypt",
            identity.clone(),
            vec![allow(Some(json!({"AWS": "999999999999"})))],
            false,
        ),
        ("kms:Decrypt", vec![], vec![allow(Some(root()))], false),
        ("sts:AssumeRole", identity.clone(), vec![], false),
    ] {
        let decision = evaluate(
            &identity,
            &resource,
            &request(action, "arn:aws:s3:::b/k", Keys::new()),
        );
        assert_eq!(
            decision.is_allowed(),
            expected,
            "{action} {identity:?} {resource:?}"
        );
    }
    // A key's policy that leaves it to the account's own policies is not to blame.
    for (delegates, blamed) in [
        (root(), "identity-based"),
        (json!({"AWS": "999999999999"}), "resource-based"),
    ] {
        let request = request("kms:Decrypt", "arn:aws:s3:::b/k", Keys::new());
        let decision = evaluate(&[], &[allow(Some(delegates))], &request);
        let denial = decision.denial(&request).unwrap();
        assert!(
            denial.ends_with(&format!(
                "because no {blamed} policy allows the kms:Decrypt action"
            )),
            "{denial}"
        );
    }
    let deny = policy(
        PolicyKind::Resource,
        json!([{"Sid": "Never", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}]),
    );
    let request = request("s3:GetObject", "arn:aws:s3:::b/k", Keys::new());
    let decision = evaluate(&identity, &[deny], &request);
    assert_eq!(
        decision.denial(&request).unwrap(),
        "User: arn:aws:sts::123456789012:assumed-role/Role/session is not authorized to perform: s3:GetObject on resource: arn:aws:s3:::b/k with an explicit deny in a resource-based policy"
    );
    let Decision::ExplicitDeny(by) = decision else {
        panic!("{decision:?}")
    };
    assert_eq!(by.to_string(), "Owner Doc statement 0 (Never)");
}

#[test]
fn a_device_may_publish_to_its_own_topic_only() {
    let policies = Policies::collect(&pipeline::edited(|_| {}), &ManagedPolicies::new()).unwrap();
    let keys = || Keys::new().with("iot:Connection.Thing.ThingName", "kitchen");
    let may = |action: &str, resource: &str, keys: Keys| {
        let arn = format!("arn:aws:iot:eu-central-1:123456789012:{resource}");
        policies
            .certificate_may(&["DevicePolicy"], "abc", action, &arn, keys)
            .1
            .is_allowed()
    };
    assert!(may("iot:Connect", "client/kitchen", keys()));
    assert!(may("iot:Publish", "topic/topic/sensors/kitchen", keys()));
    assert!(!may("iot:Publish", "topic/topic/sensors/cellar", keys()));
    assert!(!may(
        "iot:Subscribe",
        "topicfilter/topic/sensors/kitchen",
        keys()
    ));
    assert!(
        !may("iot:Publish", "topic/topic/sensors/kitchen", Keys::new()),
        "not a thing"
    );
}

#[test]
fn managed_policies_must_be_known() {
    let arn = "arn:aws:iam::aws:policy/AWSElasticBeanstalkWebTier";
    let resolved = pipeline::edited(|it| {
        it["Resources"]["WebRole"]["Properties"]["ManagedPolicyArns"] = json!([arn]);
    });
    let problems = Policies::collect(&resolved, &ManagedPolicies::new()).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        format!(
            "WebRole.Properties.ManagedPolicyArns.0: the document of `{arn}` is not known: write its statements into the role instead"
        )
    );
    let document = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}});
    let managed = ManagedPolicies::from([(arn.to_owned(), document)]);
    let policies = Policies::collect(&resolved, &managed).unwrap();
    assert!(
        policies
            .role_may(
                "WebRole",
                "i-1",
                "s3:GetObject",
                "arn:aws:s3:::b/k",
                Keys::new()
            )
            .1
            .is_allowed()
    );
}

#[test]
fn a_boundary_limits_what_a_role_may_do() {
    let arn = "arn:aws:iam::123456789012:policy/boundary";
    let resolved = pipeline::edited(|it| {
        let web = &mut it["Resources"]["WebRole"]["Properties"];
        web["PermissionsBoundary"] = json!(arn);
        web["Policies"] = json!([{ "PolicyName": "All", "PolicyDocument": {
            "Version": "2012-10-17",
            "Statement": { "Effect": "Allow", "Action": "s3:*", "Resource": "*" },
        } }]);
    });
    let problems = Policies::collect(&resolved, &ManagedPolicies::new()).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        format!(
            "WebRole.Properties.PermissionsBoundary: the document of the permissions boundary `{arn}` is not known"
        )
    );
    let document = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "*" },
        { "Effect": "Deny", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::locked/*" },
    ] });
    let managed = ManagedPolicies::from([(arn.to_owned(), document)]);
    let policies = Policies::collect(&resolved, &managed).unwrap();
    let ask = |action: &str, resource: &str| {
        let (request, decision) =
            policies.role_may("WebRole", "i-1", action, resource, Keys::new());
        decision.denial(&request)
    };
    assert_eq!(ask("s3:GetObject", "arn:aws:s3:::b/k"), None);
    assert_eq!(ask("s3:PutObject", "arn:aws:s3:::b/k"), None);
    assert!(
        ask("s3:DeleteObject", "arn:aws:s3:::b/k")
            .unwrap()
            .ends_with("because no permissions boundary allows the s3:DeleteObject action")
    );
    assert!(
        ask("s3:PutObject", "arn:aws:s3:::locked/k")
            .unwrap()
            .ends_with("with an explicit deny in a permissions boundary")
    );
    // It grants nothing.
    assert!(
        ask(
            "kinesis:GetRecords",
            "arn:aws:kinesis:eu-central-1:123456789012:stream/s"
        )
        .unwrap()
        .ends_with("because no identity-based policy allows the kinesis:GetRecords action")
    );
}
