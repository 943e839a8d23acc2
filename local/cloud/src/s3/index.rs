//! What is in a bucket: every version of every key, and the uploads that are not finished.
//!
//! The index is in memory and in a journal, one JSON object a line; bytes are files beside it.
//! An object is in the journal only when its bytes are on the disk, and a line that was half written when
//! the cloud was killed counts as never written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use local::status::now_ms;

/// ID of the version that a bucket without versions keeps.
pub(super) const NULL: &str = "null";

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) settings: Settings,
    folder: PathBuf,
    journal: File,
    /// Key → versions, the newest last.
    keys: BTreeMap<String, Vec<Version>>,
    uploads: BTreeMap<(String, String), Upload>,
}

/// What a bucket was made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) region: String,
    /// Milliseconds since the Unix epoch.
    pub(super) created: u64,
    /// Of `AWS::S3::Bucket`.
    pub(super) properties: Json,
}

/// One version of an object, or a delete marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) id: String,
    /// Milliseconds since the Unix epoch.
    pub(super) at: u64,
    pub(super) size: u64,
    pub(super) etag: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// File of its bytes; `None`: a delete marker.
    pub(super) file: Option<String>,
}

/// An upload in parts that is not finished.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Upload {
    /// Milliseconds since the Unix epoch.
    pub(super) at: u64,
    pub(super) parts: BTreeMap<i32, Version>,
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Settings(Settings),
    Put(String, Version),
    Remove(String, String),
    Begin(String, String, u64),
    Part(String, String, i32, Version),
    End(String, String),
}

/// What deleting did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deleted {
    /// The version that is gone, or the marker that was made.
    pub(super) version: Option<String>,
    /// Whether that is a delete marker.
    pub(super) is_marker: bool,
}

impl Settings {
    pub(super) fn is_versioned(&self) -> bool {
        self.properties["VersioningConfiguration"]["Status"] == "Enabled"
    }

    /// Key and value of each tag.
    pub(super) fn tags(&self) -> Vec<(String, String)> {
        let tags = self.properties["Tags"].as_array();
        let tags = tags.map_or(&[][..], Vec::as_slice).iter();
        tags.filter_map(|tag| {
            Some((
                tag["Key"].as_str()?.to_owned(),
                tag["Value"].as_str()?.to_owned(),
            ))
        })
        .collect()
    }
}

impl Bucket {
    /// A new bucket in a folder of its own.
    pub(super) fn create(folder: PathBuf, settings: Settings) -> io::Result<Bucket> {
        fs::create_dir_all(folder.join("objects"))?;
        let journal = open_journal(&folder)?;
        let mut bucket = Bucket {
            settings: settings.clone(),
            folder,
            journal,
            keys: BTreeMap::new(),
            uploads: BTreeMap::new(),
        };
        bucket.write(&Entry::Settings(settings))?;
        Ok(bucket)
    }

    /// Reads a bucket back; `None` when it was killed before it was one.
    pub(super) fn open(folder: PathBuf) -> io::Result<Option<Bucket>> {
        let journal = open_journal(&folder)?;
        let (mut settings, mut keys, mut uploads) = (None, BTreeMap::new(), BTreeMap::new());
        let mut whole = 0;
        let mut reader = BufReader::new(File::open(folder.join("journal"))?);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
            let entry = serde_json::from_str(&line).map_err(|error| {
                let path = folder.join("journal");
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: {error}", path.display()),
                )
            })?;
            apply(entry, &mut settings, &mut keys, &mut uploads);
            whole += line.len() as u64;
            line.clear();
        }
        // What comes next must not be joined to half a line.
        journal.set_len(whole)?;
        let Some(settings) = settings else {
            return Ok(None);
        };
        Ok(Some(Bucket {
            settings,
            folder,
            journal,
            keys,
            uploads,
        }))
    }

    pub(super) fn configure(&mut self, properties: Json) -> io::Result<()> {
        self.settings.properties = properties;
        self.write(&Entry::Settings(self.settings.clone()))
    }

    /// Removes the bucket with everything of it.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder)
    }

    /// Whether nothing is in it; AWS takes unfinished uploads with the bucket.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Writes bytes to a file that the index does not know yet.
    pub(super) fn stage(&self, bytes: &[u8], sha256: Option<String>) -> io::Result<Version> {
        let file = Uuid::new_v4().simple().to_string();
        fs::write(self.path(&file), bytes)?;
        Ok(Version {
            id: NULL.to_owned(),
            at: now_ms(),
            size: bytes.len() as u64,
            etag: md5_hex(bytes),
            sha256,
            file: Some(file),
        })
    }

    /// Makes staged bytes the newest version of a key; returns its ID.
    pub(super) fn put(&mut self, key: &str, mut version: Version) -> io::Result<String> {
        if self.settings.is_versioned() {
            version.id = new_id();
        }
        let id = version.id.clone();
        self.write(&Entry::Put(key.to_owned(), version.clone()))?;
        self.replaced(key, version);
        Ok(id)
    }

    /// Adds a version; an older one of the same ID goes, with its bytes.
    fn replaced(&mut self, key: &str, version: Version) {
        let gone = add(&mut self.keys, key, version);
        if let Some(file) = gone.and_then(|it| it.file) {
            // At worst a file that nobody knows is left.
            let _ = fs::remove_file(self.path(&file));
        }
    }

    /// Deletes a version, or without one what is newest: in a bucket with versions by a marker.
    pub(super) fn delete(&mut self, key: &str, version: Option<&str>) -> io::Result<Deleted> {
        match version {
            None if self.settings.is_versioned() => {
                let id = new_id();
                let marker = Version {
                    id: id.clone(),
                    at: now_ms(),
                    size: 0,
                    etag: String::new(),
                    sha256: None,
                    file: None,
                };
                self.write(&Entry::Put(key.to_owned(), marker.clone()))?;
                self.replaced(key, marker);
                Ok(Deleted {
                    version: Some(id),
                    is_marker: true,
                })
            }
            version => {
                let id = version.unwrap_or(NULL);
                let Some(found) = self.version(key, Some(id)).cloned() else {
                    // What is not there is deleted already.
                    return Ok(Deleted::default());
                };
                self.write(&Entry::Remove(key.to_owned(), id.to_owned()))?;
                remove(&mut self.keys, key, id);
                let is_marker = found.file.is_none();
                if let Some(file) = found.file {
                    let _ = fs::remove_file(self.path(&file));
                }
                Ok(Deleted {
                    version: version.map(str::to_owned),
                    is_marker,
                })
            }
        }
    }

    /// A version of a key, or the newest.
    pub(super) fn version(&self, key: &str, id: Option<&str>) -> Option<&Version> {
        let versions = self.keys.get(key)?;
        match id {
            None => versions.last(),
            Some(id) => versions.iter().find(|it| it.id == id),
        }
    }

    /// Keys after one of them, each with its versions, the newest last.
    pub(super) fn after(&self, key: &str) -> impl Iterator<Item = (&String, &Vec<Version>)> {
        self.keys
            .range::<str, _>((Bound::Excluded(key), Bound::Unbounded))
    }

    /// Keys from one on.
    pub(super) fn from(&self, key: &str) -> impl Iterator<Item = (&String, &Vec<Version>)> {
        self.keys
            .range::<str, _>((Bound::Included(key), Bound::Unbounded))
    }

    /// The bytes of a version that is no marker.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.join("objects").join(file)
    }

    pub(super) fn uploads(&self) -> &BTreeMap<(String, String), Upload> {
        &self.uploads
    }

    /// Begins an upload in parts; returns its ID.
    pub(super) fn begin(&mut self, key: &str) -> io::Result<String> {
        let (id, at) = (new_id(), now_ms());
        self.write(&Entry::Begin(key.to_owned(), id.clone(), at))?;
        let upload = Upload {
            at,
            parts: BTreeMap::new(),
        };
        self.uploads.insert((key.to_owned(), id.clone()), upload);
        Ok(id)
    }

    /// Adds staged bytes as a part.
    pub(super) fn part(
        &mut self,
        upload: &(String, String),
        number: i32,
        part: Version,
    ) -> io::Result<()> {
        let (key, id) = upload.clone();
        self.write(&Entry::Part(key, id, number, part.clone()))?;
        if let Some(upload) = self.uploads.get_mut(upload) {
            upload.parts.insert(number, part);
        }
        Ok(())
    }

    /// Ends an upload and removes its parts.
    pub(super) fn end(&mut self, upload: &(String, String)) -> io::Result<()> {
        self.write(&Entry::End(upload.0.clone(), upload.1.clone()))?;
        let ended = self.uploads.remove(upload).unwrap_or_default();
        for file in ended.parts.into_values().filter_map(|it| it.file) {
            let _ = fs::remove_file(self.path(&file));
        }
        Ok(())
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.journal.write_all(&line)
    }
}

fn open_journal(folder: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(folder.join("journal"))
}

fn apply(
    entry: Entry,
    settings: &mut Option<Settings>,
    keys: &mut BTreeMap<String, Vec<Version>>,
    uploads: &mut BTreeMap<(String, String), Upload>,
) {
    match entry {
        Entry::Settings(new) => *settings = Some(new),
        Entry::Put(key, version) => drop(add(keys, &key, version)),
        Entry::Remove(key, id) => remove(keys, &key, &id),
        Entry::Begin(key, id, at) => {
            let parts = BTreeMap::new();
            uploads.insert((key, id), Upload { at, parts });
        }
        Entry::Part(key, id, number, part) => {
            if let Some(upload) = uploads.get_mut(&(key, id)) {
                upload.parts.insert(number, part);
            }
        }
        Entry::End(key, id) => drop(uploads.remove(&(key, id))),
    }
}

/// Adds the newest version of a key; returns the one of the same ID that it replaces.
fn add(keys: &mut BTreeMap<String, Vec<Version>>, key: &str, version: Version) -> Option<Version> {
    let versions = keys.entry(key.to_owned()).or_default();
    let same = versions.iter().position(|it| it.id == version.id);
    let gone = same.map(|index| versions.remove(index));
    versions.push(version);
    gone
}

fn remove(keys: &mut BTreeMap<String, Vec<Version>>, key: &str, id: &str) {
    if let Some(versions) = keys.get_mut(key) {
        versions.retain(|it| it.id != id);
        if versions.is_empty() {
            keys.remove(key);
        }
    }
}

fn new_id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// MD5 as an entity tag has it.
pub(super) fn md5_hex(bytes: &[u8]) -> String {
    use md5::Digest;
    let digest = md5::Md5::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(status: &str) -> Settings {
        Settings {
            name: "bucket".to_owned(),
            region: "eu-central-1".to_owned(),
            created: 1,
            properties: json!({
                "VersioningConfiguration": { "Status": status },
                "Tags": [{ "Key": "Stage", "Value": "dev" }],
            }),
        }
    }

    #[test]
    fn versions_markers_and_uploads_survive_a_restart() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("bucket");
        let mut bucket = Bucket::create(path.clone(), settings("Enabled"))?;
        let first = bucket.stage(b"one", None)?;
        let first = bucket.put("a", first)?;
        let second = bucket.stage(b"two", None)?;
        bucket.put("a", second)?;
        let marker = bucket.delete("a", None)?;
        assert!(marker.is_marker);
        let id = bucket.begin("big")?;
        let upload = ("big".to_owned(), id);
        let part = bucket.stage(b"part", None)?;
        bucket.part(&upload, 1, part)?;
        drop(bucket);
        // Half a line, as a kill leaves it.
        let mut journal = open_journal(&path)?;
        journal.write_all(b"{\"Put\":[\"b\"")?;

        let mut bucket = Bucket::open(path)?.ok_or(io::ErrorKind::NotFound)?;
        assert_eq!(bucket.settings.tags(), [("Stage".into(), "dev".into())]);
        assert!(
            bucket
                .version("a", None)
                .is_some_and(|it| it.file.is_none())
        );
        let old = bucket
            .version("a", Some(&first))
            .and_then(|it| it.file.clone());
        let old = bucket.path(&old.ok_or(io::ErrorKind::NotFound)?);
        assert_eq!(fs::read(&old)?, b"one");
        assert_eq!(bucket.uploads().len(), 1);

        // After the marker is gone the newest version is there again.
        bucket.delete("a", marker.version.as_deref())?;
        assert!(bucket.version("a", None).is_some_and(|it| it.size == 3));
        bucket.delete("a", Some(&first))?;
        assert!(!old.exists());
        bucket.end(&upload)?;
        assert!(!bucket.is_empty());
        Ok(())
    }

    #[test]
    fn bucket_without_versions_keeps_the_newest_alone() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut bucket = Bucket::create(folder.path().join("b"), settings("Suspended"))?;
        for text in ["one", "three"] {
            let staged = bucket.stage(text.as_bytes(), None)?;
            assert_eq!(bucket.put("a", staged)?, NULL);
        }
        assert!(bucket.version("a", None).is_some_and(|it| it.size == 5));
        let objects = fs::read_dir(folder.path().join("b/objects"))?;
        assert_eq!(objects.count(), 1);
        bucket.delete("a", None)?;
        assert!(bucket.is_empty());
        Ok(())
    }
}
