//! What was counted outlives the run, however it ends, and is counted once.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::PATIENCE;
use e2e::dashboard::View;
use e2e::programs::Programs;
use e2e::publish::publish_one;
use e2e::run::{Run, Settings};
use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use tokio::time::timeout;

/// Messages that wait for their confirmation at most.
const IN_FLIGHT: u16 = 10;

#[tokio::test]
async fn counts_go_on_after_a_stop() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let data = tempfile::tempdir()?;
    let run = start(&programs, data.path()).await?;
    publish_one(&run.mqtt, "topic/sensors/kitchen", "{}").await?;
    publish_one(&run.mqtt, "topic/sensors/attic", "{}").await?;
    View::open(&run.dashboard).await?.wait_for_count(2).await?;
    let ended = run.stop().await?;
    ensure!(ended.status.success(), "{}\n{}", ended.status, ended.log);

    let run = start(&programs, data.path()).await?;
    let mut view = View::open(&run.dashboard).await?;
    view.wait_for_count(2).await?;
    ensure!(view.devices.contains_key("attic"), "{:?}", view.devices);
    publish_one(&run.mqtt, "topic/sensors/kitchen", "{}").await?;
    view.wait_for_count(3).await?;
    let count = view.devices.get("kitchen").map(|it| it.count);
    ensure!(count == Some(2), "kitchen: {count:?}");
    Ok(())
}

#[tokio::test]
async fn what_was_confirmed_before_a_kill_is_counted_once() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let data = tempfile::tempdir()?;
    let (mut sent, mut confirmed) = (0, 0);
    for round in 1..=3 {
        let run = start(&programs, data.path()).await?;
        let (mut more, mut acknowledged) = (0, 0);
        let mut client = publishing(&run.mqtt)?;
        while acknowledged < 100 * round {
            let event = timeout(PATIENCE, client.poll()).await;
            match event.context("the broker is silent")?? {
                Event::Incoming(Packet::PubAck(_)) => acknowledged += 1,
                Event::Outgoing(Outgoing::Publish(_)) => more += 1,
                _ => {}
            }
        }
        run.kill().await?;
        sent += more;
        confirmed += acknowledged;
    }

    let run = start(&programs, data.path()).await?;
    publish_one(&run.mqtt, "topic/sensors/kitchen", "\"last\"").await?;
    let mut view = View::open(&run.dashboard).await?;
    view.wait_for_payload("kitchen", "\"last\"").await?;
    ensure!(
        (confirmed + 1..=sent + 1).contains(&view.count),
        "{} are counted; {confirmed} were confirmed, {sent} sent, and one at the end",
        view.count
    );
    let ended = run.stop().await?;
    ensure!(ended.status.success(), "{}\n{}", ended.status, ended.log);
    Ok(())
}

async fn start(programs: &Programs, data: &Path) -> anyhow::Result<Run> {
    Run::start(Settings {
        data: Some(data),
        ..Settings::new(programs)
    })
    .await
}

/// A client that publishes for one device until nobody listens any more.
fn publishing(address: &str) -> anyhow::Result<rumqttc::EventLoop> {
    let (host, port) = address.rsplit_once(':').context("expected HOST:PORT")?;
    let mut options = MqttOptions::new("kitchen", host, port.parse()?);
    options
        .set_inflight(IN_FLIGHT)
        .set_keep_alive(Duration::from_secs(60));
    let (client, event_loop) = AsyncClient::new(options, 1);
    tokio::spawn(async move {
        let topic = "topic/sensors/kitchen";
        while client
            .publish(topic, QoS::AtLeastOnce, false, "{}")
            .await
            .is_ok()
        {}
    });
    Ok(event_loop)
}
