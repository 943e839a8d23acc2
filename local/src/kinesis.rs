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
#[derive(Clone, Debug, PartialEq, Eq)]
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
        // On-demand shards have the same limits; there are just enough of them.
        let count = match config.mode {
            Mode::Provisioned { shard_count } => shard_count.max(1),
            Mode::OnDemand => ON_DEMAND_SHARDS,
        };
        let shards = (0..count)
            .map(|index| Shard::new(ShardId::new(index), hash::range(index, count)))
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

    /// Records put into each shard so far, in the order of [`shards`](Self::shards).
    pub fn counts(&self) -> Vec<u64> {
        self.shards.iter().map(Shard::count).collect()
    }

    /// Records of each shard that the slowest reader has not done with, in the order of
    /// [`shards`](Self::shards); `None` for a shard that nobody reads.
    pub fn waiting(&self) -> Vec<Option<u64>> {
        self.shards.iter().map(Shard::waiting).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(mode: Mode) -> Arc<Stream> {
        Stream::new(Config {
            logical_id: "Stream".to_owned(),
            name: "stream".to_owned(),
            arn: "arn:aws:kinesis:eu-central-1:000000000000:stream/stream".to_owned(),
            mode,
            retention: Duration::from_secs(86_400),
            max_record_bytes: 1024 * 1024,
        })
    }

    async fn put(stream: &Stream, key: &str, data: &str) -> PutRecordOutput {
        stream
            .put_record(key, None, Bytes::copy_from_slice(data.as_bytes()))
            .await
            .unwrap()
    }

    fn data(records: &[Arc<Record>]) -> Vec<&str> {
        records
            .iter()
            .map(|it| std::str::from_utf8(&it.data).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn positions_begin_where_aws_says() {
        let stream = stream(Mode::Provisioned { shard_count: 1 });
        let shard = stream.shards()[0];
        let latest = stream.cursor(shard, Position::Latest);
        let first = put(&stream, "key", "1").await;
        put(&stream, "key", "2").await;
        let third = put(&stream, "key", "3").await;
        let read = |position| stream.read(shard, position, 10, 1_000);
        assert_eq!(data(&read(Position::TrimHorizon)), ["1", "2", "3"]);
        assert_eq!(
            data(&read(Position::AfterSequenceNumber(first.sequence_number))),
            ["2", "3"]
        );
        assert_eq!(
            data(&read(Position::AfterSequenceNumber(third.sequence_number))),
            [""; 0]
        );
        assert_eq!(
            data(&read(Position::AfterSequenceNumber(latest))),
            ["1", "2", "3"]
        );
        assert_eq!(data(&read(Position::AtTimestamp(0))), ["1", "2", "3"]);
        assert_eq!(data(&read(Position::AtTimestamp(u64::MAX))), [""; 0]);
        assert_eq!(data(&read(Position::Latest)), [""; 0]);
        let cursor = stream.cursor(shard, Position::TrimHorizon);
        assert_eq!(
            data(&read(Position::AfterSequenceNumber(cursor))),
            ["1", "2", "3"]
        );
        let cursor = stream.cursor(shard, Position::Latest);
        assert_eq!(cursor, third.sequence_number);
    }

    #[tokio::test]
    async fn reads_are_cut_by_count_and_by_bytes_but_never_empty() {
        let stream = stream(Mode::Provisioned { shard_count: 1 });
        let shard = stream.shards()[0];
        for text in ["aaaa", "bbbb", "cccc"] {
            put(&stream, "k", text).await;
        }
        let read = |records, bytes| stream.read(shard, Position::TrimHorizon, records, bytes);
        assert_eq!(data(&read(2, 1_000)), ["aaaa", "bbbb"]);
        assert_eq!(data(&read(10, 10)), ["aaaa", "bbbb"]);
        assert_eq!(data(&read(10, 9)), ["aaaa"]);
        assert_eq!(data(&read(10, 1)), ["aaaa"]);
    }

    #[tokio::test]
    async fn keys_spread_over_shards_and_each_stays_on_one() {
        let stream = stream(Mode::OnDemand);
        assert_eq!(stream.shards().len(), 4);
        assert_eq!(stream.shards()[3].to_string(), "shardId-000000000003");
        let mut used = std::collections::BTreeSet::new();
        for key in 0..32 {
            let shard = put(&stream, &key.to_string(), "").await.shard_id;
            assert_eq!(put(&stream, &key.to_string(), "").await.shard_id, shard);
            used.insert(shard);
        }
        assert_eq!(used.len(), 4);
        let explicit = stream
            .put_record("0", Some("0"), Bytes::new())
            .await
            .unwrap();
        assert_eq!(explicit.shard_id.index(), 0);
    }

    #[tokio::test]
    async fn change_is_seen_by_who_waits_and_by_who_comes_late() {
        let stream = stream(Mode::Provisioned { shard_count: 1 });
        let shard = stream.shards()[0];
        let waiting = {
            let stream = Arc::clone(&stream);
            tokio::spawn(async move { stream.changed(shard, SequenceNumber::ZERO).await })
        };
        let first = put(&stream, "k", "").await.sequence_number;
        waiting.await.unwrap();
        stream.changed(shard, SequenceNumber::ZERO).await;
        let late = stream.changed(shard, first);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), late)
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn what_aws_refuses_is_refused() {
        let stream = stream(Mode::Provisioned { shard_count: 1 });
        let put = async |key: &str, size: usize| {
            stream
                .put_record(key, None, Bytes::from(vec![0; size]))
                .await
        };
        for (key, size) in [("", 1), (&*"k".repeat(257), 1), ("k", 1024 * 1024)] {
            let error = put(key, size).await.unwrap_err();
            assert!(
                matches!(error, PutRecordError::InvalidArgument(_)),
                "{error}"
            );
            assert!(!error.is_transient());
        }
        assert!(put(&"ü".repeat(256), 1).await.is_ok());
        assert!(put("k", 1024 * 1024 - 600).await.is_ok());
        let error = put("k", 1024).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(
            error
                .to_string()
                .contains("ProvisionedThroughputExceededException")
        );
    }

    #[tokio::test]
    async fn records_end_with_their_retention() {
        let config = Config {
            retention: Duration::ZERO,
            ..stream(Mode::OnDemand).config().clone()
        };
        let stream = Stream::new(config);
        let shard = put(&stream, "k", "old").await.shard_id;
        std::thread::sleep(Duration::from_millis(3));
        assert_eq!(stream.read(shard, Position::TrimHorizon, 10, 10).len(), 0);
        assert_eq!(stream.newest(shard), None);
    }
}
