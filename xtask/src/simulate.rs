//! `cargo xtask simulate`: a fleet of sensors, for the local run or for a deployed stage.

use std::ffi::OsString;

use clap::Args;

use stack::Stage;

use crate::{Exit, aws, program};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Address of the local run's MQTT broker
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    local: String,
    /// Stage to send to instead, through AWS IoT: dev or prod
    #[arg(long, value_name = "STAGE", conflicts_with = "local")]
    stage: Option<Stage>,
    /// Number of devices
    #[arg(long, value_name = "N")]
    devices: usize,
    /// Messages a second, of all devices together
    #[arg(long, value_name = "R")]
    rate: f64,
    /// Seconds until it ends; without, until Ctrl-C
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// What goes wrong now and then: silence, spikes, garbage, duplicates (separated by commas)
    #[arg(long, value_name = "FAULTS")]
    faults: Option<String>,
    /// Seed of the values: the same seed gives the same messages
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        local,
        stage,
        devices,
        rate,
        seconds,
        faults,
        seed,
        json,
    } = arguments;
    if stage.is_some() {
        // The same words, read by what talks to AWS.
        return aws::run();
    }
    let client = program::build(program::MQTT)?;
    let mut passed: Vec<String> = vec!["--address".into(), local, "simulation".into()];
    let mut pass = |flag: &str, value: Option<String>| {
        passed.extend(value.map(|value| format!("--{flag}={value}")));
    };
    pass("devices", Some(devices.to_string()));
    pass("rate", Some(rate.to_string()));
    pass("seconds", seconds.map(|seconds| seconds.to_string()));
    pass("faults", faults);
    pass("seed", Some(seed.to_string()));
    passed.extend(json.then(|| "--json".to_owned()));
    match program::become_program(&client, passed.into_iter().map(OsString::from), [])? {}
}
