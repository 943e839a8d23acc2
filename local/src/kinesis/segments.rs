//! A shard's records on disk: files that only grow, one after the other.
//!
//! A file is named after the first sequence number in it and holds frames: the length of the body and
//! its CRC-32, four bytes each, then the body — sequence number (16 bytes), arrival (8), length of the
//! partition key (2), the key, the data. Numbers are little-endian.
//!
//! A record is handed to the operating system before its put is acknowledged, so it survives our being
//! killed. It is forced to the disk when the shard is closed, not before: a power failure may take the
//! last seconds. What such a failure leaves half-written at the end of the last file is cut off.
//!
//! One write for each record, not one for several: a shard takes a thousand records a second, a write
//! into the page cache takes some microseconds, and handing it to a thread that groups them takes longer.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{Record, SequenceNumber};

/// A file is followed by a new one when it has so many bytes.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// Length and checksum.
const FRAME: usize = 8;
/// Sequence number, arrival and length of the partition key.
const FIXED: usize = 16 + 8 + 2;
/// Larger than any record that AWS takes; a length above it is no length.
const MAX_BODY: usize = 16 * 1024 * 1024;

const EXTENSION: &str = "records";

#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    /// The oldest first; the last one is being written.
    segments: VecDeque<Segment>,
    file: Option<File>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    first: SequenceNumber,
    last: SequenceNumber,
    last_arrival: u64,
    records: u64,
    bytes: u64,
}

impl Segments {
    /// Opens a folder, which is made if missing, and hands over every record in it, the oldest first.
    ///
    /// # Errors
    /// The file system's. Damage is none: what is not readable is left out and logged.
    pub(super) fn open(folder: &Path, mut take: impl FnMut(Record)) -> io::Result<Segments> {
        fs::create_dir_all(folder)?;
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|it| it == EXTENSION));
        paths.sort();
        let mut segments = VecDeque::new();
        let count = paths.len();
        for (index, path) in paths.into_iter().enumerate() {
            let bytes = Bytes::from(fs::read(&path)?);
            let mut segment: Option<Segment> = None;
            let mut at = 0;
            while let Some((record, end)) = frame(&bytes, at) {
                let segment = segment.get_or_insert_with(|| Segment::new(path.clone(), &record));
                segment.add(&record, end - at);
                at = end;
                take(record);
            }
            let torn = bytes.len() - at;
            if torn > 0 && index + 1 == count {
                tracing::warn!(
                    "{}: the last {torn} bytes are no whole record, as after a power failure; they are cut off",
                    path.display()
                );
                File::options()
                    .write(true)
                    .open(&path)?
                    .set_len(at as u64)?;
            } else if torn > 0 {
                tracing::error!(
                    "{}: the last {torn} bytes are damaged; the records in them are lost",
                    path.display()
                );
            }
            match segment {
                Some(segment) => segments.push_back(segment),
                None => fs::remove_file(&path)?,
            }
        }
        let file = match segments.back() {
            Some(last) => Some(File::options().append(true).open(&last.path)?),
            None => None,
        };
        Ok(Segments {
            folder: folder.to_owned(),
            segments,
            file,
            buffer: Vec::new(),
        })
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|it| it.bytes).sum()
    }

    /// Adds a record, whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        if self
            .segments
            .back()
            .is_none_or(|it| it.bytes >= SEGMENT_BYTES)
        {
            let name = format!("{:039}.{EXTENSION}", record.sequence_number.value());
            let path = self.folder.join(name);
            let file = File::options().create(true).append(true).open(&path)?;
            self.file = Some(file);
            self.segments.push_back(Segment::new(path, record));
        }
        let (Some(segment), Some(file)) = (self.segments.back_mut(), &mut self.file) else {
            return Err(io::Error::other("no file is open"));
        };
        self.buffer.clear();
        encode(record, &mut self.buffer);
        if let Err(error) = file.write_all(&self.buffer) {
            // Half a record would hide all that come after it.
            file.set_len(segment.bytes)?;
            return Err(error);
        }
        segment.add(record, self.buffer.len());
        Ok(())
    }

    /// Records in order, from the first that `wanted` says yes to; in order, it says no, then yes.
    /// At most `max_records`, and as many as fit into `max_bytes`, but at least one if there is one.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn read(
        &self,
        may_have: impl Fn(SequenceNumber, u64) -> bool,
        wanted: impl Fn(&Record) -> bool,
        max_records: usize,
        max_bytes: usize,
    ) -> io::Result<Vec<Arc<Record>>> {
        let mut found: Vec<Arc<Record>> = Vec::new();
        let mut size = 0;
        let begin = self
            .segments
            .partition_point(|it| !may_have(it.last, it.last_arrival));
        for segment in self.segments.range(begin..) {
            let bytes = Bytes::from(fs::read(&segment.path)?);
            let mut at = 0;
            while let Some((record, end)) = frame(&bytes, at) {
                at = end;
                if found.is_empty() && !wanted(&record) {
                    continue;
                }
                size += record.size();
                if found.len() == max_records || (!found.is_empty() && size > max_bytes) {
                    return Ok(found);
                }
                // A copy, so that one record does not keep the whole file in memory.
                found.push(Arc::new(Record {
                    data: Bytes::copy_from_slice(&record.data),
                    ..record
                }));
            }
        }
        Ok(found)
    }

    /// Records after a number.
    pub(super) fn count_after(&self, after: SequenceNumber) -> u64 {
        let begin = self.segments.partition_point(|it| it.last <= after);
        let mut count = 0;
        for segment in self.segments.range(begin..) {
            count += segment.records;
            if segment.first > after {
                continue;
            }
            let Ok(bytes) = fs::read(&segment.path) else {
                continue;
            };
            let bytes = Bytes::from(bytes);
            let mut at = 0;
            while let Some((record, end)) = frame(&bytes, at) {
                at = end;
                if record.sequence_number > after {
                    break;
                }
                count -= 1;
            }
        }
        count
    }

    /// Every record, the oldest first, a file at a time in memory.
    pub(super) fn records(&self) -> impl Iterator<Item = io::Result<Record>> + '_ {
        self.segments.iter().flat_map(|segment| {
            let mut bytes = fs::read(&segment.path).map(Bytes::from);
            let mut at = 0;
            std::iter::from_fn(move || match &mut bytes {
                Ok(bytes) => {
                    let (record, end) = frame(bytes, at)?;
                    at = end;
                    Some(Ok(record))
                }
                Err(error) => {
                    let error = std::mem::replace(error, io::ErrorKind::Other.into());
                    bytes = Ok(Bytes::new());
                    Some(Err(error))
                }
            })
        })
    }

    /// Removes files whose records have all arrived before an instant.
    pub(super) fn expire(&mut self, before: u64) {
        while self.segments.len() > 1 && self.segments[0].last_arrival < before {
            self.remove_oldest();
        }
    }

    /// Removes the oldest files, as far as their records go up to a number, until no more than so many
    /// bytes are left.
    pub(super) fn shrink(&mut self, most: u64, through: SequenceNumber) {
        while self.segments.len() > 1 && self.bytes() > most && self.segments[0].last <= through {
            self.remove_oldest();
        }
    }

    /// The newest file is never removed: its last number tells where to go on.
    fn remove_oldest(&mut self) {
        if let Some(segment) = self.segments.pop_front()
            && let Err(error) = fs::remove_file(&segment.path)
        {
            tracing::warn!("cannot remove {}: {error}", segment.path.display());
        }
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && let Err(error) = file.sync_data()
        {
            tracing::warn!("cannot sync {}: {error}", self.folder.display());
        }
    }
}

impl Segment {
    fn new(path: PathBuf, first: &Record) -> Segment {
        Segment {
            path,
            first: first.sequence_number,
            last: first.sequence_number,
            last_arrival: first.arrival,
            records: 0,
            bytes: 0,
        }
    }

    fn add(&mut self, record: &Record, bytes: usize) {
        self.last = record.sequence_number;
        self.last_arrival = self.last_arrival.max(record.arrival);
        self.records += 1;
        self.bytes += bytes as u64;
    }
}

fn encode(record: &Record, buffer: &mut Vec<u8>) {
    let key = record.partition_key.as_bytes();
    // A key has at most 256 characters, a record at most 10 MiB.
    let key_length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    let length = u32::try_from(FIXED + key.len() + record.data.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&record.sequence_number.value().to_le_bytes());
    buffer.extend_from_slice(&record.arrival.to_le_bytes());
    buffer.extend_from_slice(&key_length.to_le_bytes());
    buffer.extend_from_slice(key);
    buffer.extend_from_slice(&record.data);
    let sum = crc32fast::hash(&buffer[FRAME..]).to_le_bytes();
    buffer[4..FRAME].copy_from_slice(&sum);
}

/// The record at an offset, and the offset after it; nothing if there is no whole one.
fn frame(bytes: &Bytes, at: usize) -> Option<(Record, usize)> {
    let header = bytes.get(at..at + FRAME)?;
    let length = usize::try_from(u32::from_le_bytes(header[..4].try_into().ok()?)).ok()?;
    let sum = u32::from_le_bytes(header[4..].try_into().ok()?);
    if !(FIXED..=MAX_BODY).contains(&length) {
        return None;
    }
    let start = at + FRAME;
    let end = start + length;
    let body = bytes.get(start..end)?;
    if crc32fast::hash(body) != sum {
        return None;
    }
    let key_length = usize::from(u16::from_le_bytes(body[24..26].try_into().ok()?));
    let key = body.get(FIXED..FIXED + key_length)?;
    let record = Record {
        sequence_number: SequenceNumber::of_value(u128::from_le_bytes(body[..16].try_into().ok()?)),
        arrival: u64::from_le_bytes(body[16..24].try_into().ok()?),
        partition_key: std::str::from_utf8(key).ok()?.into(),
        data: bytes.slice(start + FIXED + key_length..end),
    };
    Some((record, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u128, data: &[u8]) -> Record {
        Record {
            sequence_number: SequenceNumber::of_value(number),
            partition_key: "kü".into(),
            data: Bytes::copy_from_slice(data),
            arrival: u64::try_from(number).unwrap(),
        }
    }

    fn open(folder: &Path) -> (Segments, Vec<u128>) {
        let mut seen = Vec::new();
        let segments = Segments::open(folder, |it| seen.push(it.sequence_number.value()));
        (segments.unwrap(), seen)
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|it| it.unwrap().path())
            .collect();
        files.sort();
        files
    }

    #[test]
    fn records_are_there_again_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let (mut segments, seen) = open(folder.path());
        assert!(seen.is_empty());
        let data: Vec<u8> = (0..=255).collect();
        for number in 1..=3 {
            segments.append(&record(number, &data)).unwrap();
        }
        drop(segments);
        let (mut segments, seen) = open(folder.path());
        assert_eq!(seen, [1, 2, 3]);
        segments.append(&record(4, b"")).unwrap();
        let all: Vec<Record> = segments.records().map(Result::unwrap).collect();
        assert_eq!(all[2], record(3, &data));
        assert_eq!(all[3], record(4, b""));
    }

    #[test]
    fn torn_end_is_cut_off_wherever_it_is_torn() {
        let whole = {
            let folder = tempfile::tempdir().unwrap();
            let (mut segments, _) = open(folder.path());
            segments.append(&record(1, b"one")).unwrap();
            segments.append(&record(2, b"two")).unwrap();
            drop(segments);
            fs::read(&files(folder.path())[0]).unwrap()
        };
        let first = whole.len() / 2;
        for length in first..whole.len() {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("1.records"), &whole[..length]).unwrap();
            let (mut segments, seen) = open(folder.path());
            assert_eq!(seen, [1], "{length}");
            segments.append(&record(3, b"three")).unwrap();
            drop(segments);
            assert_eq!(open(folder.path()).1, [1, 3], "{length}");
        }
    }

    #[test]
    fn changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (mut segments, _) = open(folder.path());
        segments.append(&record(1, b"one")).unwrap();
        segments.append(&record(2, b"two")).unwrap();
        drop(segments);
        let file = &files(folder.path())[0];
        let mut bytes = fs::read(file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(file, bytes).unwrap();
        assert_eq!(open(folder.path()).1, [1]);
    }

    #[test]
    fn old_files_go_but_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (mut segments, _) = open(folder.path());
        let big = vec![7; 3 * 1024 * 1024];
        for number in 1..=9 {
            segments.append(&record(number, &big)).unwrap();
        }
        assert_eq!(files(folder.path()).len(), 3);
        let read = |segments: &Segments, after: u128| {
            let after = SequenceNumber::of_value(after);
            let found = segments.read(
                |last, _| last > after,
                |it| it.sequence_number > after,
                2,
                usize::MAX,
            );
            let numbers = found.unwrap().into_iter().map(|it| it.sequence_number);
            numbers.map(SequenceNumber::value).collect::<Vec<_>>()
        };
        assert_eq!(read(&segments, 2), [3, 4]);
        assert_eq!(segments.count_after(SequenceNumber::of_value(2)), 7);
        segments.shrink(0, SequenceNumber::of_value(4));
        assert_eq!(read(&segments, 0), [4, 5]);
        segments.expire(u64::MAX);
        assert_eq!(read(&segments, 0), [7, 8]);
        assert_eq!(files(folder.path()).len(), 1);
        drop(segments);
        assert_eq!(open(folder.path()).1, [7, 8, 9]);
    }
}
