//! `cargo xtask synth`: the templates of a stage as files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::json;
use stack::{Config, Stage};

use crate::{Exit, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Stage to synthesize: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    stage: Stage,
    /// Write the template of the account's bootstrap instead of a stage's
    #[arg(long, conflicts_with = "stage")]
    bootstrap: bool,
    /// Folder for the templates [default: target/synth/STAGE, or target/synth/bootstrap]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the paths as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        stage,
        bootstrap,
        out,
        json,
    } = arguments;
    let written = match bootstrap {
        true => write_bootstrap(out.as_deref())?,
        false => {
            let folder = match out {
                Some(folder) => folder,
                None => default_folder(stage)?,
            };
            write(stage, &folder)?
        }
    };
    if json {
        let written: Vec<_> = written
            .iter()
            .map(
                |Written {
                     stack,
                     template,
                     sources,
                 }| {
                    json!({ "stack": stack, "template": template, "sources": sources })
                },
            )
            .collect();
        println!("{}", json!(written));
    } else {
        for Written { template, .. } in &written {
            println!("{}", workspace::shown(template));
        }
    }
    Ok(Exit::Done)
}

/// Files of one stack.
pub(crate) struct Written {
    pub(crate) stack: String,
    pub(crate) template: PathBuf,
    /// Logical ID → file and line of the `define` call.
    pub(crate) sources: PathBuf,
}

pub(crate) fn default_folder(stage: Stage) -> anyhow::Result<PathBuf> {
    Ok(workspace::target()?.join("synth").join(stage.to_string()))
}

/// Synthesizes the bootstrap into a folder, which is `target/synth/bootstrap` unless one is given.
pub(crate) fn write_bootstrap(folder: Option<&Path>) -> anyhow::Result<Vec<Written>> {
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => workspace::target()?.join("synth/bootstrap"),
    };
    let stack = stack::bootstrap::synth().context("the bootstrap does not synthesise")?;
    write_stacks(vec![stack], &folder)
}

/// Synthesizes a stage into a folder, the stacks in the order in which they are deployed.
pub(crate) fn write(stage: Stage, folder: &Path) -> anyhow::Result<Vec<Written>> {
    write_with(&stage.config(), folder)
}

/// The same for a configuration other than the stage's own.
pub(crate) fn write_with(config: &Config, folder: &Path) -> anyhow::Result<Vec<Written>> {
    let stacks = stack::synth_with(config)
        .with_context(|| format!("stage {} does not synthesise", config.stage))?;
    write_stacks(stacks, folder)
}

fn write_stacks(stacks: Vec<stack::Synthesized>, folder: &Path) -> anyhow::Result<Vec<Written>> {
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    stacks
        .into_iter()
        .map(|stack| {
            let template = folder.join(format!("{}.template.json", stack.name));
            let sources = folder.join(format!("{}.sources.json", stack.name));
            for (path, text) in [(&template, &stack.template), (&sources, &stack.sources)] {
                fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
            }
            Ok(Written {
                stack: stack.name,
                template,
                sources,
            })
        })
        .collect()
}
