//! `cargo xtask publish`: one message, to the local run or to a deployed stage.

use clap::Args;

use stack::Stage;

use crate::{Exit, aws, program};

#[derive(Args)]
#[command(
    after_help = "Exit code: 0 a topic rule takes the message; 3 it is published, and no topic rule takes \
    its topic; 1 an error; 2 a wrong flag"
)]
pub(crate) struct Arguments {
    /// Address of the local run's MQTT broker
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    local: String,
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
    if stage.is_some() {
        // The same words, read by what talks to AWS.
        return aws::run();
    }
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
