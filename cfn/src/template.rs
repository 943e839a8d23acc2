//! A template that is being written.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::Location;

use indexmap::IndexMap;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use crate::check;
use crate::document::Document;
use crate::intrinsic::to_json;
use crate::problem::{Problem, Problems};
use crate::reference::{Attribute, Kind};
use crate::resource::{DeletionPolicy, Handle, Resource, UpdateReplacePolicy};
use crate::value::{Intrinsic, List, Value};

/// A template being written: parameters, conditions, resources and outputs in the order of their definition.
#[derive(Default)]
pub struct Template {
    description: Option<String>,
    metadata: IndexMap<&'static str, Json>,
    parameters: IndexMap<&'static str, Json>,
    mappings: IndexMap<&'static str, IndexMap<String, IndexMap<String, Json>>>,
    conditions: IndexMap<&'static str, Json>,
    resources: IndexMap<&'static str, Defined>,
    outputs: IndexMap<&'static str, Output>,
    problems: Vec<Problem>,
}

struct Defined {
    r#type: &'static str,
    properties: Box<dyn Properties>,
    attributes: ResourceAttributes,
    location: &'static Location<'static>,
}

/// Resource attributes other than properties.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResourceAttributes {
    /// The condition under which it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// Logical IDs that it depends on, beyond those that its properties refer to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<&'static str>,
    /// Handling when it leaves the stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Handling of the old one when it is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_replace_policy: Option<UpdateReplacePolicy>,
    /// Metadata for people and tools.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub metadata: IndexMap<&'static str, Json>,
}

/// Typed properties behind one interface; typed until synth, so that grants can change them.
trait Properties: erased_serde::Serialize {
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<R: Resource> Properties for R {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

erased_serde::serialize_trait_object!(Properties);

impl Serialize for Defined {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Entry<'a> {
            r#type: &'static str,
            #[serde(flatten)]
            attributes: &'a ResourceAttributes,
            properties: &'a dyn Properties,
        }
        Entry {
            r#type: self.r#type,
            attributes: &self.attributes,
            properties: &*self.properties,
        }
        .serialize(serializer)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut template = serializer.serialize_map(None)?;
        template.serialize_entry("AWSTemplateFormatVersion", "2010-09-09")?;
        if let Some(description) = &self.description {
            template.serialize_entry("Description", description)?;
        }
        if !self.metadata.is_empty() {
            template.serialize_entry("Metadata", &self.metadata)?;
        }
        if !self.parameters.is_empty() {
            template.serialize_entry("Parameters", &self.parameters)?;
        }
        if !self.mappings.is_empty() {
            template.serialize_entry("Mappings", &self.mappings)?;
        }
        if !self.conditions.is_empty() {
            template.serialize_entry("Conditions", &self.conditions)?;
        }
        template.serialize_entry("Resources", &self.resources)?;
        if !self.outputs.is_empty() {
            template.serialize_entry("Outputs", &self.outputs)?;
        }
        template.end()
    }
}

/// A condition that the template declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Condition(&'static str);

impl Condition {
    /// Its name in the template.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Expression of a condition.
#[derive(Clone, Debug)]
pub struct ConditionExpression(Json);

impl ConditionExpression {
    /// `Fn::Equals`
    pub fn equals(left: impl Into<Value<String>>, right: impl Into<Value<String>>) -> Self {
        ConditionExpression(
            json!({ "Fn::Equals": [to_json(&left.into()), to_json(&right.into())] }),
        )
    }

    /// `Fn::Not`
    pub fn negate(condition: impl Into<ConditionExpression>) -> Self {
        ConditionExpression(json!({ "Fn::Not": [condition.into().0] }))
    }

    /// `Fn::And` of 2–10 conditions
    pub fn all(conditions: Vec<ConditionExpression>) -> Self {
        ConditionExpression(
            json!({ "Fn::And": conditions.into_iter().map(|c| c.0).collect::<Vec<_>>() }),
        )
    }

    /// `Fn::Or` of 2–10 conditions
    pub fn any(conditions: Vec<ConditionExpression>) -> Self {
        ConditionExpression(
            json!({ "Fn::Or": conditions.into_iter().map(|c| c.0).collect::<Vec<_>>() }),
        )
    }
}

impl From<Condition> for ConditionExpression {
    fn from(condition: Condition) -> Self {
        ConditionExpression(json!({ "Condition": condition.name() }))
    }
}

/// A mapping that the template declares.
#[derive(Clone, Copy, Debug)]
pub struct Mapping(&'static str);

impl Mapping {
    /// Its name in the template.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Settings of a parameter.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ParameterProps {
    /// Description, at most 4,000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Default value; without one, the parameter is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// A regular expression that the whole value must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_pattern: Option<&'static str>,
    /// Allowed values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_values: Vec<String>,
    /// Message if the pattern does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint_description: Option<&'static str>,
    /// Whether the value is masked wherever CloudFormation shows it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_echo: bool,
}

/// A parameter that the template declares; `K` is its kind.
pub struct Parameter<K> {
    name: &'static str,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Parameter<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Parameter<K> {}

impl<K> Parameter<K> {
    /// Its name in the template.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// `Ref` to it.
    pub const fn reference(self) -> Attribute<K> {
        Attribute::reference(self.name)
    }
}

/// A list parameter that the template declares.
pub struct ListParameter<K> {
    name: &'static str,
    kind: PhantomData<fn() -> K>,
}

impl<K> ListParameter<K> {
    /// Its name in the template.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// `Ref` to it: the list.
    pub fn reference<T: crate::reference::Accepts<K>>(&self) -> List<T> {
        List::Intrinsic(Intrinsic(json!({ "Ref": self.name })))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'static str>,
    value: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<Json>,
}

/// An emitted template and its source locations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synthesized {
    /// The template: JSON, indented, ending in a newline.
    pub template: String,
    /// Logical ID → file and line of the `define` call that made it: JSON, for messages. Never part of a snapshot.
    pub sources: String,
}

impl Template {
    /// Creates an empty template with a description of at most 1,024 bytes.
    pub fn new(description: impl Into<String>) -> Template {
        Template {
            description: Some(description.into()),
            ..Template::default()
        }
    }

    /// Defines a resource. The logical ID is an external contract: changing it replaces the resource.
    #[track_caller]
    pub fn define<R: Resource>(&mut self, logical_id: &'static str, properties: R) -> Handle<R> {
        self.define_with(logical_id, properties, ResourceAttributes::default())
    }

    /// Defines a resource with attributes other than properties.
    #[track_caller]
    pub fn define_with<R: Resource>(
        &mut self,
        logical_id: &'static str,
        properties: R,
        attributes: ResourceAttributes,
    ) -> Handle<R> {
        let location = Location::caller();
        let defined = Defined {
            r#type: R::TYPE,
            properties: Box::new(properties),
            attributes,
            location,
        };
        if let Some(first) = self.resources.get(logical_id) {
            let first = first.location;
            self.problems.push(Problem::new(
                logical_id,
                format!("defined twice, at {first} and at {location}; logical IDs are unique: rename one"),
            ));
        } else {
            self.resources.insert(logical_id, defined);
        }
        Handle::new(logical_id)
    }

    /// A resource's attributes; `None` if the handle is of another template.
    pub fn attributes_mut<R>(&mut self, handle: Handle<R>) -> Option<&mut ResourceAttributes> {
        self.resources
            .get_mut(handle.logical_id())
            .map(|defined| &mut defined.attributes)
    }

    /// The logical IDs defined so far, in order.
    pub fn logical_ids(&self) -> impl Iterator<Item = &'static str> {
        self.resources.keys().copied()
    }

    /// Adds to a resource's metadata; an undefined resource is a problem.
    pub fn annotate(&mut self, logical_id: &str, name: &'static str, value: Json) {
        match self.resources.get_mut(logical_id) {
            Some(defined) => {
                defined.attributes.metadata.insert(name, value);
            }
            None => self.problems.push(Problem::of(
                logical_id,
                format!("gets metadata `{name}`, but is not defined in this template"),
            )),
        }
    }

    /// A resource's properties; `None` if the handle is of another template.
    pub fn properties_mut<R: Resource>(&mut self, handle: Handle<R>) -> Option<&mut R> {
        self.resources
            .get_mut(handle.logical_id())?
            .properties
            .as_any()
            .downcast_mut()
    }

    /// The properties of all resources of a type, in the order of their definition.
    pub fn all_mut<R: Resource>(&mut self) -> impl Iterator<Item = &mut R> {
        self.resources
            .values_mut()
            .filter_map(|defined| defined.properties.as_any().downcast_mut())
    }

    /// Records a problem for synth, which reports all together.
    pub(crate) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Declares a parameter of type `String`.
    pub fn parameter<K: Kind>(
        &mut self,
        name: &'static str,
        props: ParameterProps,
    ) -> Parameter<K> {
        self.declare_parameter(name, "String", &props);
        Parameter {
            name,
            kind: PhantomData,
        }
    }

    /// Declares a parameter of type `CommaDelimitedList`.
    pub fn list_parameter<K: Kind>(
        &mut self,
        name: &'static str,
        props: ParameterProps,
    ) -> ListParameter<K> {
        self.declare_parameter(name, "CommaDelimitedList", &props);
        ListParameter {
            name,
            kind: PhantomData,
        }
    }

    fn declare_parameter(&mut self, name: &'static str, r#type: &str, props: &ParameterProps) {
        let mut parameter = json!({ "Type": r#type });
        if let (Some(parameter), Json::Object(props)) = (parameter.as_object_mut(), to_json(props))
        {
            parameter.extend(props);
        }
        if self.parameters.insert(name, parameter).is_some() {
            self.problems.push(Problem::new(
                name,
                "parameter declared twice; names are unique: rename one",
            ));
        }
    }

    /// Declares a condition.
    pub fn condition(
        &mut self,
        name: &'static str,
        expression: impl Into<ConditionExpression>,
    ) -> Condition {
        if self.conditions.insert(name, expression.into().0).is_some() {
            self.problems.push(Problem::new(
                name,
                "condition declared twice; names are unique: rename one",
            ));
        }
        Condition(name)
    }

    /// Declares a mapping: first key → second key → value.
    pub fn mapping<const N: usize>(
        &mut self,
        name: &'static str,
        entries: [(&str, &[(&str, Json)]); N],
    ) -> Mapping {
        let entries = entries
            .into_iter()
            .map(|(first, values)| {
                let values = values
                    .iter()
                    .map(|(second, value)| ((*second).to_owned(), value.clone()))
                    .collect();
                (first.to_owned(), values)
            })
            .collect();
        if self.mappings.insert(name, entries).is_some() {
            self.problems.push(Problem::new(
                name,
                "mapping declared twice; names are unique: rename one",
            ));
        }
        Mapping(name)
    }

    /// Adds to the template's metadata.
    pub fn metadata(&mut self, name: &'static str, value: Json) {
        self.metadata.insert(name, value);
    }

    /// Declares an output.
    pub fn output(
        &mut self,
        name: &'static str,
        description: &'static str,
        value: impl Into<Value<String>>,
    ) {
        self.output_if(name, description, value, None);
    }

    /// Declares an output with a condition.
    pub fn output_if(
        &mut self,
        name: &'static str,
        description: &'static str,
        value: impl Into<Value<String>>,
        condition: Option<Condition>,
    ) {
        let output = Output {
            description: Some(description),
            value: to_json(&value.into()),
            condition,
            export: None,
        };
        if self.outputs.insert(name, output).is_some() {
            self.problems.push(Problem::new(
                name,
                "output declared twice; names are unique: rename one",
            ));
        }
    }

    /// Exports an output under a name that is unique in the account and region, for
    /// [`crate::intrinsic::import_value`].
    pub fn export(&mut self, output: &'static str, name: impl Into<Value<String>>) {
        match self.outputs.get_mut(output) {
            Some(output) => output.export = Some(json!({ "Name": to_json(&name.into()) })),
            None => self.problems.push(Problem::new(
                output,
                "exported, but no such output is declared",
            )),
        }
    }

    /// Checks the template as far as possible without AWS, and writes it.
    ///
    /// Two calls give the same bytes. All problems are reported together.
    pub fn synth(&self) -> Result<Synthesized, Problems> {
        let text = self.write();
        let mut problems = self.problems.clone();
        match Document::parse(&text) {
            Ok(document) => problems.extend(check::document(&document, text.len())),
            Err(error) => problems.push(Problem::new(
                "template",
                format!("is not readable: {error}"),
            )),
        }
        for problem in &mut problems {
            if let Some(defined) = self.resources.get(problem.logical_id.as_str()) {
                problem
                    .message
                    .push_str(&format!(" (defined at {})", defined.location));
            }
        }
        if problems.is_empty() {
            Ok(Synthesized {
                template: text,
                sources: self.sources(),
            })
        } else {
            Err(Problems(problems))
        }
    }

    fn write(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("template values have text keys and finite numbers");
        text.push('\n');
        text
    }

    fn sources(&self) -> String {
        struct Sources<'a>(&'a Template);
        impl Serialize for Sources<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.resources.iter().map(|(id, defined)| {
                    (
                        id,
                        json!({ "file": defined.location.file(), "line": defined.location.line() }),
                    )
                }))
            }
        }
        let mut text =
            serde_json::to_string_pretty(&Sources(self)).expect("plain text and numbers");
        text.push('\n');
        text
    }
}
