//! IAM policy documents, typed.
//!
//! What they mean is evaluated in [`crate::evaluate`]; grants beside the resources are in [`crate::grant`].
//! See "IAM JSON policy element reference" of the IAM user guide.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::value::{List, Value};

/// A policy document of the current version, `2012-10-17`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Document {
    /// The policy language's version.
    pub version: Version,
    /// What it allows and denies.
    pub statement: Vec<Statement>,
}

/// Version of the policy language; the older one lacks policy variables.
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
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// Who; only in policies of resources and in trust policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// What, such as `kinesis:PutRecord`.
    pub action: Vec<String>,
    /// On what; absent in trust policies.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub resource: List<String>,
    /// When: operator → condition key → values.
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
    /// Lets it happen, unless something denies it.
    Allow,
    /// Forbids it, whatever allows it.
    Deny,
}

/// Who a statement speaks of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Principal {
    /// An AWS service, such as `lambda.amazonaws.com`.
    Service(Value<String>),
    /// Accounts, roles and users, by ARN.
    #[serde(rename = "AWS")]
    Aws(Value<String>),
    /// An identity provider, such as an OpenID Connect provider by its ARN.
    Federated(Value<String>),
    /// Anybody at all, also the anonymous.
    #[serde(untagged)]
    Anybody(Anybody),
}

/// The principal `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Anybody {
    /// Everybody.
    #[serde(rename = "*")]
    Anybody,
}

fn is_empty(resources: &List<String>) -> bool {
    matches!(resources, List::Items(items) if items.is_empty())
}

impl Document {
    /// A document of the current version.
    pub fn new(statement: impl Into<Vec<Statement>>) -> Document {
        Document {
            version: Version::V20121017,
            statement: statement.into(),
        }
    }

    /// A role's trust policy: the service may assume it.
    ///
    /// `conditions` narrow it to the account and the resource that the service acts for, against the
    /// confused deputy, see "The confused deputy problem" of the IAM user guide.
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
    /// Such as `StringEquals`.
    pub operator: &'static str,
    /// Such as `aws:SourceAccount`.
    pub key: &'static str,
    /// What the key is compared with.
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

    /// The service acts for this account.
    pub fn source_account() -> Condition {
        Condition::string_equals("aws:SourceAccount", crate::intrinsic::pseudo::account_id())
    }
}

impl Statement {
    /// Allows actions on resources.
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

    /// Denies actions on resources.
    pub fn deny<'a>(
        actions: impl IntoIterator<Item = &'a str>,
        resources: impl Into<List<String>>,
    ) -> Statement {
        Statement {
            effect: Effect::Deny,
            ..Statement::allow(actions, resources)
        }
    }

    /// Names who it speaks of.
    #[must_use]
    pub fn by(mut self, principal: Principal) -> Statement {
        self.principal = Some(principal);
        self
    }

    /// Adds a condition; all must hold.
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
