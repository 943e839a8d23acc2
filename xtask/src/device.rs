//! `cargo xtask device`: devices that sign in to the local run with a certificate.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{Exit, program, tools, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Issue a certificate, and show how the device publishes with it
    Add(Add),
}

#[derive(Args)]
struct Add {
    /// The device's name: its thing, its client ID and the last level of its topic
    #[arg(value_name = "NAME")]
    name: String,
    /// Where the local run listens for MQTT with TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8883")]
    mqtts: String,
    /// Folder of the local run's data [default: target/local]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Command::Add(Add { name, mqtts, data }) = arguments.command;
    let data = match data {
        Some(data) => data,
        None => workspace::target()?.join("local"),
    };
    let local = program::build(program::LOCAL)?;
    let passed: Vec<OsString> = vec![
        "--add-device".into(),
        name.into(),
        "--mqtts".into(),
        mqtts.into(),
        "--data".into(),
        data.into(),
    ];
    match program::become_program(&local, passed, [("PATH", tools::path()?)])? {}
}
