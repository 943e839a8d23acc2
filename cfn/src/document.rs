//! A template as data: any CloudFormation template in JSON, parsed without its resource types.
//!
//! Rust code writes a [`crate::template::Template`]; the checks at synth, the local run, the diff and the
//! review read a document. It keeps the order of the template's sections.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;

/// A parsed template; every section that CloudFormation knows except `Transform`, `Rules` and `Hooks`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are CloudFormation's")]
pub struct Document {
    #[serde(rename = "AWSTemplateFormatVersion")]
    pub format_version: Option<String>,
    pub description: Option<String>,
    #[serde(default)]
    pub metadata: IndexMap<String, Json>,
    #[serde(default)]
    pub parameters: IndexMap<String, Parameter>,
    /// `Mappings`: name → top-level key → second-level key → value
    #[serde(default)]
    pub mappings: IndexMap<String, IndexMap<String, IndexMap<String, Json>>>,
    #[serde(default)]
    pub conditions: IndexMap<String, Json>,
    #[serde(default)]
    pub resources: IndexMap<String, Resource>,
    #[serde(default)]
    pub outputs: IndexMap<String, Output>,
}

/// A declared parameter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are CloudFormation's")]
pub struct Parameter {
    /// `Type`, such as `String` or `AWS::EC2::VPC::Id`
    pub r#type: String,
    pub default: Option<Json>,
    pub description: Option<String>,
    #[serde(default)]
    pub no_echo: bool,
    pub allowed_values: Option<Vec<Json>>,
    pub allowed_pattern: Option<String>,
    pub constraint_description: Option<String>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_value: Option<f64>,
    pub max_value: Option<f64>,
}

/// A declared resource, its properties still holding intrinsics.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are CloudFormation's")]
pub struct Resource {
    /// `Type`, such as `AWS::Kinesis::Stream`
    pub r#type: String,
    #[serde(default = "empty_object")]
    pub properties: Json,
    /// `DependsOn`, a single name read as a list of one
    #[serde(default, deserialize_with = "one_or_many")]
    pub depends_on: Vec<String>,
    pub condition: Option<String>,
    pub deletion_policy: Option<String>,
    pub update_replace_policy: Option<String>,
    pub metadata: Option<Json>,
    pub creation_policy: Option<Json>,
    pub update_policy: Option<Json>,
}

/// A declared output.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are CloudFormation's")]
pub struct Output {
    pub value: Json,
    pub description: Option<String>,
    pub condition: Option<String>,
    pub export: Option<Export>,
}

/// The exported name of an output.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are CloudFormation's")]
pub struct Export {
    pub name: Json,
}

impl Document {
    /// Parses a template in JSON. The error has line, column and what was expected.
    pub fn parse(text: &str) -> Result<Document, serde_json::Error> {
        serde_json::from_str(text)
    }
}

fn empty_object() -> Json {
    Json::Object(serde_json::Map::new())
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(name) => vec![name],
        OneOrMany::Many(names) => names,
    })
}
