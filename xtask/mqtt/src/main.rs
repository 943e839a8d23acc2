//! Publishes messages over MQTT: one, or a simulated fleet's.
//!
//! Run by `cargo xtask publish` and `cargo xtask simulate`, so that the command line itself compiles no
//! MQTT client.
//!
//! Layout: `message` publishes one, `simulation` runs a fleet, `connection` is all that knows MQTT.

#[macro_use]
#[path = "../../src/output.rs"]
mod output;

mod address;
mod connection;
mod message;
mod simulation;

use std::process::ExitCode;

use address::Address;
use clap::{Parser, Subcommand};
use message::Published;

/// Exit code of a message that no topic rule takes.
const UNMATCHED: u8 = 3;

/// Publish messages over MQTT.
#[derive(Parser)]
#[command(name = "xtask-mqtt", disable_help_subcommand = true)]
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
    let Arguments { address, command } = Arguments::parse();
    let done = match command {
        Command::Message(arguments) => message::run(&address, arguments).await,
        Command::Simulation(arguments) => simulation::run(&address, arguments)
            .await
            .map(|()| Published::Taken),
    };
    match done {
        Ok(Published::Taken) => ExitCode::SUCCESS,
        Ok(Published::Unmatched) => ExitCode::from(UNMATCHED),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
