//! `cargo xtask codegen`: the resource types from the registry schemas.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::{Exit, tools, workspace};

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
    let root = workspace::root()?;
    if !add.is_empty() {
        let data = package_data(&tools::cfn_lint()?)?;
        for name in &add {
            let schema = cfn_codegen::import::import(&root, &data, name)
                .with_context(|| format!("--add {name}"))?;
            println!("{}", workspace::shown(&schema));
        }
        // The new types' handlers may call services that no other type's do.
        let actions = cfn_codegen::import::import_actions(&root, &data)?;
        println!("{}", workspace::shown(&actions));
    }
    let report = cfn_codegen::run(&root, check)?;
    for written in &report.written {
        println!("{written}");
    }
    // The rest was looked at when its type came in.
    let is_new = |path: &&String| add.iter().any(|name| path.starts_with(name.as_str()));
    let untyped: Vec<_> = report.untyped.iter().filter(is_new).collect();
    if !untyped.is_empty() {
        eprintln!(
            "these look like references and take any text; type them by an overlay (cfn/overlays):"
        );
        untyped.iter().for_each(|path| eprintln!("  {path}"));
    }
    let unchecked: Vec<_> = report.unchecked.iter().filter(is_new).collect();
    if !unchecked.is_empty() {
        eprintln!("these patterns cannot be checked at synth:");
        unchecked.iter().for_each(|path| eprintln!("  {path}"));
    }
    Ok(Exit::Done)
}

/// The data that the Python package comes with, from the program in its virtual environment.
fn package_data(program: &Path) -> anyhow::Result<PathBuf> {
    let home = program
        .parent()
        .and_then(Path::parent)
        .context("cfn-lint has no home")?;
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
        .with_context(|| format!("{} holds no schemas", libraries.display()))
}
