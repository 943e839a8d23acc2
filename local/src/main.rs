//! Runs an emitted template on one machine.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use cfn::document::Document;
use clap::Parser;
use local::cli::Arguments;
use local::events::{Event, Reporter};
use local::pipeline::{Options, Pipeline};
use local::plan::Plan;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What the shell expects of a program that a signal has ended.
const KILLED: i32 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log();
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider was installed already");
    }
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to stderr; `RUST_LOG` says how much.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("listen for signals")?;
    let reporter = Reporter::new(arguments.json);
    let plan = plan(&arguments)?;
    for it in &plan.not_emulated {
        let (logical_id, what) = (it.logical_id.clone(), it.what.clone());
        reporter.tell(&Event::NotEmulated { logical_id, what });
    }
    let options = Options {
        functions: arguments.function,
        bundles: arguments.bundle,
        mqtt: arguments.mqtt,
        dashboard: arguments.dashboard,
        redis: arguments.redis,
        data: arguments.data,
    };
    let started = tokio::select! {
        biased;
        () = signals.next() => None,
        started = Pipeline::start(plan, options, reporter) => Some(started?),
    };
    let Some(mut pipeline) = started else {
        // Whatever had started ends with the future that was starting it.
        return Ok(());
    };
    reporter.tell(&pipeline.ready());
    let failure = tokio::select! {
        () = signals.next() => None,
        failure = pipeline.failed() => Some(failure),
    };
    reporter.tell(&Event::Stopping);
    tokio::select! {
        biased;
        () = signals.next() => {
            // Our programs end by themselves when we do.
            eprintln!("killed");
            std::process::exit(KILLED);
        }
        summary = pipeline.stop() => reporter.tell(&Event::Stopped { summary }),
    }
    failure.map_or(Ok(()), Err)
}

fn plan(arguments: &Arguments) -> anyhow::Result<Plan> {
    let path = arguments.template.display();
    let text = std::fs::read_to_string(&arguments.template)
        .with_context(|| format!("cannot read the template {path}"))?;
    let document = Document::parse(&text)
        .map_err(|error| anyhow!("{path} is no CloudFormation template in JSON: {error}"))?;
    let region = std::env::var("AWS_REGION").ok().filter(|it| !it.is_empty());
    let region = region.as_deref().unwrap_or("eu-central-1");
    Plan::new(
        document,
        region,
        &arguments.stack_name,
        arguments.parameters(),
    )
    .with_context(|| path.to_string())
}

/// What asks us to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
