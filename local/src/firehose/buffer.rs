//! Records on their way into one object.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::journal::Journal;

/// The contents of an object to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) data: Vec<u8>,
    /// Records in it; of what an earlier run has left, unknown.
    pub(super) records: usize,
    /// Arrival of the oldest record, in milliseconds since the Unix epoch.
    pub(super) oldest: u64,
    /// The file that holds it until it is delivered.
    pub(super) journal: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Buffer {
    journal: Journal,
    limit: usize,
    interval: Duration,
    data: Vec<u8>,
    records: usize,
    oldest: u64,
    opened: Option<Instant>,
}

impl Buffer {
    pub(super) fn new(limit: usize, interval: Duration, journal: Journal) -> Buffer {
        Buffer {
            journal,
            limit,
            interval,
            data: Vec::new(),
            records: 0,
            oldest: 0,
            opened: None,
        }
    }

    /// Adds a record, if it can be written down; returns what is to be delivered now in any case.
    pub(super) fn put(
        &mut self,
        data: &[u8],
        delimiter: &[u8],
        arrival: u64,
    ) -> (Vec<Chunk>, io::Result<()>) {
        let size = data.len() + delimiter.len();
        let mut full = Vec::new();
        if self.data.len() + size > self.limit {
            full.extend(self.take());
        }
        if let Err(error) = self.journal.append(data, delimiter, arrival) {
            return (full, Err(error));
        }
        if self.records == 0 {
            self.oldest = arrival;
            self.opened = Some(Instant::now());
        }
        self.records += 1;
        self.data.extend_from_slice(data);
        self.data.extend_from_slice(delimiter);
        if self.data.len() >= self.limit {
            full.extend(self.take());
        }
        (full, Ok(()))
    }

    /// Records in it.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// When its interval is over.
    pub(super) fn due(&self) -> Option<Instant> {
        self.opened.map(|opened| opened + self.interval)
    }

    /// What is in it, if its interval is over.
    pub(super) fn take_if_due(&mut self) -> Option<Chunk> {
        self.due().filter(|due| *due <= Instant::now())?;
        self.take()
    }

    /// What is in it.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        self.opened.take()?;
        let records = std::mem::take(&mut self.records);
        Some(Chunk {
            data: std::mem::take(&mut self.data),
            records,
            oldest: self.oldest,
            journal: self.journal.close(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Open {
        buffer: Buffer,
        _folder: tempfile::TempDir,
    }

    impl Open {
        fn new(limit: usize) -> Open {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::new(folder.path().to_owned());
            Open {
                buffer: Buffer::new(limit, Duration::from_secs(60), journal),
                _folder: folder,
            }
        }

        fn put(&mut self, data: &[u8], delimiter: &[u8], arrival: u64) -> Vec<Chunk> {
            let (full, put) = self.buffer.put(data, delimiter, arrival);
            put.unwrap();
            full.into_iter().map(without_file).collect()
        }

        fn take_if_due(&mut self) -> Option<Chunk> {
            self.buffer.take_if_due().map(without_file)
        }

        fn take(&mut self) -> Option<Chunk> {
            self.buffer.take().map(without_file)
        }

        fn due(&self) -> Option<Instant> {
            self.buffer.due()
        }
    }

    /// Its name is random.
    fn without_file(mut chunk: Chunk) -> Chunk {
        assert!(chunk.journal.take().unwrap().is_file());
        chunk
    }

    #[tokio::test(start_paused = true)]
    async fn chunk_ends_by_size_or_by_time_whichever_is_first() {
        let mut buffer = Open::new(10);
        assert!(buffer.put(b"1234", b"\n", 1).is_empty());
        assert_eq!(buffer.take_if_due(), None);
        // The third would take it to 12 bytes.
        assert!(buffer.put(b"123", b"\n", 2).is_empty());
        let full = buffer.put(b"12", b"\n", 3);
        assert_eq!(
            full,
            [Chunk {
                data: b"1234\n123\n".to_vec(),
                records: 2,
                oldest: 1,
                journal: None,
            }]
        );
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(buffer.take_if_due(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        let due = Chunk {
            data: b"12\n".to_vec(),
            records: 1,
            oldest: 3,
            journal: None,
        };
        assert_eq!(buffer.take_if_due(), Some(due));
        assert_eq!(buffer.take_if_due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn record_that_fills_the_buffer_goes_at_once() {
        let mut buffer = Open::new(4);
        assert_eq!(buffer.put(b"1234", b"", 1).len(), 1);
        assert!(buffer.put(b"1", b"", 1).is_empty());
        assert_eq!(buffer.put(b"12345", b"", 1).len(), 2);
        assert_eq!(buffer.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn empty_records_count_as_records() {
        let mut buffer = Open::new(4);
        buffer.put(b"", b"", 5);
        assert_eq!(
            buffer.take(),
            Some(Chunk {
                data: Vec::new(),
                records: 1,
                oldest: 5,
                journal: None,
            })
        );
        assert_eq!(buffer.take(), None);
    }
}
