//! Deploys the two stacks of a stage, takes them down, and tells how they are: all of the command line
//! that talks to AWS, in a program of its own, so that the rest compiles without the SDK.
//!
//! `xtask` builds and runs it; the flags are in `arguments`, which both read.
//! It never decides what is deployed: that is `stack`'s, and the template's.
//!
//! Layout, in reading order: [`arguments`]; the subcommands [`deploy`] with [`role_policy`], [`destroy`],
//! [`diff`](mod@diff), [`status`], [`outputs`], [`doctor`], [`smoke`] with [`socket`], [`logs`],
//! [`message`];
//! [`operation`] (one operation on one stack, and every state that a stack can be in, by [`state`]),
//! [`event`], [`progress`], [`block`], [`forecast`], [`typical`], [`race`]; [`change`] (a stack as it should become), [`plan`]
//! (what would change, in words); [`artifacts`], [`zips`], [`upload`], [`leftovers`], [`sbom`], [`platform`]; and the
//! calls: [`cloud`], [`stack_call`], [`bucket`], [`beanstalk`], and by [`signed`] those of [`ec2`] and [`iot`].

mod arguments;
mod artifacts;
mod beanstalk;
mod block;
mod bucket;
mod change;
mod cloud;
mod deploy;
mod destroy;
mod diff;
mod doctor;
mod ec2;
mod elasticache;
mod event;
mod forecast;
mod given;
mod hold;
mod iot;
mod leftovers;
mod logs;
mod message;
mod operation;
mod outputs;
mod plan;
mod platform;
mod progress;
mod race;
mod rehearsal;
mod role_policy;
mod sbom;
mod signed;
mod smoke;
mod socket;
mod sources;
mod stack_call;
mod state;
mod status;
mod sweep;
mod typical;
mod upload;
mod zips;

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
        Command::Publish(arguments) => message::publish(arguments).await?,
        Command::Simulate(arguments) => message::simulate(arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}
