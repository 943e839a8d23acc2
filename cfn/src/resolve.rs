//! Resolution of a template: its resources without intrinsics, as CloudFormation passes them to the services.
//!
//! [`resolve`] takes a [`Document`] and a [`Context`] (account, region, parameters …) and returns a
//! [`Resolved`]: each resource whose condition is true, with its properties as plain JSON, its physical ID and
//! its attributes. All problems are reported together, with their location in the template.
//!
//! [`crate::arn`] derives the physical IDs and attributes that AWS would generate. A caller with real values,
//! such as a local cache's address and port, passes an [`Override`].
//!
//! Not supported: `Transform`, `Fn::Transform`, `Fn::ForEach` and the other language extensions, and
//! dynamic references (`{{resolve:ssm:…}}`), which stay as text and are listed.
//!
//! Layout: `parameters` checks the parameters' values, `intrinsics` evaluates, `cidr` is `Fn::Cidr`;
//! [`properties`] parses the resolved properties as the generated structs.

pub(crate) mod cidr;
mod intrinsics;
mod parameters;
mod properties;

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::arn;
use crate::document::Document;

/// Input of the resolution beside the template.
#[derive(Clone, Debug)]
pub struct Context {
    /// `AWS::AccountId`, twelve digits on AWS
    pub account_id: String,
    /// `AWS::Region`
    pub region: String,
    /// `AWS::Partition`
    pub partition: String,
    /// `AWS::URLSuffix`
    pub url_suffix: String,
    /// `AWS::StackName`
    pub stack_name: String,
    /// `AWS::StackId`
    pub stack_id: String,
    /// `AWS::NotificationARNs`
    pub notification_arns: Vec<String>,
    /// Values of the template's parameters; lists are joined by commas.
    pub parameters: BTreeMap<String, String>,
    /// Handling of a parameter that has neither value nor default.
    pub missing_parameters: MissingParameters,
    /// The region's zones, for `Fn::GetAZs`.
    pub availability_zones: Vec<String>,
    /// Exported values by name, for `Fn::ImportValue`.
    pub imports: BTreeMap<String, String>,
    /// Form of physical IDs that the template does not set.
    pub naming: Naming,
    /// The caller's values, by logical ID.
    pub overrides: BTreeMap<String, Override>,
}

/// Handling of a parameter that has neither value nor default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingParameters {
    /// Report all of them.
    Report,
    /// Use the text `{ParameterName}`, unchecked.
    Placeholder,
}

/// Form of physical IDs that the template does not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// As on AWS, but deterministic: `<stack>-<LogicalId>`, `vpc-<17 hex digits>` and so on.
    Physical,
    /// The logical ID, for summaries. An attribute that cannot be derived is `{LogicalId.Attribute}` and not a
    /// problem.
    Logical,
}

/// A physical ID or attributes that replace the derived ones of a resource.
#[derive(Clone, Debug, Default)]
pub struct Override {
    /// The value of `Ref`.
    pub physical_id: Option<String>,
    /// The values of `Fn::GetAtt`, by the attribute's dotted name, such as `PrimaryEndPoint.Address`.
    pub attributes: BTreeMap<String, Json>,
}

impl Context {
    /// Creates a context in the partition `aws`, with zones `a`, `b` and `c` and no parameters.
    pub fn new(account_id: &str, region: &str, stack_name: &str) -> Context {
        Context {
            account_id: account_id.to_owned(),
            region: region.to_owned(),
            partition: "aws".to_owned(),
            url_suffix: "amazonaws.com".to_owned(),
            stack_name: stack_name.to_owned(),
            stack_id: format!(
                "arn:aws:cloudformation:{region}:{account_id}:stack/{stack_name}/{}",
                arn::uuid(stack_name)
            ),
            notification_arns: Vec::new(),
            parameters: BTreeMap::new(),
            missing_parameters: MissingParameters::Report,
            availability_zones: ["a", "b", "c"]
                .map(|zone| format!("{region}{zone}"))
                .to_vec(),
            imports: BTreeMap::new(),
            naming: Naming::Physical,
            overrides: BTreeMap::new(),
        }
    }
}

pub use crate::problem::Problem;
pub use properties::{name_of, properties};

/// A template without intrinsics.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Its context.
    pub context: Context,
    /// The parameters' values: text, number or array.
    pub parameters: BTreeMap<String, Json>,
    /// The conditions' values.
    pub conditions: BTreeMap<String, bool>,
    /// The resources whose conditions are true, in the template's order.
    pub resources: IndexMap<String, ResolvedResource>,
    /// The outputs whose conditions are true.
    pub outputs: IndexMap<String, String>,
    /// Exported values by export name.
    pub exports: IndexMap<String, String>,
    /// Dynamic references, which stay text.
    pub dynamic_references: Vec<DynamicReference>,
}

/// A resource without intrinsics.
#[derive(Clone, Debug)]
pub struct ResolvedResource {
    /// Logical ID
    pub logical_id: String,
    /// Type, such as `AWS::Kinesis::Stream`
    pub r#type: String,
    /// The resource's name; the physical ID of most types, unless that is an ARN (SNS topic) or a URL (SQS
    /// queue).
    pub name: String,
    /// The value of `Ref`.
    pub physical_id: String,
    /// Properties as plain JSON. Values of parameters of type `Number` are numbers, those of others are text or
    /// arrays of text.
    pub properties: Json,
    /// The values of `Fn::GetAtt`, by dotted name: all supported attributes of the type, and those of the
    /// [`Override`]. [`arn`](Self::arn) also works for types without such an attribute.
    pub attributes: BTreeMap<String, Json>,
    /// Logical IDs of the resources that it depends on: first those in `DependsOn`, then those that its properties
    /// refer to.
    pub depends_on: Vec<String>,
    /// `DeletionPolicy`
    pub deletion_policy: Option<String>,
    /// `UpdateReplacePolicy`
    pub update_replace_policy: Option<String>,
    /// `Metadata`, unresolved
    pub metadata: Option<Json>,
}

/// A dynamic reference (`{{resolve:…}}`), which CloudFormation replaces at deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicReference {
    /// Logical ID of the resource with it.
    pub logical_id: String,
    /// Path in the resource.
    pub path: String,
    /// The reference with its braces.
    pub reference: String,
}

impl Resolved {
    /// Finds a resource by its logical ID.
    pub fn resource(&self, logical_id: &str) -> Option<&ResolvedResource> {
        self.resources.get(logical_id)
    }

    /// All resources of a type, in the template's order.
    pub fn of_type<'a>(&'a self, r#type: &'a str) -> impl Iterator<Item = &'a ResolvedResource> {
        self.resources
            .values()
            .filter(move |resource| resource.r#type == r#type)
    }

    /// Finds a resource by its ARN, physical ID or name; of a type, or of any type for `""`.
    pub fn find(&self, r#type: &str, reference: &str) -> Option<&ResolvedResource> {
        self.resources
            .values()
            .filter(|it| r#type.is_empty() || it.r#type == r#type)
            .find(|it| {
                it.physical_id == reference || it.arn() == Some(reference) || it.name == reference
            })
    }

    /// Logical IDs in dependency order; otherwise in the template's order.
    pub fn creation_order(&self) -> Vec<&str> {
        fn visit<'a>(
            resolved: &'a Resolved,
            id: &'a str,
            done: &mut BTreeSet<&'a str>,
            order: &mut Vec<&'a str>,
        ) {
            let Some((id, resource)) = resolved.resources.get_key_value(id) else {
                return;
            };
            if !done.insert(id) {
                return;
            }
            for dependency in &resource.depends_on {
                visit(resolved, dependency, done, order);
            }
            order.push(id);
        }
        let (mut done, mut order) = (BTreeSet::new(), Vec::new());
        for id in self.resources.keys() {
            visit(self, id, &mut done, &mut order);
        }
        order
    }
}

impl ResolvedResource {
    /// The resource's ARN, for supported types that have one.
    pub fn arn(&self) -> Option<&str> {
        self.attributes
            .get("Arn")
            .or_else(|| self.attributes.get("ARN"))
            .and_then(Json::as_str)
    }

    /// An attribute by its dotted name.
    pub fn attribute(&self, name: &str) -> Option<&Json> {
        self.attributes.get(name)
    }

    /// A property by JSON pointer, such as `/VpcConfig/SubnetIds/0`.
    pub fn property(&self, pointer: &str) -> Option<&Json> {
        self.properties.pointer(pointer)
    }

    /// A property that is text (numbers and booleans as text), by JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<String> {
        self.property(pointer).and_then(text)
    }

    /// A boolean property, which may be written as text, as in CloudFormation.
    pub fn flag(&self, pointer: &str) -> Option<bool> {
        self.text(pointer)
            .and_then(|text| text.to_ascii_lowercase().parse().ok())
    }

    /// The texts of a list property, by JSON pointer; empty if it is absent.
    /// A single text is a list of one.
    pub fn texts(&self, pointer: &str) -> Vec<String> {
        match self.property(pointer) {
            Some(Json::Array(items)) => items.iter().filter_map(text).collect(),
            Some(value) => text(value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// The items of a list property, by JSON pointer; empty if it is absent.
    pub fn items(&self, pointer: &str) -> &[Json] {
        self.property(pointer)
            .and_then(Json::as_array)
            .map_or(&[], Vec::as_slice)
    }
}

/// Resolves a template.
///
/// # Errors
/// All problems of the template and of the parameters, in the template's order.
pub fn resolve(document: &Document, context: &Context) -> Result<Resolved, Vec<Problem>> {
    let mut resolver = intrinsics::Resolver::new(document, context);
    resolver.parameters = parameters::values(document, context, &mut resolver.problems);

    let mut conditions = BTreeMap::new();
    for name in document.conditions.keys() {
        resolver.enter("Conditions", name);
        if let Some(value) = resolver.condition(name) {
            conditions.insert(name.clone(), value);
        }
    }

    let mut resources = IndexMap::new();
    for (logical_id, resource) in &document.resources {
        if let Some(resource) = resolver.resource(logical_id, resource) {
            resources.insert(logical_id.clone(), resource);
        }
    }

    let (outputs, exports) = outputs(document, &mut resolver);
    let mut problems = resolver.problems;
    problems.extend(cycles(&resources));
    if !problems.is_empty() {
        let mut seen = BTreeSet::new();
        problems.retain(|problem| seen.insert(problem.clone()));
        return Err(problems);
    }
    let dynamic_references = resources.values().flat_map(dynamic_references).collect();
    Ok(Resolved {
        context: context.clone(),
        parameters: resolver.parameters,
        conditions,
        resources,
        outputs,
        exports,
        dynamic_references,
    })
}

type Outputs = (IndexMap<String, String>, IndexMap<String, String>);

fn outputs<'a>(document: &'a Document, resolver: &mut intrinsics::Resolver<'a>) -> Outputs {
    let (mut outputs, mut exports) = Outputs::default();
    for (name, output) in &document.outputs {
        resolver.enter("Outputs", name);
        if let Some(condition) = &output.condition
            && resolver.condition(condition) != Some(true)
        {
            continue;
        }
        let Some(value) = resolver.text_at("Value", &output.value) else {
            continue;
        };
        if let Some(export) = &output.export
            && let Some(name) = resolver.text_at("Export.Name", &export.name)
        {
            exports.insert(name, value.clone());
        }
        outputs.insert(name.clone(), value);
    }
    (outputs, exports)
}

/// One problem for each dependency cycle, with its members in order.
fn cycles(resources: &IndexMap<String, ResolvedResource>) -> Vec<Problem> {
    fn visit<'a>(
        resources: &'a IndexMap<String, ResolvedResource>,
        id: &'a str,
        done: &mut BTreeSet<&'a str>,
        trail: &mut Vec<&'a str>,
        problems: &mut Vec<Problem>,
    ) {
        if let Some(start) = trail.iter().position(|it| *it == id) {
            let mut members = trail[start..].to_vec();
            members.push(id);
            problems.push(Problem::of(
                id,
                format!(
                    "circular dependency {}: break it by a resource of its own, such as AWS::EC2::SecurityGroupIngress",
                    members.join(" → ")
                ),
            ));
            return;
        }
        if done.contains(id) {
            return;
        }
        trail.push(id);
        for dependency in resources.get(id).map_or(&[][..], |it| &it.depends_on) {
            visit(resources, dependency, done, trail, problems);
        }
        trail.pop();
        done.insert(id);
    }
    let (mut done, mut problems) = (BTreeSet::new(), Vec::new());
    for id in resources.keys() {
        visit(resources, id, &mut done, &mut Vec::new(), &mut problems);
    }
    problems
}

fn dynamic_references(resource: &ResolvedResource) -> Vec<DynamicReference> {
    fn visit(value: &Json, path: &str, found: &mut Vec<(String, String)>) {
        match value {
            Json::String(text) => {
                let mut rest = text.as_str();
                while let Some(start) = rest.find("{{resolve:") {
                    let Some(length) = rest[start..].find("}}") else {
                        break;
                    };
                    let end = start + length + 2;
                    found.push((path.to_owned(), rest[start..end].to_owned()));
                    rest = &rest[end..];
                }
            }
            Json::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    visit(item, &format!("{path}.{index}"), found);
                }
            }
            Json::Object(members) => {
                for (key, member) in members {
                    visit(member, &format!("{path}.{key}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    visit(&resource.properties, "Properties", &mut found);
    found
        .into_iter()
        .map(|(path, reference)| DynamicReference {
            logical_id: resource.logical_id.clone(),
            path,
            reference,
        })
        .collect()
}

/// The text of a scalar, as CloudFormation formats it.
pub(crate) fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
