//! S3: artifacts that are uploaded once, and buckets that are emptied to the last version.

use anyhow::{Context, bail};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier,
};

use crate::cloud::{Cloud, failed};
use crate::progress::Voice;
use crate::stack_call::STAGE_TAG;

/// Larger objects are uploaded in parts of this size, so that a broken connection costs one part.
const PART: usize = 8 << 20;

/// What is in a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Versions and delete markers.
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

/// Uploads an object unless it is there; returns whether it was uploaded.
///
/// The key holds the contents' hash, so what is there is what would be uploaded.
pub(crate) async fn upload(
    cloud: &Cloud,
    voice: Voice,
    bucket: &str,
    key: &str,
    contents: &[u8],
) -> anyhow::Result<bool> {
    let there = cloud.s3.head_object().bucket(bucket).key(key).send().await;
    match there {
        Ok(_) => return Ok(false),
        Err(error) => {
            let is_missing = error
                .as_service_error()
                .is_some_and(aws_sdk_s3::operation::head_object::HeadObjectError::is_not_found);
            if !is_missing {
                return Err(failed("look whether the artifact is there", error))
                    .with_context(|| format!("s3://{bucket}/{key}"));
            }
        }
    }
    if contents.len() <= PART {
        cloud
            .s3
            .put_object()
            .bucket(bucket)
            .key(key)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .body(ByteStream::from(contents.to_vec()))
            .send()
            .await
            .map_err(|error| failed("upload the artifact", error))
            .with_context(|| format!("s3://{bucket}/{key}"))?;
    } else {
        upload_parts(cloud, voice, bucket, key, contents)
            .await
            .with_context(|| format!("s3://{bucket}/{key}"))?;
    }
    Ok(true)
}

async fn upload_parts(
    cloud: &Cloud,
    voice: Voice,
    bucket: &str,
    key: &str,
    contents: &[u8],
) -> anyhow::Result<()> {
    let begun = cloud
        .s3
        .create_multipart_upload()
        .bucket(bucket)
        .key(key)
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .send()
        .await
        .map_err(|error| failed("begin the upload", error))?;
    let id = begun.upload_id.context("S3 gave the upload no ID")?;
    let mut parts = Vec::new();
    for (number, part) in (1_i32..).zip(contents.chunks(PART)) {
        let uploaded = cloud
            .s3
            .upload_part()
            .bucket(bucket)
            .key(key)
            .upload_id(&id)
            .part_number(number)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .body(ByteStream::from(part.to_vec()))
            .send()
            .await
            // The parts that are there are removed by the bucket's lifecycle rule.
            .map_err(|error| failed("upload a part of the artifact", error))?;
        parts.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(uploaded.e_tag)
                .set_checksum_sha256(uploaded.checksum_sha256)
                .build(),
        );
        voice.say(format!(
            "  uploaded {} of {} of {key}",
            size((parts.len() * PART).min(contents.len()) as u64),
            size(contents.len() as u64)
        ));
    }
    cloud
        .s3
        .complete_multipart_upload()
        .bucket(bucket)
        .key(key)
        .upload_id(id)
        .multipart_upload(
            CompletedMultipartUpload::builder()
                .set_parts(Some(parts))
                .build(),
        )
        .send()
        .await
        .map_err(|error| failed("end the upload", error))?;
    Ok(())
}

/// Counts what is in a bucket; `None` when there is no such bucket.
pub(crate) async fn contents(cloud: &Cloud, bucket: &str) -> anyhow::Result<Option<Contents>> {
    let mut contents = Contents::default();
    let mut versions = Versions::of(bucket);
    loop {
        let Some(page) = versions.next(cloud).await? else {
            return Ok(versions.exists.then_some(contents));
        };
        contents.objects += page.objects.len() as u64;
        contents.bytes += page.bytes;
    }
}

/// Removes every version, delete marker and unfinished upload, then the bucket. One that is gone
/// already is fine.
pub(crate) async fn remove(cloud: &Cloud, voice: Voice, bucket: &str) -> anyhow::Result<()> {
    let mut removed = 0;
    // What is deleted shifts no page: markers are by key and version.
    let mut versions = Versions::of(bucket);
    while let Some(page) = versions.next(cloud).await? {
        let count = page.objects.len();
        if count == 0 {
            continue;
        }
        let delete = Delete::builder()
            .set_objects(Some(page.objects))
            .quiet(true)
            .build()
            .context("name the objects to delete")?;
        let answer = cloud
            .s3
            .delete_objects()
            .bucket(bucket)
            .delete(delete)
            .send()
            .await
            .map_err(|error| failed("delete objects", error))
            .with_context(|| format!("bucket `{bucket}`"))?;
        if let Some(error) = answer.errors().first() {
            bail!(
                "bucket `{bucket}`: {} cannot be deleted: {} ({} objects in all)",
                error.key().unwrap_or("an object"),
                error.message().unwrap_or("no reason given"),
                answer.errors().len()
            );
        }
        removed += count;
        if versions.next.is_some() {
            voice.say(format!("  {bucket}: {removed} objects deleted …"));
        }
    }
    if !versions.exists {
        return Ok(());
    }
    abort_uploads(cloud, bucket).await?;
    let gone = cloud.s3.delete_bucket().bucket(bucket).send().await;
    match gone.map_err(|error| failed("delete the bucket", error)) {
        Err(error) if error.code.as_deref() == Some("NoSuchBucket") => Ok(()),
        other => other
            .map(drop)
            .with_context(|| format!("bucket `{bucket}`")),
    }
}

async fn abort_uploads(cloud: &Cloud, bucket: &str) -> anyhow::Result<()> {
    let (mut key, mut id) = (None, None);
    loop {
        let page = cloud
            .s3
            .list_multipart_uploads()
            .bucket(bucket)
            .set_key_marker(key)
            .set_upload_id_marker(id)
            .send()
            .await
            .map_err(|error| failed("list unfinished uploads", error))
            .with_context(|| format!("bucket `{bucket}`"))?;
        for upload in page.uploads() {
            cloud
                .s3
                .abort_multipart_upload()
                .bucket(bucket)
                .set_key(upload.key.clone())
                .set_upload_id(upload.upload_id.clone())
                .send()
                .await
                .map_err(|error| failed("abort an unfinished upload", error))
                .with_context(|| format!("bucket `{bucket}`"))?;
        }
        if !page.is_truncated.unwrap_or(false) {
            return Ok(());
        }
        (key, id) = (page.next_key_marker, page.next_upload_id_marker);
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

/// Buckets that a stage's stacks made and that outlived them, by their tags.
///
/// Names alone are never enough to delete something: the tag must say the stage, too.
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
        // No tags, or gone meanwhile, or in another region, where it is none of ours.
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

/// Bytes as a person says them.
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
