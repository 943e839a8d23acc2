//! Brings a registry schema in: finds it, strips the prose, keeps the facts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value as Json};

use crate::name;

/// Keywords whose values are sentences or belong to tools of AWS's own.
const PROSE: &[&str] = &[
    "$comment",
    "$id",
    "$schema",
    "description",
    "documentationUrl",
    "examples",
    "propertyTransform",
    "resourceLink",
    "sourceUrl",
    "tagging",
    "title",
    "typeConfiguration",
];

/// Keywords whose values map free names to schemas.
const NAMED: &[&str] = &["definitions", "patternProperties", "properties"];

/// Copies the schema of a resource type from the package data of cfn-lint (the folder
/// `cfnlint/data/schemas`) into `cfn/schemas` below `root`. Returns the file's path.
pub fn import(root: &Path, package_data: &Path, type_name: &str) -> Result<PathBuf> {
    let folder = package_data.join("resources");
    let wanted = format!("\"{type_name}\"");
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        if !text.contains(&wanted) {
            continue;
        }
        let json: Json =
            serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        if json.get("typeName").and_then(Json::as_str) != Some(type_name) {
            continue;
        }
        let target = root.join("cfn/schemas").join(file_name(type_name));
        let mut text = serde_json::to_string_pretty(&strip(&json))?;
        text.push('\n');
        fs::write(&target, text).with_context(|| format!("write {}", target.display()))?;
        return Ok(target);
    }
    bail!(
        "no schema of `{type_name}` in {}: expected a type such as `AWS::DynamoDB::Table`",
        folder.display()
    )
}

/// `AWS::DynamoDB::Table` → `aws-dynamodb-table.json`
pub fn file_name(type_name: &str) -> String {
    format!(
        "aws-{}-{}.json",
        name::service_module(type_name),
        name::resource(type_name).to_lowercase()
    )
}

/// A schema without prose. A property that is *named* like a prose keyword stays.
pub fn strip(schema: &Json) -> Json {
    match schema {
        Json::Object(object) => Json::Object(
            object
                .iter()
                .filter(|(keyword, _)| !PROSE.contains(&keyword.as_str()))
                .map(|(keyword, value)| {
                    let value = match value {
                        Json::Object(named) if NAMED.contains(&keyword.as_str()) => Json::Object(
                            named
                                .iter()
                                .map(|(name, schema)| (name.clone(), strip(schema)))
                                .collect::<Map<_, _>>(),
                        ),
                        _ => strip(value),
                    };
                    (keyword.clone(), value)
                })
                .collect(),
        ),
        Json::Array(items) => Json::Array(items.iter().map(strip).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_goes_and_a_property_of_that_name_stays() {
        let schema = serde_json::json!({
            "description": "A sentence.",
            "properties": { "description": { "type": "string", "description": "Another." } },
        });
        assert_eq!(
            strip(&schema),
            serde_json::json!({ "properties": { "description": { "type": "string" } } })
        );
    }
}
