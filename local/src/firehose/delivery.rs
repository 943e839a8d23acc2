//! Writing objects, and trying again what the bucket refuses.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Config;
use super::buffer::Chunk;
use super::compression::Compression;
use super::prefix::{Prefix, timestamp};
use crate::logs::{DETAIL, LogStream};
use crate::permission::Authorizer;
use crate::s3::Store;
use crate::status::{Status, now_ms};

/// First and last waiting time between attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long a delivery is tried ("Handle data delivery failures", Amazon S3).
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// End of the name of a kept chunk; before it stands the arrival of its oldest record.
const KEPT: &str = "records";

#[derive(Debug)]
pub(super) struct Delivery {
    config: Config,
    prefix: Prefix,
    compression: Compression,
    store: Arc<Store>,
    authorizer: Authorizer,
    log: Option<LogStream>,
    status: Arc<Status>,
    /// Chunks that could not be delivered yet, as files.
    folder: PathBuf,
}

struct Refused {
    code: &'static str,
    message: String,
}

impl Delivery {
    #[allow(
        clippy::too_many_arguments,
        reason = "each is another neighbour of a delivery stream"
    )]
    pub(super) fn open(
        config: Config,
        prefix: Prefix,
        compression: Compression,
        store: Arc<Store>,
        authorizer: Authorizer,
        log: Option<LogStream>,
        status: Arc<Status>,
        folder: PathBuf,
    ) -> anyhow::Result<Delivery> {
        fs::create_dir_all(&folder)
            .with_context(|| format!("make the folder {}", folder.display()))?;
        Ok(Delivery {
            config,
            prefix,
            compression,
            store,
            authorizer,
            log,
            status,
            folder,
        })
    }

    /// Delivers until the queue ends; what then is not delivered is kept for the next run.
    pub(super) async fn run(self, mut chunks: mpsc::Receiver<Chunk>, shutdown: CancellationToken) {
        let mut backoff = BACKOFF.0;
        let mut next_attempt = self.has_kept().then(Instant::now);
        loop {
            let retry = async {
                match next_attempt {
                    Some(at) if !shutdown.is_cancelled() => sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                chunk = chunks.recv() => {
                    let Some(chunk) = chunk else { break };
                    let journal = chunk.journal.clone();
                    if let Err(refused) = self.deliver(&chunk).await {
                        self.report(&refused, &chunk);
                        if !self.keep(chunk, &shutdown).await {
                            // The file of the open buffer still has them, for the next run.
                            continue;
                        }
                        next_attempt.get_or_insert_with(|| Instant::now() + backoff);
                    }
                    if let Some(path) = journal {
                        remove(&path);
                    }
                }
                () = retry => {
                    next_attempt = if self.deliver_kept().await {
                        backoff = BACKOFF.0;
                        None
                    } else {
                        backoff = (backoff * 2).min(BACKOFF.1);
                        Some(Instant::now() + backoff)
                    };
                }
            }
        }
        if self.has_kept() {
            tracing::warn!(
                "{}: records that s3://{} refused are kept in {}; the next run tries them again",
                self.config.logical_id,
                self.config.bucket,
                self.folder.display()
            );
        }
    }

    async fn deliver(&self, chunk: &Chunk) -> Result<(), Refused> {
        let Config { name, bucket, .. } = &self.config;
        let extension = self
            .config
            .file_extension
            .as_deref()
            .unwrap_or_else(|| self.compression.extension());
        let time = timestamp(chunk.oldest).strftime("%Y-%m-%d-%H-%M-%S");
        let base = format!("{name}-1-{time}-{}", Uuid::new_v4());
        let key = format!("{}{base}{extension}", self.prefix.evaluate(chunk.oldest));
        self.authorizer
            .authorize("s3:PutObject", &format!("arn:aws:s3:::{bucket}/{key}"))
            .map_err(|denied| Refused { code: "S3.AccessDenied", message: format!("Access was denied. Ensure that the trust policy for the provided IAM role allows Firehose to assume the role, and the access policy allows access to the S3 bucket. {denied}") })?;
        let failed = |error: io::Error| Refused {
            code: "S3.InternalError",
            message: error.to_string(),
        };
        let packed = self.compression.pack(&chunk.data, &base).map_err(failed)?;
        self.store
            .put_object(bucket, &key, Bytes::from(packed))
            .await
            .map_err(failed)?;
        self.status.archive_objects.increment();
        tracing::info!(
            target: DETAIL,
            "{}: {} records to s3://{bucket}/{key}",
            self.config.logical_id,
            chunk.records
        );
        Ok(())
    }

    /// Keeps a chunk among those that are tried again. While even that fails, everything behind it waits.
    /// Says whether somebody has it now; not so only at the shutdown.
    async fn keep(&self, chunk: Chunk, shutdown: &CancellationToken) -> bool {
        loop {
            let kept = write_kept(&self.folder, chunk.oldest, chunk.records, &chunk.data);
            let Err(error) = kept else { return true };
            tracing::error!(
                "{}: cannot keep {} undelivered records in {}: {error}",
                self.config.logical_id,
                chunk.records,
                self.folder.display()
            );
            if shutdown.is_cancelled() {
                return false;
            }
            sleep(BACKOFF.0).await;
            if self.deliver(&chunk).await.is_ok() {
                return true;
            }
        }
    }

    fn has_kept(&self) -> bool {
        !self.kept().is_empty()
    }

    /// Kept chunks, the oldest first.
    fn kept(&self) -> Vec<(u64, usize, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut kept: Vec<_> = entries.filter_map(|entry| parse(&entry.path())).collect();
        kept.sort();
        kept
    }

    /// Tries all kept chunks; says whether none is left.
    async fn deliver_kept(&self) -> bool {
        let mut none_is_left = true;
        for (oldest, records, path) in self.kept() {
            let data = match fs::read(&path) {
                Ok(data) => data,
                Err(error) => {
                    // The others can be delivered all the same.
                    tracing::error!(
                        "{}: cannot read {records} kept records in {}, trying again: {error}",
                        self.config.logical_id,
                        path.display()
                    );
                    none_is_left = false;
                    continue;
                }
            };
            let chunk = Chunk {
                data,
                records,
                oldest,
                journal: None,
            };
            if let Err(refused) = self.deliver(&chunk).await {
                self.report(&refused, &chunk);
                let age = now_ms().saturating_sub(oldest);
                if u128::from(age) <= MAX_AGE.as_millis() {
                    return false;
                }
                tracing::error!(
                    "{}: {records} records are lost: s3://{} has refused them for 24 hours",
                    self.config.logical_id,
                    self.config.bucket
                );
            }
            if let Err(error) = fs::remove_file(&path) {
                tracing::error!(
                    "cannot remove {}, whose records will be delivered again: {error}",
                    path.display()
                );
                return false;
            }
        }
        none_is_left
    }

    /// An event of the error log, in its documented shape ("Monitor Amazon Data Firehose using CloudWatch Logs").
    fn report(&self, refused: &Refused, chunk: &Chunk) {
        let event = json!({
            "deliveryStreamARN": self.config.arn,
            "destination": format!("arn:aws:s3:::{}", self.config.bucket),
            "deliveryStreamVersionId": 1,
            "message": refused.message,
            "errorCode": refused.code,
        });
        match &self.log {
            Some(log) => log.put(&event.to_string()),
            None => tracing::error!(
                "{}: {}: {}",
                self.config.logical_id,
                refused.code,
                refused.message
            ),
        }
        tracing::warn!(
            "{}: {} records could not be delivered and will be tried again",
            self.config.logical_id,
            chunk.records
        );
    }
}

/// Writes a chunk among those that are tried again, whole or not at all.
pub(super) fn write_kept(
    folder: &Path,
    oldest: u64,
    records: usize,
    data: &[u8],
) -> io::Result<()> {
    let id = Uuid::new_v4();
    let path = folder.join(format!("{oldest}-{records}-{id}.{KEPT}"));
    let incomplete = path.with_extension("incomplete");
    fs::write(&incomplete, data)?;
    fs::rename(&incomplete, &path)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(
            "cannot remove {}, whose records will be delivered again: {error}",
            path.display()
        );
    }
}

fn parse(path: &Path) -> Option<(u64, usize, PathBuf)> {
    path.extension().filter(|extension| *extension == KEPT)?;
    let mut parts = path.file_stem()?.to_str()?.splitn(3, '-');
    Some((
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        path.to_owned(),
    ))
}

#[cfg(test)]
mod tests;
