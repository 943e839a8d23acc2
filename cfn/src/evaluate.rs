//! IAM policy evaluation within one account.
//!
//! The rules are from "Policy evaluation logic" in the IAM user guide, for requests within one account: an
//! explicit deny wins; otherwise an identity-based or a resource-based policy must allow. For a key or a
//! role, AWS always evaluates the resource's policy; an identity-based policy counts only if that policy
//! delegates to the account.
//!
//! Policies are parsed strictly: an unknown element, operator or condition key is an error with logical ID
//! and statement, so that an unsupported element never allows a request.
//!
//! A role's permissions boundary limits what its own policies and those of resources allow it. AWS lets a
//! resource's policy that names a role's *session* exceed the boundary; here it does not.
//!
//! Not supported: service control policies, session policies, ACLs, requests from other accounts.
//!
//! Layout: `policy` parses documents, `condition` and `pattern` match, `collect` gathers all policies of a
//! resolved template ([`Policies`]).

mod collect;
mod condition;
mod managed;
mod pattern;
mod policy;

use std::collections::BTreeMap;
use std::fmt;

pub(crate) use collect::DEFAULT_POLICY;
pub use collect::{ManagedPolicies, Policies, RolePolicies};
pub use condition::{Comparison, Condition, Operator, Order, Quantifier};
pub use managed::known_policies;
pub use policy::{Effect, Policy, PolicyKind, PrincipalPattern, Statement};

use policy::Match;

/// The principal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// An assumed role.
    Role {
        /// The role's ARN (`arn:aws:iam::<account>:role/<path><name>`)
        arn: String,
        /// The session's name
        session: String,
    },
    /// An IAM user, by ARN.
    User(String),
    /// An AWS service acting for itself, such as `cloudwatch.amazonaws.com`.
    Service(String),
    /// A device's certificate, by its ID; its policies are IoT policies.
    Certificate(String),
    /// An anonymous request.
    Anonymous,
}

/// A request to AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its principal.
    pub principal: Principal,
    /// Action such as `kinesis:PutRecord`; case-insensitive.
    pub action: String,
    /// The resource's ARN, or `*` for an action without resource-level permissions.
    pub resource: String,
    /// The condition keys of the request. Those of the principal (`aws:PrincipalArn`,
    /// `aws:PrincipalAccount`, `aws:PrincipalIsAWSService`, `aws:PrincipalServiceName`) are added by [`evaluate`].
    pub context: Keys,
}

/// Condition keys with their values; names are case-insensitive.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keys(BTreeMap<String, Vec<String>>);

impl Keys {
    /// Creates an empty set of keys.
    pub fn new() -> Keys {
        Keys::default()
    }

    /// Adds a key with one value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Keys {
        self.set(name, vec![value.into()]);
        self
    }

    /// Sets the values of a key; several for multivalued keys only.
    pub fn set(&mut self, name: &str, values: Vec<String>) {
        self.0.insert(name.to_ascii_lowercase(), values);
    }

    /// A key's values.
    pub fn get(&self, name: &str) -> Option<&[String]> {
        self.0.get(&name.to_ascii_lowercase()).map(Vec::as_slice)
    }

    /// All keys, in lower case, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0
            .iter()
            .map(|(name, values)| (name.as_str(), values.as_slice()))
    }
}

/// The statement that decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct By {
    /// Logical ID of the resource with the policy.
    pub logical_id: String,
    /// Path of the policy in it, such as `Properties.Policies.0.PolicyDocument`.
    pub path: String,
    /// Position of the statement in the document, from 0.
    pub statement: usize,
    /// `Sid`
    pub sid: Option<String>,
    /// Kind of the policy.
    pub kind: PolicyKind,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} statement {}",
            self.logical_id, self.path, self.statement
        )?;
        match &self.sid {
            Some(sid) => write!(f, " ({sid})"),
            None => Ok(()),
        }
    }
}

/// Result of evaluating a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, by this statement.
    Allowed(By),
    /// Denied by this statement.
    ExplicitDeny(By),
    /// No policy allows it; one of this kind should.
    ImplicitDeny(PolicyKind),
}

impl Decision {
    /// Whether the request is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }

    /// AWS's error message; `None` if the request is allowed.
    pub fn denial(&self, request: &Request) -> Option<String> {
        let because = match self {
            Decision::Allowed(_) => return None,
            Decision::ExplicitDeny(by) => {
                format!("with an explicit deny in {}", by.kind.with_article())
            }
            Decision::ImplicitDeny(kind) => {
                let kind = match kind {
                    PolicyKind::Identity => "identity-based",
                    PolicyKind::Iot => "IoT",
                    PolicyKind::Boundary => {
                        return Some(format!(
                            "User: {} is not authorized to perform: {} on resource: {} because no permissions boundary allows the {} action",
                            request.principal, request.action, request.resource, request.action
                        ));
                    }
                    PolicyKind::Resource | PolicyKind::Trust => "resource-based",
                };
                format!(
                    "because no {kind} policy allows the {} action",
                    request.action
                )
            }
        };
        Some(format!(
            "User: {} is not authorized to perform: {} on resource: {} {because}",
            request.principal, request.action, request.resource
        ))
    }
}

impl fmt::Display for Principal {
    /// Its name in AWS's errors: a role is its session's ARN.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Role { arn, session } => match assumed(arn, session) {
                Some(arn) => f.write_str(&arn),
                None => write!(f, "{arn}/{session}"),
            },
            Principal::User(arn) | Principal::Service(arn) | Principal::Certificate(arn) => {
                f.write_str(arn)
            }
            Principal::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// `arn:aws:iam::1:role/path/name` → `arn:aws:sts::1:assumed-role/name/<session>`
fn assumed(role: &str, session: &str) -> Option<String> {
    let mut parts = role.splitn(6, ':');
    let (partition, account) = (parts.nth(1)?, parts.nth(2)?);
    let name = parts.next()?.rsplit('/').next()?;
    Some(format!(
        "arn:{partition}:sts::{account}:assumed-role/{name}/{session}"
    ))
}

/// Evaluates a request.
///
/// `identity` are the policies of the principal, `resource` those of the resource (for `sts:AssumeRole` the
/// role's trust policy).
pub fn evaluate(identity: &[Policy], resource: &[Policy], request: &Request) -> Decision {
    let keys = principal_keys(request);
    let matches = |statement: &Statement| statement.matches(request, &keys);
    let all = || identity.iter().chain(resource);

    for policy in all() {
        for (index, statement) in policy.statements.iter().enumerate() {
            if statement.effect == Effect::Deny && matches(statement) != Match::No {
                return Decision::ExplicitDeny(policy.by(index));
            }
        }
    }
    let allowed = |policies: &[Policy], wanted: Match| {
        policies.iter().find_map(|policy| {
            let index = policy.statements.iter().position(|statement| {
                statement.effect == Effect::Allow && matches(statement) == wanted
            })?;
            Some(policy.by(index))
        })
    };
    if let Some(by) = allowed(resource, Match::Yes) {
        return Decision::Allowed(by);
    }
    let may_count = !needs_resource_policy(&request.action)
        || (resource.is_empty() && !request.action.eq_ignore_ascii_case("sts:AssumeRole"))
        || allowed(resource, Match::IfAccountAllows).is_some();
    match (allowed(identity, Match::Yes), &request.principal) {
        (Some(by), _) if may_count => Decision::Allowed(by),
        (_, Principal::Certificate(_)) => Decision::ImplicitDeny(PolicyKind::Iot),
        // A key's policy that delegates to the account leaves the decision to the role's policies.
        (_, Principal::Role { .. } | Principal::User(_)) if may_count => {
            Decision::ImplicitDeny(PolicyKind::Identity)
        }
        _ => Decision::ImplicitDeny(PolicyKind::Resource),
    }
}

/// Evaluates a request of a role that has a permissions boundary: as [`evaluate`], and the boundary must allow
/// it as well.
pub fn evaluate_within(
    boundary: &Policy,
    identity: &[Policy],
    resource: &[Policy],
    request: &Request,
) -> Decision {
    let keys = principal_keys(request);
    let matching = |effect: Effect| {
        boundary.statements.iter().position(|statement| {
            statement.effect == effect && statement.matches(request, &keys) != Match::No
        })
    };
    if let Some(index) = matching(Effect::Deny) {
        return Decision::ExplicitDeny(boundary.by(index));
    }
    match evaluate(identity, resource, request) {
        Decision::Allowed(_) if matching(Effect::Allow).is_none() => {
            Decision::ImplicitDeny(PolicyKind::Boundary)
        }
        decision => decision,
    }
}

/// Whether AWS always evaluates the resource's policy.
fn needs_resource_policy(action: &str) -> bool {
    let action = action.to_ascii_lowercase();
    action.starts_with("kms:") || action == "sts:assumerole"
}

/// The request's condition keys and those of its principal.
fn principal_keys(request: &Request) -> Keys {
    let mut keys = request.context.clone();
    let mut set = |name: &str, value: &str| {
        if keys.get(name).is_none() {
            keys.set(name, vec![value.to_owned()]);
        }
    };
    match &request.principal {
        Principal::Role { arn, .. } | Principal::User(arn) => {
            set("aws:PrincipalArn", arn);
            set(
                "aws:PrincipalAccount",
                arn.split(':').nth(4).unwrap_or_default(),
            );
            set("aws:PrincipalIsAWSService", "false");
        }
        Principal::Service(name) => {
            set("aws:PrincipalServiceName", name);
            set("aws:PrincipalIsAWSService", "true");
        }
        Principal::Certificate(_) | Principal::Anonymous => {
            set("aws:PrincipalIsAWSService", "false")
        }
    }
    keys
}
