//! Policy documents as data (IAM User Guide: "IAM JSON policy reference").

use serde_json::{Map, Value as Json};

use super::condition::{Comparison, Condition, Operator, Quantifier};
use super::pattern::Pattern;
use super::{By, Keys, Principal, Request};
use crate::resolve::{Problem, text};

/// Kind of a policy, by its attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyKind {
    /// Attached to a principal; has no `Principal`.
    Identity,
    /// Attached to a resource; has a `Principal`.
    Resource,
    /// Attached to a role: its trust policy.
    Trust,
    /// Attached to a device's certificate.
    Iot,
    /// To a role as its permissions boundary: it limits and grants nothing.
    Boundary,
}

impl PolicyKind {
    pub(super) fn with_article(self) -> &'static str {
        match self {
            PolicyKind::Identity => "an identity-based policy",
            PolicyKind::Resource => "a resource-based policy",
            PolicyKind::Trust => "a role trust policy",
            PolicyKind::Iot => "an IoT policy",
            PolicyKind::Boundary => "a permissions boundary",
        }
    }
}

/// A policy document and its location.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its kind.
    pub kind: PolicyKind,
    /// Logical ID of the resource with it.
    pub logical_id: String,
    /// Path in the resource, such as `Properties.Policies.0.PolicyDocument`.
    pub path: String,
    /// Its statements.
    pub statements: Vec<Statement>,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the element's own words")]
pub enum Effect {
    Allow,
    Deny,
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// `Sid`
    pub sid: Option<String>,
    /// `Effect`
    pub effect: Effect,
    /// `Principal`; empty if the policy's kind has none.
    pub principals: Vec<PrincipalPattern>,
    /// `Action` or `NotAction`, as written
    pub actions: Vec<String>,
    /// Whether `action` is `NotAction`.
    pub not_actions: bool,
    /// `Resource` or `NotResource`, as written; empty in a trust policy, whose resource is the role.
    pub resources: Vec<String>,
    /// Whether `resource` is `NotResource`.
    pub not_resources: bool,
    /// `Condition`: all must be true.
    pub conditions: Vec<Condition>,
    /// Whether `${…}` is a variable: false in policy language 2008-10-17.
    pub variables: bool,
}

/// An entry of `Principal`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PrincipalPattern {
    /// `*`: everyone, also without credentials
    Everyone,
    /// An account, by ID or as `arn:aws:iam::<account>:root`: delegates to its identity policies.
    Account(String),
    /// A role, user or session, by ARN
    Arn(String),
    /// A service, by name
    Service(String),
    /// An identity provider, by name or ARN
    Federated(String),
}

/// Match of a statement and a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    No,
    Yes,
    /// Its principal is the account: an identity-based policy must allow the request, too.
    IfAccountAllows,
}

impl Policy {
    /// Parses a policy document.
    ///
    /// # Errors
    /// All unknown elements, operators and condition keys, with their statements.
    pub fn parse(
        kind: PolicyKind,
        logical_id: &str,
        path: &str,
        document: &Json,
    ) -> Result<Policy, Vec<Problem>> {
        let mut reader = Reader {
            kind,
            logical_id,
            problems: Vec::new(),
        };
        let statements = reader.document(path, document);
        if reader.problems.is_empty() {
            let (logical_id, path) = (logical_id.to_owned(), path.to_owned());
            Ok(Policy {
                kind,
                logical_id,
                path,
                statements,
            })
        } else {
            Err(reader.problems)
        }
    }

    /// The source of one of its statements.
    pub fn by(&self, statement: usize) -> By {
        By {
            logical_id: self.logical_id.clone(),
            path: self.path.clone(),
            statement,
            sid: self.statements.get(statement).and_then(|it| it.sid.clone()),
            kind: self.kind,
        }
    }
}

impl Statement {
    pub(super) fn matches(&self, request: &Request, keys: &Keys) -> Match {
        let principal = self.principal(&request.principal);
        let rest = self.covers_action(&request.action)
            && self.covers_resource(&request.resource, keys)
            && self
                .conditions
                .iter()
                .all(|it| it.holds(keys, self.variables));
        if rest { principal } else { Match::No }
    }

    /// Whether the statement applies to an action.
    pub fn covers_action(&self, action: &str) -> bool {
        self.action_pattern(action).is_some() != self.not_actions
    }

    /// The entry of `Action` (or `NotAction`) that an action matches.
    pub fn action_pattern(&self, action: &str) -> Option<&str> {
        let matches = |pattern: &&String| {
            Pattern::parse(pattern, None).is_some_and(|it| it.matches_any_case(action))
        };
        self.actions.iter().find(matches).map(String::as_str)
    }

    /// Whether the statement applies to a resource.
    pub fn covers_resource(&self, resource: &str, keys: &Keys) -> bool {
        if self.resources.is_empty() {
            return true;
        }
        let keys = self.variables.then_some(keys);
        let any = self.resources.iter().any(|pattern| {
            Pattern::parse(pattern, keys).is_some_and(|it| it.matches_arn(resource))
        });
        any != self.not_resources
    }

    fn principal(&self, principal: &Principal) -> Match {
        if self.principals.is_empty() {
            // The principal of an identity-based policy.
            return Match::Yes;
        }
        let all = self
            .principals
            .iter()
            .map(|pattern| pattern.matches(principal));
        all.max_by_key(|it| match it {
            Match::No => 0,
            Match::IfAccountAllows => 1,
            Match::Yes => 2,
        })
        .unwrap_or(Match::No)
    }
}

impl PrincipalPattern {
    fn matches(&self, principal: &Principal) -> Match {
        let yes = match (self, principal) {
            (PrincipalPattern::Everyone, _) => true,
            (PrincipalPattern::Service(pattern), Principal::Service(name)) => pattern == name,
            (
                PrincipalPattern::Account(account),
                Principal::Role { arn, .. } | Principal::User(arn),
            ) => {
                return match arn.split(':').nth(4) == Some(account) {
                    true => Match::IfAccountAllows,
                    false => Match::No,
                };
            }
            (PrincipalPattern::Arn(pattern), Principal::Role { arn, .. }) => {
                pattern == arn || *pattern == principal.to_string()
            }
            (PrincipalPattern::Arn(pattern), Principal::User(arn)) => pattern == arn,
            _ => false,
        };
        if yes { Match::Yes } else { Match::No }
    }
}

struct Reader<'a> {
    kind: PolicyKind,
    logical_id: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems
            .push(Problem::at(self.logical_id, path, message));
    }

    fn document(&mut self, path: &str, document: &Json) -> Vec<Statement> {
        let Some(members) = document.as_object() else {
            self.problem(path, "a policy document must be an object");
            return Vec::new();
        };
        for key in members.keys() {
            if !matches!(key.as_str(), "Version" | "Id" | "Statement") {
                self.problem(path, format!("a policy document has no element `{key}`"));
            }
        }
        let variables = match members.get("Version").map(|it| it.as_str()) {
            Some(Some("2012-10-17")) => true,
            Some(Some("2008-10-17")) | None => false,
            Some(_) => {
                self.problem(path, "Version must be \"2012-10-17\"");
                true
            }
        };
        match members.get("Statement") {
            Some(Json::Array(items)) => items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| {
                    self.statement(&format!("{path}.Statement.{index}"), item, variables)
                })
                .collect(),
            Some(single @ Json::Object(_)) => self
                .statement(&format!("{path}.Statement"), single, variables)
                .into_iter()
                .collect(),
            _ => {
                self.problem(path, "a policy document needs Statement");
                Vec::new()
            }
        }
    }

    fn statement(&mut self, path: &str, statement: &Json, variables: bool) -> Option<Statement> {
        let Some(members) = statement.as_object() else {
            self.problem(path, "a statement must be an object");
            return None;
        };
        let sid = members.get("Sid").and_then(Json::as_str).map(str::to_owned);
        let path = match &sid {
            Some(sid) => format!("{path} ({sid})"),
            None => path.to_owned(),
        };
        let path = path.as_str();
        for key in members.keys() {
            const ELEMENTS: &[&str] = &[
                "Sid",
                "Effect",
                "Principal",
                "Action",
                "NotAction",
                "Resource",
                "NotResource",
                "Condition",
            ];
            if !ELEMENTS.contains(&key.as_str()) {
                self.problem(
                    path,
                    format!("element `{key}` is not supported in a statement"),
                );
            }
        }
        let effect = match members.get("Effect").and_then(Json::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => {
                self.problem(path, "Effect must be \"Allow\" or \"Deny\"");
                return None;
            }
        };
        let (actions, not_actions) = self.either(path, members, "Action", "NotAction", true);
        for action in &actions {
            let shape = |action: &str| {
                let (service, name) = action.split_once(':')?;
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
                let wild = |c: char| c.is_ascii_alphanumeric() || c == '*' || c == '?';
                (!service.is_empty()
                    && service.chars().all(plain)
                    && !name.is_empty()
                    && name.chars().all(wild))
                .then_some(())
            };
            if action != "*" && shape(action).is_none() {
                self.problem(
                    path,
                    format!("`{action}` is no action such as kinesis:PutRecord"),
                );
            }
        }
        let needs_resource = self.kind != PolicyKind::Trust;
        let (resources, not_resources) =
            self.either(path, members, "Resource", "NotResource", needs_resource);
        for resource in &resources {
            if resource != "*" && !resource.starts_with("arn:") {
                self.problem(path, format!("`{resource}` is no ARN and not *"));
            }
        }
        let principals = self.principals(path, members.get("Principal"));
        let conditions = self.conditions(path, members.get("Condition"), effect);
        Some(Statement {
            sid,
            effect,
            principals,
            actions,
            not_actions,
            resources,
            not_resources,
            conditions,
            variables,
        })
    }

    /// The texts of exactly one of two elements, and whether it is the second.
    fn either(
        &mut self,
        path: &str,
        members: &Map<String, Json>,
        one: &str,
        other: &str,
        required: bool,
    ) -> (Vec<String>, bool) {
        let (value, negated) = match (members.get(one), members.get(other)) {
            (Some(value), None) => (value, false),
            (None, Some(value)) => (value, true),
            (None, None) if !required => return (Vec::new(), false),
            _ => {
                self.problem(path, format!("needs either {one} or {other}"));
                return (Vec::new(), false);
            }
        };
        match texts(value) {
            Some(texts) if !texts.is_empty() => (texts, negated),
            _ => {
                self.problem(path, format!("{one} must be a text or a list of texts"));
                (Vec::new(), negated)
            }
        }
    }

    fn principals(&mut self, path: &str, principal: Option<&Json>) -> Vec<PrincipalPattern> {
        let takes = matches!(self.kind, PolicyKind::Resource | PolicyKind::Trust);
        let principal = match (principal, takes) {
            (Some(principal), true) => principal,
            (None, false) => return Vec::new(),
            (Some(_), false) => {
                self.problem(
                    path,
                    format!("{} has no Principal", self.kind.with_article()),
                );
                return Vec::new();
            }
            (None, true) => {
                self.problem(
                    path,
                    format!("{} needs Principal", self.kind.with_article()),
                );
                return Vec::new();
            }
        };
        if principal == "*" {
            return vec![PrincipalPattern::Everyone];
        }
        let Some(kinds) = principal.as_object().filter(|it| !it.is_empty()) else {
            self.problem(
                path,
                "Principal must be \"*\" or an object such as {\"Service\": …}",
            );
            return Vec::new();
        };
        let mut patterns = Vec::new();
        for (kind, values) in kinds {
            let Some(values) = texts(values) else {
                self.problem(
                    path,
                    format!("Principal.{kind} must be a text or a list of texts"),
                );
                continue;
            };
            for value in values {
                match kind.as_str() {
                    "AWS" => patterns.push(PrincipalPattern::aws(&value)),
                    "Service" => patterns.push(PrincipalPattern::Service(value)),
                    "Federated" => patterns.push(PrincipalPattern::Federated(value)),
                    _ => self.problem(path, format!("Principal.{kind} is not supported")),
                }
            }
        }
        patterns
    }

    fn conditions(
        &mut self,
        path: &str,
        condition: Option<&Json>,
        effect: Effect,
    ) -> Vec<Condition> {
        let Some(condition) = condition else {
            return Vec::new();
        };
        let Some(operators) = condition.as_object() else {
            self.problem(path, "Condition must be an object of operators");
            return Vec::new();
        };
        let mut conditions = Vec::new();
        for (written, keys) in operators {
            let (quantifier, name) = match written.split_once(':') {
                Some(("ForAllValues", name)) => (Some(Quantifier::All), name),
                Some(("ForAnyValue", name)) => (Some(Quantifier::Any), name),
                _ => (None, written.as_str()),
            };
            let (name, if_exists) = match name.strip_suffix("IfExists") {
                Some(name) => (name, true),
                None => (name, false),
            };
            let Some(operator) = Operator::parse(name) else {
                self.problem(
                    path,
                    format!("condition operator `{written}` is not supported"),
                );
                continue;
            };
            let Some(keys) = keys.as_object() else {
                self.problem(
                    path,
                    format!("Condition.{written} must be an object of keys"),
                );
                continue;
            };
            for (key, values) in keys {
                let Some(values) = texts(values) else {
                    self.problem(path, format!("Condition.{written}.{key} must hold texts"));
                    continue;
                };
                let condition = Condition {
                    quantifier,
                    operator,
                    if_exists,
                    key: key.clone(),
                    values,
                };
                if let Some(message) = condition.unsupported(effect) {
                    self.problem(path, message);
                }
                self.values(path, written, &condition);
                conditions.push(condition);
            }
        }
        conditions
    }

    fn values(&mut self, path: &str, written: &str, condition: &Condition) {
        let accepts = |value: &str| match condition.operator {
            Operator::Null | Operator::Bool => {
                value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
            }
            Operator::Compare {
                kind: Comparison::Text,
                ..
            } => true,
            Operator::Compare { kind, .. } => kind.accepts(value),
        };
        for value in &condition.values {
            if !accepts(value) {
                let key = &condition.key;
                self.problem(
                    path,
                    format!("{written} cannot compare {key} with `{value}`"),
                );
            }
        }
    }
}

impl PrincipalPattern {
    /// Parses an entry of `Principal.AWS`.
    pub(super) fn aws(value: &str) -> PrincipalPattern {
        if value == "*" {
            return PrincipalPattern::Everyone;
        }
        if !value.starts_with("arn:") {
            return PrincipalPattern::Account(value.to_owned());
        }
        match value
            .strip_suffix(":root")
            .and_then(|arn| arn.rsplit(':').next())
        {
            Some(account) => PrincipalPattern::Account(account.to_owned()),
            None => PrincipalPattern::Arn(value.to_owned()),
        }
    }
}

fn texts(value: &Json) -> Option<Vec<String>> {
    match value {
        Json::Array(items) => items.iter().map(text).collect(),
        single => text(single).map(|text| vec![text]),
    }
}
