//! What Firehose has delivered.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

/// One archived message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Archived {
    /// The topic that it was published to.
    pub topic: String,
    /// When the rule took it, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The device's bytes.
    pub data: Vec<u8>,
}

/// All objects under `raw/` of all buckets in a data folder, in order of their names, line by line.
///
/// # Errors
///
/// An object that is not gzip, a last line without its end, a line of another shape.
pub fn read(data: &Path) -> anyhow::Result<Vec<Archived>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        topic: String,
        at: u64,
        data: String,
    }

    let mut archived = Vec::new();
    for object in objects(data)? {
        let mut text = String::new();
        MultiGzDecoder::new(File::open(&object)?)
            .read_to_string(&mut text)
            .with_context(|| format!("unpack {}", object.display()))?;
        ensure!(
            text.ends_with('\n'),
            "{} does not end with a line's end",
            object.display()
        );
        for line in text.lines() {
            let Line { topic, at, data } =
                serde_json::from_str(line).with_context(|| format!("read the line {line}"))?;
            archived.push(Archived {
                topic,
                at,
                data: BASE64_STANDARD.decode(data)?,
            });
        }
    }
    Ok(archived)
}

/// Objects under `raw/` of all buckets in a data folder.
///
/// # Errors
///
/// A folder that cannot be listed.
pub fn objects(data: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let buckets = data.join("s3");
    if buckets.is_dir() {
        collect(&buckets, &mut found)?;
    }
    found.retain(|path| {
        path.components()
            .any(|component| component.as_os_str() == "raw")
    });
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
