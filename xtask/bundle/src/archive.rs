//! The zip, the same bytes for the same contents on every machine and on every day.

use std::io::{Cursor, Write};

use anyhow::Context;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipWriter};

use crate::{Settings, WEBUI, files};

/// The bundle as a zip that holds `webui` as [`WEBUI`].
///
/// Time (1980-01-01, the earliest that the format knows), order and modes are fixed, so that a
/// content hash names the contents. The binary is executable: Beanstalk keeps the bit.
///
/// # Errors
///
/// Only when the contents exceed what the format can hold.
pub fn zip(settings: Settings, webui: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for file in files(settings) {
        add(&mut writer, file.path, 0o644, file.contents.as_bytes())?;
    }
    add(&mut writer, WEBUI, 0o755, webui)?;
    Ok(writer.finish().context("finish the bundle")?.into_inner())
}

fn add(
    writer: &mut ZipWriter<Cursor<Vec<u8>>>,
    path: &str,
    mode: u32,
    contents: &[u8],
) -> anyhow::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(DateTime::default())
        // Otherwise the zip would say on which system it was made.
        .system(System::Unix)
        .unix_permissions(mode);
    writer
        .start_file(path, options)
        .and_then(|()| Ok(writer.write_all(contents)?))
        .with_context(|| format!("add {path} to the bundle"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const SETTINGS: Settings = Settings {
        redirect_to_https: true,
        sign_in: None,
    };

    #[test]
    fn zip_holds_every_file_in_order_with_the_binary_executable() -> anyhow::Result<()> {
        let mut archive = zip::ZipArchive::new(Cursor::new(zip(SETTINGS, b"program")?))?;
        let mut expected: Vec<_> = files(SETTINGS)
            .into_iter()
            .map(|file| (file.path, 0o100_644, file.contents))
            .collect();
        expected.push((WEBUI, 0o100_755, "program".to_owned()));
        assert_eq!(archive.len(), expected.len());
        for (index, (path, mode, contents)) in expected.into_iter().enumerate() {
            let mut entry = archive.by_index(index)?;
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            assert_eq!(
                (entry.name()?.as_ref(), entry.unix_mode(), text),
                (path, Some(mode), contents)
            );
            assert_eq!(entry.last_modified(), Some(DateTime::default()));
        }
        Ok(())
    }

    #[test]
    fn two_zips_of_the_same_contents_are_the_same_bytes() -> anyhow::Result<()> {
        let webui: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
            .collect();
        assert_eq!(zip(SETTINGS, &webui)?, zip(SETTINGS, &webui)?);
        Ok(())
    }
}
