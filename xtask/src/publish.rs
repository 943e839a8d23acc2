//! `cargo xtask publish`: one message to the local run.

use clap::Args;

use crate::{Exit, program};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Address of the local run's MQTT broker
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    local: String,
    /// Topic to publish to; topic/sensors/NAME is the device NAME
    #[arg(long, value_name = "TOPIC", default_value = contract::topic::BARE)]
    topic: String,
    /// Payload: JSON, text, or `-` for the bytes of standard input
    #[arg(allow_hyphen_values = true)]
    message: String,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        local,
        topic,
        message,
    } = arguments;
    let client = program::build(program::MQTT)?;
    let arguments = [
        "--address",
        &local,
        "message",
        "--topic",
        &topic,
        "--",
        &message,
    ];
    match program::become_program(&client, arguments.map(Into::into), [])? {}
}
