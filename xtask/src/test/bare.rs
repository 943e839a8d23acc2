//! The checks on a machine that has Rust, a C compiler, Python, Node.js and little else.
//!
//! The servers, browsers and tools of this machine are hidden: the PATH becomes a folder of links to
//! everything else, and where root may make a mount namespace, their files are covered, so that a fixed
//! path does not find them either. `cargo xtask test` is then run again with an empty folder of tools:
//! it brings every tool there is, and runs one test for each. Nothing outside of `target` is changed,
//! except that the npm packages of `e2e/browser` are installed once more.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::{Setting, judges, pipeline, programs, succeed};
use crate::tools::{self, Tool};
use crate::{program, workspace};

/// What is hidden.
const HIDDEN: &[&str] = &[
    "cargo-audit",
    "cargo-deny",
    "cargo-insta",
    "cargo-lambda",
    "cargo-nextest",
    "cfn-lint",
    "checkov",
    "chromedriver",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "mosquitto",
    "mosquitto_pub",
    "mosquitto_rr",
    "mosquitto_sub",
    "moto_server",
    "nginx",
    "parliament",
    "redis-benchmark",
    "redis-cli",
    "redis-sentinel",
    "redis-server",
    "valkey-cli",
    "valkey-server",
    "zig",
];

/// Covers the files that standard input lists, then becomes the command.
const COVER: &str = r#"while read -r file; do mount --bind /dev/null "$file" || exit 1; done
exec "$@" </dev/null"#;

/// What shows that a tool works.
enum Proof {
    /// Tests: package, test program (or the package's library), start of their names.
    Test(&'static str, &'static str, &'static str),
    /// A step of its own.
    Step(&'static str, fn(&Setting) -> anyhow::Result<()>),
    /// It ran when it was looked for, and nothing else is asked of it.
    Found,
}

const PROOFS: &[(&Tool, Proof)] = &[
    (
        &tools::PYTHON,
        Proof::Test("xtask-aws", "moto", "doctor_finds_the_account"),
    ),
    (&tools::NODE, BROWSER_TEST),
    (&tools::GIT, Proof::Found),
    (
        &tools::PROCPS,
        Proof::Test("webui", "program", "both_signals_end"),
    ),
    (
        &tools::REDIS,
        Proof::Test("functions", "cache", "counting::"),
    ),
    (
        &tools::NGINX,
        Proof::Test("e2e", "nginx", "websocket_is_upgraded"),
    ),
    (
        &tools::MOSQUITTO,
        Proof::Test("local", "mosquitto", "mosquittos_publisher_is_acknowledged"),
    ),
    (&tools::CHROMIUM, BROWSER_TEST),
    (&tools::NODE_MODULES, BROWSER_TEST),
    (&tools::CFN_LINT, Proof::Step("cfn-lint", judges::cfn_lint)),
    (&tools::CHECKOV, Proof::Step("checkov", judges::checkov)),
    (
        &tools::PARLIAMENT,
        Proof::Step("parliament", judges::parliament),
    ),
    (
        &tools::MOTO,
        Proof::Test("xtask-aws", "moto", "doctor_finds_the_account"),
    ),
    (&tools::CARGO_DENY, Proof::Step("deny", judges::deny)),
    (
        &tools::CARGO_LAMBDA,
        Proof::Step("a program for AWS", build_for_aws),
    ),
    (
        &tools::CROSS_TARGETS,
        Proof::Step("a program for AWS", build_for_aws),
    ),
];

const BROWSER_TEST: Proof = Proof::Test("e2e", "browser", "message_shows_on_the_page");

pub(super) fn run(setting: &Setting) -> anyhow::Result<()> {
    match tools::is_bare() {
        true => prove(setting),
        false => hide(setting),
    }
}

/// Runs this step again where the tools are hidden.
fn hide(setting: &Setting) -> anyhow::Result<()> {
    let artifacts = programs::build(setting)?;
    let xtask = artifacts
        .program("xtask")
        .context("cargo has built no program `xtask`")?;
    let home = workspace::target()?.join("bare");
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    }
    let path = home.join("path");
    fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let covered = link_all_but_hidden(&path)?;
    // Then they are installed again.
    let _ = fs::remove_file(
        setting
            .root
            .join("e2e/browser/node_modules/.installed-from"),
    );

    let list = home.join("covered");
    fs::write(&list, covered.join("\n") + "\n")
        .with_context(|| format!("cannot write {}", list.display()))?;
    let mut command = match can_mount() {
        true => {
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "--propagation", "private", "sh", "-c", COVER])
                .arg("bare")
                .arg(&xtask)
                .stdin(fs::File::open(&list)?);
            command
        }
        false => Command::new(&xtask),
    };
    command
        .args(["test", "--only", super::BARE])
        .env("PATH", &path)
        .env(tools::BARE, "true")
        .env(tools::FOLDER, home.join("tools"));
    succeed(&mut command, setting)
}

/// Fills the folder; returns the files of what is hidden.
fn link_all_but_hidden(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut covered = BTreeSet::new();
    let path = env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    for part in env::split_paths(&path).chain(servers) {
        for entry in fs::read_dir(&part).into_iter().flatten().flatten() {
            let file = entry.path();
            let Ok(metadata) = fs::metadata(&file) else {
                continue;
            };
            if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
                continue;
            }
            let name = entry.file_name();
            let link = folder.join(&name);
            if HIDDEN.contains(&&*name.to_string_lossy()) {
                let real = fs::canonicalize(&file)
                    .with_context(|| format!("cannot resolve {}", file.display()))?;
                covered.insert(real.display().to_string());
            } else if link.symlink_metadata().is_err() {
                symlink(&file, &link).with_context(|| format!("cannot link {}", link.display()))?;
            }
        }
    }
    Ok(covered.into_iter().collect())
}

/// Whether this user may cover files in a mount namespace.
fn can_mount() -> bool {
    tools::run(Command::new("unshare").args([
        "--mount",
        "--propagation",
        "private",
        "mount",
        "--bind",
        "/dev/null",
        "/etc/hostname",
    ]))
    .is_ok()
}

/// One test for each tool. All of them run, so that one run reports everything that is wrong.
fn prove(setting: &Setting) -> anyhow::Result<()> {
    for program in ["redis-server", "nginx", "chromium", "cargo-lambda"] {
        if let Some(path) = tools::find(&[program])?
            && !path.starts_with(tools::folder()?)
        {
            bail!("{program} is not hidden: {}", path.display());
        }
    }
    let artifacts = programs::build(setting)?;
    let [pipeline, path] = pipeline::environment(setting)?;
    let moto = setting.tools.path(&tools::MOTO)?.into_os_string();
    let environment = [pipeline, path, ("MOTO_PYTHON", moto)];
    let mut done = Vec::new();
    let mut failed = Vec::new();
    for (tool, proof) in PROOFS {
        let what = match proof {
            Proof::Test(package, program, test) => format!("{package} {program} {test}"),
            Proof::Step(name, _) => (*name).to_owned(),
            Proof::Found => continue,
        };
        if done.contains(&what) {
            continue;
        }
        eprintln!("\nfor {}:", tool.name);
        let result = match proof {
            Proof::Test(package, program, test) => {
                let chosen = artifacts
                    .tests()
                    .filter(|it| it.package == *package && it.name == *program);
                let arguments = ["--include-ignored", test].map(str::to_owned);
                match programs::run(chosen, &environment, 1, &arguments) {
                    Ok(0) => Err(anyhow::anyhow!("no test is called {test}")),
                    other => other.map(drop),
                }
            }
            Proof::Step(_, step) => step(setting),
            Proof::Found => Ok(()),
        };
        if let Err(error) = result {
            eprintln!("{}: {error:#}", tool.name);
            failed.push(tool.name);
        }
        done.push(what);
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "these do not work as they were brought: {}",
        failed.join(", ")
    )
}

/// A program without dependencies for the other architecture: compiler, target and linker are there.
fn build_for_aws(setting: &Setting) -> anyhow::Result<()> {
    const TARGET: &str = "aarch64-unknown-linux-gnu";
    let package = workspace::target()?.join("bare/program");
    fs::create_dir_all(package.join("src"))
        .with_context(|| format!("cannot create {}", package.display()))?;
    let manifest = "[package]\nname = \"program\"\nedition = \"2024\"\n\n[workspace]\n";
    fs::write(package.join("Cargo.toml"), manifest)?;
    fs::write(package.join("src/main.rs"), "fn main() {}\n")?;
    fs::copy(
        setting.root.join("rust-toolchain.toml"),
        package.join("rust-toolchain.toml"),
    )?;
    let mut cargo = program::cargo();
    cargo
        .args(["lambda", "build", "--release", "--target", TARGET])
        .arg("--manifest-path")
        .arg(package.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", package.join("target"))
        .env("PATH", tools::path_for_aws()?)
        .current_dir(&package);
    tools::run(&mut cargo)?;
    println!("cargo-lambda has built a program for {TARGET}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_proof() {
        for tool in tools::ALL {
            assert!(
                PROOFS.iter().any(|(proven, _)| proven == tool),
                "{} is brought and never tried",
                tool.name
            );
        }
    }
}
