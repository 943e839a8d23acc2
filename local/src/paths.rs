//! Paths of programs and bundles, each for one resource or for all of its type.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
pub use local_flags::path::{ForResource, path_for};

/// Binaries of functions and unpacked bundles of environments, absolute, by logical ID.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// By logical ID of the function.
    pub binaries: HashMap<String, PathBuf>,
    /// By logical ID of the environment.
    pub bundles: HashMap<String, PathBuf>,
}

impl Programs {
    /// The path of a function's binary.
    ///
    /// # Errors
    /// There is none.
    pub fn binary(&self, logical_id: &str) -> anyhow::Result<&Path> {
        let found = self.binaries.get(logical_id);
        let found = found.ok_or_else(|| missing(logical_id, "binary", "--function"))?;
        Ok(found)
    }

    /// The path of an environment's bundle.
    ///
    /// # Errors
    /// There is none.
    pub fn bundle(&self, logical_id: &str) -> anyhow::Result<&Path> {
        let found = self.bundles.get(logical_id);
        let found = found.ok_or_else(|| missing(logical_id, "unpacked bundle", "--bundle"))?;
        Ok(found)
    }

    /// Finds the programs of these functions and environments among the given paths.
    ///
    /// # Errors
    /// One was not given, or its file is not there.
    pub fn find<'a>(
        functions: impl Iterator<Item = &'a str>,
        given_functions: &[ForResource],
        environments: impl Iterator<Item = &'a str>,
        given_bundles: &[ForResource],
    ) -> anyhow::Result<Programs> {
        Ok(Programs {
            bundles: find(environments, given_bundles, "--bundle", "unpacked bundle")?,
            binaries: find(functions, given_functions, "--function", "binary")?,
        })
    }
}

fn missing(logical_id: &str, what: &str, flag: &str) -> anyhow::Error {
    anyhow!("{logical_id} needs its {what}: pass {flag}")
}

/// The absolute path of every resource's program or folder.
fn find<'a>(
    logical_ids: impl Iterator<Item = &'a str>,
    given: &[ForResource],
    flag: &str,
    what: &str,
) -> anyhow::Result<HashMap<String, PathBuf>> {
    let mut found = HashMap::new();
    for logical_id in logical_ids {
        let path = path_for(given, logical_id).ok_or_else(|| missing(logical_id, what, flag))?;
        // Programs have working directories of their own.
        let path = std::fs::canonicalize(path)
            .with_context(|| format!("{logical_id}: cannot use {flag} {}", path.display()))?;
        found.insert(logical_id.to_owned(), path);
    }
    Ok(found)
}
