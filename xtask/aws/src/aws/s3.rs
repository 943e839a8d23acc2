//! S3: finds a stage's buckets, counts and removes their contents, and deletes them.
//!
//! Objects are listed page by page and deleted up to [`AT_ONCE`] pages at a time, so millions of objects need
//! little memory.

use anyhow::{Context, bail};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use tokio::task::JoinSet;

use crate::aws::{CallFailed, Cloud, failed};
use crate::screen::progress::Output;
use crate::stack::call::STAGE_TAG;

/// Concurrent DeleteObjects calls of 1,000 keys each. S3 allows 3,500 a second for each prefix and throttles
/// more.
const AT_ONCE: usize = 4;

/// Maximum rounds for a bucket that is filled again while it is emptied.
const ROUNDS: usize = 5;

/// Maximum retries of keys that S3 temporarily could not delete.
const TRIES: usize = 4;

/// Maximum keys named in an error.
const MOST_KEYS: usize = 5;

/// Contents of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Versions and delete markers.
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    /// Unfinished multipart uploads, whose parts cost money as well.
    pub(crate) uploads: u64,
}

/// Counts a bucket's contents; `None` if there is no such bucket.
pub(crate) async fn contents(cloud: &Cloud, bucket: &str) -> anyhow::Result<Option<Contents>> {
    let mut contents = Contents::default();
    let mut versions = Versions::of(bucket);
    while let Some(page) = versions.next(cloud).await? {
        contents.objects += page.objects.len() as u64;
        contents.bytes += page.bytes;
    }
    if !versions.exists {
        return Ok(None);
    }
    let mut uploads = Uploads::of(bucket);
    while let Some(page) = uploads.next(cloud).await? {
        contents.uploads += page.len() as u64;
    }
    Ok(Some(contents))
}

/// Removes every version, delete marker and unfinished upload, then the bucket. A missing bucket is not an
/// error; one that is filled again is emptied again, a few times.
pub(crate) async fn remove(cloud: &Cloud, output: Output, bucket: &str) -> anyhow::Result<()> {
    for round in 1..=ROUNDS {
        if !empty(cloud, output, bucket).await? {
            return Ok(());
        }
        let gone = cloud.s3.delete_bucket().bucket(bucket).send().await;
        match gone.map_err(|error| failed("delete the bucket", error)) {
            Ok(_) => return Ok(()),
            Err(error) if error.code.as_deref() == Some("NoSuchBucket") => return Ok(()),
            Err(error) if error.code.as_deref() == Some("BucketNotEmpty") && round < ROUNDS => {
                output.say(format!(
                    "  {bucket} was filled again meanwhile: emptying it again"
                ));
                tokio::time::sleep(cloud.poll).await;
            }
            Err(error) => return Err(error).with_context(|| format!("bucket `{bucket}`")),
        }
    }
    Ok(())
}

/// Removes a bucket's contents; returns whether there is such a bucket.
pub(crate) async fn empty(cloud: &Cloud, output: Output, bucket: &str) -> anyhow::Result<bool> {
    let mut deleting: JoinSet<Result<Undeleted, CallFailed>> = JoinSet::new();
    let mut undeleted = Undeleted::default();
    let mut removed = 0;
    // Deletions do not shift pages: markers are by key and version.
    let mut versions = Versions::of(bucket);
    while let Some(page) = versions.next(cloud).await? {
        if page.objects.is_empty() {
            continue;
        }
        while deleting.len() >= AT_ONCE {
            join(&mut deleting, &mut undeleted, bucket).await?;
        }
        removed += page.objects.len();
        let (cloud, bucket_name) = (cloud.clone(), bucket.to_owned());
        deleting.spawn(async move { delete(&cloud, &bucket_name, page.objects).await });
        if versions.next.is_some() {
            output.say(format!("  {bucket}: {removed} objects deleted …"));
        }
    }
    while !deleting.is_empty() {
        join(&mut deleting, &mut undeleted, bucket).await?;
    }
    if !versions.exists {
        return Ok(false);
    }
    undeleted.check(bucket)?;
    abort_uploads(cloud, bucket).await?;
    Ok(true)
}

async fn join(
    deleting: &mut JoinSet<Result<Undeleted, CallFailed>>,
    undeleted: &mut Undeleted,
    bucket: &str,
) -> anyhow::Result<()> {
    if let Some(done) = deleting.join_next().await {
        let done = done.context("wait for objects to be deleted")?;
        let done = done.with_context(|| format!("bucket `{bucket}`"))?;
        undeleted.count += done.count;
        undeleted.examples.extend(done.examples);
        undeleted.examples.truncate(MOST_KEYS);
    }
    Ok(())
}

/// Objects that S3 does not delete.
#[derive(Debug, Default)]
struct Undeleted {
    count: usize,
    /// The first of them, with S3's message.
    examples: Vec<String>,
}

impl Undeleted {
    fn check(&self, bucket: &str) -> anyhow::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let examples = self.examples.join("\n  ");
        let more = self.count - self.examples.len();
        let more = match more {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        bail!(
            "bucket `{bucket}`: {} objects cannot be deleted\n  {examples}{more}",
            self.count
        )
    }
}

/// Deletes one page of objects, and retries those that S3 temporarily could not delete.
async fn delete(
    cloud: &Cloud,
    bucket: &str,
    mut objects: Vec<ObjectIdentifier>,
) -> Result<Undeleted, CallFailed> {
    let mut undeleted = Undeleted::default();
    for attempt in 1..=TRIES {
        // Both fields are set, so it is always built.
        let Ok(delete) = Delete::builder()
            .set_objects(Some(objects))
            .quiet(true)
            .build()
        else {
            break;
        };
        let call = cloud.s3.delete_objects().bucket(bucket).delete(delete);
        let answer = match call
            .send()
            .await
            .map_err(|error| failed("delete objects", error))
        {
            Err(error) if error.code.as_deref() == Some("NoSuchBucket") => break,
            answer => answer?,
        };
        objects = Vec::new();
        for error in answer.errors() {
            let passes = matches!(error.code(), Some("SlowDown" | "InternalError"));
            let object = ObjectIdentifier::builder()
                .set_key(error.key.clone())
                .set_version_id(error.version_id.clone())
                .build();
            match object {
                Ok(object) if passes && attempt < TRIES => objects.push(object),
                _ => {
                    undeleted.count += 1;
                    if undeleted.examples.len() < MOST_KEYS {
                        undeleted.examples.push(format!(
                            "{}: {} ({})",
                            error.key().unwrap_or("an object"),
                            error.message().unwrap_or("no reason given"),
                            error.code().unwrap_or("no code")
                        ));
                    }
                }
            }
        }
        if objects.is_empty() {
            break;
        }
        tokio::time::sleep(cloud.poll * 2_u32.pow(u32::try_from(attempt).unwrap_or(1))).await;
    }
    Ok(undeleted)
}

async fn abort_uploads(cloud: &Cloud, bucket: &str) -> anyhow::Result<()> {
    let mut uploads = Uploads::of(bucket);
    while let Some(page) = uploads.next(cloud).await? {
        for (key, id) in page {
            let call = cloud.s3.abort_multipart_upload().bucket(bucket);
            let answer = call.key(key).upload_id(id).send().await;
            match answer.map_err(|error| failed("abort an unfinished upload", error)) {
                // Completed or aborted meanwhile.
                Err(error) if error.code.as_deref() == Some("NoSuchUpload") => {}
                answer => {
                    answer.with_context(|| format!("bucket `{bucket}`"))?;
                }
            }
        }
    }
    Ok(())
}

/// Pages over the unfinished uploads of a bucket.
struct Uploads<'a> {
    bucket: &'a str,
    /// Markers of the next page.
    next: Option<(Option<String>, Option<String>)>,
}

impl<'a> Uploads<'a> {
    fn of(bucket: &'a str) -> Uploads<'a> {
        Uploads {
            bucket,
            next: Some((None, None)),
        }
    }

    /// Keys and IDs of the next page.
    async fn next(&mut self, cloud: &Cloud) -> anyhow::Result<Option<Vec<(String, String)>>> {
        let Some((key, id)) = self.next.take() else {
            return Ok(None);
        };
        let call = cloud.s3.list_multipart_uploads().bucket(self.bucket);
        let page = call
            .set_key_marker(key)
            .set_upload_id_marker(id)
            .send()
            .await
            .map_err(|error| failed("list unfinished uploads", error))
            .with_context(|| format!("bucket `{}`", self.bucket))?;
        let uploads = page.uploads().iter();
        let found = uploads.filter_map(|it| Some((it.key.clone()?, it.upload_id.clone()?)));
        let found = found.collect();
        if page.is_truncated.unwrap_or(false) {
            self.next = Some((page.next_key_marker, page.next_upload_id_marker));
        }
        Ok(Some(found))
    }
}

/// Pages over every version and delete marker of a bucket.
struct Versions<'a> {
    bucket: &'a str,
    /// Markers of the next page.
    next: Option<(Option<String>, Option<String>)>,
    exists: bool,
}

struct Page {
    objects: Vec<ObjectIdentifier>,
    bytes: u64,
}

impl<'a> Versions<'a> {
    fn of(bucket: &'a str) -> Versions<'a> {
        Versions {
            bucket,
            next: Some((None, None)),
            exists: true,
        }
    }

    async fn next(&mut self, cloud: &Cloud) -> anyhow::Result<Option<Page>> {
        let Some((key, version)) = self.next.take() else {
            return Ok(None);
        };
        let page = cloud
            .s3
            .list_object_versions()
            .bucket(self.bucket)
            .set_key_marker(key)
            .set_version_id_marker(version)
            .send()
            .await;
        let page = match page.map_err(|error| failed("list objects", error)) {
            Err(error) if error.code.as_deref() == Some("NoSuchBucket") => {
                self.exists = false;
                return Ok(None);
            }
            other => other.with_context(|| format!("bucket `{}`", self.bucket))?,
        };
        let object = |key: &Option<String>, version: &Option<String>| {
            ObjectIdentifier::builder()
                .set_key(key.clone())
                .set_version_id(version.clone())
                .build()
                .context("S3 listed an object without a key")
        };
        let mut objects = Vec::new();
        for version in page.versions() {
            objects.push(object(&version.key, &version.version_id)?);
        }
        for marker in page.delete_markers() {
            objects.push(object(&marker.key, &marker.version_id)?);
        }
        let bytes = page.versions().iter().filter_map(|it| it.size);
        let bytes = bytes.filter_map(|size| u64::try_from(size).ok()).sum();
        if page.is_truncated.unwrap_or(false) {
            self.next = Some((page.next_key_marker, page.next_version_id_marker));
        }
        Ok(Some(Page { objects, bytes }))
    }
}

/// Buckets of a stage that outlived its stacks, by their tags.
///
/// A name alone never decides a deletion: the tag must name the stage as well.
pub(crate) async fn of_stage(cloud: &Cloud, stage: &str) -> anyhow::Result<Vec<String>> {
    let prefix = format!("{}-", stack_prefix(stage));
    let mut found = Vec::new();
    let mut next = None;
    loop {
        let page = cloud
            .s3
            .list_buckets()
            .prefix(&prefix)
            .set_continuation_token(next)
            .send()
            .await
            .map_err(|error| failed("list the buckets", error))?;
        for bucket in page.buckets() {
            let name = bucket.name().unwrap_or_default();
            if name.starts_with(&prefix) && is_of_stage(cloud, name, stage).await? {
                found.push(name.to_owned());
            }
        }
        next = page.continuation_token;
        if next.is_none() {
            return Ok(found);
        }
    }
}

fn stack_prefix(stage: &str) -> String {
    format!("sensors-{stage}")
}

async fn is_of_stage(cloud: &Cloud, bucket: &str, stage: &str) -> anyhow::Result<bool> {
    let tags = cloud.s3.get_bucket_tagging().bucket(bucket).send().await;
    match tags.map_err(|error| failed("read the bucket's tags", error)) {
        Ok(tags) => Ok(tags
            .tag_set()
            .iter()
            .any(|tag| tag.key() == STAGE_TAG && tag.value() == stage)),
        // No tags, deleted meanwhile, or in another region, where it is not ours.
        Err(error)
            if matches!(
                error.code.as_deref(),
                Some("NoSuchTagSet" | "NoSuchBucket" | "PermanentRedirect")
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("bucket `{bucket}`")),
    }
}

/// A number of bytes with a unit.
pub(crate) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let exact = bytes as f64;
    match bytes {
        0..=999 => format!("{bytes} bytes"),
        1_000..=999_999 => format!("{:.1} kB", exact / 1e3),
        1_000_000..=999_999_999 => format!("{:.1} MB", exact / 1e6),
        _ => format!("{:.1} GB", exact / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_the_unit_that_fits() {
        let sizes = [(999, "999 bytes"), (1_500, "1.5 kB"), (8 << 20, "8.4 MB")];
        for (bytes, said) in sizes {
            assert_eq!(size(bytes), said);
        }
    }
}
