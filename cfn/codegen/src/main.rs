//! The generator's program; `cargo xtask codegen` runs it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use cfn_codegen::import;
use clap::Parser;

/// Generate the resource types from the registry schemas
#[derive(Parser)]
#[command(bin_name = "cargo xtask codegen")]
struct Arguments {
    /// Write nothing; fail when something would be written
    #[arg(long)]
    check: bool,
    /// Add this type's schema first, e.g. AWS::DynamoDB::Table; may be repeated
    #[arg(
        long,
        value_name = "TYPE",
        conflicts_with = "check",
        requires = "schemas"
    )]
    add: Vec<String>,
    /// Folder with cfn-lint's schemas, for --add
    #[arg(long, value_name = "DIR", hide = true)]
    schemas: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments {
        check,
        add,
        schemas,
    } = arguments;
    let root = root()?;
    if let Some(data) = schemas {
        for name in add {
            let schema =
                import::import(&root, data, name).with_context(|| format!("--add {name}"))?;
            println!(
                "{}",
                schema.strip_prefix(&root).unwrap_or(&schema).display()
            );
        }
        // The handlers of the new types may call services that no other type calls.
        let actions = import::import_actions(&root, data)?;
        println!(
            "{}",
            actions.strip_prefix(&root).unwrap_or(&actions).display()
        );
    }
    let report = cfn_codegen::run(&root, *check)?;
    for written in &report.written {
        println!("{written}");
    }
    // Other types were reviewed when they were added.
    let is_new = |path: &&String| add.iter().any(|name| path.starts_with(name.as_str()));
    let list = |heading: &str, paths: &[String]| {
        let paths: Vec<_> = paths.iter().filter(is_new).collect();
        if !paths.is_empty() {
            eprintln!("{heading}");
            paths.iter().for_each(|path| eprintln!("  {path}"));
        }
    };
    list(
        "these properties look like references and accept any text; type them in an overlay (cfn/overlays):",
        &report.untyped,
    );
    list(
        "these patterns cannot be checked at synth:",
        &report.unchecked,
    );
    Ok(())
}

/// The repository's root: the current folder or one above it.
fn root() -> anyhow::Result<PathBuf> {
    let here = env::current_dir().context("find the current folder")?;
    here.ancestors()
        .find(|folder| folder.join("cfn/schemas").is_dir())
        .map(Path::to_owned)
        .with_context(|| format!("cannot find cfn/schemas in {} or above", here.display()))
}
