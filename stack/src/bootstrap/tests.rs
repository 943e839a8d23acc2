//! The policies, judged by the evaluator that also decides about every hop of the local run.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cfn::evaluate::{
    Decision, Keys, Policies, Policy, PolicyKind, Principal, Request, evaluate, evaluate_within,
    known_policies,
};
use cfn::integration::{Declared, FindingKind};
use cfn::resolve::{Context, MissingParameters, Resolved, resolve};

use super::*;

const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-central-1";
const BOUNDARY: &str =
    "arn:aws:iam::123456789012:policy/sensors-bootstrap-PermissionsBoundary-1A2B3C4D5E6F";
const SERVICE_ROLE: &str =
    "arn:aws:iam::123456789012:role/sensors-bootstrap-ServiceRole-1A2B3C4D5E6F";

/// Never needed: a boundary that is taken away is what the bootstrap prevents.
const REFUSED: [&str; 1] = ["iam:DeleteRolePermissionsBoundary"];

fn names() -> Names {
    Names {
        partition: "aws".to_owned(),
        region: REGION.to_owned(),
        account: ACCOUNT.to_owned(),
        boundary: BOUNDARY.to_owned(),
        service_role: SERVICE_ROLE.to_owned(),
    }
}

fn policy(rules: &[Rule]) -> Policy {
    let document = document(rules, &names());
    Policy::parse(PolicyKind::Identity, "Role", "Policy", &document)
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// The policies for all stages, computed once for all tests.
static PERMISSIONS: LazyLock<Permissions> = LazyLock::new(|| Permissions::of(&Stage::ALL));

fn service_role() -> Vec<Policy> {
    let policies = PERMISSIONS.service_policies();
    policies.iter().map(|(_, rules)| policy(rules)).collect()
}

fn decide(policies: &[Policy], action: &str, resource: &str, context: Keys) -> Decision {
    let request = Request {
        principal: Principal::Role {
            arn: SERVICE_ROLE.to_owned(),
            session: "AWSCloudFormation".to_owned(),
        },
        action: action.to_owned(),
        resource: resource.to_owned(),
        context,
    };
    evaluate(policies, &[], &request)
}

/// A stack as CloudFormation resolves it, with names as it generates them.
fn resolved(stack: &Synthesized) -> Resolved {
    let document = cfn::document::Document::parse(&stack.template).expect("is a template");
    let context = Context {
        missing_parameters: MissingParameters::Placeholder,
        ..Context::new(ACCOUNT, REGION, &stack.name)
    };
    resolve(&document, &context).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Every stack of every stage, and of the choices that no stage takes.
fn stacks() -> Vec<Synthesized> {
    let mut stacks = Vec::new();
    for stage in Stage::ALL {
        stacks.extend(crate::synth(stage).expect("a stage synthesises"));
    }
    for (_, config) in crate::choices::all() {
        stacks.extend(crate::synth_with(&config).expect("a choice synthesises"));
    }
    stacks
}

/// Condition keys that a request carries because of its action.
fn keys(action: &str, service: &str) -> Keys {
    let keys = Keys::new();
    match action {
        "iam:PassRole" => keys.with("iam:PassedToService", service),
        "iam:CreateServiceLinkedRole" => {
            keys.with("iam:AWSServiceName", "elasticache.amazonaws.com")
        }
        "iam:AttachRolePolicy" => keys.with("iam:PermissionsBoundary", BOUNDARY).with(
            "iam:PolicyARN",
            "arn:aws:iam::aws:policy/AWSElasticBeanstalkManagedUpdatesCustomerRolePolicy",
        ),
        _ if action.starts_with("iam:") => keys.with("iam:PermissionsBoundary", BOUNDARY),
        _ => keys,
    }
}

/// Whether an ARN is of a format such as `arn:${Partition}:kinesis:${Region}:${Account}:stream/*`.
fn is_of(arn: &str, format: &str) -> bool {
    let format = filled(format);
    match format.split_once('*') {
        Some((start, _)) => arn.starts_with(start) && !arn[start.len()..].is_empty(),
        None => arn == format,
    }
}

fn filled(format: &str) -> String {
    format
        .replace("${Partition}", "aws")
        .replace("${Region}", REGION)
        .replace("${Account}", ACCOUNT)
}

/// What a handler's call is made on: the resources of its stack that the action takes, else one of a name
/// that CloudFormation could have generated.
fn resources(resolved: &Resolved, action: &str) -> BTreeSet<String> {
    if action == "iam:CreateServiceLinkedRole" {
        return BTreeSet::from([format!(
            "arn:aws:iam::{ACCOUNT}:role/aws-service-role/elasticache.amazonaws.com/AWSServiceRoleForElastiCache"
        )]);
    }
    let formats = cfn::actions::arn_formats(action);
    if formats.is_empty() {
        return BTreeSet::from(["*".to_owned()]);
    }
    let own: BTreeSet<String> = resolved
        .resources
        .values()
        .filter_map(|resource| resource.arn())
        .map(|arn| arn.trim_end_matches(":*"))
        // Bucket and object have the same format.
        .flat_map(|arn| match arn.contains(":s3:::") {
            true => vec![arn.to_owned(), format!("{arn}/key")],
            false => vec![arn.to_owned()],
        })
        .filter(|arn| formats.iter().any(|format| is_of(arn, format)))
        .collect();
    if !own.is_empty() {
        return own;
    }
    let stack = &resolved.context.stack_name;
    let own = |format: &&str| filled(format).replace('*', &format!("{stack}-Thing-1A2B3C4D5E6F"));
    formats.iter().map(own).collect()
}

#[test]
fn the_service_role_may_do_what_every_handler_of_every_type_calls() {
    let policies = service_role();
    let mut asked = BTreeSet::new();
    for stack in stacks() {
        let resolved = resolved(&stack);
        let types: BTreeSet<&str> = resolved.resources.values().map(|it| &*it.r#type).collect();
        for r#type in types {
            let shape = cfn::resources::metadata(r#type).expect("the type is known");
            let permissions = shape.permissions;
            let handlers = [
                permissions.create,
                permissions.read,
                permissions.update,
                permissions.delete,
            ];
            let actions = handlers.into_iter().flatten().copied();
            for action in actions.clone() {
                // What is no action is left out, which must not happen to a whole service.
                let service = action.split(':').next().unwrap_or_default();
                assert!(
                    cfn::actions::matching(&format!("{service}:*"))
                        .next()
                        .is_some(),
                    "{action} of {type}: cfn/schemas/actions.json does not know the service; `cargo xtask codegen --add {type}` brings it"
                );
            }
            for action in actions.filter(|it| cfn::actions::exists(it) && !REFUSED.contains(it)) {
                for resource in resources(&resolved, action) {
                    if !asked.insert((action, resource.clone())) {
                        continue;
                    }
                    let decision = decide(
                        &policies,
                        action,
                        &resource,
                        keys(action, "lambda.amazonaws.com"),
                    );
                    assert!(
                        decision.is_allowed(),
                        "{}: {type} calls {action} on {resource}: {decision:?}",
                        stack.name
                    );
                }
            }
        }
    }
    assert!(asked.len() > 500, "{}", asked.len());
}

/// Services of AWS's own policy for managed updates that a load-balanced web environment does not use.
const UNUSED_SERVICES: [&str; 4] = ["ecs", "rds", "sqs", "sns"];

/// Actions of it for single instances with an elastic address, for EC2-Classic and for schedules.
const UNUSED_ACTIONS: [&str; 8] = [
    "ec2:AllocateAddress",
    "ec2:AssociateAddress",
    "ec2:DisassociateAddress",
    "ec2:ReleaseAddress",
    "ec2:DescribeVpcClassicLink",
    "elasticloadbalancing:ApplySecurityGroupsToLoadBalancer",
    "elasticloadbalancing:ConfigureHealthCheck",
    "elasticloadbalancing:RegisterInstancesWithLoadBalancer",
];

/// What Beanstalk calls downstream by AWS's own policies: action, resource and condition keys. The block of
/// this stack was not made from these documents, which are committed in `cfn`.
fn beanstalk_calls() -> Vec<(String, String, Keys)> {
    let mut calls = Vec::new();
    for (_, document) in known_policies("aws") {
        let statements = document["Statement"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for statement in statements {
            let texts = |value: &Json| -> Vec<String> {
                match value {
                    Json::Array(items) => items
                        .iter()
                        .filter_map(|it| it.as_str().map(str::to_owned))
                        .collect(),
                    other => other.as_str().map(str::to_owned).into_iter().collect(),
                }
            };
            for pattern in texts(&statement["Action"]) {
                let service = pattern.split(':').next().unwrap_or_default().to_owned();
                let is_unused = UNUSED_SERVICES.contains(&&*service)
                    || UNUSED_ACTIONS.contains(&&*pattern)
                    || pattern == "elasticloadbalancing:DeregisterInstancesFromLoadBalancer";
                // The wildcards are about Beanstalk's own resources, which the handlers' test asks for.
                if is_unused || pattern.contains('*') || service == "iam" {
                    continue;
                }
                for resource in texts(&statement["Resource"]) {
                    // `eb-` names are of environments older than the service's second version.
                    if resource.contains("/eb-") || resource.contains(":eb-") {
                        continue;
                    }
                    // Classic balancers.
                    if resource.contains(":loadbalancer/awseb-") {
                        continue;
                    }
                    let mut parts: Vec<&str> = resource.splitn(6, ':').collect();
                    if let [_, _, _, region, account, _] = parts.as_mut_slice() {
                        *region = if *region == "*" { REGION } else { region };
                        *account = if *account == "*" { ACCOUNT } else { account };
                    }
                    let resource = match parts.len() {
                        6 => parts
                            .join(":")
                            .replace("loadbalancer/*/", "loadbalancer/app/")
                            .replace("awseb-*", "awseb-e-abcdefghij")
                            .replace("awseb-e-*", "awseb-e-abcdefghij")
                            .replace(
                                "elasticbeanstalk-*",
                                &format!("elasticbeanstalk-{REGION}-{ACCOUNT}"),
                            )
                            .replace('*', "abcdefghij"),
                        _ => resource,
                    };
                    let keys = Keys::new()
                        .with("ec2:LaunchTemplate", format!("arn:aws:ec2:{REGION}:{ACCOUNT}:launch-template/lt-0123456789abcdef0"))
                        .with("ec2:ResourceTag/aws:cloudformation:stack-id", format!("arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/awseb-e-abcdefghij-stack/1"));
                    calls.push((pattern.clone(), resource, keys));
                }
            }
        }
    }
    assert!(calls.len() > 60, "{}", calls.len());
    calls
}

/// Of enhanced health, which the environment's own role does and no caller.
const BY_ROLE_ALONE: [&str; 4] = [
    "ec2:GetConsoleOutput",
    "logs:CreateLogStream",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
];

#[test]
fn the_service_role_may_do_what_beanstalk_does_for_its_caller() {
    let policies = service_role();
    for (action, resource, keys) in beanstalk_calls() {
        if BY_ROLE_ALONE.contains(&&*action) {
            continue;
        }
        let decision = decide(&policies, &action, &resource, keys);
        assert!(
            decision.is_allowed(),
            "{action} on {resource}: {decision:?}"
        );
    }
    for line in beanstalk::rules(&PERMISSIONS.stacks) {
        let resources: Vec<String> = line
            .resources
            .iter()
            .map(|it| filled(it).replace('*', "abc"))
            .collect();
        for action in line
            .actions
            .iter()
            .flat_map(|it| cfn::actions::matching(it))
        {
            for resource in &resources {
                let mut keys = Keys::new();
                for (_, key, values) in &line.conditions {
                    keys = keys.with(key, filled(&values[0]).replace('*', "abc"));
                }
                let decision = decide(&policies, action, resource, keys);
                assert!(
                    decision.is_allowed(),
                    "{action} on {resource}: {decision:?}"
                );
            }
        }
    }
}

#[test]
fn the_boundary_allows_what_the_stages_roles_do() {
    let permissions = &*PERMISSIONS;
    let boundary = document(&permissions.boundary(), &names());
    let bounded = Policy::parse(PolicyKind::Boundary, "Role", "Boundary", &boundary)
        .unwrap_or_else(|problems| panic!("{problems:#?}"));
    // What the settings imply, for every template with the boundary.
    let mut managed = known_policies("aws");
    managed.insert(BOUNDARY.to_owned(), boundary);
    let configs = Stage::ALL.map(Stage::config).into_iter();
    let configs = configs.chain(crate::choices::all().into_iter().map(|(_, config)| config));
    for config in configs {
        let stacks = crate::synth_with(&config).expect("synthesises");
        let document = cfn::document::Document::parse(&stacks[1].template).expect("is a template");
        let mut context = Context {
            missing_parameters: MissingParameters::Placeholder,
            ..Context::new(ACCOUNT, REGION, &stacks[1].name)
        };
        context.parameters.insert(
            crate::parameters::PERMISSIONS_BOUNDARY.to_owned(),
            BOUNDARY.to_owned(),
        );
        let resolved = resolve(&document, &context).expect("resolves");
        for role in resolved.of_type("AWS::IAM::Role") {
            let bound = role.text("/PermissionsBoundary");
            assert_eq!(bound.as_deref(), Some(BOUNDARY), "{}", role.logical_id);
        }
        let declared: Declared = crate::declared::main(&config);
        let findings = cfn::integration::check(&resolved, &managed, &declared);
        let graves: Vec<String> = findings
            .iter()
            .filter(|it| matches!(it.kind, FindingKind::Unreadable | FindingKind::Missing))
            .map(ToString::to_string)
            .collect();
        assert!(graves.is_empty(), "{}: {graves:#?}", config.stage);
        // And that it was asked: a boundary of nothing is missed.
        let nothing = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*" }] });
        let mut none = known_policies("aws");
        none.insert(BOUNDARY.to_owned(), nothing);
        let findings = cfn::integration::check(&resolved, &none, &declared);
        assert!(findings.iter().any(|it| it.kind == FindingKind::Missing));
    }
    // What Beanstalk's role does at managed updates.
    for (action, resource, keys) in beanstalk_calls() {
        let request = Request {
            principal: Principal::Role {
                arn: format!("arn:aws:iam::{ACCOUNT}:role/sensors-dev-BeanstalkRole-1A2B3C4D5E6F"),
                session: "session".to_owned(),
            },
            action: action.clone(),
            resource: resource.clone(),
            context: keys,
        };
        let all = Policy::parse(
            PolicyKind::Identity,
            "Role",
            "All",
            &json!({ "Version": "2012-10-17", "Statement": [
                { "Effect": "Allow", "Action": "*", "Resource": "*" }] }),
        )
        .expect("is a policy");
        let decision = evaluate_within(&bounded, &[all], &[], &request);
        assert!(
            decision.is_allowed(),
            "{action} on {resource}: {decision:?}"
        );
    }
}

#[test]
fn no_role_of_a_stage_gets_beyond_its_boundary() {
    let boundary = policy(&PERMISSIONS.boundary());
    let role = format!("arn:aws:iam::{ACCOUNT}:role/sensors-dev-FunctionRole-1A2B3C4D5E6F");
    for (action, resource) in [
        ("iam:CreateRole", role.as_str()),
        ("iam:PutRolePolicy", &role),
        ("iam:AttachRolePolicy", &role),
        ("iam:CreateUser", "arn:aws:iam::123456789012:user/somebody"),
        ("sts:AssumeRole", SERVICE_ROLE),
        ("iam:PassRole", SERVICE_ROLE),
        ("s3:GetObject", "arn:aws:s3:::payroll/2026.csv"),
        (
            "lambda:UpdateFunctionCode",
            "arn:aws:lambda:eu-central-1:123456789012:function:other",
        ),
        (
            "dynamodb:Scan",
            "arn:aws:dynamodb:eu-central-1:123456789012:table/other",
        ),
    ] {
        let keys = keys(action, "ec2.amazonaws.com");
        let decision = decide(std::slice::from_ref(&boundary), action, resource, keys);
        assert!(
            !decision.is_allowed(),
            "{action} on {resource}: {decision:?}"
        );
    }
}

#[test]
fn the_service_role_cannot_make_itself_more_than_it_is() {
    let policies = service_role();
    let role = format!("arn:aws:iam::{ACCOUNT}:role/sensors-dev-FunctionRole-1A2B3C4D5E6F");
    let others = format!("arn:aws:iam::{ACCOUNT}:role/admin");
    let bound = Keys::new().with("iam:PermissionsBoundary", BOUNDARY);
    let unbound = Keys::new();
    let bound_otherwise = Keys::new().with(
        "iam:PermissionsBoundary",
        "arn:aws:iam::aws:policy/AdministratorAccess",
    );
    let to = |service: &str| Keys::new().with("iam:PassedToService", service);
    let attached = |name: &str| {
        bound
            .clone()
            .with("iam:PolicyARN", format!("arn:aws:iam::aws:policy/{name}"))
    };
    let allowed = [
        ("iam:CreateRole", role.as_str(), bound.clone()),
        ("iam:PutRolePolicy", &role, bound.clone()),
        ("iam:PassRole", &role, to("lambda.amazonaws.com")),
        ("iam:PassRole", &role, to("ec2.amazonaws.com")),
        ("iam:DeleteRole", &role, Keys::new()),
    ];
    for (action, resource, keys) in allowed {
        let decision = decide(&policies, action, resource, keys);
        assert!(
            decision.is_allowed(),
            "{action} on {resource}: {decision:?}"
        );
    }
    let refused = [
        // A role without the boundary, or with another.
        ("iam:CreateRole", role.as_str(), unbound.clone()),
        ("iam:CreateRole", &role, bound_otherwise.clone()),
        ("iam:PutRolePolicy", &role, unbound.clone()),
        ("iam:AttachRolePolicy", &role, unbound.clone()),
        (
            "iam:AttachRolePolicy",
            &role,
            attached("AdministratorAccess"),
        ),
        // A role outside of the prefix.
        ("iam:CreateRole", &others, bound.clone()),
        ("iam:PutRolePolicy", &others, bound.clone()),
        ("iam:UpdateAssumeRolePolicy", &others, bound.clone()),
        // Another role passed on, or a stage's to another service.
        ("iam:PassRole", &others, to("lambda.amazonaws.com")),
        (
            "iam:PassRole",
            SERVICE_ROLE,
            to("cloudformation.amazonaws.com"),
        ),
        ("iam:PassRole", &role, to("codebuild.amazonaws.com")),
        // The boundary taken away, replaced or edited.
        ("iam:DeleteRolePermissionsBoundary", &role, bound.clone()),
        ("iam:PutRolePermissionsBoundary", &role, bound_otherwise),
        ("iam:CreatePolicyVersion", BOUNDARY, Keys::new()),
        ("iam:SetDefaultPolicyVersion", BOUNDARY, Keys::new()),
        ("iam:DeletePolicy", BOUNDARY, Keys::new()),
        // The bootstrap's own roles.
        ("iam:PutRolePolicy", SERVICE_ROLE, bound.clone()),
        ("iam:AttachRolePolicy", SERVICE_ROLE, bound.clone()),
        ("iam:UpdateAssumeRolePolicy", SERVICE_ROLE, Keys::new()),
        (
            "iam:CreateUser",
            "arn:aws:iam::123456789012:user/x",
            Keys::new(),
        ),
        (
            "iam:CreateServiceLinkedRole",
            &others,
            Keys::new().with("iam:AWSServiceName", "elasticache.amazonaws.com"),
        ),
    ];
    for (action, resource, keys) in refused {
        let decision = decide(&policies, action, resource, keys);
        assert!(
            !decision.is_allowed(),
            "{action} on {resource}: {decision:?}"
        );
    }
    // What denies, denies also where somebody attaches administration to the role.
    let all = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "*", "Resource": "*" }] });
    let mut widened = policies;
    widened.push(Policy::parse(PolicyKind::Identity, "Role", "All", &all).expect("is a policy"));
    for (action, resource) in [
        ("iam:DeleteRolePermissionsBoundary", role.as_str()),
        ("iam:CreatePolicyVersion", BOUNDARY),
        ("iam:DeletePolicy", BOUNDARY),
        ("iam:PutRolePolicy", SERVICE_ROLE),
        ("iam:DetachRolePolicy", SERVICE_ROLE),
    ] {
        let decision = decide(&widened, action, resource, bound.clone());
        assert!(
            matches!(decision, Decision::ExplicitDeny(_)),
            "{action} on {resource}: {decision:?}"
        );
    }
}

#[test]
fn a_deployer_hands_stacks_to_the_service_role_and_has_no_other_way_to_change_anything() {
    let policies = [policy(&PERMISSIONS.deployer())];
    let stack = |name: &str| format!("arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/1");
    let to = |service: &str| Keys::new().with("iam:PassedToService", service);
    let may = |action: &str, resource: &str, keys: Keys| {
        decide(&policies, action, resource, keys).is_allowed()
    };
    for name in ["sensors-dev", "sensors-prod-artifacts"] {
        assert!(may(
            "cloudformation:CreateChangeSet",
            &stack(name),
            Keys::new()
        ));
        assert!(may("cloudformation:DeleteStack", &stack(name), Keys::new()));
    }
    assert!(may(
        "cloudformation:DescribeStacks",
        &stack(STACK_NAME),
        Keys::new()
    ));
    assert!(may(
        "iam:PassRole",
        SERVICE_ROLE,
        to("cloudformation.amazonaws.com")
    ));
    for (action, resource, keys) in [
        (
            "cloudformation:CreateChangeSet",
            stack("payroll"),
            Keys::new(),
        ),
        (
            "cloudformation:CreateChangeSet",
            stack(STACK_NAME),
            Keys::new(),
        ),
        ("cloudformation:DeleteStack", stack(STACK_NAME), Keys::new()),
        (
            "iam:PassRole",
            SERVICE_ROLE.to_owned(),
            to("ec2.amazonaws.com"),
        ),
        (
            "iam:PassRole",
            format!("arn:aws:iam::{ACCOUNT}:role/admin"),
            to("cloudformation.amazonaws.com"),
        ),
        (
            "iam:CreateRole",
            format!("arn:aws:iam::{ACCOUNT}:role/sensors-dev-Role-1"),
            Keys::new(),
        ),
        (
            "s3:DeleteObject",
            "arn:aws:s3:::payroll/2026.csv".to_owned(),
            Keys::new(),
        ),
        (
            "lambda:UpdateFunctionConfiguration",
            format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:other"),
            Keys::new(),
        ),
    ] {
        assert!(!may(action, &resource, keys), "{action} on {resource}");
    }
}

#[test]
fn every_action_of_every_policy_exists() {
    let permissions = &*PERMISSIONS;
    let mut all = permissions.boundary();
    all.extend(permissions.deployer());
    all.extend(permissions.unbound());
    all.extend(
        permissions
            .service_policies()
            .into_iter()
            .flat_map(|it| it.1),
    );
    for action in all.iter().flat_map(|rule| &rule.actions) {
        assert!(cfn::actions::matching(action).next().is_some(), "{action}");
    }
    // A permission of a handler that is none.
    assert!(
        !all.iter()
            .any(|rule| rule.actions.iter().any(|it| it.contains("REST")))
    );
}

#[test]
fn statements_and_policies_are_what_iam_takes() {
    let permissions = &*PERMISSIONS;
    assert_eq!(permissions.length_problems(), []);
    let mut policies = permissions.service_policies();
    policies.push(("boundary", permissions.boundary()));
    policies.push(("deployer", permissions.deployer()));
    for (id, rules) in policies {
        let sids: BTreeSet<&str> = rules.iter().map(|rule| rule.sid.as_str()).collect();
        assert_eq!(sids.len(), rules.len(), "{id}: two statements have one ID");
        let is_plain = |sid: &&str| sid.bytes().all(|it| it.is_ascii_alphanumeric());
        assert!(sids.iter().all(is_plain), "{id}: {sids:?}");
        assert!(rules.iter().all(|rule| !rule.actions.is_empty()), "{id}");
    }
    for document in documents(&permissions.unbound(), &names()) {
        assert!(document.to_string().len() <= LONGEST_POLICY);
    }
    let one = Permissions::of(&[Stage::Dev]).deployer();
    assert!(!document(&one, &names()).to_string().contains("prod"));
}

#[test]
fn every_role_of_every_template_takes_the_boundary() {
    for stack in stacks() {
        let template: Json = serde_json::from_str(&stack.template).expect("is JSON");
        let resources = template["Resources"].as_object().expect("has resources");
        for (id, resource) in resources {
            if resource["Type"] == "AWS::IAM::Role" {
                assert_eq!(
                    resource["Properties"]["PermissionsBoundary"]["Fn::If"][0],
                    "HasPermissionsBoundary",
                    "{}: {id}",
                    stack.name
                );
            }
        }
    }
}

#[test]
fn the_bootstrap_synthesises_and_its_policies_are_understood() {
    let stack = synth().unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(stack, synth().expect("again"));
    let mut document = cfn::document::Document::parse(&stack.template).expect("is a template");
    document.outputs.clear();
    let mut context = Context::new(ACCOUNT, REGION, STACK_NAME);
    let subject = "repo:octo-org@123456/octo-repo@789012:environment:production";
    context
        .parameters
        .insert(GITHUB_SUBJECT.to_owned(), subject.to_owned());
    let resolved = resolve(&document, &context).expect("resolves");
    let policies = Policies::collect(&resolved, &known_policies("aws"))
        .unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(policies.roles["ServiceRole"].identity.len(), 6);
    assert_eq!(policies.roles["GitHubRole"].identity.len(), 1);
    assert!(resolved.resource("GitHubIdentityProvider").is_some());
    let without = Context::new(ACCOUNT, REGION, STACK_NAME);
    let resolved = resolve(&document, &without).expect("resolves");
    assert!(resolved.resource("GitHubRole").is_none());
}

#[test]
fn subjects_name_one_repository_and_environment() {
    for good in [
        "repo:octo-org/octo-repo:environment:production",
        "repo:octo-org@123456/octo-repo@789012:environment:production",
    ] {
        assert!(is_subject(good), "{good}");
    }
    for bad in [
        "",
        "octo-org/octo-repo",
        "repo:octo-org/*:environment:production",
        "repo:octo-org/octo-repo:ref:refs/heads/main",
        "repo:octo-org/octo-repo:environment:",
        "repo:octo-org/octo-repo:*",
        "repo:octo-org:environment:production",
    ] {
        assert!(!is_subject(bad), "{bad}");
    }
}

#[test]
fn stack_names_that_cloudformation_would_cut_are_refused() {
    assert!(name_problem("sensors-prod-artifacts").is_none());
    assert!(name_problem(STACK_NAME).is_none());
    let problem = name_problem("sensors-a-very-long-stage-name").expect("is too long");
    assert!(problem.to_string().contains("30 characters"), "{problem}");
}
