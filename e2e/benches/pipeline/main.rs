//! `cargo bench -p e2e --bench pipeline`: how fast the local run is, from publishing to the dashboard.
//!
//! Prints the tables of `docs/PERFORMANCE.md`. Needs redis-server, and mosquitto for `throughput`; whether
//! they are there is checked before anything is built.
//! `-- latency`, `-- throughput` run one part; `-- memory MINUTES` watches the memory of a run under
//! load, which the others leave out.
//!
//! Layout: [`peers`] finds what we did not write, [`programs`] builds what is measured, [`latency`], [`throughput`] and [`memory`] are the
//! parts, [`fleet`] is what they share.

mod fleet;
mod latency;
mod memory;
mod peers;
mod programs;
mod throughput;

use anyhow::{Context, bail};
use e2e::programs::Programs;
use e2e::template;
use serde_json::{Value as Json, json};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        // Cargo's own.
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let peers = peers::find(matches!(arguments[..], [] | ["throughput"]))?;
    let folder = tempfile::tempdir().context("make a folder for the programs")?;
    let programs = programs::build(folder.path(), peers.path)?;
    println!("load average at the start: {}", load()?);
    match arguments[..] {
        [] => {
            latency::measure(&programs).await?;
            throughput::measure(&programs, &peers.mosquitto).await?;
        }
        ["latency"] => latency::measure(&programs).await?,
        ["throughput"] => throughput::measure(&programs, &peers.mosquitto).await?,
        ["memory", minutes] => {
            let minutes = minutes
                .parse()
                .with_context(|| format!("expected minutes, got {minutes}"))?;
            memory::measure(&programs, minutes).await?;
        }
        _ => bail!(
            "expected nothing, `latency`, `throughput` or `memory MINUTES`, got `{}`",
            arguments.join(" ")
        ),
    }
    println!("load average at the end: {}", load()?);
    Ok(())
}

fn load() -> anyhow::Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg").context("read the load average")?;
    Ok(load.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// The template of stage `dev` with so many shards.
fn with_shards(programs: &Programs, shards: u32) -> anyhow::Result<Json> {
    let mut edited = template::load(programs)?;
    for (_, stream) in template::resources_of(&mut edited, "AWS::Kinesis::Stream") {
        stream["ShardCount"] = json!(shards);
    }
    Ok(edited)
}

/// The same without its batch window.
fn without_window(programs: &Programs, shards: u32) -> anyhow::Result<Json> {
    let mut edited = with_shards(programs, shards)?;
    for (_, mapping) in template::resources_of(&mut edited, "AWS::Lambda::EventSourceMapping") {
        mapping["MaximumBatchingWindowInSeconds"] = json!(0);
    }
    Ok(edited)
}

/// The value below which a part of all values lies; the values are sorted.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let index = (sorted.len() as f64 * part) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
