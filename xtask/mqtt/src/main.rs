//! Publishes messages over MQTT: one, or a simulated fleet's.
//!
//! Run by `cargo xtask publish` and `cargo xtask simulate`, so that the command line itself compiles no
//! MQTT client.
//!
//! Layout: `message` publishes one, `simulation` runs a fleet, `connection` is all that knows MQTT.

#[macro_use]
#[path = "../../src/output.rs"]
mod output;

mod connection;
mod message;
mod simulation;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use local_flags::address::Address;
use message::Published;
use outcome::{Exit, Failure};

/// Publish messages over MQTT.
#[derive(Parser)]
#[command(name = "xtask-mqtt", max_term_width = 100)]
struct Arguments {
    /// Address of the broker as HOST:PORT
    #[arg(long, value_name = "ADDR")]
    address: Address,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publish one message and wait until the broker confirms it
    Message(message::Arguments),
    /// Publish what a fleet of simulated sensors says
    Simulation(simulation::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let is_json = outcome::is_json();
    let Arguments { address, command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return outcome::not_parsed(&error, is_json).into(),
    };
    let done = match command {
        Command::Message(arguments) => message::run(&address, arguments).await,
        Command::Simulation(arguments) => simulation::run(&address, arguments)
            .await
            .map(|()| Published::Taken),
    };
    match done {
        Ok(Published::Taken) => ExitCode::SUCCESS,
        Ok(Published::Unmatched) => Exit::Attention.into(),
        Err(error) => {
            let error = format!("{error:#}");
            let exit = Exit::Failed;
            eprintln!("error: {error}");
            Failure { error, exit }.print(is_json);
            exit.into()
        }
    }
}
