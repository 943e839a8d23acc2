//! The Lambda function that keeps the sensors' live state: a batch of a Kinesis stream in, one atomic
//! step in the cache, one announcement out.
//!
//! It calls no AWS API: records come in the event, metrics leave in the log.
//!
//! # What it guarantees
//!
//! - A Kinesis record is counted exactly once, however often and in whatever pieces Lambda delivers
//!   it, as long as the cache keeps what it was told.
//!   Counts and watermarks change in one step and are therefore kept or lost together: a failover of
//!   the cache may lose the writes of its last moments, which had been answered but not yet
//!   replicated, and with them that many counts.
//!   Two MQTT deliveries of one message are two Kinesis records and count twice.
//! - "Latest" never goes back in time, neither a device's nor the one of all.
//!   Later is who arrived later at the stream, and of two in one millisecond the one with the higher
//!   sequence number.
//!   Sequence numbers of different shards say nothing about time, so across shards the arrival
//!   decides, as the shards' clocks saw it.
//! - A record that cannot be taken is rejected again on each retry and ends in the failure bucket.
//! - A cache that is away is waited for; the batch is then given back unchanged.
//!
//! A record that is put into the stream again, say from the failure bucket, is another record and
//! counts. The same record handed to the function again by other means counts only while nothing
//! later of its key was.
//!
//! # Layout
//!
//! In the order of an invocation: [`event`] parses the body, [`record`] holds the decoded records,
//! [`batch`] groups them by device ([`sequence`] orders them, [`message`] writes the latest payloads), and
//! [`script`] counts them in one step over the connection of [`cache`], made by [`connection`].
//! [`handler`] is one invocation, [`metrics`] and [`log`] its two log lines, [`config`] the environment.

pub mod batch;
pub mod cache;
pub mod config;
pub mod connection;
pub mod event;
pub mod handler;
pub mod log;
pub mod message;
pub mod metrics;
#[cfg(test)]
mod old_event;
#[cfg(test)]
mod old_json;
pub mod record;
pub mod script;
pub mod sequence;

use anyhow::Context as _;
use lambda_runtime::{LambdaEvent, Runtime, service_fn};

/// Serves invocations until the process is ended.
///
/// `variable` looks up an environment variable; [`config::Config::from_env`] says which.
///
/// # Errors
/// When the environment is incomplete or the Runtime API cannot be spoken to.
pub fn run(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    log::start(&variable)?;
    let config = config::Config::from_env(&variable)?;
    let function = handler::Function::new(cache::Cache::new(config.cache), metrics::write);
    let handle = async |event: LambdaEvent<event::Event>| function.handle(event).await;
    let runtime = Runtime::new(service_fn(handle));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the asynchronous runtime")?
        .block_on(runtime.run())
        .map_err(|error| anyhow::anyhow!(error))
        .context("serve the Lambda Runtime API")
}
