//! Kinesis data streams: shards, sequence numbers, write limits and retention.
//!
//! A partition key goes to the shard whose hash range holds its MD5 as an unsigned 128-bit
//! big-endian number; `ExplicitHashKey` overrides it. Within a shard sequence numbers grow, and a
//! reader gets records strictly by them.
//! (Amazon Kinesis API Reference, `PutRecord`, `GetRecords`; Developer Guide, "Quotas and limits".)
//!
//! # Differs from AWS
//! - Records live in memory only; a restart begins with empty shards. Sequence numbers start from the
//!   clock, so that they stay above those of every earlier run.
//! - The write limit of a shard is a bucket that holds one second's worth, filled continuously.
//! - An on-demand stream has four shards and is not scaled; nothing is resharded.
//! - A shard keeps at most [`MAX_SHARD_MEMORY`] bytes. Above it records go that every registered
//!   consumer has done with; while there is none of these, a put is throttled, never dropped.

mod hash;
mod limit;
mod sequence;
mod shard;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

pub use sequence::SequenceNumber;
use shard::Shard;
pub use shard::ShardId;

/// Shards of a new on-demand stream: 4 MB/s of writes, see "Choose the right mode" in the
/// Kinesis Developer Guide.
pub const ON_DEMAND_SHARDS: u32 = 4;

/// Bytes of records that a shard keeps in memory at most.
pub const MAX_SHARD_MEMORY: usize = 256 * 1024 * 1024;

/// What a stream needs to know of its `AWS::Kinesis::Stream`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logical ID in the template.
    pub logical_id: String,
    /// Physical name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Capacity.
    pub mode: Mode,
    /// How long a record can be read.
    pub retention: Duration,
    /// Bytes of partition key and data together at most.
    pub max_record_bytes: usize,
}

/// `StreamModeDetails.StreamMode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `PROVISIONED` with its `ShardCount`; at least 1.
    Provisioned {
        /// `ShardCount`
        shard_count: u32,
    },
    /// `ON_DEMAND`
    OnDemand,
}

/// A record of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the shard.
    pub sequence_number: SequenceNumber,
    /// 1–256 characters.
    pub partition_key: Arc<str>,
    /// What the producer put, byte for byte.
    pub data: Bytes,
    /// `ApproximateArrivalTimestamp` in milliseconds since the Unix epoch.
    pub arrival: u64,
}

impl Record {
    /// Bytes that count against the limits: partition key and data.
    pub fn size(&self) -> usize {
        self.partition_key.len() + self.data.len()
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The oldest record still kept.
    TrimHorizon,
    /// After the newest record at the moment of the call.
    Latest,
    /// After the record with this number.
    AfterSequenceNumber(SequenceNumber),
    /// The first record that arrived at or after this instant, in milliseconds since the Unix epoch.
    AtTimestamp(u64),
}

/// Where a record was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutRecordOutput {
    /// The shard that took it.
    pub shard_id: ShardId,
    /// Its place there.
    pub sequence_number: SequenceNumber,
}

/// Why a record was not put.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutRecordError {
    /// `ProvisionedThroughputExceededException`; worth another attempt.
    #[error(
        "Rate exceeded for shard {shard_id} in stream {stream} (Service: Kinesis, Status Code: 400, Error Code: ProvisionedThroughputExceededException)"
    )]
    ProvisionedThroughputExceeded {
        /// The busy shard.
        shard_id: ShardId,
        /// Name of the stream.
        stream: String,
    },
    /// `InvalidArgumentException`; no attempt can succeed.
    #[error("{0} (Service: Kinesis, Status Code: 400, Error Code: InvalidArgumentException)")]
    InvalidArgument(String),
}

impl PutRecordError {
    /// Whether the same record may be taken later.
    pub fn is_transient(&self) -> bool {
        matches!(self, PutRecordError::ProvisionedThroughputExceeded { .. })
    }
}

/// A reader that is registered with a stream, see [`Stream::register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(usize);

/// A data stream; shared by `Arc`.
#[derive(Debug)]
pub struct Stream {
    config: Config,
    shards: Vec<Shard>,
    consumers: AtomicUsize,
}

impl Stream {
    /// A stream with empty shards.
    pub fn new(config: Config) -> Arc<Stream> {
        let (count, limited) = match config.mode {
            Mode::Provisioned { shard_count } => (shard_count.max(1), true),
            Mode::OnDemand => (ON_DEMAND_SHARDS, true),
        };
        let shards = (0..count)
            .map(|index| Shard::new(ShardId::new(index), hash::range(index, count), limited))
            .collect();
        Arc::new(Stream {
            config,
            shards,
            consumers: AtomicUsize::new(0),
        })
    }

    /// What it was made from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its ARN.
    pub fn arn(&self) -> &str {
        &self.config.arn
    }

    /// Its shards, in order of their hash ranges.
    pub fn shards(&self) -> Vec<ShardId> {
        self.shards.iter().map(Shard::id).collect()
    }

    /// First and last hash key of a shard.
    pub fn hash_key_range(&self, shard_id: ShardId) -> Option<(u128, u128)> {
        self.shard(shard_id).map(Shard::hash_key_range)
    }

    /// Adds a record. Puts of one caller, one after the other, keep their order within a shard.
    ///
    /// # Errors
    /// Over the shard's write limit, or a key or size that AWS refuses.
    pub async fn put_record(
        &self,
        partition_key: &str,
        explicit_hash_key: Option<&str>,
        data: Bytes,
    ) -> Result<PutRecordOutput, PutRecordError> {
        self.check(partition_key, &data)?;
        let hash = match explicit_hash_key {
            Some(text) => hash::explicit(text).map_err(PutRecordError::InvalidArgument)?,
            None => hash::of_partition_key(partition_key),
        };
        let shard = &self.shards[hash::shard_of(hash, self.shards.len())];
        shard
            .put(partition_key, data, self.config.retention)
            .map(|sequence_number| PutRecordOutput {
                shard_id: shard.id(),
                sequence_number,
            })
            .ok_or_else(|| PutRecordError::ProvisionedThroughputExceeded {
                shard_id: shard.id(),
                stream: self.config.name.clone(),
            })
    }

    fn check(&self, partition_key: &str, data: &[u8]) -> Result<(), PutRecordError> {
        let characters = partition_key.chars().take(257).count();
        if !(1..=256).contains(&characters) {
            return Err(PutRecordError::InvalidArgument(format!(
                "Value '{partition_key}' at 'partitionKey' failed to satisfy constraint: Member must have length between 1 and 256"
            )));
        }
        let size = partition_key.len() + data.len();
        if size > self.config.max_record_bytes {
            return Err(PutRecordError::InvalidArgument(format!(
                "record of {size} bytes (partition key and data) is larger than the stream's limit of {} bytes",
                self.config.max_record_bytes
            )));
        }
        Ok(())
    }

    /// The records of a shard from a position on, in order: at most `max_records`, and as many as fit
    /// into `max_bytes`, but at least one if there is one.
    ///
    /// [`Position::Latest`] is always empty: take a [`cursor`](Self::cursor) first and read after it.
    pub fn read(
        &self,
        shard_id: ShardId,
        position: Position,
        max_records: usize,
        max_bytes: usize,
    ) -> Vec<Arc<Record>> {
        self.shard(shard_id).map_or_else(Vec::new, |shard| {
            shard.read(position, max_records, max_bytes, self.config.retention)
        })
    }

    /// The number after which reading from a position goes on; for use with
    /// [`Position::AfterSequenceNumber`] and [`changed`](Self::changed).
    pub fn cursor(&self, shard_id: ShardId, position: Position) -> SequenceNumber {
        self.shard(shard_id)
            .map_or(SequenceNumber::ZERO, |shard| shard.cursor(position))
    }

    /// Number and arrival of the shard's newest record, to see how far a reader lags behind.
    pub fn newest(&self, shard_id: ShardId) -> Option<(SequenceNumber, u64)> {
        self.shard(shard_id).and_then(Shard::newest)
    }

    /// Returns when the shard holds a record after the given number, at once if it does already.
    /// Cancel safe.
    pub async fn changed(&self, shard_id: ShardId, after: SequenceNumber) {
        match self.shard(shard_id) {
            Some(shard) => shard.changed(after).await,
            None => std::future::pending().await,
        }
    }

    /// Makes a reader known. Without a restart nobody reads a record again that every registered
    /// reader has done with, so such a record may leave the memory before its retention ends.
    pub fn register(&self) -> ConsumerId {
        let consumer = ConsumerId(self.consumers.fetch_add(1, Ordering::Relaxed));
        for shard in &self.shards {
            shard.register(consumer);
        }
        consumer
    }

    /// Says that a reader has done with all records of a shard up to and including this number.
    pub fn checkpoint(&self, consumer: ConsumerId, shard_id: ShardId, through: SequenceNumber) {
        if let Some(shard) = self.shard(shard_id) {
            shard.checkpoint(consumer, through);
        }
    }

    fn shard(&self, shard_id: ShardId) -> Option<&Shard> {
        self.shards.get(shard_id.index())
    }
}
