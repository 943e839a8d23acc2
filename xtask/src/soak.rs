//! `cargo xtask soak`: the pipeline under faults, and proof that every message is accounted for.
//!
//! The proof is the end-to-end test of the same name, for longer.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use crate::test::pipeline;
use crate::{Exit, program, tools};

/// Seconds for which the test publishes. The `e2e` package reads the variable.
const SECONDS: &str = "SOAK_SECONDS";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Minutes for which the fleet publishes
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let seconds = arguments.minutes.checked_mul(60);
    let seconds = seconds.context("--minutes: too many")?;
    if seconds == 0 {
        bail!("--minutes: got 0, expected at least 1");
    }
    tools::redis()?;
    let [function, webui, local, mqtt] = program::build_together(
        "the programs",
        [
            program::FUNCTION,
            program::WEBUI,
            program::LOCAL,
            program::MQTT,
        ],
    )?;
    let programs = pipeline::write(&pipeline::Paths {
        // Neither a deployment nor a browser takes part.
        programs: [function, webui, local, mqtt, PathBuf::new(), PathBuf::new()],
        xtask: PathBuf::new(),
        node: PathBuf::new(),
        browser: PathBuf::new(),
    })?;
    let status = program::cargo()
        .args(["test", "--package", "e2e", "--locked", "--test", "soak"])
        .args(["--", "--nocapture"])
        .env(pipeline::PROGRAMS, programs)
        .env(SECONDS, seconds.to_string())
        .env("PATH", tools::path()?)
        .status()
        .context("run cargo")?;
    Ok(match status.success() {
        true => Exit::Done,
        false => Exit::Failed,
    })
}
