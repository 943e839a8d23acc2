//! From a template's text and its parameters to what the template means.

use std::collections::{BTreeMap, BTreeSet};

use cfn::document::{Document, Parameter};
use cfn::resolve::{Context, Naming, Override, Problem, Resolved, resolve};
use indexmap::IndexMap;
use serde_json::Value as Json;

use super::naming;
use super::stack::{Output, Settled, Stack, Version};
use crate::call::Failure;

/// What stands in place of a value that nobody shall see.
pub(super) const HIDDEN: &str = "****";

/// A version without intrinsics, for one stack.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) document: Document,
    pub(super) context: Context,
    pub(super) resolved: Resolved,
}

/// Reads a template as CloudFormation does.
///
/// # Errors
/// `ValidationError`: the text is no template.
pub(super) fn parse(template: &str) -> Result<Document, Failure> {
    let document = Document::parse(template).map_err(|error| {
        Failure::new("ValidationError", format!("Template format error: {error}"))
    })?;
    if document.resources.is_empty() {
        let message = "Template format error: At least one Resources member must be defined.";
        return Err(Failure::new("ValidationError", message));
    }
    Ok(document)
}

/// The values of a version's parameters: those given, those of before where that was asked for, and
/// nothing for those that have a default.
///
/// # Errors
/// `ValidationError`: a parameter is not declared, or has no value.
pub(super) fn parameters(
    document: &Document,
    given: &[(String, Option<String>)],
    previous: Option<&BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>, Failure> {
    let invalid = |message: String| Failure::new("ValidationError", message);
    let unknown: Vec<&str> = given
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !document.parameters.contains_key(*name))
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        return Err(invalid(format!(
            "Parameters: [{unknown}] do not exist in the template"
        )));
    }
    let mut values = BTreeMap::new();
    for (name, value) in given {
        let value = match value {
            Some(value) => value.clone(),
            None => previous.and_then(|it| it.get(name)).cloned().ok_or_else(|| {
                invalid(format!(
                    "Invalid input for parameter key {name}. Cannot specify usePreviousValue as true for a parameter key not in the previous template"
                ))
            })?,
        };
        values.insert(name.clone(), value);
    }
    let mut missing = Vec::new();
    for (name, parameter) in &document.parameters {
        if !values.contains_key(name) {
            match default(parameter) {
                Some(default) => drop(values.insert(name.clone(), default)),
                None => missing.push(name.as_str()),
            }
        }
    }
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(invalid(format!("Parameters: [{missing}] must have values")));
    }
    Ok(values)
}

fn default(parameter: &Parameter) -> Option<String> {
    match parameter.default.as_ref()? {
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The capabilities that a template needs and nobody acknowledged.
///
/// # Errors
/// `InsufficientCapabilitiesException`
pub(super) fn check_capabilities(document: &Document, given: &[String]) -> Result<(), Failure> {
    let mut needed = None;
    for resource in document.resources.values() {
        if resource.r#type.starts_with("AWS::IAM::") {
            let is_named = naming::is_custom(resource);
            if is_named || needed.is_none() {
                needed = Some(if is_named {
                    "CAPABILITY_NAMED_IAM"
                } else {
                    "CAPABILITY_IAM"
                });
            }
            if is_named {
                break;
            }
        }
    }
    let is_given = |capability: &str| given.iter().any(|it| it == capability);
    match needed {
        Some(needed) if !is_given(needed) && !is_given("CAPABILITY_NAMED_IAM") => {
            Err(Failure::new(
                "InsufficientCapabilitiesException",
                format!("Requires capabilities : [{needed}]"),
            ))
        }
        _ => Ok(()),
    }
}

/// Resolves a version for a stack.
///
/// Resources that are there keep their physical IDs, except those to be `replaced`; `known` gives the
/// IDs of others, such as imported ones; `exports` is what other stacks export.
///
/// # Errors
/// `ValidationError`: all that is wrong with the template and its parameters.
pub(super) fn target(
    account: &str,
    stack: &Stack,
    version: &Version,
    replaced: &BTreeSet<&str>,
    known: &BTreeMap<String, String>,
    exports: &BTreeMap<String, String>,
) -> Result<Target, Failure> {
    let document = parse(&version.template)?;
    let mut context = Context::new(account, &stack.region, &stack.name);
    context.stack_id.clone_from(&stack.id);
    context.parameters.clone_from(&version.parameters);
    context.imports.clone_from(exports);
    let usual = resolve(&document, &context).map_err(|problems| refused(&problems))?;
    for (logical_id, resource) in &usual.resources {
        let Some(declared) = document.resources.get(logical_id) else {
            continue;
        };
        let there = stack.resources.get(logical_id).filter(|it| it.exists());
        let is_replaced = replaced.contains(logical_id.as_str());
        let generation = there.map_or(0, |it| it.generation) + u32::from(is_replaced);
        let kept = there.filter(|_| !is_replaced).map(|it| &it.physical_id);
        let physical_id = match known.get(logical_id).or(kept) {
            Some(physical_id) => Some(physical_id.clone()),
            None => naming::physical_id(
                &stack.id,
                &stack.name,
                logical_id,
                declared,
                generation,
                &resource.physical_id,
            ),
        };
        if physical_id.is_some() {
            let known = Override {
                physical_id,
                attributes: BTreeMap::new(),
            };
            context.overrides.insert(logical_id.clone(), known);
        }
    }
    let resolved = resolve(&document, &context).map_err(|problems| refused(&problems))?;
    Ok(Target {
        document,
        context,
        resolved,
    })
}

fn refused(problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| match problem.logical_id.as_str() {
            "Parameters" => format!("Parameter {} {}", problem.path, problem.message),
            _ => problem.to_string(),
        })
        .collect();
    Failure::new(
        "ValidationError",
        format!("Template error: {}", lines.join("; ")),
    )
}

impl Target {
    /// Every resource as it shall become, with the stack's tags where the type has tags.
    pub(super) fn settled(&self, tags: &BTreeMap<String, String>) -> IndexMap<String, Settled> {
        let resources = self.resolved.resources.iter();
        resources
            .map(|(id, resource)| {
                let mut properties = resource.properties.clone();
                add_tags(&resource.r#type, &mut properties, tags);
                let settled = Settled {
                    properties,
                    attributes: resource.attributes.clone(),
                    depends_on: resource.depends_on.clone(),
                    deletion_policy: resource.deletion_policy.clone(),
                    update_replace_policy: resource.update_replace_policy.clone(),
                };
                (id.clone(), settled)
            })
            .collect()
    }

    /// The outputs, with addresses that only whoever runs the resources knows: logical ID →
    /// attribute → value.
    ///
    /// # Errors
    /// As [`target`]; the same template has succeeded before.
    pub(super) fn outputs(
        &self,
        addresses: &BTreeMap<String, BTreeMap<String, Json>>,
    ) -> Result<Vec<Output>, Failure> {
        let mut context = self.context.clone();
        for (logical_id, attributes) in addresses {
            let known = context.overrides.entry(logical_id.clone()).or_default();
            known.attributes.extend(attributes.clone());
        }
        let resolved = resolve(&self.document, &context).map_err(|problems| refused(&problems))?;
        let mut exports = resolved.exports.keys();
        let outputs = resolved.outputs.iter().map(|(name, value)| {
            let declared = self.document.outputs.get(name);
            let export = declared.and_then(|it| it.export.as_ref());
            Output {
                name: name.clone(),
                value: value.clone(),
                description: declared.and_then(|it| it.description.clone()),
                // Exports stand in the order of their outputs.
                export: export.and_then(|_| exports.next().cloned()),
            }
        });
        Ok(outputs.collect())
    }
}

/// Adds the stack's tags to a resource whose type has a list of tags; its own tags count more.
fn add_tags(r#type: &str, properties: &mut Json, tags: &BTreeMap<String, String>) {
    if tags.is_empty() || !has_tags(r#type) {
        return;
    }
    let Some(properties) = properties.as_object_mut() else {
        return;
    };
    let own = properties
        .entry("Tags")
        .or_insert_with(|| Json::Array(Vec::new()));
    let Some(own) = own.as_array_mut() else {
        return;
    };
    for (key, value) in tags {
        let is_known = own.iter().any(|tag| tag["Key"] == key.as_str());
        if !is_known {
            own.push(serde_json::json!({ "Key": key, "Value": value }));
        }
    }
}

/// Whether a type has tags in CloudFormation's usual form.
pub(super) fn has_tags(r#type: &str) -> bool {
    cfn::resources::metadata(r#type).is_some_and(|shape| {
        let tags = shape
            .properties
            .properties
            .iter()
            .find(|it| it.name == "Tags");
        tags.is_some_and(|tags| matches!(tags.shape, cfn::shape::Shape::List { .. }))
    })
}

/// Names of the parameters whose values nobody shall see.
pub(super) fn hidden(document: &Document) -> Vec<&str> {
    let parameters = document.parameters.iter();
    parameters
        .filter(|(_, parameter)| parameter.no_echo)
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Logical IDs of the resources that a version has under its conditions.
pub(super) fn conditional(
    document: &Document,
    version: &Version,
    region: &str,
) -> BTreeSet<String> {
    let mut context = Context::new("000000000000", region, "stack");
    context.parameters.clone_from(&version.parameters);
    context.naming = Naming::Logical;
    match resolve(document, &context) {
        Ok(resolved) => resolved.resources.into_keys().collect(),
        // It was resolved when the update began.
        Err(_) => document.resources.keys().cloned().collect(),
    }
}
