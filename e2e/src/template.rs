//! Editing a template as a person would: by its text, without knowing our types.

use std::fs;

use anyhow::Context;
use serde_json::Value as Json;

use crate::programs::Programs;

/// The template of stage `dev`.
///
/// # Errors
///
/// It cannot be read.
pub fn load(programs: &Programs) -> anyhow::Result<Json> {
    let text = fs::read_to_string(&programs.template)
        .with_context(|| format!("read {}", programs.template.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// Logical IDs and properties of all resources of a type.
pub fn resources_of<'a>(
    template: &'a mut Json,
    r#type: &'a str,
) -> impl Iterator<Item = (&'a String, &'a mut Json)> {
    template["Resources"]
        .as_object_mut()
        .into_iter()
        .flatten()
        .filter(move |(_, resource)| resource["Type"] == r#type)
        .map(|(logical_id, resource)| (logical_id, &mut resource["Properties"]))
}

/// Removes a resource.
///
/// # Errors
///
/// There is none of that name.
pub fn remove(template: &mut Json, logical_id: &str) -> anyhow::Result<()> {
    let resources = template["Resources"].as_object_mut();
    resources
        .and_then(|resources| resources.remove(logical_id))
        .map(drop)
        .with_context(|| format!("the template has no {logical_id}"))
}
