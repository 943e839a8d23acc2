//! Kinesis data streams: shards, sequence numbers, write limits and retention.
//!
//! A partition key goes to the shard whose hash range holds its MD5 as an unsigned 128-bit
//! big-endian number; `ExplicitHashKey` overrides it. Within a shard sequence numbers grow, and a
//! reader gets records strictly by them.
//! (Amazon Kinesis API Reference, `PutRecord`, `GetRecords`; Developer Guide, "Quotas and limits".)
//!
//! Records are kept in the data folder, so that a restart goes on with them; `segments` says how.
//!
//! # Differs from AWS
//! - When the number of shards changes, the kept records move to the new shards with their sequence
//!   numbers; AWS leaves them in the old ones and closes these.
//! - Sequence numbers of a fresh data folder start from the clock, so that they are above those of any
//!   earlier one.
//! - The write limit of a shard is a bucket that holds one second's worth, filled continuously.
//! - An on-demand stream has four shards, which take the 4 MB a second of a new one, and is not scaled;
//!   nothing is resharded. Warm throughput and the distribution of records by AWS are refused at start.
//! - A shard keeps at most [`MAX_SHARD_DISK`] bytes. Above it records go that every registered
//!   consumer has done with; while there is none of these, a put is throttled, never dropped.

mod hash;
mod limit;
pub mod part;
pub mod plan;
mod segments;
mod sequence;
mod shard;
mod storage;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

pub use sequence::SequenceNumber;
pub use shard::ShardId;
use shard::{Refusal, Shard};

/// Shards of a new on-demand stream: 4 MB/s of writes, see "Choose the right mode" in the
/// Kinesis Developer Guide.
pub const ON_DEMAND_SHARDS: u32 = 4;

/// Bytes of records that a shard keeps in its files at most.
pub const MAX_SHARD_DISK: u64 = 1024 * 1024 * 1024;

/// Bytes of records that a shard without files keeps at most.
pub const MAX_SHARD_MEMORY: usize = 256 * 1024 * 1024;

/// Bytes of records that a shard with files has in memory too.
const SHARD_CACHE: usize = 16 * 1024 * 1024;

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

impl Mode {
    /// Shards of such a stream.
    pub fn shard_count(self) -> u32 {
        match self {
            Mode::Provisioned { shard_count } => shard_count.max(1),
            // Each has the same limits; there are just enough of them.
            Mode::OnDemand => ON_DEMAND_SHARDS,
        }
    }
}

/// First and last hash key of a shard among so many.
pub(crate) fn hash_key_range(index: u32, count: u32) -> (u128, u128) {
    hash::range(index, count)
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
    /// `InternalFailureException`: the data folder takes nothing; worth another attempt.
    #[error(
        "the data folder takes no record: {0} (Service: Kinesis, Status Code: 500, Error Code: InternalFailureException)"
    )]
    InternalFailure(String),
}

impl PutRecordError {
    /// Whether the same record may be taken later.
    pub fn is_transient(&self) -> bool {
        !matches!(self, PutRecordError::InvalidArgument(_))
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
    throttled: AtomicBool,
}

impl Stream {
    /// A stream with empty shards, in memory alone.
    pub fn new(config: Config) -> Arc<Stream> {
        let count = config.mode.shard_count();
        let shards = (0..count)
            .map(|index| Shard::new(ShardId::new(index), hash::range(index, count)))
            .collect();
        Stream::of(config, shards)
    }

    /// A stream whose records are kept in a folder of its own, with those of an earlier run.
    ///
    /// # Errors
    /// The folder cannot be used; the error names it.
    pub fn open(config: Config, folder: &Path) -> anyhow::Result<Arc<Stream>> {
        let shards = storage::open(&config, folder)?;
        Ok(Stream::of(config, shards))
    }

    fn of(config: Config, shards: Vec<Shard>) -> Arc<Stream> {
        Arc::new(Stream {
            config,
            shards,
            consumers: AtomicUsize::new(0),
            throttled: AtomicBool::new(false),
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
        let put = if self.throttled.load(Ordering::Relaxed) {
            Err(Refusal::Busy)
        } else {
            shard.put(partition_key, data, self.config.retention)
        };
        match put {
            Ok(sequence_number) => Ok(PutRecordOutput {
                shard_id: shard.id(),
                sequence_number,
            }),
            Err(Refusal::Busy) => Err(PutRecordError::ProvisionedThroughputExceeded {
                shard_id: shard.id(),
                stream: self.config.name.clone(),
            }),
            Err(Refusal::Disk(error)) => Err(PutRecordError::InternalFailure(error.to_string())),
        }
    }

    /// Refuses every record as if its shard were busy, until told otherwise.
    pub fn throttle(&self, throttled: bool) {
        self.throttled.store(throttled, Ordering::Relaxed);
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

    /// Lets no new record of a shard have a number up to this one, wherever the clock may be: a reader
    /// has seen it, and would never look at such a record.
    pub fn begin_after(&self, shard_id: ShardId, number: SequenceNumber) {
        if let Some(shard) = self.shard(shard_id) {
            shard.begin_after(number);
        }
    }

    /// Makes a reader known. What every registered reader has done with may go before its retention
    /// ends when there is no room.
    pub fn register(&self) -> ConsumerId {
        let consumer = ConsumerId(self.consumers.fetch_add(1, Ordering::Relaxed));
        for shard in &self.shards {
            shard.register(consumer);
        }
        consumer
    }

    /// Forgets a reader.
    pub fn unregister(&self, consumer: ConsumerId) {
        for shard in &self.shards {
            shard.unregister(consumer);
        }
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

    fn kept(folder: &Path, shard_count: u32) -> Arc<Stream> {
        let config = stream(Mode::Provisioned { shard_count }).config().clone();
        Stream::open(config, folder).unwrap()
    }

    fn all(stream: &Stream) -> Vec<Vec<Arc<Record>>> {
        let read = |shard| stream.read(shard, Position::TrimHorizon, 1_000, usize::MAX);
        stream.shards().into_iter().map(read).collect()
    }

    #[tokio::test]
    async fn restart_goes_on_with_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let stream = kept(folder.path(), 1);
        let first = put(&stream, "a", "1").await.sequence_number;
        let second = put(&stream, "a", "2").await.sequence_number;
        drop(stream);

        let stream = kept(folder.path(), 1);
        let shard = stream.shards()[0];
        let records = stream.read(shard, Position::TrimHorizon, 10, 1_000);
        assert_eq!(data(&records), ["1", "2"]);
        assert_eq!(records[0].sequence_number, first);
        assert_eq!(stream.counts(), [0]);
        stream.changed(shard, first).await;
        let consumer = stream.register();
        assert_eq!(stream.waiting(), [Some(2)]);
        stream.checkpoint(consumer, shard, first);
        assert_eq!(stream.waiting(), [Some(1)]);
        assert!(put(&stream, "a", "3").await.sequence_number > second);
    }

    #[tokio::test]
    async fn every_position_reaches_back_to_what_only_the_files_have() {
        let folder = tempfile::tempdir().unwrap();
        let stream = kept(folder.path(), 1);
        let shard = stream.shards()[0];
        let consumer = stream.register();
        let mut numbers = Vec::new();
        for text in ["1", "2", "3"] {
            numbers.push(put(&stream, "a", text).await.sequence_number);
        }
        // Done with, and so no longer in memory.
        stream.checkpoint(consumer, shard, numbers[1]);
        let read = |position| stream.read(shard, position, 10, 1_000);
        assert_eq!(data(&read(Position::TrimHorizon)), ["1", "2", "3"]);
        let after = Position::AfterSequenceNumber(numbers[0]);
        assert_eq!(data(&read(after)), ["2", "3"]);
        assert_eq!(data(&read(Position::AtTimestamp(0))), ["1", "2", "3"]);
        assert_eq!(data(&read(Position::AtTimestamp(u64::MAX))), [""; 0]);
        let horizon = stream.cursor(shard, Position::TrimHorizon);
        assert_eq!(horizon, numbers[0].before());
        assert_eq!(stream.cursor(shard, Position::Latest), numbers[2]);
    }

    #[tokio::test]
    async fn changed_number_of_shards_keeps_every_record_and_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let stream = kept(folder.path(), 3);
        for number in 0..60 {
            put(
                &stream,
                &format!("key{}", number % 7),
                &format!("{number:02}"),
            )
            .await;
        }
        drop(stream);
        for shard_count in [2, 5, 1, 4] {
            let stream = kept(folder.path(), shard_count);
            let shards = all(&stream);
            assert_eq!(shards.len(), shard_count as usize);
            assert_eq!(shards.iter().map(Vec::len).sum::<usize>(), 60);
            for (shard, records) in stream.shards().into_iter().zip(&shards) {
                let (first, last) = stream.hash_key_range(shard).unwrap();
                for key in 0..7 {
                    let key = format!("key{key}");
                    let of_key: Vec<_> = records
                        .iter()
                        .filter(|it| *it.partition_key == *key)
                        .map(|it| it.data.clone())
                        .collect();
                    let here = (first..=last).contains(&hash::of_partition_key(&key));
                    assert_eq!(of_key.is_empty(), !here, "{key}");
                    assert!(of_key.is_sorted());
                }
                let grows =
                    |pair: &[Arc<Record>]| pair[0].sequence_number < pair[1].sequence_number;
                assert!(records.windows(2).all(grows));
            }
        }
    }

    #[tokio::test]
    async fn another_stream_of_the_same_logical_id_begins_empty() {
        let folder = tempfile::tempdir().unwrap();
        put(&kept(folder.path(), 1), "a", "1").await;
        let mut config = stream(Mode::OnDemand).config().clone();
        config.arn.push_str("-other");
        let other = Stream::open(config, folder.path()).unwrap();
        assert!(all(&other).iter().all(Vec::is_empty));
    }

    #[tokio::test]
    async fn clock_that_steps_back_puts_nothing_before_what_was_read() {
        let stream = stream(Mode::Provisioned { shard_count: 1 });
        let shard = stream.shards()[0];
        let future =
            SequenceNumber::next(crate::status::now_ms() + 3_600_000, SequenceNumber::ZERO, 0);
        stream.begin_after(shard, future);
        assert!(put(&stream, "a", "1").await.sequence_number > future);
    }

    #[tokio::test]
    async fn throttled_stream_refuses_for_a_while() {
        let stream = stream(Mode::Provisioned { shard_count: 1 });
        stream.throttle(true);
        let refused = stream.put_record("a", None, Bytes::new()).await;
        assert!(refused.unwrap_err().is_transient());
        stream.throttle(false);
        put(&stream, "a", "1").await;
    }
}
