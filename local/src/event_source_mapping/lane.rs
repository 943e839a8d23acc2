//! A lane: reads its share of a shard and brings batch after batch to an end.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

use super::destination::{Condition, LastInvocation, invocation_record, object_key};
use super::response::{Verdict, verdict};
use super::{Shared, batch};
use crate::kinesis::{Position, Record, SequenceNumber, ShardId};
use crate::lambda::Outcome;
use crate::status::now_ms;

/// First and last waiting time between attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What a batch in work may still take after the shutdown has begun.
const GRACE: Duration = Duration::from_secs(5);

/// Records and bytes of one read: those of `GetRecords` (Kinesis API Reference).
const READ: (usize, usize) = (10_000, 10 * 1024 * 1024);

pub(super) struct Lane {
    shared: Arc<Shared>,
    shard: ShardId,
    index: usize,
    count: usize,
    /// Everything up to here has been looked at.
    seen: SequenceNumber,
    pending: VecDeque<Arc<Record>>,
}

/// Records that are sent together, and how often they have been.
struct Task {
    records: Vec<Arc<Record>>,
    attempts: u32,
    last: LastInvocation,
}

/// The run is at its end.
#[derive(Debug)]
pub(super) struct Stopping;

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, shard: ShardId, index: usize, count: usize) -> Lane {
        let kept = shared.checkpoints.kept(shard);
        let seen =
            kept.unwrap_or_else(|| shared.stream.cursor(shard, shared.config.starting_position));
        Lane {
            shared,
            shard,
            index,
            count,
            seen,
            pending: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let shutdown = self.shared.shutdown.clone();
        loop {
            let batch = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                batch = self.gather() => batch,
            };
            if self.process(batch).await.is_err() {
                return;
            }
        }
    }

    /// Waits until a batch is complete or its window is over.
    async fn gather(&mut self) -> Vec<Arc<Record>> {
        let mut window: Option<Instant> = None;
        loop {
            self.allowed_to_read().await;
            self.read();
            let shared = self.shared.clone();
            let (count, is_full) = batch::cut(&shared.config, shared.stream.arn(), &self.pending);
            let until = (count > 0)
                .then(|| *window.get_or_insert_with(|| Instant::now() + shared.config.window));
            if is_full || until.is_some_and(|until| until <= Instant::now()) {
                return self.pending.drain(..count).collect();
            }
            let changed = shared.stream.changed(self.shard, self.seen);
            match until {
                None => changed.await,
                Some(until) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    /// Takes what is there, up to a full batch.
    fn read(&mut self) {
        let Shared { config, stream, .. } = &*self.shared;
        while !batch::cut(config, stream.arn(), &self.pending).1 {
            let records = stream.read(
                self.shard,
                Position::AfterSequenceNumber(self.seen),
                READ.0,
                READ.1,
            );
            let Some(last) = records.last() else { return };
            self.seen = last.sequence_number;
            let (index, count) = (self.index, self.count);
            self.pending.extend(
                records
                    .into_iter()
                    .filter(|record| lane_of(&record.partition_key, count) == index),
            );
            if self.pending.is_empty() {
                self.shared
                    .checkpoints
                    .set(self.shard, self.index, self.count, self.seen);
            }
        }
    }

    /// Returns when the role may read the stream; without the permission the mapping has a problem, as on AWS.
    async fn allowed_to_read(&self) {
        let arn = self.shared.stream.arn();
        let mut backoff = BACKOFF.0;
        let actions = [
            "kinesis:DescribeStream",
            "kinesis:ListShards",
            "kinesis:GetShardIterator",
            "kinesis:GetRecords",
        ];
        while let Err(denied) = actions
            .iter()
            .try_for_each(|action| self.shared.authorizer.authorize(action, arn))
        {
            self.shared.set_result(&format!("PROBLEM: {denied}"));
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Brings a batch to its end, however long that takes.
    pub(super) async fn process(&self, records: Vec<Arc<Record>>) -> Result<(), Stopping> {
        let Shared { config, stream, .. } = &*self.shared;
        let mut backoff = BACKOFF.0;
        // The first records last, because it is the last task that is taken.
        let mut tasks = vec![Task {
            records,
            attempts: 0,
            last: LastInvocation::default(),
        }];
        while let Some(mut task) = tasks.pop() {
            self.discard_old(&mut task).await;
            if task.records.is_empty() {
                continue;
            }
            let event = batch::event(config, stream.arn(), self.shard, &task.records);
            let invocation = self.invoke(event.clone()).await?;
            task.last.request_id = Some(invocation.request_id);
            task.last.failed = matches!(invocation.outcome, Outcome::Failed(_));
            let verdict = match &invocation.outcome {
                Outcome::Completed(response) if config.report_batch_item_failures => {
                    verdict(response, &task.records)
                }
                Outcome::Completed(_) => Verdict::Done,
                Outcome::Failed(error) => {
                    tracing::warn!(mapping = config.logical_id, shard = %self.shard, records = task.records.len(), "function call failed: {error}");
                    Verdict::RetryAll
                }
                Outcome::NotInvoked(reason) => {
                    // No attempt of the function, so none is counted.
                    task.last.request_id = None;
                    self.shared.set_result(&format!("PROBLEM: {reason}"));
                    tasks.push(task);
                    self.wait(&mut backoff).await?;
                    continue;
                }
            };
            task.last.count += 1;
            match verdict {
                Verdict::Done => {
                    self.done(&task.records);
                    self.shared.set_result("OK");
                    backoff = BACKOFF.0;
                    continue;
                }
                Verdict::RetryFrom(index) if index > 0 => {
                    let rest = task.records.split_off(index);
                    self.done(&task.records);
                    task.records = rest;
                    task.attempts = if config.bisect { 0 } else { task.attempts + 1 };
                    backoff = BACKOFF.0;
                }
                // Only an error bisects: a function that returns the first record asks for all of them again.
                Verdict::RetryAll
                    if task.last.failed && config.bisect && task.records.len() > 1 =>
                {
                    let second = task.records.split_off(task.records.len() / 2);
                    tasks.push(Task {
                        records: second,
                        attempts: task.attempts,
                        last: task.last.clone(),
                    });
                }
                Verdict::RetryFrom(_) | Verdict::RetryAll => task.attempts += 1,
            }
            self.shared.set_result("PROBLEM: Function call failed");
            if config
                .maximum_retry_attempts
                .is_some_and(|most| task.attempts > most)
            {
                self.discard(&task.records, &task.last, Condition::RetryAttemptsExhausted)
                    .await;
                continue;
            }
            tasks.push(task);
            self.wait(&mut backoff).await?;
        }
        Ok(())
    }

    async fn invoke(&self, event: Bytes) -> Result<crate::lambda::Invocation, Stopping> {
        let given_up = async {
            self.shared.shutdown.cancelled().await;
            sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            invocation = self.shared.function.invoke(event) => Ok(invocation),
            () = given_up => Err(Stopping),
        }
    }

    async fn wait(&self, backoff: &mut Duration) -> Result<(), Stopping> {
        let waiting = *backoff;
        *backoff = (waiting * 2).min(BACKOFF.1);
        tokio::select! {
            biased;
            () = self.shared.shutdown.cancelled() => Err(Stopping),
            () = sleep(waiting) => Ok(()),
        }
    }

    fn done(&self, records: &[Arc<Record>]) {
        self.shared.status.batches.increment();
        self.pass(records);
    }

    fn pass(&self, records: &[Arc<Record>]) {
        if let Some(last) = records.last() {
            self.shared
                .checkpoints
                .set(self.shard, self.index, self.count, last.sequence_number);
        }
    }

    /// Gives up the records at the beginning that are older than `MaximumRecordAgeInSeconds`.
    async fn discard_old(&self, task: &mut Task) {
        let Some(age) = self.shared.config.maximum_record_age else {
            return;
        };
        let oldest = now_ms().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let old = task
            .records
            .iter()
            .take_while(|record| record.arrival < oldest)
            .count();
        if old > 0 {
            let rest = task.records.split_off(old);
            self.discard(&task.records, &task.last, Condition::RecordAgeExceeded)
                .await;
            task.records = rest;
        }
    }

    /// Gives up records: they go to the destination if there is one, and the shard goes on.
    async fn discard(&self, records: &[Arc<Record>], last: &LastInvocation, condition: Condition) {
        let Shared { config, stream, .. } = &*self.shared;
        self.shared
            .status
            .records_discarded
            .add(records.len() as u64);
        let (Some(from), Some(to)) = (records.first(), records.last()) else {
            return;
        };
        let what = format!(
            "{}: gave up {} records of {} ({}), sequence numbers {} to {}",
            config.logical_id,
            records.len(),
            self.shard,
            condition.name(),
            from.sequence_number,
            to.sequence_number
        );
        match &self.shared.bucket {
            None => tracing::error!(
                "{what}; they are lost, because the mapping has no on-failure destination"
            ),
            Some(bucket) => {
                let event = batch::event(config, stream.arn(), self.shard, records);
                let body = invocation_record(
                    config,
                    stream.arn(),
                    self.shard,
                    records,
                    &event,
                    condition,
                    last,
                );
                let key = object_key(config, self.shard, Timestamp::now());
                match self.deliver(bucket, &key, body).await {
                    Ok(()) => tracing::warn!("{what}; they are in s3://{bucket}/{key}"),
                    Err(error) => tracing::error!(
                        "{what}; they are lost, because the on-failure destination refused them: {error}"
                    ),
                }
            }
        }
        self.pass(records);
    }

    async fn deliver(&self, bucket: &str, key: &str, body: Vec<u8>) -> Result<(), String> {
        let arn = self
            .shared
            .config
            .on_failure_bucket
            .as_deref()
            .unwrap_or_default();
        let authorizer = &self.shared.authorizer;
        authorizer
            .authorize("s3:ListBucket", arn)
            .and_then(|()| authorizer.authorize("s3:PutObject", &format!("{arn}/{key}")))
            .map_err(|denied| denied.to_string())?;
        let body = Bytes::from(body);
        let mut backoff = BACKOFF.0;
        loop {
            let error = match self
                .shared
                .store
                .put_object(bucket, key, body.clone())
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            };
            tracing::error!("cannot write an invocation record, trying again: {error}");
            self.wait(&mut backoff).await.map_err(|Stopping| error)?;
        }
    }
}

/// The lane of a partition key; the same in every run of a binary, and no more is needed.
fn lane_of(partition_key: &str, count: usize) -> usize {
    if count == 1 {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    partition_key.hash(&mut hasher);
    usize::try_from(hasher.finish() % count as u64).unwrap_or_default()
}
