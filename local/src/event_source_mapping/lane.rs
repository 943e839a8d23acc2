//! A lane: reads its share of a shard and brings batch after batch to an end.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

use super::destination::{
    Condition, Destination, LastInvocation, NotDelivered, invocation_record, object_key,
};
use super::filter::Pattern;
use super::response::{Verdict, verdict};
use super::{Shared, batch};
use crate::kinesis::{Position, Record, SequenceNumber, ShardId};
use crate::lambda::Outcome;
use crate::status::now_ms;

/// First and last waiting time between attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

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
        // From now on it is known, also if the run ends before the first batch does.
        shared.checkpoints.set(shard, index, count, seen);
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
        while let Some(batch) = self.gather().await {
            if self.process(batch).await.is_err() {
                return;
            }
            self.pass_over();
        }
    }

    /// Waits until a batch is complete or its window is over. After the shutdown has begun, windows are
    /// over at once; nothing when then no record is left, or no time.
    async fn gather(&mut self) -> Option<Vec<Arc<Record>>> {
        let mut window: Option<Instant> = None;
        let shared = self.shared.clone();
        loop {
            tokio::select! {
                biased;
                () = async {
                    shared.enabled().await;
                    self.allowed_to_read().await;
                } => {}
                () = shared.shutdown.cancelled() => return None,
            }
            self.read();
            let (count, is_full) = batch::cut(&shared.config, shared.stream.arn(), &self.pending);
            let ending = shared.shutdown.is_cancelled();
            if ending && (count == 0 || shared.deadline() <= Instant::now()) {
                return None;
            }
            let until = (count > 0)
                .then(|| *window.get_or_insert_with(|| Instant::now() + shared.config.window));
            if is_full || ending || until.is_some_and(|until| until <= Instant::now()) {
                return Some(self.pending.drain(..count).collect());
            }
            let changed = shared.stream.changed(self.shard, self.seen);
            let over = async {
                match until {
                    None => std::future::pending().await,
                    Some(until) => sleep_until(until).await,
                }
            };
            tokio::select! {
                () = shared.shutdown.cancelled() => {}
                () = changed => {}
                () = over => {}
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
                    .filter(|record| lane_of(&record.partition_key, count) == index)
                    .filter(|record| wanted(&config.filters, record)),
            );
            self.pass_over();
        }
    }

    /// When nothing is left to do, also what other lanes or nobody wants is done with.
    fn pass_over(&self) {
        if self.pending.is_empty() {
            self.shared
                .checkpoints
                .set(self.shard, self.index, self.count, self.seen);
        }
    }

    /// Returns when the role may read the stream; without the permission the mapping has a problem, as on AWS.
    async fn allowed_to_read(&self) {
        let mut backoff = BACKOFF.0;
        while let Err(denied) = self.shared.reading.check() {
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
            self.discard_old(&mut task).await?;
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
                    if let Some(again) = self.again(task) {
                        tasks.push(again);
                    }
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
                    .await?;
                continue;
            }
            tasks.push(task);
            self.wait(&mut backoff).await?;
        }
        Ok(())
    }

    /// What of a completed batch is delivered again, by a fault that somebody has asked for.
    fn again(&self, task: Task) -> Option<Task> {
        let chances = self.shared.chances.get()?;
        let from = chances.duplicate(task.records.len())?;
        if self.shared.shutdown.is_cancelled() {
            return None;
        }
        let records = task.records.get(from..)?.to_vec();
        Some(Task {
            records,
            attempts: 0,
            last: LastInvocation::default(),
        })
    }

    async fn invoke(&self, event: Bytes) -> Result<crate::lambda::Invocation, Stopping> {
        let given_up = async {
            self.shared.shutdown.cancelled().await;
            sleep_until(self.shared.deadline()).await;
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
    async fn discard_old(&self, task: &mut Task) -> Result<(), Stopping> {
        let Some(age) = self.shared.config.maximum_record_age else {
            return Ok(());
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
                .await?;
            task.records = rest;
        }
        Ok(())
    }

    /// Gives up records: they go to the destination if there is one, and the shard goes on.
    /// When the run ends before the destination has them, the next one begins with them.
    async fn discard(
        &self,
        records: &[Arc<Record>],
        last: &LastInvocation,
        condition: Condition,
    ) -> Result<(), Stopping> {
        let Shared { config, stream, .. } = &*self.shared;
        let (Some(from), Some(to)) = (records.first(), records.last()) else {
            return Ok(());
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
        match &self.shared.destination {
            None => tracing::error!(
                "{what}; they are lost, because the mapping has no on-failure destination"
            ),
            Some(destination) => {
                let event = destination
                    .wants_records()
                    .then(|| batch::event(config, stream.arn(), self.shard, records));
                let body = invocation_record(
                    config,
                    stream.arn(),
                    self.shard,
                    records,
                    event.as_deref(),
                    condition,
                    last,
                );
                let key = object_key(config, self.shard, Timestamp::now());
                match self.deliver(destination, &key, body.into()).await? {
                    Ok(place) if event.is_some() => tracing::warn!("{what}; they are in {place}"),
                    Ok(place) => tracing::warn!(
                        "{what}; {place} tells where they are, the records are in the stream alone"
                    ),
                    Err(error) => tracing::error!(
                        "{what}; they are lost, because the on-failure destination refused them: {error}"
                    ),
                }
            }
        }
        self.shared
            .status
            .records_discarded
            .add(records.len() as u64);
        self.pass(records);
        Ok(())
    }

    /// Delivers an invocation record, however long the destination takes; the inner error is its refusal.
    async fn deliver(
        &self,
        destination: &Destination,
        key: &str,
        body: Bytes,
    ) -> Result<Result<String, String>, Stopping> {
        let mut backoff = BACKOFF.0;
        loop {
            let delivery = destination.deliver(&self.shared.authorizer, key, &body);
            match delivery.await {
                Ok(place) => return Ok(Ok(place)),
                Err(NotDelivered::Refused(error)) => return Ok(Err(error)),
                Err(NotDelivered::NotNow(error)) => {
                    tracing::error!("cannot write an invocation record, trying again: {error}");
                    self.wait(&mut backoff).await?;
                }
            }
        }
    }
}

/// Whether one of the patterns matches, or there is none.
fn wanted(filters: &[Pattern], record: &Record) -> bool {
    filters.is_empty() || filters.iter().any(|pattern| pattern.matches(record))
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
