//! Programs that we did not write: which there are, where each comes from, and bringing them.
//!
//! Each is looked for on the PATH and in `target/tools`, and brought if it is in neither. Whatever needs
//! several gets them by one call of [`provide()`], before it does anything else.
//!
//! Layout: [`tool`] lists the tools and their sources, [`mod@provide`] finds and brings them, [`debian`]
//! and [`brought`] know Debian's packages and those of PyPI and npm; here folders and the PATH.

mod brought;
mod debian;
mod provide;
mod tool;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

pub(crate) use brought::path_for_aws;
pub(crate) use provide::{Need, Provided, System, provide};
pub(crate) use tool::{
    ALL, CARGO_DENY, CARGO_LAMBDA, CFN_LINT, CHECKOV, CHROMIUM, CROSS_TARGETS, GIT, MOSQUITTO,
    MOTO, NGINX, NODE, NODE_MODULES, PARLIAMENT, PROCPS, PYTHON, REDIS, Tool,
};

use crate::workspace;

/// Names another folder for the tools that are brought.
pub(crate) const FOLDER: &str = "XTASK_TOOLS";

/// Set where the machine's own tools are hidden: nothing outside of the PATH is looked at, and nothing
/// is installed into the system.
pub(crate) const BARE: &str = "XTASK_BARE";

/// Folder of the tools that are brought.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    Ok(match env::var_os(FOLDER) {
        Some(folder) => folder.into(),
        None => workspace::target()?.join("tools"),
    })
}

/// Whether the machine's own tools are hidden.
pub(crate) fn is_bare() -> bool {
    env::var_os(BARE).is_some()
}

/// The PATH with our own tools in front, and the folder where Debian keeps servers at the end: it is
/// not on the PATH of every user.
pub(crate) fn path() -> anyhow::Result<OsString> {
    let own = folder()?.join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let servers = (!is_bare()).then(|| PathBuf::from("/usr/sbin"));
    let folders = std::iter::once(own)
        .chain(env::split_paths(&path))
        .chain(servers);
    env::join_paths(folders).context("put target/tools/bin on the PATH")
}

/// The first of the programs that the PATH or `target/tools/bin` has.
pub(crate) fn find(programs: &[&str]) -> anyhow::Result<Option<PathBuf>> {
    let path = path()?;
    Ok(programs
        .iter()
        .flat_map(|program| env::split_paths(&path).map(move |folder| folder.join(program)))
        .find(|file| is_executable(file)))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// A Redis or Valkey server for a local run: found, or brought without touching the system.
///
/// # Errors
/// It cannot be brought: the line that installs it.
pub(crate) fn redis() -> anyhow::Result<PathBuf> {
    one(&REDIS)
}

/// cfn-lint, whose package holds the registry schemas.
///
/// # Errors
/// It cannot be brought: the line that installs what is missing.
pub(crate) fn cfn_lint() -> anyhow::Result<PathBuf> {
    one(&CFN_LINT)
}

/// cargo-lambda, and the Rust targets that it builds for.
///
/// # Errors
/// They cannot be brought: the line that installs what is missing.
pub(crate) fn cargo_lambda() -> anyhow::Result<()> {
    let needs = [&CARGO_LAMBDA, &CROSS_TARGETS].map(|tool| Need::new(tool, "building for AWS"));
    provide(&needs, System::Untouched).map(drop)
}

fn one(tool: &'static Tool) -> anyhow::Result<PathBuf> {
    let provided = provide(&[Need::new(tool, "")], System::Untouched)?;
    provided.path(tool)
}

/// Whether we are root.
fn is_root() -> bool {
    // The owner of our own process's entry; without /proc (macOS) apt is not there either.
    std::os::unix::fs::MetadataExt::uid(&match fs::metadata("/proc/self") {
        Ok(metadata) => metadata,
        Err(_) => return false,
    }) == 0
}

/// Runs a command for its effect; its output is shown only when it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    output(command).map(drop)
}

/// Runs a command and returns its standard output.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        bail!(
            "{name} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&said).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Puts a program into `target/tools/bin`.
fn link(program: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let bin = folder()?.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let link = bin.join(name);
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).with_context(|| format!("cannot replace {}", link.display()))?;
    }
    std::os::unix::fs::symlink(program, &link)
        .with_context(|| format!("cannot link {}", link.display()))?;
    Ok(link)
}

fn script(path: &Path, lines: &str) -> anyhow::Result<()> {
    fs::write(path, format!("#!/bin/sh\n{lines}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    make_executable(path)
}

fn make_executable(program: &Path) -> anyhow::Result<()> {
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", program.display()))
}
