//! Who may do what: IAM policy evaluation within one account.
//!
//! The rules are those of the IAM User Guide's "Policy evaluation logic" for requests within one
//! account: an explicit deny wins over everything, otherwise an identity-based or a resource-based
//! policy must allow. Where AWS asks the resource's policy always — a key's policy, a role's trust
//! policy — an identity-based policy counts only if that policy hands the decision to the account.
//!
//! Policies are read strictly: an unknown element, operator or condition key is an error that names
//! the logical ID and the statement, so that nothing is allowed because it was not understood.
//!
//! A role's permissions boundary limits what its own policies and those of resources allow it. AWS lets a
//! resource's policy that names a role's *session* reach beyond the boundary; here it does not.
//!
//! Not here: service control policies, session policies, ACLs, requests from other accounts.
//!
//! Layout: `policy` reads documents, `condition` and `pattern` match, `collect` gathers all policies
//! of a resolved template ([`Policies`]).

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

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// A role that somebody has assumed.
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
    /// Somebody without credentials.
    Anonymous,
}

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub principal: Principal,
    /// Such as `kinesis:PutRecord`; compared without regard to case.
    pub action: String,
    /// The resource's ARN, or `*` for an action without resource-level permissions.
    pub resource: String,
    /// The condition keys that the request carries. Those of the principal (`aws:PrincipalArn`,
    /// `aws:PrincipalAccount`, `aws:PrincipalIsAWSService`, `aws:PrincipalServiceName`) are added by [`evaluate`].
    pub context: Keys,
}

/// Condition keys with their values; names are compared without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keys(BTreeMap<String, Vec<String>>);

impl Keys {
    /// No keys.
    pub fn new() -> Keys {
        Keys::default()
    }

    /// With a key that has one value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Keys {
        self.set(name, vec![value.into()]);
        self
    }

    /// Sets a key's values; several only for keys that AWS calls multivalued.
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

/// Which statement decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct By {
    /// Logical ID of the resource that holds the policy.
    pub logical_id: String,
    /// Where in it, such as `Properties.Policies.0.PolicyDocument`.
    pub path: String,
    /// Position of the statement in the document, from 0.
    pub statement: usize,
    /// `Sid`
    pub sid: Option<String>,
    /// What kind of policy it is.
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

/// What the policies say to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, by this statement.
    Allowed(By),
    /// Denied by this statement, whatever else allows.
    ExplicitDeny(By),
    /// Nothing allows it; a policy of this kind should.
    ImplicitDeny(PolicyKind),
}

impl Decision {
    /// Whether the request goes through.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }

    /// The text of the error that AWS would give, or `None` when the request is allowed.
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
    /// As AWS names it in its errors: a role as its session's ARN.
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

/// Evaluates a request against the policies of who asks and of what is asked for.
///
/// `identity` are the policies attached to the principal, `resource` those attached to the resource
/// (for `sts:AssumeRole` the role's trust policy).
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
        // A key's policy that hands the decision to the account leaves it to the role's own.
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

/// Whether AWS always asks the resource's own policy, too.
fn needs_resource_policy(action: &str) -> bool {
    let action = action.to_ascii_lowercase();
    action.starts_with("kms:") || action == "sts:assumerole"
}

/// The request's keys and those that follow from its principal.
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
