//! S3's operations on the buckets, in the types of `s3s`.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use serde_json::json;

use super::Buckets;
use super::index::{Bucket as Index, NULL, Version};

/// Entries of a page at most.
const PAGE: usize = 1_000;

/// The smallest part but the last, "Amazon S3 multipart upload limits".
const SMALLEST_PART: u64 = 5 * 1024 * 1024;

/// The operations.
#[derive(Clone, Debug)]
pub(super) struct Operations {
    pub(super) buckets: Arc<Buckets>,
}

fn failed(error: io::Error) -> S3Error {
    S3Error::with_message(S3ErrorCode::InternalError, error.to_string())
}

fn timestamp(milliseconds: u64) -> Timestamp {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds))
}

/// AWS names versions only in buckets that have them.
fn id_of(version: &Version) -> Option<String> {
    (version.id != NULL).then(|| version.id.clone())
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let mut all = BytesMut::new();
    let Some(mut body) = body else {
        return Ok(all.freeze());
    };
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| {
            S3Error::with_message(S3ErrorCode::IncompleteBody, error.to_string())
        })?;
        all.extend_from_slice(&part);
    }
    Ok(all.freeze())
}

impl Operations {
    async fn with<T>(
        &self,
        bucket: &str,
        act: impl FnOnce(&mut Index) -> S3Result<T>,
    ) -> S3Result<T> {
        let mut buckets = self.buckets.by_name.lock().await;
        match buckets.get_mut(bucket) {
            Some(bucket) => act(bucket),
            None => Err(s3_error!(
                NoSuchBucket,
                "The specified bucket does not exist"
            )),
        }
    }

    async fn object(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> S3Result<(Version, std::path::PathBuf)> {
        self.with(bucket, |bucket| {
            let found = bucket.version(key, version).ok_or(match version {
                None => s3_error!(NoSuchKey, "The specified key does not exist."),
                Some(_) => s3_error!(NoSuchVersion, "The specified version does not exist."),
            })?;
            let Some(file) = &found.file else {
                return Err(match version {
                    None => s3_error!(NoSuchKey, "The specified key does not exist."),
                    Some(_) => s3_error!(
                        MethodNotAllowed,
                        "The specified method is not allowed against this resource."
                    ),
                });
            };
            Ok((found.clone(), bucket.path(file)))
        })
        .await
    }
}

#[async_trait::async_trait]
impl S3 for Operations {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let name = request.input.bucket;
        let made = self.buckets.create("us-east-1", &name, &json!({})).await;
        made.map_err(|failure| {
            S3Error::with_message(
                S3ErrorCode::from_bytes(failure.code.as_bytes())
                    .unwrap_or(S3ErrorCode::InternalError),
                failure.message,
            )
        })?;
        let location = Some(format!("/{name}"));
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let gone = self.buckets.delete(&request.input.bucket).await;
        gone.map_err(|failure| {
            S3Error::with_message(
                S3ErrorCode::from_bytes(failure.code.as_bytes())
                    .unwrap_or(S3ErrorCode::InternalError),
                failure.message,
            )
        })?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let region = self
            .with(&request.input.bucket, |it| Ok(it.settings.region.clone()))
            .await?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(region),
            ..Default::default()
        }))
    }

    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let prefix = request.input.prefix.unwrap_or_default();
        let buckets = self.buckets.by_name.lock().await;
        let wanted = buckets.values().filter(|it| {
            let region = request.input.bucket_region.as_ref();
            it.settings.name.starts_with(&prefix)
                && region.is_none_or(|region| *region == it.settings.region)
        });
        let listed = wanted
            .map(|it| Bucket {
                bucket_region: Some(it.settings.region.clone()),
                creation_date: Some(timestamp(it.settings.created)),
                name: Some(it.settings.name.clone()),
            })
            .collect();
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(listed),
            ..Default::default()
        }))
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let is_versioned = self
            .with(&request.input.bucket, |it| Ok(it.settings.is_versioned()))
            .await?;
        let status = is_versioned
            .then(|| BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED));
        Ok(S3Response::new(GetBucketVersioningOutput {
            status,
            ..Default::default()
        }))
    }

    async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let status = request.input.versioning_configuration.status;
        self.with(&request.input.bucket, |bucket| {
            let mut properties = bucket.settings.properties.clone();
            let status = status.as_ref().map(BucketVersioningStatus::as_str);
            properties["VersioningConfiguration"] = json!({ "Status": status });
            bucket.configure(properties).map_err(failed)
        })
        .await?;
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    }

    async fn get_bucket_tagging(
        &self,
        request: S3Request<GetBucketTaggingInput>,
    ) -> S3Result<S3Response<GetBucketTaggingOutput>> {
        let tags = self
            .with(&request.input.bucket, |it| Ok(it.settings.tags()))
            .await?;
        if tags.is_empty() {
            return Err(s3_error!(NoSuchTagSet, "The TagSet does not exist"));
        }
        let tag = |(key, value): (String, String)| Tag {
            key: Some(key),
            value: Some(value),
        };
        Ok(S3Response::new(GetBucketTaggingOutput {
            tag_set: tags.into_iter().map(tag).collect(),
        }))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let region = self
            .with(&request.input.bucket, |it| Ok(it.settings.region.clone()))
            .await?;
        Ok(S3Response::new(GetBucketLocationOutput {
            location_constraint: Some(BucketLocationConstraint::from(region)),
        }))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let body = collect(input.body).await?;
        let (etag, version) = self
            .with(&input.bucket, |bucket| {
                let staged = bucket
                    .stage(&body, input.checksum_sha256.clone())
                    .map_err(failed)?;
                let etag = staged.etag.clone();
                let id = bucket.put(&input.key, staged).map_err(failed)?;
                Ok((etag, id))
            })
            .await?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            checksum_sha256: input.checksum_sha256,
            version_id: (version != NULL).then_some(version),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let (version, _) = self
            .object(&input.bucket, &input.key, input.version_id.as_deref())
            .await?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(version.size.cast_signed()),
            e_tag: Some(ETag::Strong(version.etag.clone())),
            last_modified: Some(timestamp(version.at)),
            version_id: id_of(&version),
            checksum_sha256: version.sha256,
            ..Default::default()
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let (version, path) = self
            .object(&input.bucket, &input.key, input.version_id.as_deref())
            .await?;
        let bytes = super::read(path).await.map_err(failed)?;
        let (bytes, content_range) = match input.range {
            None => (bytes, None),
            Some(range) => {
                let asked = range.check(version.size)?;
                let said = format!("bytes {}-{}/{}", asked.start, asked.end - 1, version.size);
                let asked = asked.start as usize..asked.end as usize;
                (bytes.slice(asked), Some(said))
            }
        };
        let length = bytes.len() as i64;
        let body = futures_util::stream::iter([Ok::<_, io::Error>(bytes)]);
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::wrap(body)),
            content_length: Some(length),
            content_range,
            e_tag: Some(ETag::Strong(version.etag.clone())),
            last_modified: Some(timestamp(version.at)),
            version_id: id_of(&version),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let deleted = self
            .with(&input.bucket, |bucket| {
                let version = input.version_id.as_deref();
                bucket.delete(&input.key, version).map_err(failed)
            })
            .await?;
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: deleted.is_marker.then_some(true),
            version_id: deleted.version,
            ..Default::default()
        }))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        if input.delete.objects.len() > PAGE {
            return Err(s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            ));
        }
        let (mut gone, mut errors) = (Vec::new(), Vec::new());
        self.with(&input.bucket, |bucket| {
            for object in input.delete.objects {
                let version = object.version_id.as_deref();
                match bucket.delete(&object.key, version) {
                    Ok(deleted) => {
                        let is_new = deleted.is_marker && version.is_none();
                        gone.push(DeletedObject {
                            delete_marker: deleted.is_marker.then_some(true),
                            delete_marker_version_id: is_new.then_some(deleted.version).flatten(),
                            key: Some(object.key),
                            version_id: object.version_id,
                        });
                    }
                    Err(error) => errors.push(Error {
                        code: Some("InternalError".to_owned()),
                        key: Some(object.key),
                        message: Some(error.to_string()),
                        version_id: object.version_id,
                    }),
                }
            }
            Ok(())
        })
        .await?;
        let is_quiet = input.delete.quiet == Some(true);
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!is_quiet).then_some(gone),
            errors: (!errors.is_empty()).then_some(errors),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let most = page(input.max_keys);
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let after = input.continuation_token.clone();
        let after = after.or(input.start_after.clone()).unwrap_or_default();
        let mut contents = Vec::new();
        let mut groups: Vec<String> = Vec::new();
        let mut last = String::new();
        let is_truncated = self
            .with(&input.bucket, |bucket| {
                for (key, versions) in bucket.after(&after) {
                    let Some(rest) = key.strip_prefix(&prefix) else {
                        if *key > prefix {
                            break;
                        }
                        continue;
                    };
                    // What begins with a group that the page before had ended in is in that group.
                    if !delimiter.is_empty()
                        && after.ends_with(&delimiter)
                        && key.starts_with(&after)
                    {
                        continue;
                    }
                    let Some(newest) = versions.last().filter(|it| it.file.is_some()) else {
                        continue;
                    };
                    let group = rest
                        .split_once(&delimiter)
                        .filter(|_| !delimiter.is_empty());
                    let group = group.map(|(start, _)| format!("{prefix}{start}{delimiter}"));
                    if group.is_some() && groups.last() == group.as_ref() {
                        continue;
                    }
                    if contents.len() + groups.len() == most {
                        return Ok(true);
                    }
                    match group {
                        Some(group) => {
                            last.clone_from(&group);
                            groups.push(group);
                        }
                        None => {
                            last.clone_from(key);
                            contents.push(Object {
                                e_tag: Some(ETag::Strong(newest.etag.clone())),
                                key: Some(key.clone()),
                                last_modified: Some(timestamp(newest.at)),
                                size: Some(newest.size.cast_signed()),
                                ..Default::default()
                            });
                        }
                    }
                }
                Ok(false)
            })
            .await?;
        let count = contents.len() + groups.len();
        let group = |prefix| CommonPrefix {
            prefix: Some(prefix),
        };
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(prefix),
            delimiter: input.delimiter,
            max_keys: Some(most as i32),
            key_count: Some(count as i32),
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            is_truncated: Some(is_truncated),
            next_continuation_token: is_truncated.then_some(last),
            contents: Some(contents),
            common_prefixes: Some(groups.into_iter().map(group).collect()),
            ..Default::default()
        }))
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        let most = page(input.max_keys);
        let prefix = input.prefix.clone().unwrap_or_default();
        let marker = input.key_marker.clone().unwrap_or_default();
        let version_marker = input.version_id_marker.clone();
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        let mut last = (String::new(), String::new());
        let is_truncated = self
            .with(&input.bucket, |bucket| {
                for (key, all) in bucket.from(&marker) {
                    if !key.starts_with(&prefix) {
                        if *key > prefix {
                            break;
                        }
                        continue;
                    }
                    // The newest first, and of the marker's key what comes after it.
                    let mut newest_first = all.iter().rev().enumerate().peekable();
                    if *key == marker {
                        let Some(version) = &version_marker else {
                            continue;
                        };
                        while newest_first.next().is_some_and(|(_, it)| it.id != *version) {}
                    }
                    for (index, version) in newest_first {
                        if versions.len() + markers.len() == most {
                            return Ok(true);
                        }
                        last = (key.clone(), version.id.clone());
                        let is_latest = Some(index == 0);
                        let (key, version_id) = (Some(key.clone()), Some(version.id.clone()));
                        let last_modified = Some(timestamp(version.at));
                        if version.file.is_none() {
                            markers.push(DeleteMarkerEntry {
                                is_latest,
                                key,
                                last_modified,
                                version_id,
                                ..Default::default()
                            });
                        } else {
                            versions.push(ObjectVersion {
                                e_tag: Some(ETag::Strong(version.etag.clone())),
                                is_latest,
                                key,
                                last_modified,
                                size: Some(version.size.cast_signed()),
                                version_id,
                                ..Default::default()
                            });
                        }
                    }
                }
                Ok(false)
            })
            .await?;
        let (key, version) = last;
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: Some(prefix),
            key_marker: Some(marker),
            version_id_marker: input.version_id_marker,
            max_keys: Some(most as i32),
            is_truncated: Some(is_truncated),
            next_key_marker: is_truncated.then_some(key),
            next_version_id_marker: is_truncated.then_some(version),
            versions: Some(versions),
            delete_markers: Some(markers),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let id = self
            .with(&input.bucket, |bucket| {
                bucket.begin(&input.key).map_err(failed)
            })
            .await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            checksum_algorithm: input.checksum_algorithm,
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let body = collect(input.body).await?;
        let upload = (input.key, input.upload_id);
        let etag = self
            .with(&input.bucket, |bucket| {
                known(bucket, &upload)?;
                let part = bucket
                    .stage(&body, input.checksum_sha256.clone())
                    .map_err(failed)?;
                let etag = part.etag.clone();
                bucket
                    .part(&upload, input.part_number, part)
                    .map_err(failed)?;
                Ok(etag)
            })
            .await?;
        Ok(S3Response::new(UploadPartOutput {
            checksum_sha256: input.checksum_sha256,
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let upload = (input.key.clone(), input.upload_id);
        let asked = input.multipart_upload.and_then(|it| it.parts);
        let asked = asked.unwrap_or_default();
        let (etag, version) = self
            .with(&input.bucket, |bucket| {
                let parts = chosen(bucket, &upload, &asked)?;
                let mut whole = Vec::new();
                for part in &parts {
                    let file = part.file.as_deref().unwrap_or_default();
                    let bytes = std::fs::read(bucket.path(file)).map_err(failed)?;
                    whole.extend_from_slice(&bytes);
                }
                let mut staged = bucket.stage(&whole, None).map_err(failed)?;
                let tags: String = parts.iter().map(|it| it.etag.as_str()).collect();
                let tag = super::index::md5_hex(tags.as_bytes());
                staged.etag = format!("{tag}-{}", parts.len());
                let etag = staged.etag.clone();
                let id = bucket.put(&upload.0, staged).map_err(failed)?;
                bucket.end(&upload).map_err(failed)?;
                Ok((etag, id))
            })
            .await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            e_tag: Some(ETag::Strong(etag)),
            key: Some(input.key),
            version_id: (version != NULL).then_some(version),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        let upload = (input.key, input.upload_id);
        self.with(&input.bucket, |bucket| {
            known(bucket, &upload)?;
            bucket.end(&upload).map_err(failed)
        })
        .await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let most = page(input.max_uploads);
        let prefix = input.prefix.unwrap_or_default();
        let after = input.key_marker.map(|key| {
            // Without an ID the marker stands for all uploads of its key.
            let id = input.upload_id_marker.unwrap_or("\u{10ffff}".to_owned());
            (key, id)
        });
        let (uploads, is_truncated) = self
            .with(&input.bucket, |bucket| {
                let there = bucket.uploads().iter();
                let mut wanted = there.filter(|(it, _)| {
                    it.0.starts_with(&prefix) && after.as_ref().is_none_or(|after| *it > after)
                });
                let page: Vec<MultipartUpload> = wanted
                    .by_ref()
                    .take(most)
                    .map(|((key, id), upload)| MultipartUpload {
                        initiated: Some(timestamp(upload.at)),
                        key: Some(key.clone()),
                        upload_id: Some(id.clone()),
                        ..Default::default()
                    })
                    .collect();
                Ok((page, wanted.next().is_some()))
            })
            .await?;
        let last = uploads.last().filter(|_| is_truncated);
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(is_truncated),
            max_uploads: Some(most as i32),
            next_key_marker: last.and_then(|it| it.key.clone()),
            next_upload_id_marker: last.and_then(|it| it.upload_id.clone()),
            uploads: Some(uploads),
            ..Default::default()
        }))
    }
}

fn page(asked: Option<i32>) -> usize {
    asked.map_or(PAGE, |it| usize::try_from(it).unwrap_or(0).min(PAGE))
}

fn known(bucket: &Index, upload: &(String, String)) -> S3Result<()> {
    if bucket.uploads().contains_key(upload) {
        return Ok(());
    }
    Err(s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    ))
}

/// The parts that the caller names, in their order, as S3 checks them.
fn chosen(
    bucket: &Index,
    upload: &(String, String),
    asked: &[CompletedPart],
) -> S3Result<Vec<Version>> {
    known(bucket, upload)?;
    let there = &bucket.uploads()[upload].parts;
    let mut parts: Vec<Version> = Vec::new();
    let mut previous = 0;
    for part in asked {
        let number = part.part_number.unwrap_or_default();
        if number <= previous {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order."
            ));
        }
        previous = number;
        let found = there.get(&number).filter(|it| {
            let tag = part.e_tag.as_ref();
            tag.is_none_or(|tag| tag.value() == it.etag)
        });
        let found = found.ok_or(s3_error!(
            InvalidPart,
            "One or more of the specified parts could not be found."
        ))?;
        parts.push(found.clone());
    }
    let all_but_last = parts.split_last().map_or(&[][..], |(_, rest)| rest);
    if parts.is_empty() {
        return Err(s3_error!(MalformedXML, "no parts are named"));
    }
    if all_but_last.iter().any(|it| it.size < SMALLEST_PART) {
        return Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size"
        ));
    }
    Ok(parts)
}
