//! Lambda's event source mapping for Kinesis: polls shards, cuts batches, invokes, retries.
//!
//! (AWS Lambda Developer Guide: "How Lambda processes records from stream and queue-based event
//! sources", "Configuring partial batch response with Kinesis Data Streams and Lambda", "Retain discarded
//! batch records for a Kinesis Data Streams event source in Lambda".)
//!
//! A shard is read by as many lanes as `ParallelizationFactor` says; a partition key belongs to one lane,
//! which keeps its records in order. A lane handles one batch at a time and is blocked while it fails.
//!
//! # Differs from AWS
//! - Records are seen at once, where AWS polls once a second.
//! - Between attempts a lane waits 250 ms, then twice as long each time, up to 30 s; AWS does not publish
//!   its own waiting times.
//! - After a partial response that got further, the remaining records begin with a fresh count of
//!   attempts if `BisectBatchOnFunctionError` is set; AWS only says that bisecting consumes no retries.
//! - A partial response with a sequence number that is not of the batch, or of another shape than
//!   documented, counts as a failure of the whole batch; AWS does not say.
//! - Tumbling windows are not emulated; on-failure destinations are S3 buckets and SQS queues.
//! - When the run ends, windows are over at once, and some seconds are given to process what is there;
//!   the rest waits in the stream for the next run.
//!
//! Layout: `lane` does the work, `filter` says which records it wants, `batch` makes events, `response`
//! reads answers, `destination` makes invocation records, `checkpoint` remembers.

mod batch;
mod checkpoint;
mod destination;
pub mod filter;
mod lane;
pub mod part;
pub mod plan;
mod response;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fault::Chances;
use crate::kinesis::{Position, Stream};
use crate::lambda::Invoke;
use crate::permission::{Authorizer, Permission};
use crate::status::Status;
use checkpoint::Checkpoints;
pub use destination::Destination;
use filter::Pattern;
use lane::Lane;

/// What is there may be processed for so long after the shutdown has begun.
const GRACE: Duration = Duration::from_secs(5);

/// What a mapping needs to know of its `AWS::Lambda::EventSourceMapping` and the function.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logical ID in the template.
    pub logical_id: String,
    /// The mapping's UUID, its physical ID.
    pub id: String,
    /// ARN of the function.
    pub function_arn: String,
    /// ARN of the function's role.
    pub role_arn: String,
    /// Region.
    pub region: String,
    /// `BatchSize`, 1 to 10,000.
    pub batch_size: usize,
    /// `MaximumBatchingWindowInSeconds`, 0 to 300.
    pub window: Duration,
    /// `ParallelizationFactor`, 1 to 10.
    pub parallelization_factor: usize,
    /// `BisectBatchOnFunctionError`
    pub bisect: bool,
    /// `MaximumRetryAttempts`; none: without end.
    pub maximum_retry_attempts: Option<u32>,
    /// `MaximumRecordAgeInSeconds`; none: as long as the stream keeps records.
    pub maximum_record_age: Option<Duration>,
    /// Whether `FunctionResponseTypes` has `ReportBatchItemFailures`.
    pub report_batch_item_failures: bool,
    /// `StartingPosition`, where nothing has been processed yet.
    pub starting_position: Position,
    /// `FilterCriteria`: records that none of them matches are passed over; none: all are wanted.
    pub filters: Vec<Pattern>,
    /// `Enabled`
    pub enabled: bool,
}

/// A running mapping; clones are the same.
#[derive(Clone, Debug)]
pub struct Mapping {
    shared: Arc<Shared>,
    lanes: TaskTracker,
}

/// What the lanes of a mapping have in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) stream: Arc<Stream>,
    pub(crate) function: Arc<dyn Invoke>,
    pub(crate) destination: Option<Destination>,
    pub(crate) reading: Permission,
    pub(crate) authorizer: Authorizer,
    pub(crate) status: Arc<Status>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) shutdown: CancellationToken,
    /// Whether batches are taken.
    enabled: watch::Sender<bool>,
    last_result: Mutex<String>,
    deadline: OnceLock<Instant>,
    pub(crate) chances: OnceLock<Arc<Chances>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Returns when batches may be taken.
    pub(crate) async fn enabled(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.enabled.subscribe().wait_for(|enabled| *enabled).await;
    }

    /// When everything must have ended; the first call after the shutdown sets it.
    pub(crate) fn deadline(&self) -> Instant {
        *self.deadline.get_or_init(|| Instant::now() + GRACE)
    }

    /// Says what became of the last batch, in the words of `LastProcessingResult`; logs a change.
    pub(crate) fn set_result(&self, result: &str) {
        let mut last = self
            .last_result
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *last != result {
            if result.starts_with("PROBLEM") {
                tracing::error!(mapping = self.config.logical_id, "{result}");
            }
            result.clone_into(&mut last);
        }
    }
}

impl Mapping {
    /// Starts polling, from where an earlier run has ended.
    ///
    /// `destination` is that of `DestinationConfig.OnFailure`, `reading` says whether the function's role may
    /// read the stream, `authorizer` stands for that role, and `folder` keeps checkpoints.
    /// When `shutdown` is cancelled, batches in work get some seconds to end.
    ///
    /// # Errors
    /// A setting is out of range or not emulated, or the checkpoints cannot be read.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is another neighbour of a mapping"
    )]
    pub fn start(
        config: Config,
        stream: Arc<Stream>,
        function: Arc<dyn Invoke>,
        destination: Option<Destination>,
        reading: Permission,
        authorizer: Authorizer,
        status: Arc<Status>,
        folder: &Path,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Mapping> {
        if let Some((property, message)) = refused(&config).first() {
            bail!("{}: {property}: {message}", config.logical_id);
        }
        let checkpoints = Checkpoints::open(
            &folder.join(format!("{}.json", config.logical_id)),
            stream.clone(),
        )
        .with_context(|| format!("{}: read its checkpoints", config.logical_id))?;
        let lanes = TaskTracker::new();
        let shared = Arc::new(Shared {
            enabled: watch::Sender::new(config.enabled),
            last_result: Mutex::new("No records processed".to_owned()),
            deadline: OnceLock::new(),
            chances: OnceLock::new(),
            config,
            stream,
            function,
            destination,
            reading,
            authorizer,
            status,
            checkpoints,
            shutdown: shutdown.clone(),
        });
        let count = shared.config.parallelization_factor;
        // All positions first, so that no checkpoint of one lane is mistaken for another's.
        let starts: Vec<Lane> = shared
            .stream
            .shards()
            .into_iter()
            .flat_map(|shard| (0..count).map(move |index| (shard, index)))
            .map(|(shard, index)| Lane::new(shared.clone(), shard, index, count))
            .collect();
        for lane in starts {
            lanes.spawn(lane.run());
        }
        lanes.spawn({
            let shared = shared.clone();
            async move { shared.checkpoints.keep_written(&shared.shutdown).await }
        });
        lanes.close();
        Ok(Mapping { shared, lanes })
    }

    /// Its logical ID.
    pub fn logical_id(&self) -> &str {
        &self.shared.config.logical_id
    }

    /// From now on it delivers a record again now and then.
    pub fn inject(&self, chances: Arc<Chances>) {
        // Given once; a second time changes nothing.
        let _ = self.shared.chances.set(chances);
    }

    /// Switches it on or off. Off, it ends the batches at hand and takes no other.
    pub fn enable(&self, enabled: bool) {
        self.shared.enabled.send_replace(enabled);
    }

    /// `Enabled` or `Disabled`.
    pub fn state(&self) -> &'static str {
        if *self.shared.enabled.borrow() {
            "Enabled"
        } else {
            "Disabled"
        }
    }

    /// `LastProcessingResult`, such as `OK` or `PROBLEM: Function call failed`.
    pub fn last_processing_result(&self) -> String {
        self.shared
            .last_result
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes no more batches; those in work get some seconds to end.
    pub fn stop(&self) {
        self.shared.shutdown.cancel();
    }

    /// Returns after the shutdown, when nothing is in work and the checkpoints are written.
    pub async fn finished(&self) {
        self.lanes.wait().await;
        self.shared.checkpoints.write();
    }
}

/// Settings that Lambda does not take, each with what is wrong.
pub(crate) fn refused(config: &Config) -> Vec<(&'static str, String)> {
    let ranges = [
        ("BatchSize", config.batch_size as u64, 1, 10_000),
        (
            "MaximumBatchingWindowInSeconds",
            config.window.as_secs(),
            0,
            300,
        ),
        (
            "ParallelizationFactor",
            config.parallelization_factor as u64,
            1,
            10,
        ),
        (
            "MaximumRetryAttempts",
            u64::from(config.maximum_retry_attempts.unwrap_or(0)),
            0,
            10_000,
        ),
        (
            "MaximumRecordAgeInSeconds",
            config.maximum_record_age.map_or(60, |age| age.as_secs()),
            60,
            604_800,
        ),
    ];
    let outside = ranges
        .into_iter()
        .filter(|(_, got, least, most)| !(least..=most).contains(&got));
    outside
        .map(|(name, got, least, most)| (name, format!("got {got}, expected {least} to {most}")))
        .collect()
}

#[cfg(test)]
mod tests;
