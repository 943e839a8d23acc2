//! `cargo xtask simulate`: a fleet of sensors, for the local run or for a deployed stage.

use std::ffi::OsString;

use anyhow::bail;
use clap::Args;
use fleet::Fault;
use local_flags::address::Address;
use stack::Stage;

use crate::publish::START;
use crate::{Exit, address, aws, program};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Address of the local run's MQTT broker
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    local: Address,
    /// Stage to send to instead, through AWS IoT: dev or prod
    #[arg(long, value_name = "STAGE", conflicts_with = "local")]
    stage: Option<Stage>,
    /// Number of devices
    #[arg(long, value_name = "N")]
    devices: usize,
    /// Messages a second, of all devices together
    #[arg(long, value_name = "R")]
    rate: f64,
    /// Seconds until the simulation ends [default: until Ctrl-C]
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Faults to inject: silence, spikes, garbage, duplicates (separated by commas)
    #[arg(long, value_name = "FAULTS", value_delimiter = ',')]
    faults: Vec<Fault>,
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
    if devices == 0 {
        bail!("invalid --devices 0: expected at least 1");
    }
    if !(rate.is_finite() && rate > 0.0) {
        bail!("invalid --rate {rate}: expected more than 0 messages a second");
    }
    if let Some(seconds) = seconds.filter(|it| !(it.is_finite() && *it > 0.0)) {
        bail!("invalid --seconds {seconds}: expected a number above 0");
    }
    if stage.is_some() {
        // The same arguments, parsed by the program that calls AWS.
        return aws::run();
    }
    address::check_answers("--local", &local.host, local.port, START)?;
    let client = program::build(program::MQTT)?;
    let mut passed: Vec<String> = vec!["--address".into(), local.to_string(), "simulation".into()];
    let mut pass = |flag: &str, value: Option<String>| {
        passed.extend(value.map(|value| format!("--{flag}={value}")));
    };
    pass("devices", Some(devices.to_string()));
    pass("rate", Some(rate.to_string()));
    pass("seconds", seconds.map(|seconds| seconds.to_string()));
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    pass("faults", (!faults.is_empty()).then(|| faults.join(",")));
    pass("seed", Some(seed.to_string()));
    passed.extend(json.then(|| "--json".to_owned()));
    match program::become_program(&client, passed.into_iter().map(OsString::from), [])? {}
}
