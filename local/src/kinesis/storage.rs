//! The folder of a stream: which stream it is of, and a folder for each shard.
//!
//! `stream.json` names the stream, its number of shards and the generation; shards are in
//! `<generation>/shardId-…`. When the number of shards changes, all records move to the next
//! generation; the file that names it is written last, so that a crash in between changes nothing.

use std::fs;
use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::segments::Segments;
use super::shard::{Shard, ShardId};
use super::{Config, Record, hash};

#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    arn: String,
    shard_count: u32,
    generation: u64,
}

/// Opens the shards of a stream.
pub(super) fn open(config: &Config, folder: &Path) -> anyhow::Result<Vec<Shard>> {
    let name = || {
        format!(
            "{}: the stream's folder {}",
            config.logical_id,
            folder.display()
        )
    };
    fs::create_dir_all(folder).with_context(name)?;
    let count = config.mode.shard_count();
    let identity = match read(folder)? {
        Some(identity) if identity.arn == config.arn && identity.shard_count == count => identity,
        Some(identity) => {
            let next = Identity {
                arn: config.arn.clone(),
                shard_count: count,
                generation: identity.generation + 1,
            };
            let target = generation(folder, &next);
            // Left by a crash.
            remove(&target).with_context(name)?;
            if identity.arn == next.arn {
                tracing::info!(
                    "{}: moving kept records from {} to {count} shards",
                    config.logical_id,
                    identity.shard_count
                );
                reshard(folder, &identity, &next).with_context(name)?;
            } else {
                tracing::warn!(
                    "{}: the kept records are of another stream, {}; they are removed",
                    config.logical_id,
                    identity.arn
                );
            }
            write(folder, &next).with_context(name)?;
            remove(&generation(folder, &identity)).with_context(name)?;
            next
        }
        None => {
            let identity = Identity {
                arn: config.arn.clone(),
                shard_count: count,
                generation: 1,
            };
            write(folder, &identity).with_context(name)?;
            identity
        }
    };
    let open = |index: u32| {
        let id = ShardId::new(index);
        let path = shard_folder(folder, &identity, id);
        Shard::open(id, hash::range(index, count), &path)
    };
    let shards: io::Result<Vec<Shard>> = (0..count).map(open).collect();
    shards.with_context(name)
}

fn read(folder: &Path) -> anyhow::Result<Option<Identity>> {
    let file = folder.join("stream.json");
    match fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text).map(Some).with_context(|| {
            format!(
                "{} is damaged; remove the folder to begin with an empty stream",
                file.display()
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

fn write(folder: &Path, identity: &Identity) -> io::Result<()> {
    let incomplete = folder.join("stream.incomplete");
    fs::write(&incomplete, serde_json::to_vec_pretty(identity)?)?;
    fs::rename(incomplete, folder.join("stream.json"))
}

fn generation(folder: &Path, identity: &Identity) -> PathBuf {
    folder.join(identity.generation.to_string())
}

fn shard_folder(folder: &Path, identity: &Identity, shard: ShardId) -> PathBuf {
    generation(folder, identity).join(shard.to_string())
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Copies all records, in the order of their numbers, to where their keys belong now.
fn reshard(folder: &Path, from: &Identity, to: &Identity) -> io::Result<()> {
    let open = |identity: &Identity, index: u32| {
        let path = shard_folder(folder, identity, ShardId::new(index));
        Segments::open(&path, drop)
    };
    let old: Vec<Segments> = (0..from.shard_count)
        .map(|index| open(from, index))
        .collect::<io::Result<_>>()?;
    let mut new: Vec<Segments> = (0..to.shard_count)
        .map(|index| open(to, index))
        .collect::<io::Result<_>>()?;
    let mut sources: Vec<_> = old.iter().map(|it| it.records().peekable()).collect();
    while let Some(record) = next(&mut sources) {
        let record = record?;
        let hash = hash::of_partition_key(&record.partition_key);
        new[hash::shard_of(hash, to.shard_count as usize)].append(&record)?;
    }
    Ok(())
}

/// The record with the lowest number of all sources.
fn next<I>(sources: &mut [Peekable<I>]) -> Option<io::Result<Record>>
where
    I: Iterator<Item = io::Result<Record>>,
{
    let mut lowest = None;
    for (index, source) in sources.iter_mut().enumerate() {
        let number = match source.peek() {
            None => continue,
            // An error first of all.
            Some(Err(_)) => return source.next(),
            Some(Ok(record)) => record.sequence_number,
        };
        if lowest.is_none_or(|(_, least)| number < least) {
            lowest = Some((index, number));
        }
    }
    sources[lowest?.0].next()
}
