//! Checks of a template before it is deployed: references, limits, and the schemas' constraints on literals.
//!
//! They report all problems together, of any [`Document`], whether or not this crate wrote it.
//! Limits are from "Understand CloudFormation quotas" in the CloudFormation user guide.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fancy_regex::Regex;
use serde_json::Value as Json;

use crate::document::Document;
use crate::problem::Problem;
use crate::resources;
use crate::shape::{Object, ResourceShape, Shape};

/// Largest template in S3, in bytes.
const MAX_TEMPLATE_BYTES: usize = 1024 * 1024;
/// Most resources, parameters, mappings and outputs of a template.
const MAX_RESOURCES: usize = 500;
const MAX_PARAMETERS: usize = 200;
const MAX_MAPPINGS: usize = 200;
const MAX_OUTPUTS: usize = 200;
/// Longest description of a template, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 1024;
/// Longest logical ID, in characters.
const MAX_NAME_CHARACTERS: usize = 255;

/// Pseudo parameters, which `Ref` knows without a declaration.
const PSEUDO: &[&str] = &[
    "AWS::AccountId",
    "AWS::NoValue",
    "AWS::NotificationARNs",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
];

/// All problems of a template of `bytes` bytes.
pub fn document(document: &Document, bytes: usize) -> Vec<Problem> {
    let mut check = Check {
        document,
        problems: Vec::new(),
        patterns: HashMap::new(),
        dependencies: BTreeMap::new(),
    };
    check.limits(bytes);
    check.names();
    for (name, condition) in &document.conditions {
        check.references(name, &format!("Conditions.{name}"), condition);
    }
    for (id, resource) in &document.resources {
        check.resource(id, resource);
    }
    for (name, output) in &document.outputs {
        let location = format!("Outputs.{name}");
        check.references("", &location, &output.value);
        if let Some(export) = &output.export {
            check.references("", &format!("{location}.Export"), &export.name);
        }
        check.condition(&location, output.condition.as_deref());
    }
    check.cycles();
    check.problems
}

struct Check<'a> {
    document: &'a Document,
    problems: Vec<Problem>,
    /// Compiled patterns, each once and only if a literal needs it.
    patterns: HashMap<&'static str, Option<Regex>>,
    /// Resource or condition → its references.
    dependencies: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Check<'a> {
    fn report(&mut self, location: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(location, message));
    }

    fn limits(&mut self, bytes: usize) {
        let document = self.document;
        let counts = [
            ("template", "bytes", bytes, MAX_TEMPLATE_BYTES),
            (
                "Resources",
                "resources",
                document.resources.len(),
                MAX_RESOURCES,
            ),
            (
                "Parameters",
                "parameters",
                document.parameters.len(),
                MAX_PARAMETERS,
            ),
            (
                "Mappings",
                "mappings",
                document.mappings.len(),
                MAX_MAPPINGS,
            ),
            ("Outputs", "outputs", document.outputs.len(), MAX_OUTPUTS),
            (
                "Description",
                "bytes",
                document.description.as_deref().unwrap_or_default().len(),
                MAX_DESCRIPTION_BYTES,
            ),
        ];
        for (location, what, got, limit) in counts {
            if got > limit {
                self.report(
                    location,
                    format!("got {got} {what}, CloudFormation takes at most {limit}"),
                );
            }
        }
        if document.resources.is_empty() {
            self.report(
                "Resources",
                "got none, CloudFormation needs at least one resource",
            );
        }
    }

    fn names(&mut self) {
        let document = self.document;
        let names = document
            .resources
            .keys()
            .chain(document.parameters.keys())
            .chain(document.outputs.keys());
        for name in names
            .chain(document.conditions.keys())
            .chain(document.mappings.keys())
        {
            if name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric())
                || name.len() > MAX_NAME_CHARACTERS
            {
                self.report(name, "got a name that is not 1 to 255 letters and digits, expected PascalCase words such as `SensorStream`");
            }
        }
        for name in document.parameters.keys() {
            if document.resources.contains_key(name) {
                self.report(name, "is both a parameter and a resource: `Ref` could not tell them apart; rename one");
            }
        }
    }

    fn resource(&mut self, id: &'a str, resource: &'a crate::document::Resource) {
        self.condition(id, resource.condition.as_deref());
        for other in &resource.depends_on {
            if other == id {
                self.report(id, "depends on itself");
            } else if self.document.resources.contains_key(other) {
                self.dependencies.entry(id).or_default().insert(other);
            } else {
                self.report(
                    &format!("{id}.DependsOn"),
                    format!(
                        "got `{other}`, expected the logical ID of a resource of this template"
                    ),
                );
            }
        }
        self.policies(id, resource);
        self.references(id, id, &resource.properties);
        if let Some(shape) = resources::metadata(&resource.r#type) {
            self.object(id, shape.properties, &resource.properties);
        }
    }

    fn policies(&mut self, id: &str, resource: &crate::document::Resource) {
        const DELETION: &[&str] = &["Delete", "Retain", "RetainExceptOnCreate", "Snapshot"];
        const REPLACEMENT: &[&str] = &["Delete", "Retain", "Snapshot"];
        let policies = [
            ("DeletionPolicy", &resource.deletion_policy, DELETION),
            (
                "UpdateReplacePolicy",
                &resource.update_replace_policy,
                REPLACEMENT,
            ),
        ];
        for (attribute, policy, allowed) in policies {
            if let Some(policy) = policy
                && !allowed.contains(&policy.as_str())
            {
                self.report(
                    &format!("{id}.{attribute}"),
                    format!("got `{policy}`, expected one of {}", list(allowed)),
                );
            }
        }
    }

    fn condition(&mut self, location: &str, condition: Option<&str>) {
        if let Some(condition) = condition
            && !self.document.conditions.contains_key(condition)
        {
            self.report(
                location,
                format!("got condition `{condition}`, expected one that the template declares"),
            );
        }
    }

    /// Checks all references in a value.
    fn references(&mut self, from: &'a str, location: &str, value: &'a Json) {
        match value {
            Json::Object(object) => {
                if object.len() == 1
                    && let Some((function, argument)) = object.iter().next()
                    && (function == "Ref"
                        || function == "Condition"
                        || function.starts_with("Fn::"))
                {
                    self.intrinsic(from, location, function, argument);
                }
                for (name, value) in object {
                    let nested = if name.starts_with("Fn::") {
                        location.to_owned()
                    } else {
                        format!("{location}.{name}")
                    };
                    self.references(from, &nested, value);
                }
            }
            Json::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.references(from, &format!("{location}[{index}]"), item);
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }

    fn intrinsic(&mut self, from: &'a str, location: &str, function: &str, argument: &'a Json) {
        match (function, argument) {
            ("Ref", Json::String(name)) => self.reference(from, location, name, None),
            ("Condition", Json::String(name)) => self.condition(location, Some(name)),
            ("Fn::GetAtt", Json::String(text)) => match text.split_once('.') {
                Some((name, attribute)) => self.reference(from, location, name, Some(attribute)),
                None => self.report(
                    location,
                    format!("got Fn::GetAtt `{text}`, expected `LogicalId.Attribute`"),
                ),
            },
            ("Fn::GetAtt", Json::Array(parts)) => match parts.as_slice() {
                [Json::String(name), Json::String(attribute)] => {
                    self.reference(from, location, name, Some(attribute))
                }
                _ => self.report(
                    location,
                    format!("got Fn::GetAtt {argument}, expected [\"LogicalId\", \"Attribute\"]"),
                ),
            },
            ("Fn::Sub", Json::String(template)) => {
                self.substitutions(from, location, template, None)
            }
            ("Fn::Sub", Json::Array(parts)) => match parts.as_slice() {
                [Json::String(template), Json::Object(variables)] => {
                    self.substitutions(from, location, template, Some(variables));
                }
                _ => self.report(
                    location,
                    format!(
                        "got Fn::Sub {argument}, expected text, or text and an object of variables"
                    ),
                ),
            },
            ("Fn::If", Json::Array(parts)) => match parts.as_slice() {
                [Json::String(condition), _, _] => self.condition(location, Some(condition)),
                _ => self.report(
                    location,
                    "got another form of Fn::If, expected [condition, then, otherwise]",
                ),
            },
            ("Fn::FindInMap", Json::Array(parts)) => {
                if let Some(Json::String(name)) = parts.first()
                    && !self.document.mappings.contains_key(name)
                {
                    self.report(
                        location,
                        format!("got mapping `{name}`, expected one that the template declares"),
                    );
                }
            }
            _ => {}
        }
    }

    fn substitutions(
        &mut self,
        from: &'a str,
        location: &str,
        template: &'a str,
        variables: Option<&serde_json::Map<String, Json>>,
    ) {
        let mut rest = template;
        while let Some(start) = rest.find("${") {
            let after = &rest[start + 2..];
            let Some(end) = after.find('}') else {
                return self.report(
                    location,
                    format!("got Fn::Sub `{template}`, whose `${{` has no end"),
                );
            };
            let name = &after[..end];
            if !name.starts_with('!')
                && !variables.is_some_and(|variables| variables.contains_key(name))
            {
                match name.split_once('.') {
                    Some((name, attribute)) => {
                        self.reference(from, location, name, Some(attribute))
                    }
                    None => self.reference(from, location, name, None),
                }
            }
            rest = &after[end + 1..];
        }
    }

    fn reference(&mut self, from: &'a str, location: &str, name: &'a str, attribute: Option<&str>) {
        if let Some(resource) = self.document.resources.get(name) {
            if self.document.resources.contains_key(from) {
                self.dependencies.entry(from).or_default().insert(name);
            }
            if let (Some(attribute), Some(shape)) =
                (attribute, resources::metadata(&resource.r#type))
                && !has_attribute(shape, attribute)
            {
                self.report(
                    location,
                    format!(
                        "got attribute `{attribute}` of `{name}`, {} has {}",
                        resource.r#type,
                        if shape.attributes.is_empty() {
                            "none".to_owned()
                        } else {
                            list(shape.attributes)
                        },
                    ),
                );
            }
        } else if attribute.is_some()
            || !(PSEUDO.contains(&name) || self.document.parameters.contains_key(name))
        {
            self.report(
                location,
                format!("got a reference to `{name}`, which the template does not define"),
            );
        }
    }

    /// Reports each cycle once, by the resources that form it.
    fn cycles(&mut self) {
        let mut done: BTreeSet<&str> = BTreeSet::new();
        let roots: Vec<&str> = self.dependencies.keys().copied().collect();
        let mut found = Vec::new();
        for root in roots {
            // Depth first without recursion: a chain can be as long as the template.
            let mut path: Vec<(&str, Vec<&str>)> = vec![(root, self.depends_on(root))];
            while let Some((node, open)) = path.last_mut() {
                let node = *node;
                match open.pop() {
                    None => {
                        done.insert(node);
                        path.pop();
                    }
                    Some(next) if done.contains(next) => {}
                    Some(next) => {
                        if let Some(start) = path.iter().position(|(id, _)| *id == next) {
                            let cycle: Vec<&str> =
                                path[start..].iter().map(|(id, _)| *id).collect();
                            found
                                .push((next.to_owned(), format!("{} → {next}", cycle.join(" → "))));
                        } else {
                            path.push((next, self.depends_on(next)));
                        }
                    }
                }
            }
        }
        for (id, cycle) in found {
            self.report(&id, format!("refers to itself through {cycle}; break the cycle, for instance by a separate rule or policy resource"));
        }
    }

    fn depends_on(&self, id: &str) -> Vec<&'a str> {
        self.dependencies
            .get(id)
            .into_iter()
            .flatten()
            .rev()
            .copied()
            .collect()
    }

    fn object(&mut self, location: &str, shape: &Object, value: &Json) {
        let Json::Object(object) = value else {
            return self.report(
                location,
                format!("got {}, expected an object", brief(value)),
            );
        };
        if is_intrinsic(value) {
            return;
        }
        for (name, value) in object {
            match shape
                .properties
                .iter()
                .find(|property| property.name == name)
            {
                Some(property) => {
                    if property.required && is_no_value(value) {
                        self.report(
                            &format!("{location}.{name}"),
                            "got AWS::NoValue, but the property is required",
                        );
                    }
                    self.shape(&format!("{location}.{name}"), &property.shape, value);
                }
                None => self.report(
                    &format!("{location}.{name}"),
                    format!(
                        "is not a property, expected one of {}",
                        list_iter(shape.properties.iter().map(|property| property.name))
                    ),
                ),
            }
        }
        for property in shape.properties.iter().filter(|property| property.required) {
            if !object.contains_key(property.name) {
                self.report(
                    &format!("{location}.{}", property.name),
                    "is missing, but the property is required",
                );
            }
        }
        for group in shape.required_xor {
            let present: Vec<&str> = group
                .iter()
                .copied()
                .filter(|name| object.contains_key(*name))
                .collect();
            if present.len() != 1 {
                let got = if present.is_empty() {
                    "none".to_owned()
                } else {
                    list(&present)
                };
                self.report(
                    location,
                    format!("got {got}, expected exactly one of {}", list(group)),
                );
            }
        }
        for group in shape.required_or {
            if !group.iter().any(|name| object.contains_key(*name)) {
                self.report(
                    location,
                    format!("got none, expected at least one of {}", list(group)),
                );
            }
        }
        for (name, others) in shape.dependent_required {
            for other in others
                .iter()
                .filter(|other| object.contains_key(*name) && !object.contains_key(**other))
            {
                self.report(
                    location,
                    format!("got `{name}` without `{other}`, which it needs"),
                );
            }
        }
        for (name, others) in shape.dependent_excluded {
            for other in others
                .iter()
                .filter(|other| object.contains_key(*name) && object.contains_key(**other))
            {
                self.report(
                    location,
                    format!("got `{name}` and `{other}`, which exclude each other"),
                );
            }
        }
    }

    fn shape(&mut self, location: &str, shape: &Shape, value: &Json) {
        if is_intrinsic(value) {
            return self.branches(location, shape, value);
        }
        match shape {
            Shape::Json => {}
            Shape::Object(object) => self.object(location, object, value),
            Shape::Map(item) => match value {
                Json::Object(entries) => {
                    for (name, value) in entries {
                        self.shape(&format!("{location}.{name}"), item, value);
                    }
                }
                _ => self.report(
                    location,
                    format!("got {}, expected an object", brief(value)),
                ),
            },
            Shape::List {
                item,
                minimum,
                maximum,
                unique,
            } => {
                let Json::Array(items) = value else {
                    return self.report(location, format!("got {}, expected a list", brief(value)));
                };
                self.range(location, "items", items.len() as u64, *minimum, *maximum);
                for (index, value) in items.iter().enumerate() {
                    self.shape(&format!("{location}[{index}]"), item, value);
                    if *unique && items[..index].contains(value) {
                        self.report(
                            &format!("{location}[{index}]"),
                            format!("got {} twice, expected different items", brief(value)),
                        );
                    }
                }
            }
            Shape::Boolean => {
                if !matches!(value, Json::Bool(_))
                    && !matches!(value.as_str(), Some("true" | "false"))
                {
                    self.report(
                        location,
                        format!("got {}, expected true or false", brief(value)),
                    );
                }
            }
            Shape::Integer { minimum, maximum } => {
                let got = value
                    .as_i64()
                    .or_else(|| value.as_str().and_then(|text| text.parse().ok()));
                match got {
                    Some(got) => self.range(location, "", got, *minimum, *maximum),
                    None => self.report(
                        location,
                        format!("got {}, expected a whole number", brief(value)),
                    ),
                }
            }
            Shape::Number { minimum, maximum } => {
                let got = value
                    .as_f64()
                    .or_else(|| value.as_str().and_then(|text| text.parse().ok()));
                match got {
                    Some(got) => self.range(location, "", got, *minimum, *maximum),
                    None => {
                        self.report(location, format!("got {}, expected a number", brief(value)))
                    }
                }
            }
            Shape::Enum {
                values,
                case_sensitive,
            } => {
                let text = scalar_text(value);
                let known = text.as_deref().is_some_and(|text| {
                    values.iter().any(|value| {
                        if *case_sensitive {
                            *value == text
                        } else {
                            value.eq_ignore_ascii_case(text)
                        }
                    })
                });
                if !known && !text.as_deref().is_some_and(is_dynamic_reference) {
                    self.report(
                        location,
                        format!("got {}, expected one of {}", brief(value), list(values)),
                    );
                }
            }
            Shape::Text(text) => {
                let Some(got) = scalar_text(value) else {
                    return self.report(location, format!("got {}, expected text", brief(value)));
                };
                if is_dynamic_reference(&got) {
                    return;
                }
                self.range(
                    location,
                    "characters",
                    got.chars().count() as u64,
                    text.minimum,
                    text.maximum,
                );
                if let Some(pattern) = text.pattern {
                    let regex = self
                        .patterns
                        .entry(pattern)
                        .or_insert_with(|| Regex::new(pattern).ok());
                    // A pattern that exceeds the backtracking limit is not checked.
                    if let Some(regex) = regex
                        && !regex.is_match(&got).unwrap_or(true)
                    {
                        self.report(
                            location,
                            format!(
                                "got {}, expected text that matches `{pattern}`",
                                brief(value)
                            ),
                        );
                    }
                }
            }
        }
    }

    /// The values of an `Fn::If` are checked like literals; those of other functions are unknown.
    fn branches(&mut self, location: &str, shape: &Shape, value: &Json) {
        if let Some(Json::Array(parts)) = value.get("Fn::If")
            && let [_, then, otherwise] = parts.as_slice()
        {
            self.shape(location, shape, then);
            self.shape(location, shape, otherwise);
        }
    }

    fn range<N: PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        location: &str,
        unit: &str,
        got: N,
        minimum: Option<N>,
        maximum: Option<N>,
    ) {
        let unit = if unit.is_empty() {
            String::new()
        } else {
            format!(" {unit}")
        };
        let expected = match (minimum, maximum) {
            (Some(minimum), Some(maximum)) if got < minimum || got > maximum => {
                format!("{minimum} to {maximum}")
            }
            (Some(minimum), None) if got < minimum => format!("at least {minimum}"),
            (None, Some(maximum)) if got > maximum => format!("at most {maximum}"),
            _ => return,
        };
        self.report(location, format!("got {got}{unit}, expected {expected}"));
    }
}

fn has_attribute(shape: &ResourceShape, attribute: &str) -> bool {
    shape.attributes.iter().any(|known| {
        // An attribute that is an object, or a map with unknown keys, includes everything below it.
        *known == attribute
            || attribute
                .strip_prefix(known)
                .is_some_and(|rest| rest.starts_with('.'))
    })
}

fn is_intrinsic(value: &Json) -> bool {
    value.as_object().is_some_and(|object| {
        object.len() == 1
            && object
                .keys()
                .all(|name| name == "Ref" || name == "Condition" || name.starts_with("Fn::"))
    })
}

fn is_no_value(value: &Json) -> bool {
    value.get("Ref").and_then(Json::as_str) == Some("AWS::NoValue")
}

fn is_dynamic_reference(text: &str) -> bool {
    text.contains("{{resolve:")
}

fn scalar_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Number(value) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// A value, short enough for a message.
fn brief(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

fn list(names: &[&str]) -> String {
    list_iter(names.iter().copied())
}

fn list_iter<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
