//! Devices that publish at a steady pace, and a dashboard that notes when their messages are counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use contract::http;
use contract::message::Frame;
use contract::topic;
use e2e::PATIENCE;
use futures_util::StreamExt;
use rumqttc::{AsyncClient, MqttOptions, QoS};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::Message;

/// A fleet's pace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Devices, each with a connection of its own.
    pub(crate) devices: u32,
    /// Messages a second of all devices together.
    pub(crate) rate: u32,
    /// How long.
    pub(crate) time: Duration,
}

impl Pace {
    /// Messages of one device.
    pub(crate) fn messages_each(self) -> usize {
        (self.rate as f64 * self.time.as_secs_f64() / f64::from(self.devices)) as usize
    }
}

/// Name of a device.
pub(crate) fn device(number: u32) -> String {
    format!("bench-{number}")
}

/// Publishes at the pace, at QoS 1. For each device, when each of its messages was handed to the
/// client.
pub(crate) async fn publish(
    address: &str,
    pace: Pace,
) -> anyhow::Result<BTreeMap<String, Vec<Instant>>> {
    let gap = Duration::from_secs_f64(f64::from(pace.devices) / f64::from(pace.rate));
    let start = tokio::time::Instant::now() + Duration::from_millis(500);
    let mut tasks = JoinSet::new();
    for number in 0..pace.devices {
        let (host, port) = address.rsplit_once(':').context("expected HOST:PORT")?;
        let options = MqttOptions::new(device(number), host, port.parse()?);
        // Spread evenly over the gap, as devices that know nothing of one another.
        let first = start + gap * number / pace.devices;
        tasks.spawn(async move {
            let (client, mut event_loop) = AsyncClient::new(options, 10);
            let polling = tokio::spawn(async move { while event_loop.poll().await.is_ok() {} });
            let mut ticks = interval_at(first, gap);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let topic = topic::of_device(&device(number));
            let mut published = Vec::with_capacity(pace.messages_each());
            for n in 0..pace.messages_each() {
                ticks.tick().await;
                let payload = format!(r#"{{"n":{n},"temperature":21.5,"humidity":48}}"#);
                published.push(Instant::now());
                client
                    .publish(&topic, QoS::AtLeastOnce, false, payload)
                    .await?;
            }
            client.disconnect().await?;
            polling.await?;
            anyhow::Ok((device(number), published))
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Hands on every frame of a dashboard, and when it came, until so many messages are counted.
pub(crate) async fn watch(
    dashboard: &str,
    count: u64,
    mut each: impl FnMut(Instant, Frame),
) -> anyhow::Result<()> {
    let url = format!("ws://{dashboard}{}", http::SOCKET);
    let (mut socket, _) = tokio_tungstenite::connect_async(&url)
        .await
        .with_context(|| format!("connect to {url}"))?;
    loop {
        let message = timeout(PATIENCE, socket.next())
            .await
            .context("the dashboard is silent")?
            .context("the dashboard has closed the WebSocket")??;
        let arrived = Instant::now();
        let Message::Text(text) = message else {
            continue;
        };
        let frame: Frame = serde_json::from_str(&text).with_context(|| format!("read {text}"))?;
        ensure!(
            frame.count <= count,
            "{} messages are counted of {count}",
            frame.count
        );
        let is_last = frame.count == count;
        each(arrived, frame);
        if is_last {
            return Ok(());
        }
    }
}
