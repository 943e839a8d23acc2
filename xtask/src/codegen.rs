//! `cargo xtask codegen`: the resource types from the registry schemas.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::{Exit, tools, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when something would be written
    #[arg(long, conflicts_with = "add")]
    check: bool,
    /// Bring in the schema of this type first, such as AWS::DynamoDB::Table
    #[arg(long, value_name = "TYPE")]
    add: Vec<String>,
    /// List the properties that look like references and accept any text
    #[arg(long)]
    untyped: bool,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let root = workspace::root()?;
    if !arguments.add.is_empty() {
        let schemas = package_data(&tools::cfn_lint()?)?;
        for r#type in &arguments.add {
            let path = cfn_codegen::import::import(&root, &schemas, r#type)?;
            println!("{}", workspace::shown(&path));
        }
    }
    let report = cfn_codegen::run(&root, arguments.check)?;
    for path in &report.written {
        println!("{path}");
    }
    for pattern in &report.unchecked {
        eprintln!("this pattern cannot be checked: {pattern}");
    }
    // Of a type that was added all at once, so that an overlay can be written with it.
    let of_added = |line: &&String| {
        let of = |r#type: &String| line.strip_prefix(r#type.as_str()).is_some_and(|rest| rest.starts_with(':'));
        arguments.untyped || arguments.add.iter().any(of)
    };
    let untyped: Vec<&String> = report.untyped.iter().filter(of_added).collect();
    if !untyped.is_empty() {
        eprintln!("these accept any text; where they refer to a resource, say so in cfn/overlays:");
        for line in untyped {
            eprintln!("  {line}");
        }
    }
    Ok(Exit::Done)
}

/// The schemas in the package of the cfn-lint whose program this is.
fn package_data(program: &Path) -> anyhow::Result<PathBuf> {
    let home = program.parent().and_then(Path::parent).context("cfn-lint's program has no folder")?;
    let libraries = home.join("lib");
    for python in std::fs::read_dir(&libraries).with_context(|| format!("read {}", libraries.display()))? {
        let schemas = python?.path().join("site-packages/cfnlint/data/schemas");
        if schemas.is_dir() {
            return Ok(schemas);
        }
    }
    anyhow::bail!("no schemas of cfn-lint below {}: remove the folder and run this again", libraries.display())
}
