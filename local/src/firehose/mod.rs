//! Firehose delivery streams: Direct PUT, buffered, delivered to S3.
//!
//! (Amazon Data Firehose Developer Guide: "Understand data delivery in Amazon Data Firehose", "Understand
//! custom prefixes for Amazon S3 objects", "Amazon Data Firehose quota".)
//!
//! # Differs from AWS
//! - Buffering hints are kept exactly: an object is cut when the next record would take it over the size.
//! - What the bucket refuses is kept in the data folder and tried again for 24 hours, also by a later run;
//!   waiting times double from one second to a minute, while AWS does not publish its own.
//! - There is no throughput limit, and the version in an object's name is always 1.
//! - A prefix with an expression gets nothing appended, also without a timestamp expression; AWS's text
//!   can be read either way.
//! - Snappy, format conversion, dynamic partitioning and processors other than `AppendDelimiterToRecord`
//!   are not emulated, so nothing is ever written below `ErrorOutputPrefix`; it is only checked.
//!
//! Layout: `buffer` collects, `journal` keeps what is collected from being lost by a crash, `prefix` names, `compression` packs, `delivery` writes and tries again.

mod buffer;
mod compression;
mod delivery;
mod journal;
pub mod part;
pub mod plan;
mod prefix;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::logs::LogStream;
use crate::permission::Authorizer;
use crate::s3::Store;
use crate::status::{Status, now_ms};
use buffer::{Buffer, Chunk};
use compression::Compression;
use delivery::Delivery;
use journal::Journal;
use prefix::Prefix;

/// Bytes of a record at most.
const MAX_RECORD: usize = 1_000 * 1_024;

/// Chunks that wait for delivery before a put has to wait.
const QUEUE: usize = 4;

/// What a delivery stream needs to know of its `AWS::KinesisFirehose::DeliveryStream`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logical ID in the template.
    pub logical_id: String,
    /// Physical name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Name of the bucket.
    pub bucket: String,
    /// `Prefix`
    pub prefix: Option<String>,
    /// `ErrorOutputPrefix`
    pub error_prefix: Option<String>,
    /// `CustomTimeZone`; none: UTC.
    pub time_zone: Option<String>,
    /// `BufferingHints.SizeInMBs`, 1 to 128.
    pub size_in_mbs: u64,
    /// `BufferingHints.IntervalInSeconds`, 0 to 900.
    pub interval: Duration,
    /// `CompressionFormat`
    pub compression: String,
    /// `FileExtension`, with its dot; none: that of the compression.
    pub file_extension: Option<String>,
    /// Whether the processor `AppendDelimiterToRecord` is on.
    pub append_delimiter: bool,
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutRecordError {
    /// `InvalidArgumentException`; no attempt can succeed.
    #[error("{0} (Service: Firehose, Status Code: 400, Error Code: InvalidArgumentException)")]
    InvalidArgument(String),
    /// `ServiceUnavailableException`; worth another attempt.
    #[error("{0} (Service: Firehose, Status Code: 503, Error Code: ServiceUnavailableException)")]
    ServiceUnavailable(String),
}

impl PutRecordError {
    /// Whether the same record may be taken later.
    pub fn is_transient(&self) -> bool {
        matches!(self, PutRecordError::ServiceUnavailable(_))
    }
}

/// A delivery stream; clones are the same.
#[derive(Clone, Debug)]
pub struct DeliveryStream {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    /// None: closed.
    buffer: Mutex<Option<Buffer>>,
    /// A buffer has got its first record.
    opened: Notify,
    /// One writer into the queue at a time, so that chunks keep their order.
    queue: tokio::sync::Mutex<mpsc::Sender<Chunk>>,
    status: Arc<Status>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl DeliveryStream {
    /// Starts a delivery stream, and the delivery of what an earlier run could not deliver.
    ///
    /// `authorizer` stands for the stream's role, `log` is its error log, `folder` keeps what the bucket
    /// refuses. When `shutdown` is cancelled the buffer is delivered, whatever its hints say.
    ///
    /// # Errors
    /// A setting is out of range or not emulated, or the folder cannot be used.
    pub fn start(
        config: Config,
        store: Arc<Store>,
        authorizer: Authorizer,
        log: Option<LogStream>,
        status: Arc<Status>,
        folder: &Path,
        shutdown: CancellationToken,
    ) -> anyhow::Result<DeliveryStream> {
        let (prefix, compression) = check(&config).with_context(|| config.logical_id.clone())?;
        let folder: PathBuf = folder.join(&config.logical_id);
        let (queue, chunks) = mpsc::channel(QUEUE);
        let delivery = Delivery::open(
            config.clone(),
            prefix,
            compression,
            store,
            authorizer,
            log,
            status.clone(),
            folder.clone(),
        )
        .with_context(|| config.logical_id.clone())?;
        let recovered = journal::recover(&folder)
            .with_context(|| format!("{}: recover what was buffered", config.logical_id))?;
        if recovered > 0 {
            tracing::info!(
                "{}: the last run ended before it delivered {recovered} records; they are delivered now",
                config.logical_id
            );
        }
        let limit = usize::try_from(config.size_in_mbs)
            .unwrap_or(usize::MAX)
            .saturating_mul(1024 * 1024);
        let interval = config.interval;
        let inner = Arc::new(Inner {
            config,
            buffer: Mutex::new(Some(Buffer::new(limit, interval, Journal::new(folder)))),
            opened: Notify::new(),
            queue: tokio::sync::Mutex::new(queue),
            status,
            tasks: TaskTracker::new(),
            shutdown: shutdown.clone(),
        });
        inner.tasks.spawn(delivery.run(chunks, shutdown.clone()));
        inner.tasks.spawn({
            let inner = inner.clone();
            async move { inner.watch_interval(shutdown).await }
        });
        inner.tasks.close();
        Ok(DeliveryStream { inner })
    }

    /// What it was made from.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Takes a record. Waits while deliveries are behind.
    ///
    /// # Errors
    /// The record is larger than 1,000 KiB, or the stream has been shut down.
    pub async fn put_record(&self, data: Bytes) -> Result<(), PutRecordError> {
        self.inner.put(&data).await
    }

    /// Takes up to 500 records, each by itself.
    ///
    /// # Errors
    /// More than 500 records or 4 MiB: none was taken.
    pub async fn put_record_batch(
        &self,
        records: Vec<Bytes>,
    ) -> Result<Vec<Result<(), PutRecordError>>, PutRecordError> {
        let bytes: usize = records.iter().map(Bytes::len).sum();
        if records.is_empty() || records.len() > 500 || bytes > 4 * 1024 * 1024 {
            return Err(PutRecordError::InvalidArgument(format!(
                "got {} records of {bytes} bytes together, expected 1 to 500 records of at most 4 MiB",
                records.len()
            )));
        }
        let mut results = Vec::with_capacity(records.len());
        for record in records {
            results.push(self.inner.put(&record).await);
        }
        Ok(results)
    }

    /// Takes no more records, and delivers what it has.
    pub fn stop(&self) {
        self.inner.shutdown.cancel();
    }

    /// Returns after the shutdown, when everything is delivered or kept for the next run.
    pub async fn finished(&self) {
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    async fn put(&self, data: &[u8]) -> Result<(), PutRecordError> {
        if data.len() > MAX_RECORD {
            return Err(PutRecordError::InvalidArgument(format!(
                "record of {} bytes is larger than the limit of {MAX_RECORD} bytes",
                data.len()
            )));
        }
        let delimiter: &[u8] = if self.config.append_delimiter {
            b"\n"
        } else {
            b""
        };
        let closed = || {
            PutRecordError::ServiceUnavailable("the delivery stream has been shut down".to_owned())
        };
        // Held until a full chunk is in the queue: who comes later waits, and chunks keep their order.
        let queue = self.queue.lock().await;
        let (full, put, is_first) = {
            let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
            let buffer = buffer.as_mut().ok_or_else(closed)?;
            let (full, put) = buffer.put(data, delimiter, now_ms());
            (full, put, buffer.records() == 1)
        };
        if is_first {
            self.opened.notify_one();
        }
        for chunk in full {
            // The delivery takes everything until the queue is closed, and it is closed by the shutdown alone.
            let _ = queue.send(chunk).await;
        }
        put.map_err(|error| {
            let message = format!("the data folder takes no record: {error}");
            PutRecordError::ServiceUnavailable(message)
        })?;
        self.status.archive_records.increment();
        Ok(())
    }

    /// Cuts a chunk when the oldest record has waited long enough; at the shutdown the last one.
    async fn watch_interval(&self, shutdown: CancellationToken) {
        loop {
            let due = {
                let buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
                buffer.as_ref().and_then(Buffer::due)
            };
            let expired = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => self.opened.notified().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = expired => {}
            }
            let queue = self.queue.lock().await;
            let chunk = {
                let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
                buffer.as_mut().and_then(Buffer::take_if_due)
            };
            if let Some(chunk) = chunk {
                let _ = queue.send(chunk).await;
            }
        }
        let mut queue = self.queue.lock().await;
        let last = {
            let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
            buffer.take().and_then(|mut buffer| buffer.take())
        };
        if let Some(chunk) = last {
            let _ = queue.send(chunk).await;
        }
        // The delivery ends when the queue does.
        let (closed, _) = mpsc::channel(1);
        *queue = closed;
    }
}

/// What is wrong with the settings.
pub(crate) fn refused(config: &Config) -> Option<String> {
    check(config).err().map(|error| format!("{error:#}"))
}

fn check(config: &Config) -> anyhow::Result<(Prefix, Compression)> {
    if !(1..=128).contains(&config.size_in_mbs) {
        bail!(
            "BufferingHints.SizeInMBs is {}, expected 1 to 128",
            config.size_in_mbs
        );
    }
    if config.interval.as_secs() > 900 {
        bail!(
            "BufferingHints.IntervalInSeconds is {}, expected 0 to 900",
            config.interval.as_secs()
        );
    }
    if let Some(extension) = config
        .file_extension
        .as_deref()
        .filter(|it| !it.starts_with('.'))
    {
        bail!("FileExtension is {extension:?}, expected a dot first");
    }
    let compression = Compression::parse(&config.compression)?;
    let zone = config.time_zone.as_deref().unwrap_or("UTC");
    let prefix = Prefix::parse(config.prefix.as_deref(), zone).context("Prefix")?;
    let error_prefix = config
        .error_prefix
        .as_deref()
        .map(|text| Prefix::parse_error(text, zone));
    let error_prefix = error_prefix.transpose().context("ErrorOutputPrefix")?;
    if prefix.has_expression() && error_prefix.is_none() {
        bail!("ErrorOutputPrefix is missing; it must be given when Prefix contains expressions");
    }
    Ok((prefix, compression))
}
