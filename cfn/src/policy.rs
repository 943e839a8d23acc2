//! Typed IAM policy documents.
//!
//! [`crate::evaluate`] evaluates them; [`crate::grant`] has grants on resources.
//! See "IAM JSON policy element reference" in the IAM user guide.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::value::{List, Value};

/// A policy document of the current version, `2012-10-17`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Document {
    /// The policy language's version.
    pub version: Version,
    /// Its statements.
    pub statement: Vec<Statement>,
}

/// Version of the policy language; the older one has no policy variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// The current one.
    #[serde(rename = "2012-10-17")]
    V20121017,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Statement {
    /// `Sid`: a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// `Effect`
    pub effect: Effect,
    /// `Principal`; only in resource policies and trust policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// `Action`, such as `kinesis:PutRecord`.
    pub action: Vec<String>,
    /// `Resource`; absent in trust policies.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub resource: List<String>,
    /// `Condition`: operator → condition key → values.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub condition: IndexMap<String, IndexMap<String, Values>>,
}

/// What a condition key is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// One value.
    One(Value<String>),
    /// Several, of which one must match.
    Several(Vec<Value<String>>),
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Allows the request, unless another statement denies it.
    Allow,
    /// Denies the request, even if another statement allows it.
    Deny,
}

/// Principals of a statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Principal {
    /// An AWS service, such as `lambda.amazonaws.com`.
    Service(Value<String>),
    /// Accounts, roles and users, by ARN.
    #[serde(rename = "AWS")]
    Aws(Value<String>),
    /// An identity provider, such as an OpenID Connect provider by its ARN.
    Federated(Value<String>),
    /// Everyone, also without credentials.
    #[serde(untagged)]
    Anybody(Anybody),
}

/// The principal `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Anybody {
    /// `*`
    #[serde(rename = "*")]
    Anybody,
}

fn is_empty(resources: &List<String>) -> bool {
    matches!(resources, List::Items(items) if items.is_empty())
}

impl Document {
    /// Creates a document of the current version.
    pub fn new(statement: impl Into<Vec<Statement>>) -> Document {
        Document {
            version: Version::V20121017,
            statement: statement.into(),
        }
    }

    /// Creates a role's trust policy for a service.
    ///
    /// `conditions` limit it to the account and the resource for which the service acts, see "The confused
    /// deputy problem" in the IAM user guide.
    pub fn trust(service: &str, conditions: &[Condition]) -> Document {
        let mut statement = Statement::allow(["sts:AssumeRole"], List::default());
        statement.principal = Some(Principal::Service(service.into()));
        for condition in conditions {
            statement = statement.when(condition.clone());
        }
        Document::new([statement])
    }
}

/// One condition: an operator, a key and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Operator such as `StringEquals`.
    pub operator: &'static str,
    /// Condition key such as `aws:SourceAccount`.
    pub key: &'static str,
    /// The value to compare with.
    pub value: Values,
}

impl Condition {
    /// `StringEquals`
    pub fn string_equals(key: &'static str, value: impl Into<Value<String>>) -> Condition {
        Condition {
            operator: "StringEquals",
            key,
            value: Values::One(value.into()),
        }
    }

    /// `ArnLike`
    pub fn arn_like(key: &'static str, value: impl Into<Value<String>>) -> Condition {
        Condition {
            operator: "ArnLike",
            key,
            value: Values::One(value.into()),
        }
    }

    /// `ArnEquals`
    pub fn arn_equals(key: &'static str, value: impl Into<Value<String>>) -> Condition {
        Condition {
            operator: "ArnEquals",
            key,
            value: Values::One(value.into()),
        }
    }

    /// `Bool`
    pub fn bool(key: &'static str, value: bool) -> Condition {
        Condition {
            operator: "Bool",
            key,
            value: Values::One(if value { "true" } else { "false" }.into()),
        }
    }

    /// An operator with several values, of which one must match.
    pub fn any_of(
        operator: &'static str,
        key: &'static str,
        values: Vec<Value<String>>,
    ) -> Condition {
        Condition {
            operator,
            key,
            value: Values::Several(values),
        }
    }

    /// The condition that the service acts for this account.
    pub fn source_account() -> Condition {
        Condition::string_equals("aws:SourceAccount", crate::intrinsic::pseudo::account_id())
    }
}

impl Statement {
    /// Creates a statement that allows actions on resources.
    pub fn allow<'a>(
        actions: impl IntoIterator<Item = &'a str>,
        resources: impl Into<List<String>>,
    ) -> Statement {
        Statement {
            sid: None,
            effect: Effect::Allow,
            principal: None,
            action: actions.into_iter().map(str::to_owned).collect(),
            resource: resources.into(),
            condition: IndexMap::new(),
        }
    }

    /// Creates a statement that denies actions on resources.
    pub fn deny<'a>(
        actions: impl IntoIterator<Item = &'a str>,
        resources: impl Into<List<String>>,
    ) -> Statement {
        Statement {
            effect: Effect::Deny,
            ..Statement::allow(actions, resources)
        }
    }

    /// Sets the principals.
    #[must_use]
    pub fn by(mut self, principal: Principal) -> Statement {
        self.principal = Some(principal);
        self
    }

    /// Adds a condition; all must be true.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Statement {
        self.condition
            .entry(condition.operator.to_owned())
            .or_default()
            .insert(condition.key.to_owned(), condition.value);
        self
    }
}

crate::value::literals!(Document);
