//! From handing a message to the MQTT client until a dashboard holds its count.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use contract::message::{DeviceFrame, Frame};
use e2e::programs::Programs;
use e2e::run::{Run, Settings};

use crate::fleet::{self, Pace};
use crate::{percentile, without_window};

const PACE: Pace = Pace {
    devices: 20,
    rate: 1_000,
    time: Duration::from_secs(20),
};
const ROUNDS: usize = 3;

pub(crate) async fn measure(programs: &Programs) -> anyhow::Result<()> {
    println!(
        "\n### Publish to dashboard, {} messages a second of {} devices, {} s\n",
        PACE.rate,
        PACE.devices,
        PACE.time.as_secs()
    );
    println!(
        "| round | newest message is old on arrival, p50 / p99 | message is shown after, p50 / p99 |"
    );
    println!("|--:|--:|--:|");
    // Two shards: one takes a thousand records a second and not one more.
    let template = without_window(programs, 2)?;
    for round in 1..=ROUNDS {
        let settings = Settings::new(programs).template(&template);
        let run = Run::start(settings).await?;
        let expected = PACE.messages_each() as u64 * u64::from(PACE.devices);
        let mut frames = Vec::new();
        let ((), published) = tokio::try_join!(
            fleet::watch(&run.dashboard, expected, |at, frame| frames
                .push((at, frame))),
            fleet::publish(&run.mqtt, PACE)
        )?;
        run.stop().await?;
        let (mut newest, mut shown) = times(&frames, &published)?;
        newest.sort_by(f64::total_cmp);
        shown.sort_by(f64::total_cmp);
        println!(
            "| {round} | {:.1} / {:.1} ms | {:.1} / {:.1} ms |",
            percentile(&newest, 0.5),
            percentile(&newest, 0.99),
            percentile(&shown, 0.5),
            percentile(&shown, 0.99),
        );
    }
    Ok(())
}

/// In milliseconds: of each frame, how old its newest message was; of each message, how long until a
/// frame had counted it.
fn times(
    frames: &[(Instant, Frame)],
    published: &BTreeMap<String, Vec<Instant>>,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut newest, mut shown) = (Vec::new(), Vec::new());
    for (arrived, frame) in frames {
        let mut youngest: Option<f64> = None;
        for DeviceFrame { device, count, .. } in &frame.devices {
            let published = published
                .get(device)
                .with_context(|| format!("nobody is {device}"))?;
            let before = counted.entry(device).or_default();
            let now = (*count).try_into()?;
            let news = published.get(*before..now);
            for at in news.with_context(|| format!("{device} was counted too often"))? {
                let milliseconds = arrived.duration_since(*at).as_secs_f64() * 1e3;
                shown.push(milliseconds);
                youngest = Some(youngest.map_or(milliseconds, |it| it.min(milliseconds)));
            }
            *before = now;
        }
        newest.extend(youngest);
    }
    Ok((newest, shown))
}
