//! Everything that was published is accounted for, whatever goes wrong in between.
//!
//! A fleet publishes while the function crashes, the cache restarts, the stream throttles and records
//! are delivered twice. At the end, for each device: what was published is counted, or was told to the
//! error action because the stream refused it; all of it is archived; the failure bucket is empty.
//! A count cannot be right by chance when the order is not: a record that comes after a later one of
//! its device is below the device's mark, and is not counted.
//! Then the cache loses its data, and the same holds from there on.
//!
//! `cargo xtask soak --minutes N` runs it for longer.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::PATIENCE;
use e2e::archive;
use e2e::dashboard;
use e2e::programs::Programs;
use e2e::run::{Run, Settings};
use fleet::{Fault, Fleet};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::Value as Json;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// How long the fleet publishes before the cache loses its data.
const VARIABLE: &str = "SOAK_SECONDS";
const DEFAULT_SECONDS: u64 = 15;

/// Connections, each with its own fleet, and what each publishes.
const FLEETS: u64 = 4;
const DEVICES: usize = 8;
const EVERY: Duration = Duration::from_millis(25);

/// What is published after the cache has lost its data.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// From one cache restart, and from one throttled span, to the next.
const RESTART_EVERY: u64 = 20;
/// As long as a throttled span, longer than a rule tries again.
const THROTTLED: u64 = 6;

/// Payloads of each device, in the order of their publication.
type Messages = BTreeMap<String, Vec<Vec<u8>>>;

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_accounted_for() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let seconds = match env::var(VARIABLE) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{VARIABLE}: expected seconds, got {text}"))?,
        Err(_) => DEFAULT_SECONDS,
    };
    // Long after the fleet has ended, however much the throttled stream has held it up.
    let wipe = seconds + 45 + seconds / 2;
    let run = Run::start(Settings {
        arguments: faults(seconds, wipe),
        ..Settings::new(&programs)
    })
    .await?;
    let started = Instant::now();

    let mut published = publish(&run.mqtt, 0, Duration::from_secs(seconds)).await?;
    let refused = told_to_error_actions(&run.data())?;
    counted(&run, &published, &refused).await?;
    let total = total(&published);
    println!(
        "{total} messages of {} devices in {:.0} s: {} counted, {} told to the error action",
        published.len(),
        started.elapsed().as_secs_f64(),
        total - self::total(&refused),
        self::total(&refused),
    );
    ensure!(
        started.elapsed() < Duration::from_secs(wipe),
        "the cache lost its data before they were counted: the machine is too slow for {seconds} s"
    );

    let until_wipe = Duration::from_secs(wipe).saturating_sub(started.elapsed());
    sleep(until_wipe).await;
    run.wait_for_log("restarts without its data").await?;
    run.wait_for_log("by --fault stream:throttle").await?;
    let afterwards = publish(&run.mqtt, FLEETS, AFTERWARDS).await?;
    counted(&run, &afterwards, &Messages::new()).await?;
    println!(
        "{} messages after the cache lost its data: all counted",
        self::total(&afterwards)
    );
    for (device, payloads) in afterwards {
        published.entry(device).or_default().extend(payloads);
    }

    let ended = run.stop().await?;
    ensure!(ended.status.success(), "{}\n{}", ended.status, ended.log);
    for what in ["signal: killed", "restarts with its data"] {
        ensure!(ended.log.contains(what), "no {what:?} in the log");
    }
    archived(&ended.data, &published)?;
    println!("all {} archived", self::total(&published));
    let failed = objects_of_failures(&ended.data)?;
    ensure!(failed.is_empty(), "in the failure bucket: {failed:?}");
    Ok(())
}

fn faults(seconds: u64, wipe: u64) -> Vec<String> {
    let mut faults = vec![
        "function:crash@5%".to_owned(),
        "record:duplicate@1%".to_owned(),
        format!("cache:wipe@{wipe}s"),
    ];
    let mut at = 3;
    while at < seconds {
        faults.push(format!("stream:throttle@{at}s..{}s", at + THROTTLED));
        faults.push(format!("cache:restart@{}s", at + THROTTLED + 2));
        at += RESTART_EVERY;
    }
    let flags = faults.into_iter();
    flags.flat_map(|it| ["--fault".to_owned(), it]).collect()
}

/// Fleets publish for a while at QoS 1; returns when everything is acknowledged.
async fn publish(address: &str, first: u64, time: Duration) -> anyhow::Result<Messages> {
    let mut fleets = JoinSet::new();
    for number in first..first + FLEETS {
        let address = address.to_owned();
        fleets.spawn(async move { publish_fleet(&address, number, time).await });
    }
    let mut published = Messages::new();
    while let Some(messages) = fleets.join_next().await {
        published.extend(messages??);
    }
    Ok(published)
}

async fn publish_fleet(address: &str, number: u64, time: Duration) -> anyhow::Result<Messages> {
    let mut fleet = Fleet::new(fleet::Settings {
        devices: DEVICES,
        faults: Fault::ALL.into_iter().collect(),
        seed: number,
    });
    let (host, port) = address.rsplit_once(':').context("expected HOST:PORT")?;
    let mut options = MqttOptions::new(format!("fleet-{number}"), host, port.parse()?);
    options.set_keep_alive(Duration::from_secs(60));
    let (client, mut event_loop) = AsyncClient::new(options, 10);
    let end = Instant::now() + time;
    let sending = tokio::spawn(async move {
        let mut published = Messages::new();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < end {
            ticks.tick().await;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let publication = fleet.publish(u64::try_from(now.as_millis())?);
            let device = format!("fleet{number}-{}", publication.device);
            let topic = contract::topic::of_device(&device);
            let payload = publication.payload;
            client
                .publish(topic, QoS::AtLeastOnce, false, payload.clone())
                .await?;
            published.entry(device).or_default().push(payload);
        }
        anyhow::Ok((client, published))
    });
    let mut acknowledged = 0;
    let mut sent = None;
    tokio::pin!(sending);
    loop {
        tokio::select! {
            result = &mut sending, if sent.is_none() => sent = Some(result??),
            event = timeout(PATIENCE, event_loop.poll()) => {
                if let Event::Incoming(Packet::PubAck(_)) = event.context("the broker is silent")?? {
                    acknowledged += 1;
                }
            }
        }
        if let Some((_, published)) = &sent
            && acknowledged == total(published)
        {
            break;
        }
    }
    Ok(sent.map(|(_, published)| published).unwrap_or_default())
}

fn total(messages: &Messages) -> usize {
    messages.values().map(Vec::len).sum()
}

/// Waits until the dashboard has everything that was published and not refused, of each device, and
/// shows the last of it; and no more than that.
async fn counted(run: &Run, published: &Messages, refused: &Messages) -> anyhow::Result<()> {
    let expected: BTreeMap<&String, u64> = published
        .iter()
        .map(|(device, payloads)| {
            let refused = refused.get(device).map_or(0, Vec::len);
            (device, (payloads.len() - refused) as u64)
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = dashboard::state(&run.dashboard).await?;
        let seen: BTreeMap<&String, u64> = state
            .devices
            .iter()
            .filter(|it| published.contains_key(&it.device))
            .map(|it| (&it.device, it.count))
            .collect();
        for (device, count) in &seen {
            let expected = expected.get(device).copied().unwrap_or_default();
            ensure!(
                *count <= expected,
                "{device}: {count} are counted, expected {expected}"
            );
        }
        if seen == expected {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "after a minute these are counted:\n{seen:?}\nexpected:\n{expected:?}"
        );
        sleep(Duration::from_millis(100)).await;
    }
    // Nothing more comes.
    sleep(Duration::from_secs(1)).await;
    let state = dashboard::state(&run.dashboard).await?;
    for device in &state.devices {
        let Some(payloads) = published.get(&device.device) else {
            continue;
        };
        ensure!(
            expected.get(&device.device) == Some(&device.count),
            "{}: counted again: {}",
            device.device,
            device.count
        );
        // A refused one is not the latest.
        if !refused.contains_key(&device.device) {
            let latest = dashboard::payload(&device.latest)?;
            let last = payloads.last().map(Vec::as_slice).unwrap_or_default();
            ensure!(
                same(&latest, last),
                "{}: the latest is not the last published",
                device.device
            );
        }
    }
    Ok(())
}

/// JSON is shown as it is written by another program: compare values.
fn same(left: &[u8], right: &[u8]) -> bool {
    let json = |bytes: &[u8]| serde_json::from_slice::<Json>(bytes).ok();
    left == right || json(left).is_some_and(|it| json(right) == Some(it))
}

/// What the rules have told their error actions because a stream refused it, of each device.
fn told_to_error_actions(data: &Path) -> anyhow::Result<Messages> {
    let mut refused = Messages::new();
    for file in files(&data.join("logs"))? {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        for line in text.lines() {
            let event: Json = serde_json::from_str(line)?;
            let message = event["message"].as_str().unwrap_or_default();
            let Ok(error) = serde_json::from_str::<Json>(message) else {
                continue;
            };
            let Some(payload) = error["base64OriginalPayload"].as_str() else {
                continue;
            };
            ensure!(
                error["failures"][0]["failedAction"] == "KinesisAction",
                "another action has failed: {error}"
            );
            let topic = error["topic"].as_str().unwrap_or_default();
            let device = topic.rsplit('/').next().unwrap_or_default().to_owned();
            let payload = BASE64_STANDARD.decode(payload)?;
            refused.entry(device).or_default().push(payload);
        }
    }
    Ok(refused)
}

fn archived(data: &Path, published: &Messages) -> anyhow::Result<()> {
    let mut archived = Messages::new();
    for message in archive::read(data)? {
        let device = message.topic.rsplit('/').next().unwrap_or_default();
        archived
            .entry(device.to_owned())
            .or_default()
            .push(message.data);
    }
    for (device, payloads) in published {
        let mut expected = payloads.clone();
        let mut seen = archived.remove(device).unwrap_or_default();
        // Objects of one second have names in no order.
        expected.sort();
        seen.sort();
        ensure!(
            seen == expected,
            "{device}: {} are archived, {} were published",
            seen.len(),
            expected.len()
        );
    }
    ensure!(archived.is_empty(), "nobody published {archived:?}");
    Ok(())
}

fn objects_of_failures(data: &Path) -> anyhow::Result<Vec<String>> {
    let objects = files(&data.join("s3"))?.into_iter();
    let names = objects.map(|path| path.display().to_string());
    Ok(names.filter(|it| it.contains("/aws/lambda/")).collect())
}

fn files(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            match entry?.path() {
                path if path.is_dir() => folders.push(path),
                path => files.push(path),
            }
        }
    }
    Ok(files)
}
