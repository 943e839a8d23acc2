//! A template as data: any CloudFormation template in JSON, read without knowing its resource types.
//!
//! [`crate::template::Template`] is what Rust code writes, this is what anybody reads: the checks at
//! synth, the local run, the diff and the review. It keeps the order of the template's sections.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;

/// A parsed template; every section that CloudFormation knows except `Transform`, `Rules` and `Hooks`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Document {
    /// `AWSTemplateFormatVersion`
    #[serde(rename = "AWSTemplateFormatVersion")]
    pub format_version: Option<String>,
    /// `Description`
    pub description: Option<String>,
    /// `Metadata`
    #[serde(default)]
    pub metadata: IndexMap<String, Json>,
    /// `Parameters`
    #[serde(default)]
    pub parameters: IndexMap<String, Parameter>,
    /// `Mappings`: name → top-level key → second-level key → value
    #[serde(default)]
    pub mappings: IndexMap<String, IndexMap<String, IndexMap<String, Json>>>,
    /// `Conditions`
    #[serde(default)]
    pub conditions: IndexMap<String, Json>,
    /// `Resources`
    #[serde(default)]
    pub resources: IndexMap<String, Resource>,
    /// `Outputs`
    #[serde(default)]
    pub outputs: IndexMap<String, Output>,
}

/// A declared parameter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Parameter {
    /// `Type`, such as `String` or `AWS::EC2::VPC::Id`
    pub r#type: String,
    /// `Default`
    pub default: Option<Json>,
    /// `Description`
    pub description: Option<String>,
    /// `NoEcho`
    #[serde(default)]
    pub no_echo: bool,
    /// `AllowedValues`
    pub allowed_values: Option<Vec<Json>>,
    /// `AllowedPattern`
    pub allowed_pattern: Option<String>,
    /// `ConstraintDescription`
    pub constraint_description: Option<String>,
    /// `MinLength`
    pub min_length: Option<u64>,
    /// `MaxLength`
    pub max_length: Option<u64>,
    /// `MinValue`
    pub min_value: Option<f64>,
    /// `MaxValue`
    pub max_value: Option<f64>,
}

/// A declared resource, its properties still holding intrinsics.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Resource {
    /// `Type`, such as `AWS::Kinesis::Stream`
    pub r#type: String,
    /// `Properties`
    #[serde(default = "empty_object")]
    pub properties: Json,
    /// `DependsOn`, a single name read as a list of one
    #[serde(default, deserialize_with = "one_or_many")]
    pub depends_on: Vec<String>,
    /// `Condition`
    pub condition: Option<String>,
    /// `DeletionPolicy`
    pub deletion_policy: Option<String>,
    /// `UpdateReplacePolicy`
    pub update_replace_policy: Option<String>,
    /// `Metadata`
    pub metadata: Option<Json>,
    /// `CreationPolicy`
    pub creation_policy: Option<Json>,
    /// `UpdatePolicy`
    pub update_policy: Option<Json>,
}

/// A declared output.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Output {
    /// `Value`
    pub value: Json,
    /// `Description`
    pub description: Option<String>,
    /// `Condition`
    pub condition: Option<String>,
    /// `Export`
    pub export: Option<Export>,
}

/// The exported name of an output.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Export {
    /// `Name`
    pub name: Json,
}

impl Document {
    /// Reads a template in JSON. The error says line, column and what was expected.
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
