//! `cargo xtask publish`: one message, to the local run or to a deployed stage.

use anyhow::bail;
use clap::Args;
use local_flags::address::Address;
use stack::Stage;

use crate::{Exit, address, aws, program};

/// What starts the local run's broker.
pub(crate) const START: &str = "start it by `cargo xtask local`";

#[derive(Args)]
#[command(
    after_help = "Exit code: 0 a topic rule takes the message; 3 it is published, and no topic rule takes \
    its topic; 1 an error; 2 a wrong flag"
)]
pub(crate) struct Arguments {
    /// Address of the local run's MQTT broker
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    local: Address,
    /// Stage to send to instead, through AWS IoT: dev or prod
    #[arg(long, value_name = "STAGE", conflicts_with = "local")]
    stage: Option<Stage>,
    /// Topic to publish to; topic/sensors/NAME is the device NAME
    #[arg(long, value_name = "TOPIC", default_value = contract::topic::BARE)]
    topic: String,
    /// Payload: JSON, text, or `-` for the bytes of standard input
    #[arg(allow_negative_numbers = true)]
    message: String,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        local,
        stage,
        topic,
        message,
    } = arguments;
    // "Topic names … cannot contain wildcards" (MQTT 3.1.1, 4.7.1).
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        bail!(
            "invalid --topic \"{}\": expected a topic without `+` and `#`",
            topic.escape_debug()
        );
    }
    if stage.is_some() {
        // The same arguments, parsed by the program that calls AWS.
        return aws::run();
    }
    address::check_answers("--local", &local.host, local.port, START)?;
    let client = program::build(program::MQTT)?;
    let local = local.to_string();
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
