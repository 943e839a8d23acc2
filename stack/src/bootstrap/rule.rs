//! Statements before they are written: into a template with references, or as JSON for a person.

use cfn::intrinsic::{Sub, pseudo};
use cfn::policy::{Condition, Effect, Statement};
use cfn::resources::iam;
use cfn::{Handle, List, Value};
use serde_json::{Map, Value as Json, json};

/// A statement. Its texts may hold `${Partition}`, `${Region}`, `${Account}`, `${Boundary}` (the permissions
/// boundary's ARN) and `${ServiceRole}` (the service role's).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is for: the statement's `Sid`.
    pub sid: String,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// Such as `kinesis:CreateStream`.
    pub actions: Vec<String>,
    /// ARN patterns.
    pub resources: Vec<String>,
    /// Operator, key and values; all must hold.
    pub conditions: Vec<(&'static str, &'static str, Vec<String>)>,
}

impl Rule {
    /// Allows actions on resources.
    pub(super) fn allow<A: Into<String>, R: Into<String>>(
        sid: &str,
        actions: impl IntoIterator<Item = A>,
        resources: impl IntoIterator<Item = R>,
    ) -> Rule {
        Rule {
            sid: sid.to_owned(),
            effect: Effect::Allow,
            actions: actions.into_iter().map(Into::into).collect(),
            resources: resources.into_iter().map(Into::into).collect(),
            conditions: Vec::new(),
        }
    }

    /// Denies actions on resources.
    pub(super) fn deny<A: Into<String>, R: Into<String>>(
        sid: &str,
        actions: impl IntoIterator<Item = A>,
        resources: impl IntoIterator<Item = R>,
    ) -> Rule {
        Rule {
            effect: Effect::Deny,
            ..Rule::allow(sid, actions, resources)
        }
    }

    /// Adds a condition.
    pub(super) fn when<V: Into<String>>(
        mut self,
        operator: &'static str,
        key: &'static str,
        values: impl IntoIterator<Item = V>,
    ) -> Rule {
        let values = values.into_iter().map(Into::into).collect();
        self.conditions.push((operator, key, values));
        self
    }

    /// The statement in a template that defines boundary and service role.
    pub(super) fn statement(&self, handles: &Handles) -> Statement {
        self.statement_with(Some(handles))
    }

    fn statement_with(&self, handles: Option<&Handles>) -> Statement {
        let value = |text: &String| value(handles, text);
        let resources: Vec<Value<String>> = self.resources.iter().map(value).collect();
        let mut statement = Statement {
            sid: Some(self.sid.clone()),
            effect: self.effect,
            ..Statement::allow(
                self.actions.iter().map(String::as_str),
                List::Items(resources),
            )
        };
        for (operator, key, values) in &self.conditions {
            let values = values.iter().map(value).collect();
            statement = statement.when(Condition::any_of(operator, key, values));
        }
        statement
    }

    /// The statement in the boundary itself, which refers to neither.
    pub(super) fn plain_statement(&self) -> Statement {
        self.statement_with(None)
    }

    /// The statement as JSON.
    pub(super) fn json(&self, names: &Names) -> Json {
        let texts = |texts: &[String]| -> Vec<Json> {
            texts.iter().map(|text| names.filled(text).into()).collect()
        };
        let effect = match self.effect {
            Effect::Allow => "Allow",
            Effect::Deny => "Deny",
        };
        let mut statement = json!({
            "Sid": self.sid,
            "Effect": effect,
            "Action": self.actions,
            "Resource": texts(&self.resources),
        });
        let mut conditions = Map::new();
        for (operator, key, values) in &self.conditions {
            let keys = conditions.entry(*operator).or_insert_with(|| json!({}));
            keys[*key] = texts(values).into();
        }
        if !conditions.is_empty() {
            statement["Condition"] = conditions.into();
        }
        statement
    }
}

/// What a template's rules refer to.
#[derive(Clone, Copy)]
pub(super) struct Handles {
    pub(super) boundary: Handle<iam::ManagedPolicy>,
    pub(super) service_role: Handle<iam::Role>,
}

fn value(handles: Option<&Handles>, text: &str) -> Value<String> {
    match (text, handles) {
        ("${Boundary}", Some(handles)) => return handles.boundary.reference().into(),
        ("${ServiceRole}", Some(handles)) => return handles.service_role.arn().into(),
        _ => {}
    }
    let mut sub = Sub::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, end) = after.split_once('}').unwrap_or((after, ""));
        sub = sub.text(before);
        sub = match name {
            "Partition" => sub.value(pseudo::partition()),
            "Region" => sub.value(pseudo::region()),
            "Account" => sub.value(pseudo::account_id()),
            other => sub.text(&format!("${{{other}}}")),
        };
        rest = end;
    }
    sub.text(rest).build()
}

/// What stands for the placeholders in JSON.
#[derive(Clone, Debug)]
pub struct Names {
    /// Such as `aws`.
    pub partition: String,
    /// Such as `eu-central-1`, or `*` for all.
    pub region: String,
    /// Twelve digits, or `*` where the account is not known.
    pub account: String,
    /// ARN of the permissions boundary; empty without bootstrap.
    pub boundary: String,
    /// ARN of the service role; empty without bootstrap.
    pub service_role: String,
}

impl Names {
    pub(super) fn filled(&self, text: &str) -> String {
        text.replace("${Partition}", &self.partition)
            .replace("${Region}", &self.region)
            .replace("${Account}", &self.account)
            .replace("${Boundary}", &self.boundary)
            .replace("${ServiceRole}", &self.service_role)
    }
}
