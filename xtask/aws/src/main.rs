//! Deploys the two stacks of a stage, takes them down, and tells how they are: all of the command line
//! that talks to AWS, in a program of its own, so that the rest compiles without the SDK.
//!
//! `xtask` builds and runs it; the flags are in `arguments`, which both read.
//! It never decides what is deployed: that is `stack`'s, and the template's.
//!
//! Layout, in reading order: [`arguments`]; [`deploy`] and [`destroy`], each with its steps; [`stack`] (one
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

use std::process::ExitCode;

use arguments::Command;
use clap::Parser;
use serde_json::json;

/// What talks to AWS; `cargo xtask` runs it.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What a shell expects of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let command = Arguments::parse().command;
    // Somebody else's call of rustls may not have chosen yet; twice the same choice is fine.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let works_on_stacks = matches!(command, Command::Deploy(_) | Command::Destroy(_));
    let speaks_json = match &command {
        Command::Deploy(arguments) => arguments.json,
        Command::Destroy(arguments) => arguments.json,
        _ => false,
    };
    let done = tokio::select! {
        // Ctrl-C is listened for before anything is begun.
        biased;
        // The others begin nothing that goes on; they end as every program does.
        _ = tokio::signal::ctrl_c(), if works_on_stacks => {
            eprintln!(
                "\ninterrupted: what CloudFormation has begun goes on; the same command, run again, follows it"
            );
            return ExitCode::from(INTERRUPTED);
        }
        done = run(command) => done,
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            if speaks_json {
                let error = format!("{error:#}");
                println!("{}", json!({ "result": "failed", "error": error }));
            }
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Deploy(arguments) => deploy::run(arguments).await?,
        Command::Destroy(arguments) => destroy::run(arguments).await?,
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
