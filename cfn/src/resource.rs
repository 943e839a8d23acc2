//! Resources, and handles to refer to them.

use std::any::Any;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::problem::Problem;
use crate::shape::{Object, Property, Shape, Text};
use crate::value::Value;

/// Properties of one CloudFormation resource type.
pub trait Resource: Serialize + DeserializeOwned + Any {
    /// The type's name, such as `AWS::Kinesis::Stream`.
    const TYPE: &'static str;
}

/// A handle of a resource that is defined in a template.
///
/// Attributes are generated methods: `stream.arn()` is `Fn::GetAtt`, `stream.reference()` is `Ref`.
pub struct Handle<R> {
    /// The resource's name in the template.
    pub(crate) logical_id: &'static str,
    resource: PhantomData<fn() -> R>,
}

impl<R> Clone for Handle<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Handle<R> {}

impl<R> Handle<R> {
    pub(crate) const fn new(logical_id: &'static str) -> Self {
        Handle {
            logical_id,
            resource: PhantomData,
        }
    }

    /// The resource's name in the template.
    pub const fn logical_id(self) -> &'static str {
        self.logical_id
    }
}

/// A tag, for all resource types with a list of tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Tag {
    /// 1–128 characters, not starting with `aws:`
    pub key: Value<String>,
    /// 0–256 characters
    pub value: Value<String>,
}

impl Tag {
    /// Creates a tag.
    pub fn new(key: impl Into<Value<String>>, value: impl Into<Value<String>>) -> Tag {
        Tag {
            key: key.into(),
            value: value.into(),
        }
    }
}

crate::value::literals!(Tag);

/// Constraints of tags. Lengths are from "Tagging AWS resources".
pub(crate) static TAG_SHAPE: Object = Object {
    properties: &[
        Property {
            name: "Key",
            required: true,
            shape: Shape::Text(Text {
                minimum: Some(1),
                maximum: Some(128),
                pattern: None,
            }),
        },
        Property {
            name: "Value",
            required: true,
            shape: Shape::Text(Text {
                minimum: None,
                maximum: Some(256),
                pattern: None,
            }),
        },
    ],
    required_xor: &[],
    required_or: &[],
    dependent_required: &[],
    dependent_excluded: &[],
};

/// Parses a resource's resolved properties as its generated struct.
///
/// Unknown properties, wrong types and missing properties are problems with logical ID and path.
pub fn read<R: Resource>(logical_id: &str, properties: &Json) -> Result<R, Problem> {
    serde_path_to_error::deserialize(properties).map_err(|error| {
        Problem::new(
            format!("{logical_id}.{}", error.path()),
            error.inner().to_string(),
        )
    })
}

/// Handling of a resource that leaves the stack.
///
/// See "DeletionPolicy attribute" in the CloudFormation user guide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum DeletionPolicy {
    /// Deletes it. The default for most types.
    Delete,
    /// Keeps it.
    Retain,
    /// Keeps it, unless the stack that would have created it failed.
    RetainExceptOnCreate,
    /// Takes a snapshot, then deletes it. Only for types that have snapshots.
    Snapshot,
}

/// Handling of the old resource when an update replaces it.
///
/// See "UpdateReplacePolicy attribute" in the CloudFormation user guide. [`DeletionPolicy`] does not
/// apply to replacement: set both to keep data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum UpdateReplacePolicy {
    /// Deletes it. The default.
    Delete,
    /// Keeps it.
    Retain,
    /// Takes a snapshot, then deletes it.
    Snapshot,
}
