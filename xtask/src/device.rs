//! `cargo xtask device`: devices that sign in to the local run with a certificate.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use local_flags::thing;

use crate::{Exit, address, program, tools, workspace};

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
    /// Name of the device: its thing, its client ID and the last level of its topic
    #[arg(value_name = "NAME", value_parser = thing_name)]
    name: String,
    /// Address of the local run for MQTT with TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8883", value_parser = address::parse)]
    mqtts: SocketAddr,
    /// Folder of the local run's data [default: target/local]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

fn thing_name(text: &str) -> Result<String, String> {
    match thing::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected {}", thing::EXPECTED)),
    }
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
        mqtts.to_string().into(),
        "--data".into(),
        data.into(),
    ];
    match program::become_program(&local, passed, [("PATH", tools::path()?)])? {}
}
