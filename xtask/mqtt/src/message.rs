//! One message.

use std::io::{Read, stdin};

use anyhow::Context;
use clap::Args;

use crate::connection::Connection;
use local_flags::address::Address;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Topic to publish to
    #[arg(long)]
    topic: String,
    /// Payload; `-` reads it from standard input, byte for byte
    message: String,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// A topic rule takes its topic.
    Taken,
    /// The broker has confirmed it, and no topic rule takes its topic.
    Unmatched,
}

pub(crate) async fn run(address: &Address, arguments: Arguments) -> anyhow::Result<Published> {
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
    let published = match connection.unmatched() {
        0 => Published::Taken,
        _ => Published::Unmatched,
    };
    connection.close().await?;
    let unit = if bytes == 1 { "byte" } else { "bytes" };
    println!("published {bytes} {unit} to {topic}");
    if published == Published::Unmatched {
        eprintln!(
            "no topic rule takes `{topic}`: the message is neither counted nor archived; devices publish to `{}`",
            contract::topic::of_device("NAME")
        );
    }
    Ok(published)
}
