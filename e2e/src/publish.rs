//! Publishing at QoS 1, every message confirmed.

use std::time::Duration;

use anyhow::{Context, bail};
use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS, v5};
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

/// Publishes one message by MQTT 5.
///
/// # Errors
///
/// The broker refuses or is silent.
pub async fn publish_one_v5(
    address: &str,
    topic: &str,
    payload: impl Into<Vec<u8>>,
) -> anyhow::Result<()> {
    let (host, port) = address.rsplit_once(':').context("expected HOST:PORT")?;
    let options = v5::MqttOptions::new("one", host, port.parse()?);
    let (client, mut event_loop) = v5::AsyncClient::new(options, 10);
    client
        .publish(
            topic,
            v5::mqttbytes::QoS::AtLeastOnce,
            false,
            payload.into(),
        )
        .await?;
    let confirmed = async {
        loop {
            if let v5::Event::Incoming(v5::mqttbytes::v5::Packet::PubAck(_)) =
                event_loop.poll().await?
            {
                return anyhow::Ok(());
            }
        }
    };
    timeout(PATIENCE, confirmed)
        .await
        .context("the broker is silent")?
}
