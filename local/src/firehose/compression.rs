//! `CompressionFormat`

use std::io::{self, Write};

use anyhow::bail;
use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression as Level, Crc};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Uncompressed,
    Gzip,
    Zip,
}

impl Compression {
    pub(super) fn parse(text: &str) -> anyhow::Result<Compression> {
        Ok(match text {
            "UNCOMPRESSED" => Compression::Uncompressed,
            "GZIP" => Compression::Gzip,
            "ZIP" => Compression::Zip,
            "Snappy" | "HADOOP_SNAPPY" => {
                bail!("CompressionFormat {text} is not emulated; take GZIP, ZIP or UNCOMPRESSED")
            }
            _ => bail!(
                "CompressionFormat is {text:?}, expected UNCOMPRESSED, GZIP, ZIP, Snappy or HADOOP_SNAPPY"
            ),
        })
    }

    /// End of an object's name.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Compression::Uncompressed => "",
            Compression::Gzip => ".gz",
            Compression::Zip => ".zip",
        }
    }

    /// Packs; `name` is that of the file in a ZIP archive.
    pub(super) fn pack(self, data: &[u8], name: &str) -> io::Result<Vec<u8>> {
        match self {
            Compression::Uncompressed => Ok(data.to_vec()),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Level::default());
                encoder.write_all(data)?;
                encoder.finish()
            }
            Compression::Zip => zip(data, name),
        }
    }
}

/// An archive with one file, dated 1980 like every one without a date (APPNOTE.TXT 6.3, sections 4.3 and 4.4).
fn zip(data: &[u8], name: &str) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Level::default());
    encoder.write_all(data)?;
    let packed = encoder.finish()?;
    let mut crc = Crc::new();
    crc.update(data);
    let size = |length: usize| u32::try_from(length).map_err(io::Error::other);

    // Version 2.0, no flags, deflated, date, sums, sizes, length of the name, no extra field.
    let mut about = Vec::new();
    about.extend(20_u16.to_le_bytes());
    about.extend(0_u16.to_le_bytes());
    about.extend(8_u16.to_le_bytes());
    about.extend(0_u16.to_le_bytes());
    about.extend(0x21_u16.to_le_bytes());
    about.extend(crc.sum().to_le_bytes());
    about.extend(size(packed.len())?.to_le_bytes());
    about.extend(size(data.len())?.to_le_bytes());
    about.extend(
        u16::try_from(name.len())
            .map_err(io::Error::other)?
            .to_le_bytes(),
    );
    about.extend(0_u16.to_le_bytes());

    let mut archive = b"PK\x03\x04".to_vec();
    archive.extend(&about);
    archive.extend(name.as_bytes());
    archive.extend(packed);
    let directory = size(archive.len())?;
    archive.extend(b"PK\x01\x02");
    archive.extend(20_u16.to_le_bytes());
    archive.extend(&about);
    // No comment, first disk, no attributes, at the beginning of the archive.
    archive.extend([0; 14]);
    archive.extend(name.as_bytes());
    let end = size(archive.len())?;
    archive.extend(b"PK\x05\x06");
    archive.extend([0; 4]);
    archive.extend(1_u16.to_le_bytes());
    archive.extend(1_u16.to_le_bytes());
    archive.extend((end - directory).to_le_bytes());
    archive.extend(directory.to_le_bytes());
    archive.extend(0_u16.to_le_bytes());
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn gzip_gives_back_what_went_in() {
        let packed = Compression::Gzip.pack(b"one\ntwo\n", "").unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn python_reads_the_zip() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.zip");
        std::fs::write(
            &file,
            Compression::Zip
                .pack(&b"line\n".repeat(1000), "name")
                .unwrap(),
        )
        .unwrap();
        let script = "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; assert z.namelist()==['name']; assert z.read('name')==b'line\\n'*1000";
        let status = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(&file)
            .status();
        assert!(
            status
                .expect("python3 on the PATH (apt install python3)")
                .success()
        );
    }

    #[test]
    fn what_is_not_emulated_is_refused_by_name() {
        assert!(
            Compression::parse("Snappy")
                .unwrap_err()
                .to_string()
                .contains("Snappy is not emulated")
        );
        assert!(
            Compression::parse("gzip")
                .unwrap_err()
                .to_string()
                .contains("expected")
        );
    }
}
