//! Imports from the package data of cfn-lint: a registry schema without its prose, and the IAM actions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value as Json};

use crate::name;

/// Keywords whose values are prose or only for AWS's tools.
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

/// Keywords whose values map names to schemas.
const NAMED: &[&str] = &["definitions", "patternProperties", "properties"];

/// Services whose actions the deployment calls beside those that the schemas' handlers name: Elastic
/// Beanstalk acts on them for the caller, `deploy` and `destroy` call them, roles pass them on.
const SERVICES: &[&str] = &[
    "acm",
    "autoscaling",
    "cloudformation",
    "cloudwatch",
    "elasticbeanstalk",
    "elasticloadbalancing",
    "route53",
    "secretsmanager",
    "servicequotas",
    "sts",
];

/// File of the IAM actions, in `cfn/schemas`.
pub const ACTIONS: &str = "actions.json";

/// Copies the IAM actions of every service in use, with the resource types that each can be limited to, from
/// the package data of cfn-lint (the folder `cfnlint/data/schemas`). Returns the file's path.
///
/// A service is in use when a handler in `cfn/schemas` names it, or when it is in `SERVICES`.
pub fn import_actions(root: &Path, package_data: &Path) -> Result<PathBuf> {
    let source = package_data.join("../AdditionalSpecs/Policies.json");
    let text = fs::read_to_string(&source).with_context(|| format!("read {}", source.display()))?;
    let published: Json =
        serde_json::from_str(&text).with_context(|| format!("parse {}", source.display()))?;
    let schemas = root.join("cfn/schemas");
    let mut services: BTreeSet<String> = SERVICES.iter().map(|it| (*it).to_owned()).collect();
    for entry in fs::read_dir(&schemas).with_context(|| format!("read {}", schemas.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("aws-") || !name.ends_with(".json") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let schema: Json =
            serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        services.extend(handler_services(&schema));
    }
    let target = schemas.join(ACTIONS);
    let mut text = serde_json::to_string_pretty(&actions(&published, &services))?;
    text.push('\n');
    fs::write(&target, text).with_context(|| format!("write {}", target.display()))?;
    Ok(target)
}

/// The services whose actions a schema's handlers name.
fn handler_services(schema: &Json) -> BTreeSet<String> {
    let handlers = schema["handlers"].as_object();
    let permissions = handlers
        .into_iter()
        .flat_map(Map::values)
        .filter_map(|handler| handler["permissions"].as_array())
        .flatten();
    permissions
        .filter_map(|action| Some(action.as_str()?.split(':').next()?.to_lowercase()))
        .collect()
}

/// `{"actions": {"kinesis:putrecord": "stream"}, "resources": {"kinesis:stream": "arn:…"}}`; several resource
/// types or ARN formats are joined by commas. Names of actions are in lower case: IAM ignores the case.
fn actions(published: &Json, services: &BTreeSet<String>) -> Json {
    let words = |list: &Json| -> String {
        let items = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str);
        items.collect::<Vec<_>>().join(", ")
    };
    let (mut actions, mut resources) = (BTreeMap::new(), BTreeMap::new());
    for service in services {
        let facts = &published[service];
        for (name, action) in facts["Actions"].as_object().into_iter().flatten() {
            actions.insert(format!("{service}:{name}"), words(&action["Resources"]));
        }
        for (name, resource) in facts["Resources"].as_object().into_iter().flatten() {
            let formats = words(&resource["ARNFormats"]);
            resources.insert(format!("{service}:{name}"), formats.replace(".*", "*"));
        }
    }
    serde_json::json!({ "actions": actions, "resources": resources })
}

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
        "cannot find the schema of {type_name} in {}: expected a type such as AWS::DynamoDB::Table",
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

/// Strips the prose of a schema. A property that is *named* like a prose keyword stays.
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
    fn actions_come_with_the_resources_they_can_be_limited_to() {
        let published = serde_json::json!({
            "kinesis": {
                "Actions": { "putrecord": { "Resources": ["stream"] }, "liststreams": {} },
                "Resources": { "stream": { "ARNFormats": ["arn:${Partition}:kinesis:${Region}:${Account}:stream/.*"] } },
            },
            "sqs": { "Actions": { "sendmessage": {} }, "Resources": {} },
        });
        let services = BTreeSet::from(["kinesis".to_owned(), "none".to_owned()]);
        assert_eq!(
            actions(&published, &services),
            serde_json::json!({
                "actions": { "kinesis:putrecord": "stream", "kinesis:liststreams": "" },
                "resources": { "kinesis:stream": "arn:${Partition}:kinesis:${Region}:${Account}:stream/*" },
            })
        );
    }

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
