//! Calls to AWS that the resources' settings imply, and a check that the policies allow exactly these.
//!
//! A topic rule with a Kinesis action calls `kinesis:PutRecord` on the stream as its role; an event source
//! mapping reads its stream as its function's role. [`calls`] lists the calls of a resolved template,
//! [`check`] compares them with the policies, and the local run evaluates them before every hop.
//!
//! Not included: the programs' own calls (except `elasticache:Connect`, which follows from the cache's
//! users), and the calls that deploy the template.
//!
//! Layout: `calls` derives the calls, one function per resource type; `admission` checks the principals in
//! the policies of resources, roles and devices.

mod admission;
mod calls;

use std::collections::BTreeSet;
use std::fmt;

use crate::evaluate::{By, Effect, Keys, ManagedPolicies, Policies, Statement};
use crate::resolve::{Problem, Resolved};

/// A call to AWS that a resource's settings imply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Logical ID of the resource whose settings imply it.
    pub from: String,
    /// Path of the setting, such as `TopicRulePayload.Actions.0.Kinesis`.
    pub path: String,
    /// The principal.
    pub caller: Caller,
    /// Action such as `kinesis:PutRecord`.
    pub action: String,
    /// ARN of the resource; `*` if the action has no resource-level permission.
    /// Parts that are known at run time only, such as an object's key, are examples.
    pub resource: String,
    /// Condition keys of the call.
    pub context: Keys,
    /// Whether the integration fails without it; otherwise granting it is optional.
    pub required: bool,
}

/// The principal of a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A role that a service assumes.
    Role {
        /// Logical ID, or ARN or name of a role that is not in this template.
        role: String,
        /// The service that assumes it, such as `iot.amazonaws.com`.
        service: String,
        /// Condition keys when the service assumes the role.
        trust: Keys,
    },
    /// A service itself, allowed by the resource's policy.
    Service(String),
}

impl Call {
    /// Evaluates the policies: the role's trust policy, then the call.
    ///
    /// `session` is the role's session name in the error.
    ///
    /// # Errors
    /// AWS's error message.
    pub fn decide(&self, policies: &Policies, session: &str) -> Result<By, String> {
        self.decide_on(policies, session, &self.resource)
    }

    /// Like [`decide`](Self::decide), for the actual resource, such as the written object.
    ///
    /// # Errors
    /// AWS's error message.
    pub fn decide_on(
        &self,
        policies: &Policies,
        session: &str,
        resource: &str,
    ) -> Result<By, String> {
        use crate::evaluate::Decision;
        let context = self.context.clone();
        let (request, decision) = match &self.caller {
            Caller::Role {
                role,
                service,
                trust,
            } => {
                let (request, decision) = policies.may_assume(role, service, trust.clone());
                if let Some(denial) = decision.denial(&request) {
                    return Err(denial);
                }
                policies.role_may(role, session, &self.action, resource, context)
            }
            Caller::Service(service) => {
                policies.service_may(service, &self.action, resource, context)
            }
        };
        match decision {
            Decision::Allowed(by) => Ok(by),
            _ => Err(decision.denial(&request).unwrap_or_default()),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Role { role, .. } => write!(f, "role {role}"),
            Caller::Service(service) => f.write_str(service),
        }
    }
}

/// All calls that a template's settings imply, in the template's order.
pub fn calls(resolved: &Resolved) -> Vec<Call> {
    calls::Calls::of(resolved).calls
}

/// A problem with permissions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Kind of the problem.
    pub kind: FindingKind,
    /// Logical ID of the resource to change.
    pub logical_id: String,
    /// The problem and its fix.
    pub message: String,
}

/// Kinds of a [`Finding`], the most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// A policy is not supported; nothing else was checked.
    Unreadable,
    /// The calls of a setting are unknown.
    Unknown,
    /// A role does not trust the service that uses it.
    Untrusted,
    /// A call is not allowed.
    Missing,
    /// A grant is wider than the calls need.
    Wildcard,
    /// No call needs a grant.
    Unused,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.logical_id, self.message)
    }
}

/// Actions that administer a key: "Allows key administrators to administer
/// the KMS key" of the AWS KMS developer guide.
pub const KEY_ADMINISTRATION: [&str; 17] = [
    "kms:CancelKeyDeletion",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateKeyDescription",
];

/// Calls that no setting of the template implies: of devices, and because of files outside of the template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Calls of roles of the template.
    pub roles: Vec<RoleCall>,
    /// Calls of devices. If it is empty, IoT policies are not checked.
    pub devices: Vec<DeviceCall>,
}

/// A call that a service makes as a role of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleCall {
    /// Logical ID of the resource that needs it.
    pub from: String,
    /// Reason, for the message.
    pub because: String,
    /// Logical ID of the role.
    pub role: String,
    /// The service, such as `elasticbeanstalk.amazonaws.com`.
    pub service: String,
    /// Condition keys that the service sends when it assumes the role.
    pub trust: Keys,
    /// Action such as `secretsmanager:GetSecretValue`.
    pub action: String,
    /// Its resource in account and region, such as `secret:name`.
    pub resource: String,
}

/// A call of a device whose certificate is attached to a Thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCall {
    /// Action such as `iot:Publish`.
    pub action: String,
    /// Its resource in account and region, such as `topic/sensors/{thing}`; `{thing}` is the Thing's name.
    pub resource: String,
}

/// A setting that needs an AWS-managed policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) is_on: bool,
}

/// Compares a template's policies with the calls that it implies, and with declared ones.
///
/// The findings are sorted by kind, then by logical ID.
pub fn check(resolved: &Resolved, managed: &ManagedPolicies, declared: &Declared) -> Vec<Finding> {
    let policies = match Policies::collect(resolved, managed) {
        Ok(policies) => policies,
        Err(problems) => return problems.into_iter().map(Finding::unreadable).collect(),
    };
    let mut all = calls::Calls::of(resolved);
    for call in &declared.roles {
        all.declared(call);
    }
    let calls::Calls {
        calls,
        unknown,
        open_roles,
        account_uses,
        ..
    } = all;
    let mut findings: Vec<Finding> = unknown
        .into_iter()
        .map(|problem| Finding {
            kind: FindingKind::Unknown,
            ..Finding::unreadable(problem)
        })
        .collect();
    for call in &calls {
        findings.extend(missing(resolved, &policies, call));
    }
    for (role, arn, setting) in &open_roles.needed {
        findings.extend(managed_policy(resolved, role, arn, *setting));
    }
    for role in policies.roles.values() {
        let own: Vec<&Call> = calls
            .iter()
            .filter(|call| matches!(&call.caller, Caller::Role { role: id, .. } if *id == role.logical_id))
            .collect();
        let is_open = open_roles.roles.contains(&role.logical_id);
        for policy in &role.identity {
            if is_open && admission::is_managed_by_aws(policy) {
                continue;
            }
            for (index, statement) in policy.statements.iter().enumerate() {
                findings.extend(needless(
                    resolved,
                    &role.logical_id,
                    &policy.by(index),
                    statement,
                    &own,
                ));
            }
        }
    }
    findings.extend(admission::check(
        resolved,
        &policies,
        &calls,
        &account_uses,
        declared,
    ));
    findings.sort();
    findings.dedup();
    findings
}

/// Compares an AWS-managed policy of a role with the setting that needs it.
fn managed_policy(
    resolved: &Resolved,
    role: &str,
    name: &str,
    setting: Setting,
) -> Option<Finding> {
    let holds = resolved
        .resource(role)?
        .texts("/ManagedPolicyArns")
        .iter()
        .any(|arn| arn.ends_with(name));
    let (kind, message) = match (setting.is_on, holds) {
        (true, false) => (
            FindingKind::Missing,
            format!(
                "{} needs the managed policy {name}: add it to ManagedPolicyArns",
                setting.name
            ),
        ),
        (false, true) => (
            FindingKind::Unused,
            format!(
                "holds the managed policy {name}, which only {} needs: remove it",
                setting.name
            ),
        ),
        _ => return None,
    };
    Some(Finding {
        kind,
        logical_id: role.to_owned(),
        message,
    })
}

impl Finding {
    fn unreadable(problem: Problem) -> Finding {
        let message = match problem.path.as_str() {
            "" => problem.message,
            path => format!("{path}: {}", problem.message),
        };
        Finding {
            kind: FindingKind::Unreadable,
            logical_id: problem.logical_id,
            message,
        }
    }
}

fn missing(resolved: &Resolved, policies: &Policies, call: &Call) -> Option<Finding> {
    if !call.required {
        return None;
    }
    let Call {
        from,
        path,
        action,
        resource,
        ..
    } = call;
    let finding = |kind, logical_id: &str, message| {
        Some(Finding {
            kind,
            logical_id: logical_id.to_owned(),
            message,
        })
    };
    if let Caller::Role {
        role,
        service,
        trust,
    } = &call.caller
    {
        if policies.role(role).is_none() {
            return finding(
                FindingKind::Unknown,
                from,
                format!(
                    "{path}: role `{role}` is not in this template, so its permissions are unknown"
                ),
            );
        }
        let (_, decision) = policies.may_assume(role, service, trust.clone());
        if !decision.is_allowed() {
            return finding(
                FindingKind::Untrusted,
                role,
                format!(
                    "cannot be assumed by {service} for {from} ({path}): its AssumeRolePolicyDocument must allow sts:AssumeRole to it with {}",
                    keys(trust)
                ),
            );
        }
    }
    let denial = call.decide(policies, from).err()?;
    let (holder, fix) = match &call.caller {
        Caller::Role { role, .. } => (
            role.clone(),
            format!("add {action} on {resource} to a policy of {role}"),
        ),
        Caller::Service(service) => {
            let target = resolved
                .resources
                .values()
                .find(|it| it.arn() == Some(resource))
                .map_or(from.clone(), |it| it.logical_id.clone());
            let fix = format!("allow {action} to {service} in the policy of {target}");
            (target, fix)
        }
    };
    finding(
        FindingKind::Missing,
        &holder,
        format!("{denial}; {from} needs it ({path}): {fix}"),
    )
}

fn keys(keys: &Keys) -> String {
    let texts: Vec<String> = keys
        .iter()
        .map(|(name, values)| format!("{name} = {}", values.join(", ")))
        .collect();
    texts.join(" and ")
}

/// Parts of a statement that no call needs, or that could be narrower.
fn needless(
    resolved: &Resolved,
    role: &str,
    by: &By,
    statement: &Statement,
    calls: &[&Call],
) -> Vec<Finding> {
    let place = if by.logical_id == role {
        format!("{} statement {}", by.path, by.statement)
    } else {
        by.to_string()
    };
    let finding = |kind, message| Finding {
        kind,
        logical_id: role.to_owned(),
        message: format!("{place}: {message}"),
    };
    if statement.effect == Effect::Deny {
        return Vec::new();
    }
    if statement.not_actions || statement.not_resources {
        let element = if statement.not_actions {
            "NotAction"
        } else {
            "NotResource"
        };
        return vec![finding(
            FindingKind::Wildcard,
            format!(
                "{element} grants an open-ended set: list the needed ones in {}",
                element.trim_start_matches("Not")
            ),
        )];
    }
    let covered: Vec<&&Call> = calls
        .iter()
        .filter(|call| {
            statement.covers_action(&call.action)
                && statement.covers_resource(&call.resource, &call.context)
        })
        .collect();
    let mut findings = Vec::new();
    for action in &statement.actions {
        let used: BTreeSet<&str> = covered
            .iter()
            .filter(|call| one(action).covers_action(&call.action))
            .map(|call| call.action.as_str())
            .collect();
        if used.is_empty() {
            findings.push(finding(
                FindingKind::Unused,
                format!(
                    "allows {action} on {}, which nothing in this template needs: remove it",
                    statement.resources.join(", ")
                ),
            ));
        } else if action.contains(['*', '?']) {
            let names: Vec<&str> = used.into_iter().collect();
            findings.push(finding(
                FindingKind::Wildcard,
                format!("allows {action}: name what is needed, {}", names.join(", ")),
            ));
        }
    }
    for resource in &statement.resources {
        let only = Statement {
            resources: vec![resource.clone()],
            ..statement.clone()
        };
        let used: Vec<&&&Call> = covered
            .iter()
            .filter(|call| only.covers_resource(&call.resource, &call.context))
            .collect();
        if used.is_empty() && !covered.is_empty() {
            findings.push(finding(
                FindingKind::Unused,
                format!("means {resource}, which nothing in this template needs: remove it"),
            ));
        }
        let reach = resource.find(['*', '?']).unwrap_or(resource.len());
        let further: BTreeSet<&str> = used
            .iter()
            .filter_map(|call| subject(resolved, &call.resource))
            .filter(|subject| resource != "*" && reach < subject.len())
            .collect();
        if !further.is_empty() {
            let names: Vec<&str> = further.into_iter().collect();
            findings.push(finding(
                FindingKind::Wildcard,
                format!(
                    "means {resource}: name what is needed, {}",
                    names.join(", ")
                ),
            ));
        }
        let narrower: BTreeSet<&str> = used
            .iter()
            .filter(|call| call.resource != "*")
            .map(|call| call.resource.as_str())
            .collect();
        if resource == "*" && !narrower.is_empty() {
            let names: Vec<&str> = narrower.into_iter().collect();
            findings.push(finding(
                FindingKind::Wildcard,
                format!(
                    "means every resource: name what is needed, {}",
                    names.join(", ")
                ),
            ));
        }
    }
    findings
}

/// ARN of the template's resource that is, or contains, a call's resource: a bucket for its objects, a log
/// group for its streams. A Beanstalk environment's name depends on its role.
fn subject<'a>(resolved: &'a Resolved, resource: &str) -> Option<&'a str> {
    let arns = resolved.resources.values().filter_map(|it| it.arn());
    arns.map(|arn| arn.strip_suffix(":*").unwrap_or(arn))
        .filter(|arn| !arn.contains(":elasticbeanstalk:"))
        .filter(|arn| {
            let rest = resource.strip_prefix(arn);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
        })
        .max_by_key(|arn| arn.len())
}

/// A statement with one action, to test what it covers.
fn one(action: &str) -> Statement {
    Statement {
        sid: None,
        effect: Effect::Allow,
        principals: Vec::new(),
        actions: vec![action.to_owned()],
        not_actions: false,
        resources: Vec::new(),
        not_resources: false,
        conditions: Vec::new(),
        variables: true,
    }
}
