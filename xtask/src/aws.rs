//! What talks to AWS: built and run as a program of its own, with the arguments as they were typed.
//!
//! They are parsed here too, from the same file, so that `--help` and a wrong flag are answered at
//! once.

#[path = "../aws/src/arguments.rs"]
pub(crate) mod arguments;

use std::env;

use crate::{Exit, program, tools, workspace};

/// Deploys, with what builds for AWS where something is to be built.
pub(crate) fn deploy(arguments: &arguments::Deploy) -> anyhow::Result<Exit> {
    if arguments.builds() {
        tools::cargo_lambda()?;
    }
    run()
}

/// Runs whatever was asked for.
pub(crate) fn run() -> anyhow::Result<Exit> {
    let program = program::build(program::AWS)?;
    let root = workspace::root()?.into_os_string();
    let environment = [("PATH", tools::path_for_aws()?), ("XTASK_ROOT", root)];
    match program::become_program(&program, env::args_os().skip(1), environment)? {}
}
