//! Publishing at QoS 1, every message confirmed.

use std::time::Duration;

use anyhow::{Context, bail};
use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use tokio::time::timeout;

use crate::PATIENCE;

/// Publishes messages in order over a connection of its own and waits until all are confirmed.
///
/// # Errors
///
/// The broker refuses or is silent.
pub async fn publish(
    address: &str,
    client_id: &str,
    messages: Vec<(String, Vec<u8>)>,
) -> anyhow::Result<()> {
    let (host, port) = address.rsplit_once(':').context("expected HOST:PORT")?;
    let mut options = MqttOptions::new(client_id, host, port.parse()?);
    options
        .set_max_packet_size(1024 * 1024, 1024 * 1024)
        .set_keep_alive(Duration::from_secs(30));
    let (client, mut event_loop) = AsyncClient::new(options, 10);
    let expected = messages.len();
    let send = tokio::spawn(async move {
        for (topic, payload) in messages {
            client
                .publish(topic, QoS::AtLeastOnce, false, payload)
                .await?;
        }
        anyhow::Ok(client)
    });
    let mut confirmed = 0;
    while confirmed < expected {
        let event = timeout(PATIENCE, event_loop.poll())
            .await
            .context("the broker is silent")?;
        match event {
            Ok(Event::Incoming(Packet::PubAck(_))) => confirmed += 1,
            Ok(_) => {}
            Err(error) => bail!("{confirmed} of {expected} are confirmed, then: {error}"),
        }
    }
    let client = send.await??;
    client.disconnect().await?;
    while let Ok(event) = event_loop.poll().await {
        if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
            break;
        }
    }
    Ok(())
}

/// Publishes one message.
///
/// # Errors
///
/// The broker refuses or is silent.
pub async fn publish_one(
    address: &str,
    topic: &str,
    payload: impl Into<Vec<u8>>,
) -> anyhow::Result<()> {
    publish(address, "one", vec![(topic.to_owned(), payload.into())]).await
}
