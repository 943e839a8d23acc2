//! Where each lane is, kept over restarts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::kinesis::{ConsumerId, SequenceNumber, ShardId, Stream};

#[derive(Debug)]
pub(crate) struct Checkpoints {
    file: PathBuf,
    stream: Arc<Stream>,
    consumer: ConsumerId,
    kept: Kept,
    lanes: Mutex<BTreeMap<ShardId, Vec<SequenceNumber>>>,
    changed: Notify,
}

/// The file: shards with the last number that all lanes are done with.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    stream: String,
    shards: BTreeMap<String, String>,
}

impl Checkpoints {
    pub(super) fn open(file: &Path, stream: Arc<Stream>) -> anyhow::Result<Checkpoints> {
        let kept: Kept = match fs::read_to_string(file) {
            Ok(text) => serde_json::from_str(&text).with_context(|| {
                format!(
                    "{} is damaged; remove it to begin at the starting position",
                    file.display()
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        // Positions in another stream mean nothing in this one.
        let kept = if kept.stream == stream.arn() {
            kept
        } else {
            Kept::default()
        };
        Ok(Checkpoints {
            file: file.to_owned(),
            consumer: stream.register(),
            stream,
            kept,
            lanes: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Where a shard's lanes go on, if one of them has been here before.
    pub(super) fn kept(&self, shard: ShardId) -> Option<SequenceNumber> {
        self.kept.shards.get(&shard.to_string())?.parse().ok()
    }

    /// Says how far a lane is.
    pub(super) fn set(&self, shard: ShardId, lane: usize, count: usize, through: SequenceNumber) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let shard_lanes = lanes
            .entry(shard)
            .or_insert_with(|| vec![SequenceNumber::ZERO; count]);
        if let Some(entry) = shard_lanes.get_mut(lane) {
            *entry = through.max(*entry);
        }
        // What one lane still needs, nobody may forget.
        if let Some(all) = shard_lanes
            .iter()
            .min()
            .filter(|all| **all > SequenceNumber::ZERO)
        {
            self.stream.checkpoint(self.consumer, shard, *all);
        }
        self.changed.notify_one();
    }

    /// Writes whenever something has changed, until the end.
    pub(super) async fn keep_written(&self, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => self.write(),
            }
            // Many changes, one file: a batch that is sent twice after a crash does no harm.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
            }
        }
    }

    /// Writes the file, whole or not at all.
    pub(super) fn write(&self) {
        let lanes = self
            .lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut kept = Kept {
            stream: self.stream.arn().to_owned(),
            shards: self.kept.shards.clone(),
        };
        for (shard, lanes) in lanes {
            if let Some(all) = lanes
                .iter()
                .min()
                .filter(|all| **all > SequenceNumber::ZERO)
            {
                kept.shards.insert(shard.to_string(), all.to_string());
            }
        }
        if kept.shards.is_empty() {
            return;
        }
        let written = serde_json::to_vec_pretty(&kept)
            .map_err(io::Error::from)
            .and_then(|text| {
                if let Some(folder) = self.file.parent() {
                    fs::create_dir_all(folder)?;
                }
                let incomplete = self.file.with_extension("incomplete");
                fs::write(&incomplete, text)?;
                fs::rename(&incomplete, &self.file)
            });
        if let Err(error) = written {
            tracing::error!(
                "cannot write the checkpoints {}: {error}",
                self.file.display()
            );
        }
    }
}
