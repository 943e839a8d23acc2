//! Checks of the principals in policies of resources, roles and devices: a principal that nothing needs is an
//! error.
//!
//! [`super::check`] compares a role's statements with its calls. This module checks `Principal` elements,
//! plain HTTP to buckets, the administration of keys, and the permissions of devices.

use std::collections::BTreeSet;

use crate::evaluate::{
    DEFAULT_POLICY, Decision, Effect, Keys, Policies, Policy, PolicyKind, Principal,
    PrincipalPattern, Request, Statement, evaluate,
};
use crate::resolve::{Resolved, ResolvedResource};

use super::calls::AccountUse;
use super::{
    Call, Caller, Declared, DeviceCall, Finding, FindingKind, KEY_ADMINISTRATION, needless, one,
};

/// Placeholder for the Thing's name in a [`DeviceCall`].
const THING: &str = "{thing}";

/// All findings about principals.
pub(super) fn check(
    resolved: &Resolved,
    policies: &Policies,
    calls: &[Call],
    account_uses: &[AccountUse],
    declared: &Declared,
) -> Vec<Finding> {
    let keys = Keychain {
        resolved,
        policies,
        calls,
        account_uses,
    };
    let mut findings = Vec::new();
    for role in policies.roles.values() {
        findings.extend(trust(&role.logical_id, &role.trust, calls));
    }
    for (arn, attached) in &policies.resources {
        for policy in attached.iter().filter(|it| it.path != DEFAULT_POLICY) {
            findings.extend(resource_policy(resolved, policies, arn, policy, calls));
        }
    }
    for bucket in resolved.of_type("AWS::S3::Bucket") {
        findings.extend(plain_http(policies, bucket));
    }
    for key in resolved.of_type("AWS::KMS::Key") {
        findings.extend(keys.check(key));
    }
    if !declared.devices.is_empty() {
        findings.extend(devices(resolved, policies, &declared.devices));
    }
    let of_roles = policies.roles.values().flat_map(|role| {
        let own = role.identity.iter().filter(|it| !is_managed_by_aws(it));
        own.chain(std::iter::once(&role.trust))
    });
    let all = of_roles
        .chain(policies.resources.values().flatten())
        .chain(policies.iot.values());
    findings.extend(all.flat_map(said_twice));
    findings
}

/// Whether a policy is AWS-managed, so that it may allow more than is needed.
pub(super) fn is_managed_by_aws(policy: &Policy) -> bool {
    policy.path.starts_with("Properties.ManagedPolicyArns.")
}

fn finding(kind: FindingKind, policy: &Policy, index: usize, message: String) -> Finding {
    Finding {
        kind,
        logical_id: policy.logical_id.clone(),
        message: format!("{} statement {index}: {message}", policy.path),
    }
}

/// A principal as in its policy.
fn name(principal: &PrincipalPattern) -> String {
    match principal {
        PrincipalPattern::Everyone => "everybody".to_owned(),
        PrincipalPattern::Account(account) => format!("account {account}"),
        PrincipalPattern::Arn(name)
        | PrincipalPattern::Service(name)
        | PrincipalPattern::Federated(name) => name.clone(),
    }
}

/// Findings about principals of trust policies.
fn trust(role: &str, trust: &Policy, calls: &[Call]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let uses = |name: &String| {
        calls.iter().any(|call| {
            matches!(&call.caller, Caller::Role { role: id, service, .. } if id == role && service == name)
        })
    };
    for (index, statement) in trust.statements.iter().enumerate() {
        let mut add = |message| {
            findings.push(finding(FindingKind::Unused, trust, index, message));
        };
        for action in &statement.actions {
            if !action.eq_ignore_ascii_case("sts:AssumeRole") {
                let verb = verb(statement.effect);
                add(format!(
                    "{verb} {action}, but services need sts:AssumeRole alone"
                ));
            }
        }
        if statement.effect == Effect::Deny {
            continue;
        }
        for principal in &statement.principals {
            if !matches!(principal, PrincipalPattern::Service(name) if uses(name)) {
                add(format!(
                    "trusts {}, which nothing in this template needs: remove it",
                    name(principal)
                ));
            }
        }
    }
    findings
}

/// Findings about principals and actions of a resource's policy.
fn resource_policy(
    resolved: &Resolved,
    policies: &Policies,
    arn: &str,
    policy: &Policy,
    calls: &[Call],
) -> Vec<Finding> {
    let own_service = arn.split(':').nth(2).unwrap_or_default();
    let own_account = &resolved.context.account_id;
    let mut findings = Vec::new();
    for (index, statement) in policy.statements.iter().enumerate() {
        let mut add = |kind, message: String| findings.push(finding(kind, policy, index, message));
        for action in &statement.actions {
            let service = action.split(':').next().unwrap_or_default();
            if action != "*" && !service.eq_ignore_ascii_case(own_service) {
                add(
                    FindingKind::Unused,
                    format!(
                        "{} {action}, which has nothing to do with {arn}: remove it",
                        verb(statement.effect)
                    ),
                );
            }
        }
        if statement.effect == Effect::Deny {
            continue;
        }
        if statement.not_actions {
            add(
                FindingKind::Wildcard,
                "NotAction grants an open-ended set: list the needed actions in Action".to_owned(),
            );
            continue;
        }
        for principal in &statement.principals {
            // See `Keychain`.
            let administers = own_service == "kms"
                && matches!(principal, PrincipalPattern::Account(account) if account == own_account);
            if administers {
                continue;
            }
            if *principal == PrincipalPattern::Everyone {
                let message = format!(
                    "allows {} to everyone: list the needed principals",
                    statement.actions.join(", ")
                );
                add(FindingKind::Wildcard, message);
                continue;
            }
            for action in &statement.actions {
                let used: Vec<&str> = calls
                    .iter()
                    .filter(|call| {
                        is_by(policies, principal, &call.caller)
                            && call.resource.starts_with(arn)
                            && one(action).covers_action(&call.action)
                    })
                    .map(|call| call.action.as_str())
                    .collect();
                let by = name(principal);
                if used.is_empty() {
                    add(
                        FindingKind::Unused,
                        format!(
                            "allows {action} to {by}, which nothing in this template needs: remove it"
                        ),
                    );
                } else if is_too_wide(action, &used) {
                    add(
                        FindingKind::Wildcard,
                        format!(
                            "allows {action} to {by}: name what is needed, {}",
                            used.join(", ")
                        ),
                    );
                }
            }
        }
    }
    findings
}

/// Whether an action with wildcards covers more than variants of one action: `GenerateDataKey*` does not.
fn is_too_wide(action: &str, used: &[&str]) -> bool {
    let Some(wild) = action.find(['*', '?']) else {
        return false;
    };
    let stem = &action[..wild];
    let next = |used: &&str| used.as_bytes().get(wild).copied();
    let branches = used.iter().map(next).collect::<BTreeSet<_>>().len() > 1
        || used.iter().any(|used| used.len() == wild);
    stem.ends_with(':') || stem.is_empty() || !branches
}

/// Whether a principal of a policy makes a call.
fn is_by(policies: &Policies, principal: &PrincipalPattern, caller: &Caller) -> bool {
    match (principal, caller) {
        (PrincipalPattern::Service(name), Caller::Service(service)) => name == service,
        (PrincipalPattern::Arn(arn), Caller::Role { role, .. }) => {
            policies.role(role).is_some_and(|role| role.arn == *arn)
        }
        _ => false,
    }
}

/// Findings about buckets that allow requests without TLS.
fn plain_http(policies: &Policies, bucket: &ResolvedResource) -> Option<Finding> {
    let arn = bucket.arn()?;
    let object = format!("{arn}/example");
    let asked = [
        ("s3:GetObject", object.as_str()),
        ("s3:PutObject", &object),
        ("s3:DeleteObject", &object),
        ("s3:ListBucket", arn),
    ];
    let open = asked.into_iter().find(|(action, resource)| {
        let request = Request {
            principal: Principal::Anonymous,
            action: (*action).to_owned(),
            resource: (*resource).to_owned(),
            context: Keys::new().with("aws:SecureTransport", "false"),
        };
        let decision = evaluate(&[], policies.of_resource(resource), &request);
        !matches!(decision, Decision::ExplicitDeny(_))
    });
    open.map(|(action, resource)| Finding {
        kind: FindingKind::Missing,
        logical_id: bucket.logical_id.clone(),
        message: format!(
            "{action} on {resource} is not denied without TLS: add a statement to its bucket policy that denies s3:* to everyone if aws:SecureTransport is false"
        ),
    })
}

/// Compares what key policies delegate to the account with what its identities need.
struct Keychain<'a> {
    resolved: &'a Resolved,
    policies: &'a Policies,
    calls: &'a [Call],
    account_uses: &'a [AccountUse],
}

impl Keychain<'_> {
    fn check(&self, key: &ResolvedResource) -> Vec<Finding> {
        let Some(arn) = key.arn() else {
            return Vec::new();
        };
        let attached = self.policies.of_resource(arn);
        let account = &self.resolved.context.account_id;
        let mut findings = Vec::new();
        let mut missing = |message: String| {
            findings.push(Finding {
                kind: FindingKind::Missing,
                logical_id: key.logical_id.clone(),
                message,
            });
        };
        let lacking: Vec<&str> = KEY_ADMINISTRATION
            .into_iter()
            .filter(|action| !self.hands_over(attached, arn, action, &Keys::new()))
            .collect();
        match lacking.len() {
            0 => {}
            all if all == KEY_ADMINISTRATION.len() => missing(format!(
                "no principal can administer the key: allow kms:* to account {account} in its KeyPolicy"
            )),
            _ => missing(format!(
                "its administrators lack {}: allow it to account {account} in its KeyPolicy",
                lacking.join(", ")
            )),
        }
        for needed in self.account_uses.iter().filter(|it| it.key == arn) {
            if !self.hands_over(attached, arn, needed.action, &needed.context) {
                missing(format!(
                    "{} is encrypted with it and cannot be deployed: allow {} to account {account} in its KeyPolicy with kms:ViaService = {}",
                    needed.from,
                    needed.action,
                    needed
                        .context
                        .get("kms:ViaService")
                        .unwrap_or_default()
                        .join(", ")
                ));
            }
        }
        for policy in attached {
            for (index, statement) in policy.statements.iter().enumerate() {
                let own = PrincipalPattern::Account(account.clone());
                if statement.effect == Effect::Allow && statement.principals.contains(&own) {
                    findings.extend(self.needless(policy, index, statement, arn));
                }
            }
        }
        findings
    }

    /// Actions of a statement for the account that are neither used nor for administration.
    fn needless(
        &self,
        policy: &Policy,
        index: usize,
        statement: &Statement,
        arn: &str,
    ) -> Vec<Finding> {
        let administers = |action: &str| {
            statement.conditions.is_empty()
                && (action == "kms:*"
                    || KEY_ADMINISTRATION
                        .iter()
                        .any(|known| known.eq_ignore_ascii_case(action)))
        };
        let is_used = |action: &str| {
            let only = Policy {
                statements: vec![Statement {
                    actions: vec![action.to_owned()],
                    ..statement.clone()
                }],
                ..policy.clone()
            };
            let only = std::slice::from_ref(&only);
            let by_roles = self.calls.iter().any(|call| {
                matches!(call.caller, Caller::Role { .. })
                    && call.resource == arn
                    && self.hands_over(only, arn, &call.action, &call.context)
            });
            by_roles
                || self.account_uses.iter().any(|needed| {
                    needed.key == arn && self.hands_over(only, arn, needed.action, &needed.context)
                })
        };
        let needless = statement
            .actions
            .iter()
            .filter(|action| action.to_ascii_lowercase().starts_with("kms:"))
            .filter(|action| !administers(action) && !is_used(action));
        needless
            .map(|action| {
                let message = format!(
                    "allows {action} to the account, which nothing in this template needs: remove it"
                );
                finding(FindingKind::Unused, policy, index, message)
            })
            .collect()
    }

    /// Whether a key's policy delegates an action to the account's identities.
    fn hands_over(&self, attached: &[Policy], arn: &str, action: &str, context: &Keys) -> bool {
        let context = context
            .clone()
            .with("aws:SecureTransport", "true")
            .with("aws:RequestedRegion", &self.resolved.context.region);
        let request = Request {
            principal: Principal::User(format!(
                "arn:{}:iam::{}:user/deployer",
                self.resolved.context.partition, self.resolved.context.account_id
            )),
            action: action.to_owned(),
            resource: arn.to_owned(),
            context,
        };
        let may_everything = Policy {
            kind: PolicyKind::Identity,
            logical_id: String::new(),
            path: String::new(),
            statements: vec![Statement {
                resources: vec!["*".to_owned()],
                ..one("*")
            }],
        };
        evaluate(&[may_everything], attached, &request).is_allowed()
    }
}

/// Compares the IoT policies of the template with the calls of devices.
fn devices(resolved: &Resolved, policies: &Policies, declared: &[DeviceCall]) -> Vec<Finding> {
    let context = &resolved.context;
    let call = |device: &DeviceCall, thing: &str, by: &str, attached: bool| {
        let resource = device.resource.replace(THING, thing);
        let mut keys = Keys::new().with(
            "iot:Connection.Thing.IsAttached",
            if attached { "true" } else { "false" },
        );
        if attached {
            keys.set("iot:Connection.Thing.ThingName", vec![by.to_owned()]);
        }
        Request {
            principal: Principal::Certificate("certificate".to_owned()),
            action: device.action.clone(),
            resource: format!(
                "arn:{}:iot:{}:{}:{resource}",
                context.partition, context.region, context.account_id
            ),
            context: keys,
        }
    };
    let may = |policy: &Policy, request: &Request| {
        evaluate(std::slice::from_ref(policy), &[], request).is_allowed()
    };
    let mut findings = Vec::new();
    for device in declared {
        let own = call(device, "example", "example", true);
        if !policies.iot.values().any(|policy| may(policy, &own)) {
            let shown = device
                .resource
                .replace(THING, "${iot:Connection.Thing.ThingName}");
            findings.push(Finding {
                kind: FindingKind::Missing,
                logical_id: policies.iot.keys().next().cloned().unwrap_or_default(),
                message: format!(
                    "no IoT policy allows a device {} on {shown}: add it",
                    device.action
                ),
            });
        }
        for policy in policies.iot.values() {
            let strangers = [
                (
                    call(device, "other", "example", true),
                    "on what is another device's: name it by ${iot:Connection.Thing.ThingName}",
                ),
                (
                    call(device, "other", "example", false),
                    "by a certificate without Thing: ask for iot:Connection.Thing.IsAttached",
                ),
            ];
            for (request, what) in strangers {
                if may(policy, &request) {
                    findings.push(Finding {
                        kind: FindingKind::Wildcard,
                        logical_id: policy.logical_id.clone(),
                        message: format!("{}: lets {} {what}", policy.path, device.action),
                    });
                }
            }
        }
    }
    let calls: Vec<Call> = declared
        .iter()
        .map(|device| {
            let request = call(device, "example", "example", true);
            Call {
                from: String::new(),
                path: String::new(),
                caller: Caller::Service("a device".to_owned()),
                action: request.action,
                resource: request.resource,
                context: request.context,
                required: true,
            }
        })
        .collect();
    let calls: Vec<&Call> = calls.iter().collect();
    for policy in policies.iot.values() {
        for (index, statement) in policy.statements.iter().enumerate() {
            let by = policy.by(index);
            findings.extend(needless(
                resolved,
                &policy.logical_id,
                &by,
                statement,
                &calls,
            ));
        }
    }
    findings
}

/// An action that another one of the same statement covers.
fn said_twice(policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, statement) in policy.statements.iter().enumerate() {
        for (place, action) in statement.actions.iter().enumerate() {
            let other = statement.actions.iter().enumerate().find(|(other, wider)| {
                *other != place
                    && one(wider).covers_action(action)
                    // The second of two equal ones.
                    && (*other < place || !one(action).covers_action(wider))
            });
            if let Some((_, wider)) = other {
                let message = format!(
                    "{} {action}, which {wider} means already: remove it",
                    verb(statement.effect)
                );
                findings.push(finding(FindingKind::Unused, policy, index, message));
            }
        }
    }
    findings
}

fn verb(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allows",
        Effect::Deny => "denies",
    }
}
