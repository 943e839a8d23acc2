//! One shard: its records, its readers' checkpoints, its limit.
//!
//! With a folder, all records are in its files, and the newest ones in memory too; without one, memory
//! is all there is.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::limit::WriteLimit;
use super::segments::Segments;
use super::{
    ConsumerId, MAX_SHARD_DISK, MAX_SHARD_MEMORY, Position, Record, SHARD_CACHE, SequenceNumber,
};
use crate::status::now_ms;

/// A shard's name: `shardId-` and twelve digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(u32);

impl ShardId {
    pub(crate) fn new(index: u32) -> ShardId {
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
    shard: ShardId,
    /// The newest ones; without files, all.
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// Number and arrival of the last record that is no longer in memory.
    evicted: (SequenceNumber, u64),
    last: SequenceNumber,
    limit: WriteLimit,
    count: u64,
    checkpoints: BTreeMap<ConsumerId, SequenceNumber>,
    segments: Option<Segments>,
}

/// Why a shard did not take a record.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It takes no more now.
    Busy,
    /// Its files take no more.
    Disk(io::Error),
}

impl Shard {
    /// A shard in memory.
    pub(super) fn new(id: ShardId, hash_key_range: (u128, u128)) -> Shard {
        Shard {
            id,
            hash_key_range,
            state: Mutex::new(State {
                shard: id,
                records: VecDeque::new(),
                bytes: 0,
                evicted: (SequenceNumber::ZERO, 0),
                last: SequenceNumber::ZERO,
                limit: WriteLimit::new(Instant::now()),
                count: 0,
                checkpoints: BTreeMap::new(),
                segments: None,
            }),
            newest: watch::Sender::new(SequenceNumber::ZERO),
        }
    }

    /// A shard whose records are kept in a folder.
    ///
    /// # Errors
    /// The folder cannot be read or made.
    pub(super) fn open(
        id: ShardId,
        hash_key_range: (u128, u128),
        folder: &Path,
    ) -> io::Result<Shard> {
        let shard = Shard::new(id, hash_key_range);
        {
            let mut state = shard.lock();
            let segments = Segments::open(folder, |record| {
                // A copy, so that one record does not keep the whole file in memory.
                let data = Bytes::copy_from_slice(&record.data);
                state.add(Arc::new(Record { data, ..record }));
                state.evict(SHARD_CACHE);
            })?;
            state.segments = Some(segments);
            state.count = 0;
            shard.newest.send_replace(state.last);
        }
        Ok(shard)
    }

    pub(super) fn id(&self) -> ShardId {
        self.id
    }

    pub(super) fn hash_key_range(&self) -> (u128, u128) {
        self.hash_key_range
    }

    /// The new record's number.
    pub(super) fn put(
        &self,
        partition_key: &str,
        data: Bytes,
        retention: Duration,
    ) -> Result<SequenceNumber, Refusal> {
        let now = now_ms();
        let mut state = self.lock();
        let size = partition_key.len() + data.len();
        state.expire(now, retention);
        if !state.make_room(size) || !state.limit.admit(size, Instant::now()) {
            return Err(Refusal::Busy);
        }
        let sequence_number = SequenceNumber::next(now, state.last, self.id.0);
        let record = Arc::new(Record {
            sequence_number,
            partition_key: partition_key.into(),
            data,
            arrival: now,
        });
        if let Some(segments) = &mut state.segments {
            segments.append(&record).map_err(Refusal::Disk)?;
        }
        state.add(record);
        if state.segments.is_some() {
            state.evict(SHARD_CACHE);
        }
        drop(state);
        self.newest.send_if_modified(|newest| {
            let grown = *newest < sequence_number;
            *newest = (*newest).max(sequence_number);
            grown
        });
        Ok(sequence_number)
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
        state.read(position, max_records, max_bytes, Some(retention))
    }

    pub(super) fn cursor(&self, position: Position) -> SequenceNumber {
        if let Position::AfterSequenceNumber(number) = position {
            return number;
        }
        let state = self.lock();
        match state.read(position, 1, 1, None).first() {
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

    /// Records put so far in this run.
    pub(super) fn count(&self) -> u64 {
        self.lock().count
    }

    /// Records that the slowest reader has not done with; `None`: nobody reads.
    pub(super) fn waiting(&self) -> Option<u64> {
        let state = self.lock();
        let done = state.checkpoints.values().min().copied()?;
        Some(match &state.segments {
            Some(segments) if done < state.evicted.0 => segments.count_after(done),
            _ => {
                let first = state.start(Position::AfterSequenceNumber(done));
                (state.records.len() - first) as u64
            }
        })
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

    pub(super) fn unregister(&self, consumer: ConsumerId) {
        self.lock().checkpoints.remove(&consumer);
    }

    pub(super) fn checkpoint(&self, consumer: ConsumerId, through: SequenceNumber) {
        let mut state = self.lock();
        if let Some(checkpoint) = state.checkpoints.get_mut(&consumer) {
            *checkpoint = (*checkpoint).max(through);
        }
        if state.segments.is_some() {
            state.evict(SHARD_CACHE);
        }
    }

    /// Lets no record have a number up to this one, which a reader has seen before.
    pub(super) fn begin_after(&self, number: SequenceNumber) {
        let mut state = self.lock();
        state.last = state.last.max(number);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, record: Arc<Record>) {
        self.last = self.last.max(record.sequence_number);
        self.bytes += record.size();
        self.count += 1;
        self.records.push_back(record);
    }

    /// Index of the first record in memory at a position.
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

    fn read(
        &self,
        position: Position,
        max_records: usize,
        max_bytes: usize,
        retention: Option<Duration>,
    ) -> Vec<Arc<Record>> {
        let (evicted, evicted_arrival) = self.evicted;
        let from_disk = match position {
            Position::TrimHorizon => evicted > SequenceNumber::ZERO,
            Position::Latest => false,
            Position::AfterSequenceNumber(number) => number < evicted,
            Position::AtTimestamp(instant) => instant <= evicted_arrival,
        };
        if let Some(segments) = self.segments.as_ref().filter(|_| from_disk) {
            let oldest = retention.map_or(0, |it| now_ms().saturating_sub(milliseconds(it)));
            let after = |number: SequenceNumber, arrival: u64| {
                arrival >= oldest
                    && match position {
                        Position::TrimHorizon | Position::Latest => true,
                        Position::AfterSequenceNumber(after) => number > after,
                        Position::AtTimestamp(instant) => arrival >= instant,
                    }
            };
            let wanted = |it: &Record| after(it.sequence_number, it.arrival);
            match segments.read(after, wanted, max_records, max_bytes) {
                Ok(records) => return records,
                Err(error) => {
                    tracing::error!("{}: cannot read its kept records: {error}", self.shard);
                    return Vec::new();
                }
            }
        }
        let mut bytes = 0;
        self.records
            .range(self.start(position)..)
            .take(max_records)
            .take_while(|record| {
                let first = bytes == 0;
                bytes += record.size();
                first || bytes <= max_bytes
            })
            .cloned()
            .collect()
    }

    fn expire(&mut self, now: u64, retention: Duration) {
        let oldest = now.saturating_sub(milliseconds(retention));
        while self.records.front().is_some_and(|it| it.arrival < oldest) {
            self.drop_oldest();
        }
        if let Some(segments) = &mut self.segments {
            segments.expire(oldest);
        }
    }

    /// The number up to which every reader has done with all records; nothing if nobody reads.
    fn done(&self) -> Option<SequenceNumber> {
        self.checkpoints.values().min().copied()
    }

    /// Whether a record of this size fits, after removing what no reader needs.
    fn make_room(&mut self, size: usize) -> bool {
        let done = self.done();
        if let Some(segments) = &mut self.segments {
            let most = MAX_SHARD_DISK - size as u64;
            if segments.bytes() > most {
                segments.shrink(most, done.unwrap_or(self.last));
            }
            return segments.bytes() <= most;
        }
        while self.bytes + size > MAX_SHARD_MEMORY
            && self
                .records
                .front()
                .is_some_and(|it| done.is_none_or(|done| it.sequence_number <= done))
        {
            self.drop_oldest();
        }
        self.bytes + size <= MAX_SHARD_MEMORY
    }

    /// Leaves to the files what every reader has done with, and what is too much for the memory.
    fn evict(&mut self, most: usize) {
        let done = self.done().unwrap_or(SequenceNumber::ZERO);
        while self
            .records
            .front()
            .is_some_and(|it| self.bytes > most || it.sequence_number <= done)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.bytes -= record.size();
            self.evicted = (record.sequence_number, record.arrival);
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
