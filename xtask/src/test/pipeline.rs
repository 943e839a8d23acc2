//! The end-to-end tests: their programs are built first, each by a cargo call of its own, and their
//! paths are handed over in one file, so that a single test can be run again by hand.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use stack::Stage;

use super::{Setting, succeed};
use crate::{local, program, tools, workspace};

/// Names the file with the paths. The `e2e` package reads it.
pub(crate) const PROGRAMS: &str = "E2E_PROGRAMS";

pub(super) fn run(setting: &Setting) -> anyhow::Result<()> {
    tools::redis()?;
    tools::package(&tools::MOSQUITTO)?;
    tools::package(&tools::NGINX)?;
    let node = tools::node()?;
    let browser = tools::browser()?;
    tools::node_modules(&setting.root.join("e2e/browser"))?;

    let programs = programs(&node, &browser)?;
    // The rehearsal builds it; here one sees how that goes.
    program::build(program::AWS)?;
    eprintln!(
        "one test again: {PROGRAMS}={} cargo test -p e2e NAME",
        programs.display()
    );
    succeed(
        program::cargo()
            .args(["test", "--package", "e2e", "--locked", "--no-fail-fast"])
            .args(setting.rest)
            .env(PROGRAMS, &programs)
            .env("PATH", tools::path()?),
        setting,
    )
}

/// Builds the programs under test; the file that names them all.
pub(crate) fn programs(node: &Path, browser: &Path) -> anyhow::Result<PathBuf> {
    let function = program::build(program::FUNCTION)?;
    let webui = program::build(program::WEBUI)?;
    let local = program::build(program::LOCAL)?;
    let mqtt = program::build(program::MQTT)?;
    let template = local::main_template(Stage::Dev)?;
    let folder = workspace::target()?.join("e2e");
    let bundle = folder.join("bundle");
    bundle::write_folder(&bundle, local::BUNDLE, &webui)?;
    let programs = folder.join("programs.json");
    let paths = json!({
        "local": local,
        "function": function,
        "webui": webui,
        "mqtt": mqtt,
        "xtask": env::current_exe().context("find this program")?,
        "bundle": bundle,
        "parameters": local::artifact_parameters(&template)?,
        "template": template,
        "node": node,
        "browser": browser,
        "path": tools::path()?.to_string_lossy(),
    });
    fs::write(&programs, paths.to_string())
        .with_context(|| format!("write {}", programs.display()))?;
    Ok(programs)
}
