//! `cargo xtask completions`: the completion script of a shell.
//!
//! The script completes a command `xtask`, an alias of `cargo xtask`: the words after `cargo` are completed
//! by cargo's own script, which knows no commands of a workspace.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Exit;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let mut command = crate::Arguments::command().bin_name("xtask").name("xtask");
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "xtask", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}
