//! S3 buckets as folders: an object is the file `<folder>/<bucket>/<key>`.
//!
//! # Differs from AWS
//! - An object is there whole or not at all, as on AWS, but a key cannot be both an object and the
//!   beginning of another key (`a` and `a/b`): the second of the two is refused.
//! - Parts of a key that a file system has another meaning for (empty, `.`, `..`) are written as `%`,
//!   `%2E` and `%2E%2E`.
//! - No versions, lifecycle, encryption or object metadata.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use uuid::Uuid;

/// Folder of objects that are being written; beside the buckets, so that nobody who lists a bucket
/// sees them. No bucket can have the name: it has a capital letter.
const INCOMPLETE: &str = ".Incomplete";

/// All buckets.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    backing: OnceLock<Arc<dyn Backing>>,
}

/// Somebody else who keeps the objects, see [`Store::back`].
pub trait Backing: std::fmt::Debug + Send + Sync {
    /// Writes an object, whole or not at all; returns the file of its bytes.
    fn put<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, io::Result<PathBuf>>;
}

impl Store {
    /// Buckets below a folder, which is made if missing.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: impl Into<PathBuf>) -> io::Result<Arc<Store>> {
        let folder = folder.into();
        let incomplete = folder.join(INCOMPLETE);
        // What a killed run has not finished was never an object.
        match fs::remove_dir_all(&incomplete) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&incomplete)?,
        }
        Ok(Arc::new(Store {
            folder,
            backing: OnceLock::new(),
        }))
    }

    /// From now on another keeps the objects; the first one counts.
    pub fn back(&self, backing: Arc<dyn Backing>) {
        let _ = self.backing.set(backing);
    }

    /// Where an object is or would be.
    pub fn path(&self, bucket: &str, key: &str) -> PathBuf {
        let mut path = self.folder.join(part(bucket));
        path.extend(key.split('/').map(part));
        path
    }

    /// Writes an object: whole, or not at all.
    ///
    /// # Errors
    /// The file system's, with the path.
    pub async fn put_object(&self, bucket: &str, key: &str, body: Bytes) -> io::Result<PathBuf> {
        if let Some(backing) = self.backing.get() {
            return backing.put(bucket, key, body).await;
        }
        let path = self.path(bucket, key);
        let incomplete = self
            .folder
            .join(INCOMPLETE)
            .join(Uuid::new_v4().to_string());
        let written = tokio::task::spawn_blocking(move || {
            write(&incomplete, &path, &body)
                .map_err(|error| {
                    let _ = fs::remove_file(&incomplete);
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                })
                .map(|()| path)
        });
        written.await.map_err(io::Error::other)?
    }
}

fn write(incomplete: &Path, path: &Path, body: &[u8]) -> io::Result<()> {
    fs::write(incomplete, body)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::rename(incomplete, path)
}

fn part(text: &str) -> &str {
    match text {
        "" => "%",
        "." => "%2E",
        ".." => "%2E%2E",
        text => text,
    }
}

/// The bucket's name in its ARN.
pub fn bucket_of_arn(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let is_s3 = parts.next() == Some("arn") && parts.nth(1) == Some("s3");
    let name = parts.nth(2)?;
    (is_s3 && !name.is_empty() && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_are_files_below_their_bucket() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path()).unwrap();
        let path = store
            .put_object("archive", "raw/dt=1/a.gz", Bytes::from_static(b"x"))
            .await
            .unwrap();
        assert_eq!(path, folder.path().join("archive/raw/dt=1/a.gz"));
        assert_eq!(fs::read(path).unwrap(), b"x");
        assert_eq!(
            fs::read_dir(folder.path().join(INCOMPLETE))
                .unwrap()
                .count(),
            0
        );
    }

    #[tokio::test]
    async fn no_key_leads_out_of_its_bucket() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("s3")).unwrap();
        let path = store
            .put_object("b", "../..//./x", Bytes::new())
            .await
            .unwrap();
        assert_eq!(path, folder.path().join("s3/b/%2E%2E/%2E%2E/%/%2E/x"));
    }

    #[tokio::test]
    async fn refused_object_leaves_nothing_and_names_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path()).unwrap();
        store.put_object("b", "a", Bytes::new()).await.unwrap();
        let error = store
            .put_object("b", "a/b", Bytes::new())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("b/a/b"), "{error}");
        assert_eq!(
            fs::read_dir(folder.path().join(INCOMPLETE))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn bucket_arns_are_told_from_others() {
        assert_eq!(bucket_of_arn("arn:aws:s3:::archive"), Some("archive"));
        assert_eq!(bucket_of_arn("arn:aws:s3:::archive/key"), None);
        assert_eq!(bucket_of_arn("arn:aws:sqs:eu-west-1:000000000000:q"), None);
        assert_eq!(bucket_of_arn("archive"), None);
    }
}
