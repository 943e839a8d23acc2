//! `cargo xtask codegen`: prepares what the generator needs, and becomes it.
//!
//! Without `--add` the launcher starts the generator directly, because this package does not compile
//! while generated code is broken.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::{Exit, program, tools};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when something would be written
    #[arg(long)]
    check: bool,
    /// Add this type's schema first, e.g. AWS::DynamoDB::Table; may be repeated
    #[arg(long, value_name = "TYPE", conflicts_with = "check")]
    add: Vec<String>,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments { check, add } = arguments;
    let mut passed: Vec<OsString> = Vec::new();
    passed.extend(check.then(|| "--check".into()));
    if !add.is_empty() {
        passed.extend([
            "--schemas".into(),
            package_data(&tools::cfn_lint()?)?.into(),
        ]);
    }
    for name in add {
        passed.extend(["--add".into(), name.into()]);
    }
    let codegen = program::build(program::CODEGEN)?;
    match program::become_program(&codegen, passed, [])? {}
}

/// The schemas in the Python package of a program, found from its virtual environment.
fn package_data(program: &Path) -> anyhow::Result<PathBuf> {
    let home = program
        .parent()
        .and_then(Path::parent)
        .context("cannot find the virtual environment of cfn-lint")?;
    let libraries = home.join("lib");
    std::fs::read_dir(&libraries)
        .with_context(|| format!("list {}", libraries.display()))?
        .filter_map(|entry| {
            Some(
                entry
                    .ok()?
                    .path()
                    .join("site-packages/cfnlint/data/schemas"),
            )
        })
        .find(|data| data.is_dir())
        .with_context(|| format!("cannot find schemas in {}", libraries.display()))
}
