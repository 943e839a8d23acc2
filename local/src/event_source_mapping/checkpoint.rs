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

use crate::kinesis::{ConsumerId, SequenceNumber, ShardId, Stream, hash_key_range};

#[derive(Debug)]
pub(crate) struct Checkpoints {
    file: PathBuf,
    stream: Arc<Stream>,
    consumer: ConsumerId,
    kept: Kept,
    /// `None`: where the lane begins is not known yet.
    lanes: Mutex<BTreeMap<ShardId, Vec<Option<SequenceNumber>>>>,
    changed: Notify,
}

/// The file: shards with the last number that all lanes are done with.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    stream: String,
    /// How many shards the stream had, because that says what hash keys each of them had.
    #[serde(default)]
    shard_count: Option<u32>,
    shards: BTreeMap<String, String>,
}

impl Kept {
    fn of(&self, shard: ShardId) -> Option<SequenceNumber> {
        self.shards.get(&shard.to_string())?.parse().ok()
    }

    /// What it means for another number of shards: a new shard begins where the slowest of those was
    /// whose keys it has now. Some records are then read twice, none is left out.
    fn for_shards(self, count: u32) -> Kept {
        let old = self.shard_count.unwrap_or(count);
        if old == count {
            return self;
        }
        let mut shards = BTreeMap::new();
        for index in 0..count {
            let (first, last) = hash_key_range(index, count);
            let parents = (0..old).filter(|&parent| {
                let (begin, end) = hash_key_range(parent, old);
                begin <= last && first <= end
            });
            let positions = parents.map(|parent| self.of(ShardId::new(parent)));
            // Of a shard without a position nothing is known: the starting position decides.
            if let Some(slowest) = positions.min().flatten() {
                shards.insert(ShardId::new(index).to_string(), slowest.to_string());
            }
        }
        Kept {
            stream: self.stream,
            shard_count: Some(count),
            shards,
        }
    }
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
            kept.for_shards(stream.config().mode.shard_count())
        } else {
            Kept::default()
        };
        for shard in stream.shards() {
            if let Some(number) = kept.of(shard) {
                stream.begin_after(shard, number);
            }
        }
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
        self.kept.of(shard)
    }

    /// Says how far a lane is.
    pub(super) fn set(&self, shard: ShardId, lane: usize, count: usize, through: SequenceNumber) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let shard_lanes = lanes.entry(shard).or_insert_with(|| vec![None; count]);
        if let Some(entry) = shard_lanes.get_mut(lane) {
            *entry = (*entry).max(Some(through));
        }
        // What one lane still needs, nobody may forget.
        if let Some(all) = shard_lanes.iter().min().copied().flatten() {
            self.stream.checkpoint(self.consumer, shard, all);
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
            shard_count: Some(self.stream.config().mode.shard_count()),
            shards: self.kept.shards.clone(),
        };
        for (shard, lanes) in lanes {
            if let Some(all) = lanes.iter().min().copied().flatten() {
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

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.stream.unregister(self.consumer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_other_shards_become_those_of_the_slowest_parent() {
        let number = |it: u32| format!("49{it:054}");
        let kept = |count: u32, numbers: &[Option<u32>]| Kept {
            stream: "arn".to_owned(),
            shard_count: Some(count),
            shards: (0..)
                .zip(numbers)
                .filter_map(|(index, it)| Some((ShardId::new(index).to_string(), number((*it)?))))
                .collect(),
        };
        let check = |from: (u32, &[Option<u32>]), to: (u32, &[Option<u32>])| {
            let moved = kept(from.0, from.1).for_shards(to.0);
            assert_eq!(moved.shards, kept(to.0, to.1).shards, "{from:?}");
        };
        check((2, &[Some(5), Some(7)]), (2, &[Some(5), Some(7)]));
        check((2, &[Some(5), Some(7)]), (1, &[Some(5)]));
        check((1, &[Some(5)]), (3, &[Some(5); 3]));
        check(
            (2, &[Some(5), Some(7)]),
            (4, &[Some(5), Some(5), Some(7), Some(7)]),
        );
        check((2, &[Some(9), Some(7)]), (3, &[Some(9), Some(7), Some(7)]));
        check((2, &[Some(5), None]), (1, &[None]));
    }
}
