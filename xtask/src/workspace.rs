//! The folders of this repository.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The repository's root: the parent of the package's folder, which cargo names, or of the current folder
/// when the built program is called directly.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let is_root = |folder: &Path| folder.join("xtask/Cargo.toml").is_file();
    if let Some(package) = env::var_os("CARGO_MANIFEST_DIR")
        && let Some(root) = Path::new(&package).parent()
        && is_root(root)
    {
        return Ok(root.to_owned());
    }
    let here = env::current_dir().context("find the current folder")?;
    here.ancestors()
        .find(|folder| is_root(folder))
        .map(Path::to_owned)
        .with_context(|| format!("{} is not inside this repository", here.display()))
}

/// Cargo's target folder.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let root = root()?;
    Ok(match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root.join(folder),
        None => root.join("target"),
    })
}

/// A path relative to the current folder, if it is below it.
pub(crate) fn shown(path: &Path) -> String {
    let here = env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    relative.as_deref().unwrap_or(path).display().to_string()
}
