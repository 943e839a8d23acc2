//! A fleet.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use clap::Args;
use fleet::{Fault, Fleet, Settings};
use serde_json::json;
use tokio::signal;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::connection::Connection;
use local_flags::address::Address;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Number of devices
    #[arg(long, value_name = "N")]
    devices: usize,
    /// Messages a second, of all devices together
    #[arg(long, value_name = "R")]
    rate: f64,
    /// Seconds until it ends; without, until Ctrl-C
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// What goes wrong now and then: silence, spikes, garbage, duplicates
    #[arg(long, value_name = "FAULTS", value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Seed of the values: the same seed gives the same messages
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(address: &Address, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments {
        devices,
        rate,
        seconds,
        faults,
        seed,
        json,
    } = arguments;
    if devices == 0 {
        bail!("--devices: got 0, expected at least 1");
    }
    if !(rate.is_finite() && rate > 0.0) {
        bail!("--rate: got {rate}, expected messages a second above 0");
    }
    if seconds.is_some_and(|seconds| !(seconds.is_finite() && seconds > 0.0)) {
        bail!("--seconds: expected a number above 0");
    }
    let mut fleet = Fleet::new(Settings {
        devices,
        faults: faults.into_iter().collect(),
        seed,
    });
    let mut connection = Connection::open(address).await?;
    let mut summary = Summary::new(devices, rate);
    let end = seconds.map(|seconds| (rate * seconds).round() as u64);
    let mut progress = Progress::new();
    let stop = signal::ctrl_c();
    tokio::pin!(stop);
    while end.is_none_or(|end| summary.sent < end) {
        // Every message has its own due time, counted from the start, so that lateness never adds up.
        let due = summary.started + Duration::from_secs_f64(summary.sent as f64 / rate);
        tokio::select! {
            biased;
            _ = &mut stop => break,
            _ = progress.ticks.tick() => {
                progress.show(&summary, connection.confirmed());
                continue;
            }
            () = sleep_until(due) => {}
        }
        let publication = fleet.publish(now_ms());
        connection
            .publish(&publication.topic, publication.payload)
            .await?;
        summary.sent += 1;
        if let Some(fault) = publication.fault {
            *summary.faults.entry(fault).or_default() += 1;
        }
    }
    summary.stop();
    connection.wait_confirmed(summary.sent).await?;
    connection.close().await?;
    progress.clear();
    if json {
        println!("{}", summary.json());
    } else {
        println!("{}", summary.text());
    }
    Ok(())
}

/// What was sent.
struct Summary {
    started: Instant,
    devices: usize,
    rate: f64,
    sent: u64,
    faults: BTreeMap<Fault, u64>,
    took: Duration,
}

impl Summary {
    fn new(devices: usize, rate: f64) -> Summary {
        Summary {
            started: Instant::now(),
            devices,
            rate,
            sent: 0,
            faults: BTreeMap::new(),
            took: Duration::ZERO,
        }
    }

    /// The last message's own slot counts, as every other's does.
    fn stop(&mut self) {
        let slots = Duration::from_secs_f64(self.sent as f64 / self.rate);
        self.took = self.started.elapsed().max(slots);
    }

    fn reached(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn text(&self) -> String {
        let Summary {
            devices,
            sent,
            took,
            ..
        } = self;
        let mut text = format!(
            "published {sent} messages of {devices} devices in {:.1} s ({:.1} a second), all confirmed",
            took.as_secs_f64(),
            self.reached()
        );
        for (fault, count) in &self.faults {
            text += &format!("\n  {fault}: {count}");
        }
        if self.reached() < self.rate * 0.95 {
            text += &format!(
                "\n{} a second were asked for: the broker confirms no faster",
                self.rate
            );
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let faults: BTreeMap<_, _> = self
            .faults
            .iter()
            .map(|(fault, count)| (fault.to_string(), count))
            .collect();
        json!({
            "devices": self.devices,
            "published": self.sent,
            "confirmed": self.sent,
            "seconds": self.took.as_secs_f64(),
            "rate": self.reached(),
            "faults": faults,
        })
    }
}

/// One line that is written over itself on a terminal, a line every ten seconds elsewhere.
struct Progress {
    terminal: bool,
    ticks: tokio::time::Interval,
    shown: bool,
}

impl Progress {
    fn new() -> Progress {
        let terminal = stderr().is_terminal();
        let period = Duration::from_millis(if terminal { 250 } else { 10_000 });
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Progress {
            terminal,
            ticks,
            shown: false,
        }
    }

    fn show(&mut self, summary: &Summary, confirmed: u64) {
        if summary.sent == 0 {
            return;
        }
        let seconds = summary.started.elapsed().as_secs_f64();
        let line = format!(
            "{} sent, {confirmed} confirmed, {:.1} a second",
            summary.sent,
            summary.sent as f64 / seconds.max(0.001)
        );
        if self.terminal {
            eprint!("\r{line}\x1b[K");
            // Progress that cannot be shown is no reason to stop.
            let _ = stderr().flush();
            self.shown = true;
        } else {
            eprintln!("{line}");
        }
    }

    fn clear(&self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
