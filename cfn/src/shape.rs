//! Constraints of a resource type from the registry schemas, as static data beside the generated structs.
//!
//! [`crate::check`] applies them to a template's JSON, so that hand-edited templates are checked like
//! synthesised ones; [`crate::diff`] uses them to find what an update replaces.

/// Data of a resource type.
#[derive(Debug)]
pub struct ResourceShape {
    /// The type's name, such as `AWS::Kinesis::Stream`.
    pub type_name: &'static str,
    /// The properties that a template may set.
    pub properties: &'static Object,
    /// Attributes for `Fn::GetAtt`, with dots for nested ones.
    pub attributes: &'static [&'static str],
    /// Paths whose change replaces the resource, such as `/properties/Name`.
    pub create_only: &'static [&'static str],
    /// Paths whose change replaces the resource in some cases.
    pub conditional_create_only: &'static [&'static str],
    /// Write-only paths.
    pub write_only: &'static [&'static str],
    /// Paths that identify the resource.
    pub primary_identifier: &'static [&'static str],
    /// IAM actions that CloudFormation needs to handle the resource.
    pub permissions: &'static Permissions,
}

/// IAM actions by handler.
#[derive(Debug)]
pub struct Permissions {
    /// Of the create handler.
    pub create: &'static [&'static str],
    /// Of the read handler.
    pub read: &'static [&'static str],
    /// Of the update handler.
    pub update: &'static [&'static str],
    /// Of the delete handler.
    pub delete: &'static [&'static str],
}

/// An object's properties and the rules between them.
#[derive(Debug)]
pub struct Object {
    /// Sorted by name.
    pub properties: &'static [Property],
    /// Exactly one of each group is required.
    pub required_xor: &'static [&'static [&'static str]],
    /// At least one of each group is required.
    pub required_or: &'static [&'static [&'static str]],
    /// If the first is present, the others are required.
    pub dependent_required: &'static [(&'static str, &'static [&'static str])],
    /// If the first is present, the others are forbidden.
    pub dependent_excluded: &'static [(&'static str, &'static [&'static str])],
}

/// One property.
#[derive(Debug)]
pub struct Property {
    /// CloudFormation's name.
    pub name: &'static str,
    /// Whether it is required.
    pub required: bool,
    /// Its constraints.
    pub shape: Shape,
}

/// Constraints of a value.
#[derive(Debug)]
pub enum Shape {
    /// Text.
    Text(Text),
    /// Text or a number that is one of these.
    Enum {
        /// The allowed values.
        values: &'static [&'static str],
        /// Whether case matters.
        case_sensitive: bool,
    },
    /// An integer.
    Integer {
        /// Smallest.
        minimum: Option<i64>,
        /// Largest.
        maximum: Option<i64>,
    },
    /// Any number.
    Number {
        /// Smallest.
        minimum: Option<f64>,
        /// Largest.
        maximum: Option<f64>,
    },
    /// `true` or `false`.
    Boolean,
    /// An object with these properties and no others.
    Object(&'static Object),
    /// A list.
    List {
        /// Constraints of each item.
        item: &'static Shape,
        /// Fewest items.
        minimum: Option<u64>,
        /// Most items.
        maximum: Option<u64>,
        /// Whether no two items may be equal.
        unique: bool,
    },
    /// An object with any names.
    Map(&'static Shape),
    /// Any JSON.
    Json,
}

/// Constraints of text.
#[derive(Debug)]
pub struct Text {
    /// Fewest characters.
    pub minimum: Option<u64>,
    /// Most characters.
    pub maximum: Option<u64>,
    /// A regular expression that must match somewhere.
    pub pattern: Option<&'static str>,
}
