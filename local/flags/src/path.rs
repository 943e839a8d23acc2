//! Paths of programs and bundles, and template parameters.

use std::path::PathBuf;

/// A path for one resource, or for every resource of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForResource {
    /// Logical ID; `None` is every resource of the type.
    pub logical_id: Option<String>,
    /// The path.
    pub path: PathBuf,
}

/// The path for a resource: the one with its logical ID, otherwise the one for all.
pub fn path_for<'a>(paths: &'a [ForResource], logical_id: &str) -> Option<&'a PathBuf> {
    let named = paths
        .iter()
        .find(|it| it.logical_id.as_deref() == Some(logical_id));
    named
        .or_else(|| paths.iter().find(|it| it.logical_id.is_none()))
        .map(|it| &it.path)
}

/// Parses `[LOGICALID=]PATH`.
///
/// # Errors
/// None: what is not a logical ID is part of the path.
pub fn for_resource(text: &str) -> Result<ForResource, String> {
    let is_logical_id =
        |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    Ok(match text.split_once('=') {
        Some((id, path)) if is_logical_id(id) => ForResource {
            logical_id: Some(id.to_owned()),
            path: path.into(),
        },
        _ => ForResource {
            logical_id: None,
            path: text.into(),
        },
    })
}

/// Parses `NAME=VALUE`.
///
/// # Errors
/// There is no name, or no equals sign.
pub fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_name_their_resource() {
        let paths = ["a", "Sensors=b", "/with=sign/c"].map(|it| for_resource(it).unwrap());
        assert_eq!(path_for(&paths, "Sensors"), Some(&PathBuf::from("b")));
        assert_eq!(path_for(&paths, "Other"), Some(&PathBuf::from("a")));
        assert_eq!(paths[2].path, PathBuf::from("/with=sign/c"));
        assert_eq!(path_for(&[], "Other"), None);
    }

    #[test]
    fn parameters_keep_what_follows_the_first_equals_sign() {
        assert_eq!(parameter("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(parameter("A").is_err());
        assert!(parameter("=b").is_err());
    }
}
