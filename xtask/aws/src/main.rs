//! Deploys the two stacks of a stage, takes them down, and tells how they are: all of the command line
//! that talks to AWS, in a program of its own, so that the rest compiles without the SDK.
//!
//! `xtask` builds and runs it; the flags are in `arguments`, which both read.
//! It never decides what is deployed: that is `stack`'s, and the template's.
//!
//! Layout, in reading order: [`arguments`]; [`deploy`] and [`destroy`], each with its steps, and
//! [`bootstrap`](mod@bootstrap), which comes before both; [`stack`] (one
//! CloudFormation stack and one operation on it), [`artifact`] (built, packaged, uploaded), [`screen`]
//! (what the terminal shows meanwhile); [`aws`] (clients, one file for each service); and the commands that
//! change nothing: [`diff`](mod@diff), [`status`], [`outputs`], [`doctor`], [`smoke`] with [`socket`], [`logs`],
//! [`message`].

#[macro_use]
#[path = "../../src/output.rs"]
mod output;

mod arguments;
mod artifact;
mod aws;
mod bootstrap;
mod deploy;
mod destroy;
mod diff;
mod doctor;
mod logs;
mod message;
mod outputs;
mod screen;
mod smoke;
mod socket;
mod stack;
mod status;
mod topic_rules;

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::Context;
use arguments::Command;
use clap::Parser;
use outcome::{Exit, Failure};

/// Commands that call AWS; `cargo xtask` runs this program.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let is_json = outcome::is_json();
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return outcome::not_parsed(&error, is_json).into(),
    };
    let ended = without_empty_variables().and_then(|()| {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("start the runtime")?
            .block_on(until_interrupted(command))
    });
    ended.unwrap_or_else(|error| {
        let error = format!("{error:#}");
        let exit = Exit::Failed;
        eprintln!("error: {error}");
        Failure { error, exit }.print(is_json);
        exit.into()
    })
}

/// Starts this program again without its empty `AWS_` variables: the SDK takes some of them for values.
///
/// `cargo xtask` has removed them already; this is for who runs the program by itself.
fn without_empty_variables() -> anyhow::Result<()> {
    let empty = aws_environment::empty_variables();
    if empty.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe().context("find this program")?;
    let mut command = std::process::Command::new(program);
    command.args(std::env::args_os().skip(1));
    for name in empty {
        command.env_remove(name);
    }
    Err(command.exec()).context("start this program again")
}

async fn until_interrupted(command: Command) -> anyhow::Result<ExitCode> {
    // Somebody else's call of rustls may not have chosen yet; twice the same choice is fine.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let works_on_stacks = matches!(
        command,
        Command::Bootstrap(_) | Command::Deploy(_) | Command::Destroy(_)
    );
    tokio::select! {
        // Ctrl-C is listened for before anything is begun.
        biased;
        // The others begin nothing that goes on; they end as every program does.
        _ = tokio::signal::ctrl_c(), if works_on_stacks => {
            eprintln!(
                "\ninterrupted: what CloudFormation has begun goes on; run the same command again to follow it"
            );
            Ok(Exit::Interrupted.into())
        }
        done = run(command) => done,
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Deploy(arguments) => deploy::run(arguments).await?,
        Command::Destroy(arguments) => destroy::run(arguments).await?,
        Command::Bootstrap(arguments) => bootstrap::run(arguments).await?,
        Command::Diff(arguments) => return diff::run(arguments).await,
        Command::Status(arguments) => status::run(arguments).await?,
        Command::Outputs(arguments) => outputs::run(arguments).await?,
        Command::Open(arguments) => outputs::open(arguments).await?,
        Command::Doctor(arguments) => doctor::run(arguments).await?,
        Command::Smoke(arguments) => smoke::run(arguments).await?,
        Command::Logs(arguments) => logs::run(arguments).await?,
        Command::Publish(arguments) => return message::publish(arguments).await,
        Command::Simulate(arguments) => message::simulate(arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}
