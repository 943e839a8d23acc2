//! Model of a resource type: structs, enums, markers and attributes, before they are emitted as Rust.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use fancy_regex::Regex;
use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::kind::Kinds;
use crate::name;
use crate::schema::{Input, Schema, texts};

/// A resource type.
#[derive(Debug)]
pub struct Resource {
    /// The type's name, such as `AWS::Kinesis::Stream`.
    pub type_name: String,
    /// The resource's own properties.
    pub properties: Struct,
    /// Property types by name.
    pub structs: IndexMap<String, Struct>,
    /// Enums by name: their values.
    pub enums: IndexMap<String, Vec<String>>,
    /// Markers of properties that accept several kinds, by name.
    pub markers: BTreeMap<String, BTreeSet<String>>,
    /// Attributes for `Fn::GetAtt`, by path with dots.
    pub attributes: Vec<(String, Attribute)>,
    /// The kind of `Ref`.
    pub reference: String,
    /// Kinds in the generated code.
    pub kinds: BTreeSet<String>,
    /// Properties that look like references and accept any text.
    pub untyped: Vec<String>,
    /// Patterns that the regex engine does not support, so they are not checked.
    pub unchecked: Vec<String>,
    /// Lists of paths and permissions for use at run time.
    pub facts: Facts,
}

/// Lists that are emitted as static data.
#[derive(Debug)]
pub struct Facts {
    /// `createOnlyProperties`
    pub create_only: Vec<String>,
    /// `conditionalCreateOnlyProperties`
    pub conditional_create_only: Vec<String>,
    /// `writeOnlyProperties`
    pub write_only: Vec<String>,
    /// `primaryIdentifier`
    pub primary_identifier: Vec<String>,
    /// `handlers`: create, read, update, delete
    pub permissions: [Vec<String>; 4],
}

/// An attribute's type.
#[derive(Debug)]
pub enum Attribute {
    /// Text of a kind.
    Kind(String),
    /// A list of text.
    List,
}

/// An object with known properties.
#[derive(Debug, Default)]
pub struct Struct {
    /// CloudFormation's name.
    pub name: String,
    /// Sorted by name, required ones first in the constructor only.
    pub fields: Vec<Field>,
    /// Groups of which exactly one is required.
    pub required_xor: Vec<Vec<String>>,
    /// Groups of which at least one is required.
    pub required_or: Vec<Vec<String>>,
    /// Properties that require others.
    pub dependent_required: Vec<(String, Vec<String>)>,
    /// Properties that exclude others.
    pub dependent_excluded: Vec<(String, Vec<String>)>,
}

/// A property.
#[derive(Debug)]
pub struct Field {
    /// CloudFormation's name.
    pub name: String,
    /// Whether it is required.
    pub required: bool,
    /// Its type.
    pub r#type: Type,
    /// Sentences for the doc comment.
    pub doc: Vec<String>,
}

/// Type of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Text.
    Text(Text),
    /// An integer in a range.
    Integer(Option<i64>, Option<i64>),
    /// A number in a range.
    Number(Option<f64>, Option<f64>),
    /// `true` or `false`.
    Boolean,
    /// Any JSON.
    Json,
    /// An IAM policy document.
    Policy,
    /// A key and a value.
    Tag(String),
    /// A property type; boxed if it contains itself.
    Struct {
        /// Its name.
        name: String,
        /// Whether it is boxed.
        boxed: bool,
    },
    /// One of some values.
    Enum(String),
    /// Text or numbers that are one of some values, but not an enum in Rust.
    OneOf {
        /// The values.
        values: Vec<String>,
        /// Whether they are integers.
        integer: bool,
        /// Whether case matters.
        case_sensitive: bool,
    },
    /// Text of one kind.
    Kind(String, Text),
    /// Text of one of several kinds: the marker's name.
    Marker(String, Text),
    /// A list.
    List {
        /// Type of each item.
        item: Box<Type>,
        /// Fewest items.
        minimum: Option<u64>,
        /// Most items.
        maximum: Option<u64>,
        /// Whether items must be unique.
        unique: bool,
    },
    /// An object with any names.
    Map(Box<Type>),
}

/// Constraints of text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    /// Fewest characters.
    pub minimum: Option<u64>,
    /// Most characters.
    pub maximum: Option<u64>,
    /// A regular expression.
    pub pattern: Option<String>,
}

struct Builder<'a> {
    schema: &'a Schema,
    input: &'a Input,
    kinds: &'a Kinds,
    read_only: BTreeSet<String>,
    structs: IndexMap<String, Struct>,
    enums: IndexMap<String, Vec<String>>,
    markers: BTreeMap<String, BTreeSet<String>>,
    named: BTreeSet<String>,
    untyped: Vec<String>,
    unchecked: Vec<String>,
    /// Inline objects' schemas by their generated name, to detect different ones with one name.
    inline: BTreeMap<String, Json>,
}

impl Resource {
    /// Creates the model of a schema.
    pub fn new(schema: &Schema, input: &Input, kinds: &Kinds) -> Result<Resource> {
        let Some(reference) = kinds.of_ref(schema, input) else {
            bail!(
                "what `Ref` gives is unknown: the schema has {} primary identifiers; add an overlay \
                 {{\"type\": \"{}\", \"ref\": \"<attribute>\", \"reason\": …}} to cfn/overlays",
                texts(&schema.json["primaryIdentifier"]).len(),
                schema.type_name,
            );
        };
        let mut builder = Builder {
            schema,
            input,
            kinds,
            read_only: schema.read_only(),
            structs: IndexMap::new(),
            enums: IndexMap::new(),
            markers: BTreeMap::new(),
            named: BTreeSet::from([reference.clone()]),
            untyped: Vec::new(),
            unchecked: Vec::new(),
            inline: BTreeMap::new(),
        };
        let name = name::resource(&schema.type_name).to_owned();
        let properties = builder.object(&name, "", "/properties", &schema.json)?;
        let attributes = builder.attributes();
        let mut resource = Resource {
            type_name: schema.type_name.clone(),
            properties,
            structs: builder.structs,
            enums: builder.enums,
            markers: builder.markers,
            attributes,
            reference,
            kinds: builder.named,
            untyped: builder.untyped,
            unchecked: builder.unchecked,
            facts: Facts::new(schema),
        };
        resource.box_recursion();
        Ok(resource)
    }

    /// Boxes structs that contain themselves.
    fn box_recursion(&mut self) {
        let direct: BTreeMap<String, Vec<String>> = self
            .structs
            .iter()
            .map(|(name, r#struct)| {
                (
                    name.clone(),
                    r#struct
                        .fields
                        .iter()
                        .filter_map(|field| field.r#type.contained())
                        .collect(),
                )
            })
            .collect();
        let reaches = |from: &str, to: &str| {
            let mut seen = BTreeSet::new();
            let mut open = vec![from.to_owned()];
            while let Some(node) = open.pop() {
                if node == to {
                    return true;
                }
                if seen.insert(node.clone()) {
                    open.extend(direct.get(&node).into_iter().flatten().cloned());
                }
            }
            false
        };
        for (container, r#struct) in &mut self.structs {
            for field in &mut r#struct.fields {
                if let Type::Struct { name, boxed } = &mut field.r#type {
                    *boxed = reaches(name, container);
                }
            }
        }
    }
}

impl Type {
    fn contained(&self) -> Option<String> {
        match self {
            Type::Struct { name, .. } => Some(name.clone()),
            _ => None,
        }
    }
}

impl Facts {
    fn new(schema: &Schema) -> Facts {
        let permissions = |handler: &str| {
            let mut actions = texts(&schema.json["handlers"][handler]["permissions"]);
            actions.sort();
            actions.dedup();
            actions
        };
        let sorted = |name: &str| {
            let mut paths = schema.texts(name);
            paths.sort();
            paths
        };
        Facts {
            create_only: sorted("createOnlyProperties"),
            conditional_create_only: sorted("conditionalCreateOnlyProperties"),
            write_only: sorted("writeOnlyProperties"),
            primary_identifier: schema.texts("primaryIdentifier"),
            permissions: [
                permissions("create"),
                permissions("read"),
                permissions("update"),
                permissions("delete"),
            ],
        }
    }
}

impl Builder<'_> {
    /// An object's properties. `prefix` is empty at the top and `Definition.` below.
    fn object(&mut self, name: &str, prefix: &str, pointer: &str, node: &Json) -> Result<Struct> {
        let mut required: BTreeSet<String> = texts(&node["required"]).into_iter().collect();
        let mut properties: BTreeMap<String, &Json> = BTreeMap::new();
        for (property, schema) in node["properties"].as_object().into_iter().flatten() {
            properties.insert(property.clone(), schema);
        }
        // Alternatives of an object are one struct whose members are all optional.
        for keyword in ["oneOf", "anyOf"] {
            for alternative in node[keyword].as_array().into_iter().flatten() {
                let (_, alternative) = self.schema.resolve(alternative);
                for (property, schema) in
                    alternative["properties"].as_object().into_iter().flatten()
                {
                    properties.entry(property.clone()).or_insert(schema);
                }
            }
        }
        // A template cannot set read-only properties. Some schemas list writable identifiers as read-only,
        // too.
        let identifiers: BTreeSet<String> = self
            .schema
            .texts("createOnlyProperties")
            .into_iter()
            .collect();
        let mut fields = Vec::new();
        for (property, schema) in properties {
            let path = format!("{pointer}/{property}");
            if self.read_only.contains(&path) && !identifiers.contains(&path) {
                required.remove(&property);
                continue;
            }
            let r#type = self.type_of(
                name,
                &format!("{prefix}{property}"),
                &property,
                &path,
                schema,
            )?;
            let doc = self.doc(&path, required.contains(&property), &r#type, schema);
            fields.push(Field {
                required: required.contains(&property),
                name: property,
                r#type,
                doc,
            });
        }
        let groups = |keyword: &str| -> Vec<Vec<String>> {
            let groups = node[keyword]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            if groups.first().is_some_and(Json::is_string) {
                vec![texts(&node[keyword])]
            } else {
                groups.iter().map(texts).collect()
            }
        };
        let dependencies = |keyword: &str| -> Vec<(String, Vec<String>)> {
            node[keyword]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, others)| (name.clone(), texts(others)))
                .collect()
        };
        Ok(Struct {
            name: name.to_owned(),
            fields,
            required_xor: groups("requiredXor"),
            required_or: groups("requiredOr"),
            dependent_required: dependencies("dependentRequired"),
            dependent_excluded: dependencies("dependentExcluded"),
        })
    }

    fn type_of(
        &mut self,
        parent: &str,
        path: &str,
        property: &str,
        pointer: &str,
        node: &Json,
    ) -> Result<Type> {
        if self
            .input
            .overlays_of(&self.schema.type_name, path)
            .any(|overlay| overlay.policy)
        {
            return Ok(Type::Policy);
        }
        let (definition, resolved) = self.schema.resolve(node);
        // Of a list or any JSON, the list is more precise.
        let resolved = list_alternative(self.schema, resolved).unwrap_or(resolved);
        let scalar = scalar_type(resolved);
        if is_tag(definition, resolved) {
            return Ok(Type::Tag(definition.unwrap_or(property).to_owned()));
        }
        if is_structure(self.schema, resolved) && scalar != Scalar::Text {
            return self.structure(parent, definition, property, pointer, resolved);
        }
        if let Some(items) = resolved.get("items") {
            let item = self.type_of(parent, path, property, &format!("{pointer}/*"), items)?;
            return Ok(Type::List {
                item: Box::new(item),
                minimum: resolved["minItems"].as_u64(),
                maximum: resolved["maxItems"].as_u64(),
                unique: resolved["uniqueItems"].as_bool().unwrap_or(false),
            });
        }
        if let Some(patterns) = resolved.get("patternProperties").and_then(Json::as_object)
            && let Some(value) = patterns.values().next()
        {
            let item = self.type_of(parent, path, property, &format!("{pointer}/*"), value)?;
            return Ok(Type::Map(Box::new(item)));
        }
        if let Some(value) = resolved
            .get("additionalProperties")
            .filter(|value| value.is_object())
            && resolved.get("type").and_then(Json::as_str) == Some("object")
        {
            let item = self.type_of(parent, path, property, &format!("{pointer}/*"), value)?;
            return Ok(Type::Map(Box::new(item)));
        }
        match scalar {
            Scalar::Text => self.text(parent, path, property, node, resolved),
            Scalar::Integer => match values(resolved) {
                Some(values) => Ok(Type::OneOf {
                    values,
                    integer: true,
                    case_sensitive: true,
                }),
                None => Ok(Type::Integer(
                    resolved["minimum"].as_i64(),
                    resolved["maximum"].as_i64(),
                )),
            },
            Scalar::Number => Ok(Type::Number(
                resolved["minimum"].as_f64(),
                resolved["maximum"].as_f64(),
            )),
            Scalar::Boolean => Ok(Type::Boolean),
            Scalar::Other => Ok(Type::Json),
        }
    }

    fn structure(
        &mut self,
        parent: &str,
        definition: Option<&str>,
        property: &str,
        pointer: &str,
        node: &Json,
    ) -> Result<Type> {
        // Property types are in a module named after the resource, so they do not conflict with its name.
        let mut name = name::camel(definition.unwrap_or(property));
        if definition.is_none() {
            match self.inline.get(&name) {
                Some(known) if known == node => {}
                Some(_) => name = name::camel(&format!("{parent}{property}")),
                None if self.structs.contains_key(&name)
                    || self.schema.json["definitions"]
                        .get(property)
                        .is_some_and(|definition| is_structure(self.schema, definition)) =>
                {
                    name = name::camel(&format!("{parent}{property}"));
                }
                None => {}
            }
            self.inline.insert(name.clone(), node.clone());
        }
        if !self.structs.contains_key(&name) {
            // Inserted first, so that the recursion of a type that contains itself ends here.
            self.structs.insert(name.clone(), Struct::default());
            let prefix = format!("{}.", definition.unwrap_or(property));
            let built = self.object(definition.unwrap_or(property), &prefix, pointer, node)?;
            self.structs.insert(name.clone(), built);
        }
        Ok(Type::Struct { name, boxed: false })
    }

    fn text(
        &mut self,
        parent: &str,
        path: &str,
        property: &str,
        node: &Json,
        resolved: &Json,
    ) -> Result<Type> {
        let mut constraints = Text {
            minimum: resolved["minLength"].as_u64(),
            maximum: resolved["maxLength"].as_u64(),
            pattern: resolved["pattern"].as_str().map(str::to_owned),
        };
        constraints.pattern = constraints
            .pattern
            .map(|pattern| crate::pattern::translate(&pattern))
            .filter(|pattern| {
                let known = Regex::new(pattern).is_ok();
                if !known {
                    self.unchecked
                        .push(format!("{}: {path}: {pattern}", self.schema.type_name));
                }
                known && pattern != ".*"
            });
        if constraints.minimum == Some(0) {
            constraints.minimum = None;
        }
        if let Some(values) = resolved.get("enumCaseInsensitive").map(texts) {
            return Ok(Type::OneOf {
                values,
                integer: false,
                case_sensitive: false,
            });
        }
        if let Some(mut values) = values(resolved) {
            for overlay in self.input.overlays_of(&self.schema.type_name, path) {
                values.extend(overlay.values.iter().cloned());
            }
            return Ok(Type::Enum(self.enumeration(parent, property, values)));
        }
        let kinds = self.kinds.accepted(self.schema, self.input, path, node);
        self.named.extend(kinds.iter().cloned());
        let mut iter = kinds.iter();
        match (iter.next(), iter.next()) {
            (None, _) => {
                if ["Arn", "ARN", "Id", "Ids", "Arns"]
                    .iter()
                    .any(|suffix| property.ends_with(suffix))
                {
                    self.untyped
                        .push(format!("{}: {path}", self.schema.type_name));
                }
                Ok(Type::Text(constraints))
            }
            (Some(kind), None) => Ok(Type::Kind(kind.clone(), constraints)),
            (Some(_), Some(_)) => {
                let mut name = name::camel(property);
                if self.markers.get(&name).is_some_and(|known| *known != kinds)
                    || self.is_taken(&name)
                {
                    name = name::camel(&format!("{parent}{property}"));
                }
                if self.is_taken(&name) {
                    name.push_str("Reference");
                }
                self.markers.insert(name.clone(), kinds);
                Ok(Type::Marker(name, constraints))
            }
        }
    }

    fn is_taken(&self, name: &str) -> bool {
        self.structs.contains_key(name)
            || self.enums.contains_key(name)
            || self.schema.json["definitions"]
                .as_object()
                .is_some_and(|definitions| {
                    definitions
                        .keys()
                        .any(|definition| name::camel(definition) == name)
                })
    }

    fn enumeration(&mut self, parent: &str, property: &str, values: Vec<String>) -> String {
        let own = name::camel(property);
        let long = name::camel(&format!("{parent}{property}"));
        let defined = |name: &str| {
            self.schema.json["definitions"]
                .as_object()
                .is_some_and(|definitions| {
                    definitions.iter().any(|(definition, schema)| {
                        name::camel(definition) == name && has_properties(self.schema, schema)
                    })
                })
        };
        let name = [own, long.clone()]
            .into_iter()
            .find(|name| {
                self.enums.get(name).map_or(
                    !self.structs.contains_key(name)
                        && !defined(name)
                        && !self.markers.contains_key(name),
                    |known| *known == values,
                )
            })
            .unwrap_or_else(|| format!("{long}Value"));
        self.enums.insert(name.clone(), values);
        name
    }

    fn attributes(&mut self) -> Vec<(String, Attribute)> {
        let mut attributes = Vec::new();
        for pointer in self.schema.texts("readOnlyProperties") {
            let mut node = &self.schema.json;
            let mut found = true;
            for segment in pointer.trim_start_matches('/').split('/') {
                let (_, resolved) = self.schema.resolve(node);
                let next = if segment == "properties" {
                    resolved.get("properties")
                } else {
                    resolved
                        .get(segment)
                        .or_else(|| resolved["properties"].get(segment))
                };
                match next {
                    Some(next) => node = next,
                    None => found = false,
                }
            }
            if !found {
                continue;
            }
            let (_, resolved) = self.schema.resolve(node);
            let path = pointer.trim_start_matches("/properties/").replace('/', ".");
            if resolved.get("items").is_some() {
                attributes.push((path, Attribute::List));
            } else if !has_properties(self.schema, resolved)
                && scalar_type(resolved) != Scalar::Other
            {
                let kind = self.kinds.of_attribute(self.schema, &path, node);
                self.named.insert(kind.clone());
                attributes.push((path, Attribute::Kind(kind)));
            }
        }
        attributes.sort_by(|left, right| left.0.cmp(&right.0));
        attributes.dedup_by(|left, right| left.0 == right.0);
        attributes
    }

    /// The sentences of a property's doc comment.
    fn doc(&self, pointer: &str, required: bool, r#type: &Type, node: &Json) -> Vec<String> {
        let mut facts = Vec::new();
        if required {
            facts.push("Required.".to_owned());
        }
        facts.extend(r#type.facts());
        let (_, resolved) = self.schema.resolve(node);
        if let Some(default) = node.get("default").or_else(|| resolved.get("default")) {
            facts.push(format!("Default: `{default}`."));
        }
        let listed = |name: &str| self.schema.texts(name).iter().any(|path| path == pointer);
        if listed("createOnlyProperties") {
            facts.push("Changing this replaces the resource.".to_owned());
        }
        if listed("conditionalCreateOnlyProperties") {
            facts.push("Changing this replaces the resource in some cases.".to_owned());
        }
        if listed("writeOnlyProperties") {
            facts.push("Cannot be read back.".to_owned());
        }
        facts
    }
}

impl Type {
    fn facts(&self) -> Vec<String> {
        match self {
            Type::Text(text) => text.facts(),
            Type::Kind(kind, text) => {
                let mut facts = vec![format!("Refers to `{kind}`.")];
                facts.extend(text.facts());
                facts
            }
            Type::Marker(name, text) => {
                let mut facts = vec![format!("Refers to what `{name}` accepts.")];
                facts.extend(text.facts());
                facts
            }
            Type::Integer(minimum, maximum) => range(*minimum, *maximum, "").into_iter().collect(),
            Type::Number(minimum, maximum) => range(*minimum, *maximum, "").into_iter().collect(),
            Type::OneOf { values, .. } => {
                vec![format!(
                    "One of {}.",
                    values
                        .iter()
                        .map(|value| format!("`{value}`"))
                        .collect::<Vec<_>>()
                        .join(", ")
                )]
            }
            Type::List {
                item,
                minimum,
                maximum,
                ..
            } => range(*minimum, *maximum, " items")
                .into_iter()
                .chain(item.facts().into_iter().map(|fact| format!("Each: {fact}")))
                .collect(),
            Type::Map(item) => item
                .facts()
                .into_iter()
                .map(|fact| format!("Each: {fact}"))
                .collect(),
            Type::Boolean
            | Type::Json
            | Type::Policy
            | Type::Tag(_)
            | Type::Struct { .. }
            | Type::Enum(_) => Vec::new(),
        }
    }
}

impl Text {
    fn facts(&self) -> Vec<String> {
        let mut facts: Vec<String> = range(self.minimum, self.maximum, " characters")
            .into_iter()
            .collect();
        if let Some(pattern) = &self.pattern {
            let fence = if pattern.contains('`') { "``" } else { "`" };
            facts.push(format!(
                "Pattern: {fence}{}{fence}.",
                pattern.replace(['\n', '\r'], " ")
            ));
        }
        facts
    }
}

fn range<N: std::fmt::Display>(
    minimum: Option<N>,
    maximum: Option<N>,
    unit: &str,
) -> Option<String> {
    match (minimum, maximum) {
        (Some(minimum), Some(maximum)) => Some(format!("{minimum} to {maximum}{unit}.")),
        (Some(minimum), None) => Some(format!("At least {minimum}{unit}.")),
        (None, Some(maximum)) => Some(format!("At most {maximum}{unit}.")),
        (None, None) => None,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Scalar {
    Text,
    Integer,
    Number,
    Boolean,
    Other,
}

/// Type of a node; alternatives of text are text, other alternatives any JSON.
fn scalar_type(node: &Json) -> Scalar {
    match &node["type"] {
        Json::String(name) => match name.as_str() {
            "string" => Scalar::Text,
            "integer" => Scalar::Integer,
            "number" => Scalar::Number,
            "boolean" => Scalar::Boolean,
            _ => Scalar::Other,
        },
        // Text or a number of any kind is text; text or an object is a document.
        Json::Array(types)
            if types.iter().any(|name| name == "string")
                && types
                    .iter()
                    .any(|name| name == "number" || name == "integer") =>
        {
            Scalar::Text
        }
        Json::Null
            if node
                .get("enum")
                .or_else(|| node.get("const"))
                .or_else(|| node.get("enumCaseInsensitive"))
                .is_some() =>
        {
            Scalar::Text
        }
        Json::Null if node.get("pattern").is_some() => Scalar::Text,
        Json::Null => {
            let alternatives: Vec<Scalar> = ["anyOf", "oneOf"]
                .iter()
                .flat_map(|keyword| {
                    node[*keyword]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(scalar_type)
                })
                .collect();
            match alternatives.first() {
                Some(first) if alternatives.iter().all(|alternative| alternative == first) => {
                    *first
                }
                _ => Scalar::Other,
            }
        }
        _ => Scalar::Other,
    }
}

fn values(node: &Json) -> Option<Vec<String>> {
    let list = match (node.get("enum"), node.get("const")) {
        (Some(Json::Array(values)), _) => values.clone(),
        (None, Some(value)) => vec![value.clone()],
        _ => return None,
    };
    let mut seen = BTreeSet::new();
    let values = list.iter().filter_map(|value| match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    });
    Some(values.filter(|value| seen.insert(value.clone())).collect())
}

fn has_properties(schema: &Schema, node: &Json) -> bool {
    let (_, node) = schema.resolve(node);
    let of = |node: &Json| {
        node["properties"]
            .as_object()
            .is_some_and(|properties| !properties.is_empty())
    };
    of(node)
        || ["oneOf", "anyOf"].iter().any(|keyword| {
            node[*keyword]
                .as_array()
                .into_iter()
                .flatten()
                .any(|alternative| of(schema.resolve(alternative).1))
        })
}

/// The alternative of a node that is a list.
fn list_alternative<'a>(schema: &'a Schema, node: &'a Json) -> Option<&'a Json> {
    if node.get("type").is_some() || node.get("items").is_some() {
        return None;
    }
    ["oneOf", "anyOf"]
        .iter()
        .flat_map(|keyword| node[*keyword].as_array().into_iter().flatten())
        .map(|alternative| schema.resolve(alternative).1)
        .find(|alternative| alternative.get("items").is_some())
}

/// Whether a node is an object with known properties; some lists have stray ones.
fn is_structure(schema: &Schema, node: &Json) -> bool {
    let (_, node) = schema.resolve(node);
    node.get("items").is_none() && has_properties(schema, node)
}

/// Whether an object is a tag: a key and a value, both text.
fn is_tag(definition: Option<&str>, node: &Json) -> bool {
    let Some(properties) = node["properties"].as_object() else {
        return false;
    };
    definition.is_some_and(|name| name.ends_with("Tag") || name == "TagMap")
        && properties.len() == 2
        && ["Key", "Value"].iter().all(|name| {
            properties
                .get(*name)
                .is_some_and(|property| property["type"] == "string")
        })
}
