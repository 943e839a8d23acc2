//! The generator's input: registry schemas, relations and overlays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value as Json;

/// The input of a generation.
#[derive(Debug, Default)]
pub struct Input {
    /// Schemas by type name.
    pub schemas: BTreeMap<String, Schema>,
    /// Type name → `Definition.Property` or `Property` → kinds such as `AWS::IAM::Role.Arn`.
    pub relations: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Entries of all overlays.
    pub overlays: Vec<Overlay>,
    /// Origin of the schemas, for the headers.
    pub origin: String,
}

/// A registry schema without prose.
#[derive(Debug)]
pub struct Schema {
    /// The type's name, such as `AWS::Kinesis::Stream`.
    pub type_name: String,
    /// The whole schema.
    pub json: Json,
}

/// A correction of the schemas and relations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// The resource type.
    pub r#type: String,
    /// `Definition.Property` or `Property`; absent for the whole type.
    pub path: Option<String>,
    /// Kinds that the property accepts in addition to the schema's.
    #[serde(default)]
    pub accepts: Vec<String>,
    /// Kinds of the schema that the property does not accept; `*` for all.
    #[serde(default)]
    pub rejects: Vec<String>,
    /// The attribute that `Ref` returns, such as `Name`.
    pub r#ref: Option<String>,
    /// An attribute that is another attribute's kind: `GroupId` is `Id`.
    pub alias: Option<Alias>,
    /// The property is an IAM policy document.
    #[serde(default)]
    pub policy: bool,
    /// Enum values that are missing in the schema.
    #[serde(default)]
    pub values: Vec<String>,
    /// The reason, which is required.
    pub reason: String,
}

/// Two names of one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The attribute.
    pub attribute: String,
    /// The attribute whose kind it is.
    pub is: String,
}

impl Input {
    /// Reads the committed input.
    pub fn read(schemas: &Path, overlays: &Path) -> Result<Input> {
        let mut input = Input {
            relations: read_json(&schemas.join("relations.json"))?,
            origin: fs::read_to_string(schemas.join("ORIGIN"))
                .with_context(|| format!("read {}", schemas.join("ORIGIN").display()))?
                .trim()
                .to_owned(),
            ..Input::default()
        };
        for path in json_files(schemas)? {
            if path
                .file_name()
                .is_some_and(|name| name == "relations.json" || name == crate::import::ACTIONS)
            {
                continue;
            }
            input
                .add(read_json(&path)?)
                .with_context(|| format!("in {}", path.display()))?;
        }
        let mut entries: Vec<Overlay> = Vec::new();
        for path in json_files(overlays)? {
            entries.extend(read_json::<Vec<Overlay>>(&path)?);
        }
        input.overlays = entries;
        Ok(input)
    }

    /// Adds a schema.
    pub fn add(&mut self, json: Json) -> Result<()> {
        let Some(type_name) = json
            .get("typeName")
            .and_then(Json::as_str)
            .map(str::to_owned)
        else {
            bail!("invalid registry schema: expected `typeName`");
        };
        self.schemas
            .insert(type_name.clone(), Schema { type_name, json });
        Ok(())
    }

    /// The overlays of a type and path.
    pub fn overlays_of<'a>(
        &'a self,
        type_name: &'a str,
        path: &'a str,
    ) -> impl Iterator<Item = &'a Overlay> {
        self.overlays.iter().filter(move |overlay| {
            overlay.r#type == type_name && overlay.path.as_deref() == Some(path)
        })
    }
}

impl Schema {
    /// Resolves a `$ref`; returns other nodes unchanged.
    pub fn resolve<'a>(&'a self, node: &'a Json) -> (Option<&'a str>, &'a Json) {
        let mut name = None;
        let mut node = node;
        // Definitions may refer to each other; a chain longer than the number of definitions is a cycle.
        for _ in 0..64 {
            let Some(reference) = node.get("$ref").and_then(Json::as_str) else {
                break;
            };
            let Some(target) = self.json.pointer(reference.trim_start_matches('#')) else {
                break;
            };
            name = reference.rsplit('/').next();
            node = target;
        }
        (name, node)
    }

    /// A list of texts at the top of the schema.
    pub fn texts(&self, name: &str) -> Vec<String> {
        texts(&self.json[name])
    }

    /// Paths that a template cannot set.
    pub fn read_only(&self) -> BTreeSet<String> {
        self.texts("readOnlyProperties").into_iter().collect()
    }
}

/// The texts of a JSON list.
pub fn texts(json: &Json) -> Vec<String> {
    json.as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .map(str::to_owned)
        .collect()
}

fn json_files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
}
