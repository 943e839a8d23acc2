//! One message.

use std::io::{Read, stdin};

use anyhow::Context;
use clap::Args;

use crate::address::Address;
use crate::connection::Connection;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Topic to publish to
    #[arg(long)]
    topic: String,
    /// Payload; `-` reads it from standard input, byte for byte
    message: String,
}

pub(crate) async fn run(address: &Address, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { topic, message } = arguments;
    let payload = if message == "-" {
        let mut payload = Vec::new();
        stdin()
            .read_to_end(&mut payload)
            .context("read the message from standard input")?;
        payload
    } else {
        message.into_bytes()
    };
    let bytes = payload.len();
    let mut connection = Connection::open(address).await?;
    connection.publish(&topic, payload).await?;
    connection.wait_confirmed(1).await?;
    connection.close().await?;
    let unit = if bytes == 1 { "byte" } else { "bytes" };
    println!("published {bytes} {unit} to {topic}");
    Ok(())
}
