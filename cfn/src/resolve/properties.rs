//! Resolved properties as the generated structs.

use super::{Problem, ResolvedResource};
use crate::Resource;

/// Reads a resource's properties; an unknown property or a value of the wrong kind is a problem
/// with its path.
///
/// # Errors
/// The first thing that the type does not have.
pub fn properties<T>(resource: &ResolvedResource) -> Result<T, Problem>
where
    T: Resource + serde::de::DeserializeOwned,
{
    serde_path_to_error::deserialize(&resource.properties).map_err(|error| {
        let path = match error.path().to_string().as_str() {
            "." => "Properties".to_owned(),
            path => format!("Properties.{path}"),
        };
        Problem::at(&resource.logical_id, path, error.into_inner().to_string())
    })
}

/// The name by which AWS knows an enum's value.
pub fn name_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
