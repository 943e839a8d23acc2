//! From MQTT to the dashboard and into the archive.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use contract::message::Encoding;
use contract::{http, topic};
use e2e::dashboard::{View, payload, state};
use e2e::programs::Programs;
use e2e::publish::{publish, publish_one, publish_one_v5};
use e2e::run::{Run, Settings};
use e2e::{PATIENCE, archive, dashboard};
use serde_json::{Value as Json, json};
use tokio::time::timeout;

const DEVICES: usize = 7;
const EACH: usize = 100;

/// Device → its messages in order.
fn json_messages() -> BTreeMap<String, Vec<Vec<u8>>> {
    (0..DEVICES)
        .map(|device| {
            let name = format!("device-{device}");
            let messages = (0..EACH).map(|n| {
                json!({
                    "n": n,
                    "temperature": 20.5 + n as f64 / 8.0,
                    "text": "ü \" \\ \u{1F321} \u{2028}",
                    "nested": { "list": [1, null, true, { "device": name }] },
                })
                .to_string()
                .into_bytes()
            });
            (name.clone(), messages.collect())
        })
        .collect()
}

/// Device → its only message, which is not small JSON.
fn odd_messages() -> BTreeMap<String, Vec<Vec<u8>>> {
    let large = json!({ "filling": "x".repeat(100_000 - r#"{"filling":""}"#.len()) });
    [
        ("text", "23.5 °C, said the sensor".as_bytes().to_vec()),
        ("binary", (0..=255).collect()),
        ("empty", Vec::new()),
        ("large", large.to_string().into_bytes()),
    ]
    .map(|(device, message)| (device.to_owned(), vec![message]))
    .into()
}

#[tokio::test]
async fn every_message_is_counted_shown_and_archived_once_and_intact() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let run = Run::start(Settings::new(&programs)).await?;
    let mut early = View::open(&run.dashboard).await?;
    ensure!(early.count == 0, "a fresh run has counted {}", early.count);

    let mut sent = json_messages();
    sent.extend(odd_messages());
    let total: usize = sent.values().map(Vec::len).sum();
    ensure!(sent["large"][0].len() == 100_000);
    // One connection per device, all at once.
    let publishers: Vec<_> = sent
        .iter()
        .map(|(device, messages)| {
            let (address, id) = (run.mqtt.clone(), device.clone());
            let topic = topic::of_device(device);
            let messages = messages
                .iter()
                .map(|it| (topic.clone(), it.clone()))
                .collect();
            tokio::spawn(async move { publish(&address, &id, messages).await })
        })
        .collect();
    for publisher in publishers {
        publisher.await??;
    }
    early.wait_for_count(total as u64).await?;

    let state = state(&run.dashboard).await?;
    let late = View::open(&run.dashboard).await?;
    ensure!((state.count, late.count) == (total as u64, total as u64));
    let of_state: BTreeMap<_, _> = state
        .devices
        .into_iter()
        .map(|device| (device.device.clone(), device))
        .collect();
    for (name, devices) in [
        ("/api/state", &of_state),
        ("a WebSocket from the start", &early.devices),
        ("a new WebSocket", &late.devices),
    ] {
        ensure!(
            devices.keys().eq(sent.keys()),
            "{name} knows {:?}",
            devices.keys()
        );
        for (device, messages) in &sent {
            let shown = &devices[device];
            ensure!(
                shown.count == messages.len() as u64,
                "{name}: {} of {device}, expected {}",
                shown.count,
                messages.len()
            );
            let last = messages.last().context("every device has sent something")?;
            same(last, &payload(&shown.latest)?).with_context(|| format!("{name}: {device}"))?;
        }
    }
    for (device, encoding) in [
        ("device-0", Encoding::Json),
        ("text", Encoding::Text),
        ("binary", Encoding::Base64),
        ("empty", Encoding::Text),
        ("large", Encoding::Json),
    ] {
        ensure!(of_state[device].latest.encoding == encoding, "{device}");
    }

    let ended = run.stop().await?;
    ensure!(ended.status.success(), "{}\n{}", ended.status, ended.log);
    let mut archived: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for line in archive::read(&ended.data)? {
        archived
            .entry(topic::device(&line.topic).to_owned())
            .or_default()
            .push(line.data);
    }
    ensure!(
        archived.keys().eq(sent.keys()),
        "archived: {:?}",
        archived.keys()
    );
    for (device, messages) in &sent {
        let archived = &archived[device];
        ensure!(
            archived.len() == messages.len(),
            "{device}: {} lines",
            archived.len()
        );
        for (sent, archived) in messages.iter().zip(archived) {
            same(sent, archived).with_context(|| format!("archive of {device}"))?;
        }
    }
    Ok(())
}

/// Equal as JSON if it is JSON, byte for byte otherwise: the rule engine may write JSON anew.
fn same(sent: &[u8], got: &[u8]) -> anyhow::Result<()> {
    let json = |bytes: &[u8]| serde_json::from_slice::<Json>(bytes).ok();
    let equal = match json(sent) {
        Some(sent) => json(got) == Some(sent),
        None => sent == got,
    };
    let start = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    ensure!(equal, "got {:?}, sent {:?}", start(got), start(sent));
    Ok(())
}

#[tokio::test]
async fn clients_of_both_versions_of_mqtt_will_do() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let run = Run::start(Settings::new(&programs)).await?;
    let mut view = View::open(&run.dashboard).await?;
    // The bare topic and both versions of the protocol.
    let message = r#"{"temperature": 21.5}"#;
    publish_one(&run.mqtt, topic::BARE, message).await?;
    publish_one_v5(&run.mqtt, "topic/sensors/kitchen", message).await?;
    view.wait_for_count(2).await?;
    ensure!(
        view.devices.keys().eq(["kitchen", "topic/sensors"]),
        "{:?}",
        view.devices.keys()
    );
    Ok(())
}

#[tokio::test]
async fn our_own_client_publishes_and_simulates() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let run = Run::start(Settings::new(&programs)).await?;
    let mut view = View::open(&run.dashboard).await?;
    let client = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(&programs.mqtt)
            .args(["--address", &run.mqtt])
            .args(arguments)
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        anyhow::Ok(String::from_utf8(output.stdout)?)
    };
    let said = client(&["message", "--topic", "topic/sensors/kitchen", "{}"]).await?;
    ensure!(
        said == "published 2 bytes to topic/sensors/kitchen\n",
        "{said}"
    );
    let unmatched = tokio::process::Command::new(&programs.mqtt)
        .args([
            "--address",
            &run.mqtt,
            "message",
            "--topic",
            "elsewhere",
            "{}",
        ])
        .output()
        .await?;
    let reason = String::from_utf8(unmatched.stderr)?;
    ensure!(unmatched.status.code() == Some(3), "{}", unmatched.status);
    ensure!(
        reason.contains("no topic rule takes `elsewhere`"),
        "{reason}"
    );
    let faults = "--faults=silence,spikes,garbage,duplicates";
    let said = client(&[
        "simulation",
        "--devices=5",
        "--rate=200",
        "--seconds=1",
        faults,
        "--json",
    ])
    .await?;
    let summary: Json = serde_json::from_str(&said)?;
    ensure!(summary["published"] == 200, "{summary}");
    view.wait_for_count(201).await?;
    Ok(())
}

#[tokio::test]
async fn dashboard_serves_its_page_and_becomes_ready() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let run = Run::start(Settings::new(&programs)).await?;
    for path in [http::HEALTH, http::METRICS] {
        let (status, body) = dashboard::get(&run.dashboard, path).await?;
        ensure!(status == 200, "{path}: {status} {body}");
    }
    let (status, page) = dashboard::get(&run.dashboard, http::PAGE).await?;
    ensure!(
        status == 200 && page.to_lowercase().contains("<!doctype html>"),
        "{status} {page}"
    );
    // Like the balancer, which asks again and again: the cache is connected to in the background.
    let ready = async {
        while dashboard::get(&run.dashboard, http::READY).await?.0 != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, ready).await.context("never ready")?
}

#[tokio::test]
async fn message_on_another_topic_goes_nowhere() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let run = Run::start(Settings::new(&programs)).await?;
    let mut view = View::open(&run.dashboard).await?;
    for topic in ["topic", "topic/sensors/a/b", "other", "topic/sensors/last"] {
        publish_one(&run.mqtt, topic, "1").await?;
    }
    view.wait_for_count(1).await?;
    ensure!(
        view.devices.keys().eq(["last"]),
        "{:?}",
        view.devices.keys()
    );
    Ok(())
}
