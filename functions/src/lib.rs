//! The Lambda function that keeps the sensors' live state: it counts a batch of a Kinesis stream in one
//! atomic step in the cache and announces the changes.
//!
//! It calls no AWS API: the event has the records, and its metrics are log lines.
//!
//! # What it guarantees
//!
//! - A Kinesis record is counted exactly once, however often and in whatever batches Lambda delivers it, as
//!   long as the cache keeps its data.
//!   Counts and watermarks change in one step, so they are kept or lost together: a failover of the cache
//!   may lose its last writes, which were acknowledged but not replicated, and their counts.
//!   Two MQTT deliveries of one message are two Kinesis records and count twice.
//! - The latest message, of a device and of all, never goes back in time.
//!   The latest record is the one that arrived last at the stream; in the same millisecond, the one with the
//!   higher sequence number.
//!   Sequence numbers of different shards do not tell time, so across shards the arrival decides, by the
//!   shards' clocks.
//! - A rejected record is rejected on each retry and ends in the failure bucket.
//! - The function waits for an unavailable cache, and then returns the batch for a retry.
//!
//! A record that is put into the stream again, such as from the failure bucket, is another record and
//! counts. The same record passed to the function by other means counts only if no later record of its key
//! was counted.
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
pub mod record;
pub mod script;
pub mod sequence;

use anyhow::Context as _;
use lambda_runtime::{LambdaEvent, Runtime, service_fn};

/// Serves invocations until the process ends.
///
/// `variable` looks up an environment variable; [`config::Config::from_env`] lists them.
///
/// # Errors
/// The environment is incomplete, or the Runtime API fails.
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
