//! Answers the AWS APIs that a deployment calls, on one machine.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use local::events::{Event, Reporter, print_line};
use local::program::{self, Signals, killed, lock};
use local::terminal;
use local_cloud::cli::Arguments;
use local_cloud::fault::Faults;
use local_cloud::{Cloud, Settings};
use serde_json::json;

fn main() -> ExitCode {
    let is_json = outcome::is_json();
    match Arguments::try_parse() {
        Ok(arguments) => program::run(is_json, arguments.verbose, run(arguments)),
        Err(error) => outcome::not_parsed(&error, is_json).into(),
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("listen for signals")?;
    let reporter = Reporter::new(arguments.json);
    let data = arguments.data;
    let _data = lock(&data)?;
    terminal::open_log_file(&data)?;
    let mut cloud = Cloud::start(arguments.listen, |endpoint| Settings {
        data: data.clone(),
        endpoint,
        mqtt: arguments.mqtt,
        dashboard: arguments.dashboard,
        redis: arguments.redis,
        faults: Faults::new(arguments.fault),
        pace: arguments.pace,
        run: !arguments.no_run,
        reporter,
    })
    .await?;
    let endpoint = format!("http://{}", cloud.address());
    if arguments.json {
        let ready = json!({ "event": "cloud-ready", "endpoint": endpoint, "data": data });
        print_line(&ready.to_string());
    } else {
        print_line(&format!(
            "ready at {endpoint}  (AWS_ENDPOINT_URL={endpoint})"
        ));
    }
    let failure = tokio::select! {
        () = signals.next() => None,
        failure = cloud.failed() => Some(failure),
    };
    reporter.tell(&Event::Stopping);
    tokio::select! {
        biased;
        () = signals.next() => killed(),
        () = cloud.stop() => {
            let summary = "stacks, buckets and operations under way are kept in the data folder".to_owned();
            reporter.tell(&Event::Stopped { summary });
        }
    }
    failure.map_or(Ok(()), Err)
}
