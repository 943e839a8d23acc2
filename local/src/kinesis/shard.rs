//! One shard: its records, its readers' checkpoints, its limit.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::limit::WriteLimit;
use super::{ConsumerId, MAX_SHARD_MEMORY, Position, Record, SequenceNumber};
use crate::status::now_ms;

/// A shard's name: `shardId-` and twelve digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(u32);

impl ShardId {
    pub(super) fn new(index: u32) -> ShardId {
        ShardId(index)
    }

    /// Its place in the stream's list of shards.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shardId-{:012}", self.0)
    }
}

#[derive(Debug)]
pub(super) struct Shard {
    id: ShardId,
    /// First and last hash key.
    hash_key_range: (u128, u128),
    state: Mutex<State>,
    newest: watch::Sender<SequenceNumber>,
}

#[derive(Debug)]
struct State {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    last: SequenceNumber,
    limit: WriteLimit,
    count: u64,
    checkpoints: BTreeMap<ConsumerId, SequenceNumber>,
}

impl Shard {
    pub(super) fn new(id: ShardId, hash_key_range: (u128, u128)) -> Shard {
        Shard {
            id,
            hash_key_range,
            state: Mutex::new(State {
                records: VecDeque::new(),
                bytes: 0,
                last: SequenceNumber::ZERO,
                limit: WriteLimit::new(Instant::now()),
                count: 0,
                checkpoints: BTreeMap::new(),
            }),
            newest: watch::Sender::new(SequenceNumber::ZERO),
        }
    }

    pub(super) fn id(&self) -> ShardId {
        self.id
    }

    pub(super) fn hash_key_range(&self) -> (u128, u128) {
        self.hash_key_range
    }

    /// The new record's number, or nothing if the shard takes no more now.
    pub(super) fn put(
        &self,
        partition_key: &str,
        data: Bytes,
        retention: Duration,
    ) -> Option<SequenceNumber> {
        let now = now_ms();
        let mut state = self.lock();
        let size = partition_key.len() + data.len();
        state.expire(now, retention);
        if !state.make_room(size) || !state.limit.admit(size, Instant::now()) {
            return None;
        }
        let sequence_number = SequenceNumber::next(now, state.last);
        state.last = sequence_number;
        state.bytes += size;
        state.count += 1;
        state.records.push_back(Arc::new(Record {
            sequence_number,
            partition_key: partition_key.into(),
            data,
            arrival: now,
        }));
        drop(state);
        self.newest.send_if_modified(|newest| {
            let grown = *newest < sequence_number;
            *newest = (*newest).max(sequence_number);
            grown
        });
        Some(sequence_number)
    }

    pub(super) fn read(
        &self,
        position: Position,
        max_records: usize,
        max_bytes: usize,
        retention: Duration,
    ) -> Vec<Arc<Record>> {
        let mut state = self.lock();
        state.expire(now_ms(), retention);
        let start = state.start(position);
        let mut bytes = 0;
        state
            .records
            .range(start..)
            .take(max_records)
            .take_while(|record| {
                let first = bytes == 0;
                bytes += record.size();
                first || bytes <= max_bytes
            })
            .cloned()
            .collect()
    }

    pub(super) fn cursor(&self, position: Position) -> SequenceNumber {
        if let Position::AfterSequenceNumber(number) = position {
            return number;
        }
        let state = self.lock();
        match state.records.get(state.start(position)) {
            Some(record) => record.sequence_number.before(),
            None => state.last,
        }
    }

    pub(super) fn newest(&self) -> Option<(SequenceNumber, u64)> {
        self.lock()
            .records
            .back()
            .map(|record| (record.sequence_number, record.arrival))
    }

    /// Records put so far.
    pub(super) fn count(&self) -> u64 {
        self.lock().count
    }

    /// Records that the slowest reader has not done with; `None`: nobody reads.
    pub(super) fn waiting(&self) -> Option<u64> {
        let state = self.lock();
        let done = state.checkpoints.values().min().copied()?;
        let first = state.start(Position::AfterSequenceNumber(done));
        Some((state.records.len() - first) as u64)
    }

    pub(super) async fn changed(&self, after: SequenceNumber) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self
            .newest
            .subscribe()
            .wait_for(|newest| *newest > after)
            .await;
    }

    pub(super) fn register(&self, consumer: ConsumerId) {
        self.lock()
            .checkpoints
            .insert(consumer, SequenceNumber::ZERO);
    }

    pub(super) fn checkpoint(&self, consumer: ConsumerId, through: SequenceNumber) {
        if let Some(checkpoint) = self.lock().checkpoints.get_mut(&consumer) {
            *checkpoint = (*checkpoint).max(through);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Index of the first record at a position.
    fn start(&self, position: Position) -> usize {
        match position {
            Position::TrimHorizon => 0,
            Position::Latest => self.records.len(),
            Position::AfterSequenceNumber(number) => self
                .records
                .partition_point(|record| record.sequence_number <= number),
            Position::AtTimestamp(instant) => self
                .records
                .partition_point(|record| record.arrival < instant),
        }
    }

    fn expire(&mut self, now: u64, retention: Duration) {
        let retention = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        while self
            .records
            .front()
            .is_some_and(|it| now.saturating_sub(it.arrival) > retention)
        {
            self.drop_oldest();
        }
    }

    /// Whether a record of this size fits into the memory, after removing what no reader needs.
    fn make_room(&mut self, size: usize) -> bool {
        let done = self
            .checkpoints
            .values()
            .min()
            .copied()
            .unwrap_or(SequenceNumber::ZERO);
        while self.bytes + size > MAX_SHARD_MEMORY
            && self
                .records
                .front()
                .is_some_and(|it| self.checkpoints.is_empty() || it.sequence_number <= done)
        {
            self.drop_oldest();
        }
        self.bytes + size <= MAX_SHARD_MEMORY
    }

    fn drop_oldest(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.bytes -= record.size();
        }
    }
}
