//! `cargo xtask codegen`: the resource types from the registry schemas.

use clap::Args;

use crate::{Exit, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when something would be written
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    cfn_codegen::run(&workspace::root()?, arguments.check)?;
    Ok(Exit::Done)
}
