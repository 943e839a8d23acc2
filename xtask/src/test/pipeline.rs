//! The end-to-end tests: the paths of everything that they run are handed over in one file, so that a
//! single test can be run again by hand.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use stack::Stage;

use super::{Setting, programs};
use crate::program::Program;
use crate::tools::{CHROMIUM, NODE};
use crate::{local, program, tools, workspace};

/// Names the file with the paths. The `e2e` package reads it.
pub(crate) const PROGRAMS: &str = "E2E_PROGRAMS";

/// The programs that a test may run.
const ALL: [Program; 6] = [
    program::FUNCTION,
    program::WEBUI,
    program::LOCAL,
    program::MQTT,
    program::AWS,
    program::CLOUD,
];

/// Programs by their place in [`ALL`], and xtask.
pub(crate) struct Paths {
    pub(crate) programs: [PathBuf; ALL.len()],
    pub(crate) xtask: PathBuf,
    pub(crate) node: PathBuf,
    pub(crate) browser: PathBuf,
}

pub(super) fn run(setting: &Setting) -> anyhow::Result<()> {
    let environment = environment(setting)?;
    let artifacts = programs::build(setting)?;
    let (_, file) = &environment[0];
    eprintln!(
        "one test again: {PROGRAMS}={} cargo test -p e2e NAME",
        file.display()
    );
    let chosen = artifacts.tests().filter(|it| it.package == "e2e");
    // They wait for processes more than they compute.
    programs::run(chosen, &environment, programs::cores() + 1, setting.rest).map(drop)
}

/// The environment of an end-to-end test.
pub(super) fn environment(setting: &Setting) -> anyhow::Result<[(&'static str, OsString); 2]> {
    let artifacts = programs::build(setting)?;
    let path = |binary| {
        let path = artifacts.program(binary);
        path.with_context(|| format!("cargo has built no program `{binary}`"))
    };
    let mut paths = Vec::new();
    for program in ALL {
        paths.push(path(program.binary)?);
    }
    let file = write(&Paths {
        programs: paths
            .try_into()
            .ok()
            .context("as many paths as there are programs")?,
        xtask: path("xtask")?,
        node: setting.tools.path(&NODE)?,
        browser: setting.tools.path(&CHROMIUM)?,
    })?;
    Ok([(PROGRAMS, file.into()), ("PATH", tools::path()?)])
}

/// Writes the file that names everything.
pub(crate) fn write(paths: &Paths) -> anyhow::Result<PathBuf> {
    let [function, webui, local, mqtt, ..] = &paths.programs;
    let template = local::main_template(Stage::Dev)?;
    let folder = workspace::target()?.join("e2e");
    let bundle = folder.join("bundle");
    bundle::write_folder(&bundle, local::BUNDLE, webui)?;
    let built: serde_json::Map<String, serde_json::Value> = ALL
        .iter()
        .zip(&paths.programs)
        .map(|(program, path)| (program.binary.to_owned(), json!(path)))
        .collect();
    let built_file = folder.join("built.json");
    write_json(&built_file, &built.into())?;
    let file = folder.join("programs.json");
    let paths = json!({
        "local": local,
        "function": function,
        "webui": webui,
        "mqtt": mqtt,
        "xtask": paths.xtask,
        "built": built_file,
        "bundle": bundle,
        "parameters": local::artifact_parameters(&template)?,
        "template": template,
        "node": paths.node,
        "browser": paths.browser,
        "path": tools::path()?.to_string_lossy(),
    });
    write_json(&file, &paths)?;
    Ok(file)
}

fn write_json(file: &Path, value: &serde_json::Value) -> anyhow::Result<()> {
    fs::write(file, value.to_string()).with_context(|| format!("cannot write {}", file.display()))
}
