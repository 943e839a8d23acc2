//! What is buffered, on disk: a killed run loses no record that was taken.
//!
//! Each object to be has a file `<arrival of its oldest record>-<id>.open` in the delivery stream's
//! folder; each record is a frame in it: length and CRC-32 of the data, four bytes each, little-endian,
//! then the data. It is written before the record is acknowledged, not forced to the disk, and removed
//! when the object is delivered.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::delivery;

/// Length and checksum.
const FRAME: usize = 8;

const EXTENSION: &str = "open";

/// Writes the file of the buffer that is open.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    open: Option<Open>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Journal {
    /// For buffers whose files are in a folder, which exists.
    pub(super) fn new(folder: PathBuf) -> Journal {
        Journal {
            folder,
            open: None,
            buffer: Vec::new(),
        }
    }

    /// Adds a record, whole or not at all; `arrival` counts if it is the first.
    pub(super) fn append(&mut self, data: &[u8], delimiter: &[u8], arrival: u64) -> io::Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let name = format!("{arrival}-{}.{EXTENSION}", Uuid::new_v4());
                let path = self.folder.join(name);
                let file = File::options().create_new(true).append(true).open(&path)?;
                self.open.insert(Open {
                    path,
                    file,
                    length: 0,
                })
            }
        };
        let buffer = &mut self.buffer;
        buffer.clear();
        let length = u32::try_from(data.len() + delimiter.len()).unwrap_or(u32::MAX);
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(data);
        buffer.extend_from_slice(delimiter);
        let sum = crc32fast::hash(&buffer[FRAME..]).to_le_bytes();
        buffer[4..FRAME].copy_from_slice(&sum);
        if let Err(error) = open.file.write_all(buffer) {
            // Half a record would hide all that come after it.
            open.file.set_len(open.length)?;
            return Err(error);
        }
        open.length += buffer.len() as u64;
        Ok(())
    }

    /// The file of the buffer that is complete now; the next record begins another one.
    pub(super) fn close(&mut self) -> Option<PathBuf> {
        self.open.take().map(|open| open.path)
    }
}

/// Makes kept chunks of what a killed run had buffered; says how many records these are.
///
/// # Errors
/// The file system's, with the path.
pub(super) fn recover(folder: &Path) -> io::Result<usize> {
    let mut recovered = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|it| it != EXTENSION) {
            continue;
        }
        recovered += recover_file(folder, &path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
    }
    Ok(recovered)
}

fn recover_file(folder: &Path, path: &Path) -> io::Result<usize> {
    let bytes = fs::read(path)?;
    let (data, records, rest) = unframe(&bytes);
    if rest > 0 {
        tracing::warn!(
            "{}: the last {rest} bytes are no whole record, as after a power failure; they are left out",
            path.display()
        );
    }
    if records > 0 {
        let oldest = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.split('-').next()?.parse().ok())
            .unwrap_or_default();
        delivery::write_kept(folder, oldest, records, &data)?;
    }
    fs::remove_file(path)?;
    Ok(records)
}

/// All records one after the other, how many they are, and how many bytes at the end are none.
fn unframe(bytes: &[u8]) -> (Vec<u8>, usize, usize) {
    let mut data = Vec::with_capacity(bytes.len());
    let mut records = 0;
    let mut rest = bytes;
    while let Some((record, after)) = frame(rest) {
        data.extend_from_slice(record);
        records += 1;
        rest = after;
    }
    (data, records, rest.len())
}

fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(FRAME)?;
    let length = usize::try_from(u32::from_le_bytes(header[..4].try_into().ok()?)).ok()?;
    let sum = u32::from_le_bytes(header[4..].try_into().ok()?);
    let (record, rest) = rest.split_at_checked(length)?;
    (crc32fast::hash(record) == sum).then_some((record, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_recovered_up_to_the_first_that_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(folder.path().to_owned());
        for text in ["one", "", "three"] {
            journal.append(text.as_bytes(), b"\n", 42).unwrap();
        }
        let path = journal.close().unwrap();
        let whole = fs::read(&path).unwrap();
        assert_eq!(unframe(&whole), (b"one\n\nthree\n".to_vec(), 3, 0));
        for length in 0..whole.len() {
            let (data, records, rest) = unframe(&whole[..length]);
            assert!(b"one\n\nthree\n".starts_with(&data), "{length}");
            assert_eq!(length, data.len() + records * FRAME + rest);
        }
    }

    #[test]
    fn every_buffer_has_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(folder.path().to_owned());
        assert_eq!(journal.close(), None);
        journal.append(b"a", b"", 1).unwrap();
        let first = journal.close().unwrap();
        journal.append(b"b", b"", 2).unwrap();
        assert_ne!(journal.close().unwrap(), first);
        assert_eq!(recover(folder.path()).unwrap(), 2);
        assert_eq!(recover(folder.path()).unwrap(), 0);
    }
}
