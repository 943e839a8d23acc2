//! The memory of a run's programs under load.

use std::time::Duration;

use anyhow::Context;
use e2e::programs::Programs;
use e2e::run::{Run, Settings};

use crate::fleet::{self, Pace};
use crate::without_window;

/// How often memory is looked at.
const EVERY: Duration = Duration::from_secs(30);

pub(crate) async fn measure(programs: &Programs, minutes: u64) -> anyhow::Result<()> {
    let pace = Pace {
        devices: 20,
        rate: 1_000,
        time: Duration::from_secs(minutes * 60),
    };
    println!(
        "\n### Resident memory, {} messages a second, {minutes} minutes\n",
        pace.rate
    );
    let template = without_window(programs, 2)?;
    let run = Run::start(Settings::new(programs).template(&template)).await?;
    let processes = run.processes()?;
    let names: Vec<String> = processes.iter().map(|it| name(*it)).collect();
    println!("| minutes | {} |", names.join(" | "));
    println!("|--:|{}", "--:|".repeat(names.len()));
    let started = tokio::time::Instant::now();
    let looking = async {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            let sizes: Vec<String> = processes
                .iter()
                .map(|it| resident(*it).map_or("ended".to_owned(), |it| format!("{it:.1} MB")))
                .collect();
            println!(
                "| {:.1} | {} |",
                started.elapsed().as_secs_f64() / 60.0,
                sizes.join(" | ")
            );
        }
    };
    let expected = pace.messages_each() as u64 * u64::from(pace.devices);
    tokio::select! {
        () = looking => {}
        counted = async {
            tokio::try_join!(
                fleet::watch(&run.dashboard, expected, |_, _| {}),
                fleet::publish(&run.mqtt, pace)
            )
        } => drop(counted?),
    }
    run.stop().await?;
    println!("\nall of {expected} messages are counted");
    Ok(())
}

fn name(process: u32) -> String {
    std::fs::read_to_string(format!("/proc/{process}/comm"))
        .map_or_else(|_| process.to_string(), |name| name.trim().to_owned())
}

/// In megabytes.
fn resident(process: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let kilobytes: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .context("expected VmRSS")?
        .trim()
        .parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
