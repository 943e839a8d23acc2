//! S3: buckets with versions, in files of the data folder.
//!
//! The protocol is the `s3s` library's; what is in the buckets is ours: `index` keeps it,
//! `operations` answers.
//!
//! # Differs from AWS
//! - Lifecycle rules, policies, encryption and object locks are on paper only.
//! - Checksums are handed back as they came and are not computed; bodies are checked by nobody.
//! - The keys of all buckets are in memory, a few hundred bytes for each version.
//! - Suspended versioning is no versioning.

mod index;
mod operations;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use s3s::service::{S3Service, S3ServiceBuilder};
use serde_json::Value as Json;
use tokio::sync::Mutex;

use self::index::{Bucket, Settings};
use self::operations::Operations;
use super::account::{self, Account};
use super::call::{Call, Failure, Protocol, Service};
use local::s3::Backing;
use local::status::now_ms;

/// The service.
#[derive(Debug)]
pub struct S3 {
    service: S3Service,
    buckets: Arc<Buckets>,
}

/// All buckets.
#[derive(Debug)]
struct Buckets {
    folder: PathBuf,
    by_name: Mutex<BTreeMap<String, Bucket>>,
}

impl S3 {
    /// Reads the buckets of an earlier run.
    ///
    /// # Errors
    /// The data folder cannot be used, or a bucket's journal was not written by us.
    pub fn open(account: &Account) -> anyhow::Result<S3> {
        let folder = account.settings.data.join("buckets");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let mut by_name = BTreeMap::new();
        for entry in fs::read_dir(&folder).context("list the buckets")? {
            let path = entry.context("list the buckets")?.path();
            match Bucket::open(path.clone()).context("read a bucket")? {
                Some(bucket) => {
                    by_name.insert(bucket.settings.name.clone(), bucket);
                }
                None => fs::remove_dir_all(&path).context("remove half a bucket")?,
            }
        }
        let buckets = Arc::new(Buckets {
            folder,
            by_name: Mutex::new(by_name),
        });
        account.store.back(Arc::clone(&buckets) as Arc<dyn Backing>);
        let operations = Operations {
            buckets: Arc::clone(&buckets),
        };
        Ok(S3 {
            service: S3ServiceBuilder::new(operations).build(),
            buckets,
        })
    }

    /// The buckets, for CloudFormation.
    pub fn buckets(&self) -> Arc<dyn account::Buckets> {
        Arc::clone(&self.buckets) as Arc<dyn account::Buckets>
    }
}

impl Service for S3 {
    fn names(&self) -> &'static [&'static str] {
        &["s3"]
    }

    fn protocol(&self) -> Protocol {
        Protocol::S3
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match request(call) {
                Ok(request) => match self.service.call(request).await {
                    Ok(response) => response.map(Body::new).into_response(),
                    Err(error) => internal(&format!("{error:?}")).response(Protocol::S3),
                },
                Err(failure) => failure.response(Protocol::S3),
            }
        })
    }
}

/// The request without its signature, which nobody verifies, and with its body as it was meant.
fn request(call: Call) -> Result<Request<s3s::Body>, Failure> {
    let mut request = Request::new(());
    *request.method_mut() = call.method;
    *request.uri_mut() = call.uri;
    *request.headers_mut() = call.headers;
    let headers = request.headers_mut();
    headers.remove(header::AUTHORIZATION);
    headers.remove("x-amz-security-token");
    let is_chunked = headers
        .get("x-amz-content-sha256")
        .is_some_and(|it| it.as_bytes().starts_with(b"STREAMING-"));
    headers.remove("x-amz-content-sha256");
    let body = if is_chunked {
        headers.remove("x-amz-decoded-content-length");
        headers.remove("x-amz-trailer");
        headers.remove(header::CONTENT_ENCODING);
        let body = unchunked(&call.body)
            .ok_or_else(|| Failure::new("IncompleteBody", "the chunks of the body break off"))?;
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        body
    } else {
        call.body
    };
    Ok(request.map(|()| s3s::Body::from(body)))
}

/// The bytes of a body in `aws-chunked`: `size;chunk-signature=…\r\n<bytes>\r\n`, and trailers at the end.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>
fn unchunked(body: &[u8]) -> Option<Bytes> {
    let mut whole = Vec::with_capacity(body.len());
    let mut rest = body;
    loop {
        let end = rest.windows(2).position(|it| it == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        let size = line.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(whole.into());
        }
        whole.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

fn internal(error: &str) -> Failure {
    Failure::with(
        StatusCode::INTERNAL_SERVER_ERROR,
        "InternalError",
        error.to_owned(),
    )
}

async fn read(path: PathBuf) -> io::Result<Bytes> {
    let reading = tokio::task::spawn_blocking(move || fs::read(path));
    reading.await.map_err(io::Error::other)?.map(Bytes::from)
}

fn no_such_bucket() -> Failure {
    Failure::with(
        StatusCode::NOT_FOUND,
        "NoSuchBucket",
        "The specified bucket does not exist",
    )
}

impl account::Buckets for Buckets {
    fn create<'a>(
        &'a self,
        region: &'a str,
        bucket: &'a str,
        properties: &'a Json,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.create(region, bucket, properties))
    }

    fn configure<'a>(
        &'a self,
        bucket: &'a str,
        properties: &'a Json,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let mut buckets = self.by_name.lock().await;
            let bucket = buckets.get_mut(bucket).ok_or_else(no_such_bucket)?;
            bucket
                .configure(properties.clone())
                .map_err(|error| internal(&error.to_string()))
        })
    }

    fn delete<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.delete(bucket))
    }

    fn exists<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async move { self.by_name.lock().await.contains_key(bucket) })
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        version: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, Failure>> {
        Box::pin(async move {
            let buckets = self.by_name.lock().await;
            let bucket = buckets.get(bucket).ok_or_else(no_such_bucket)?;
            let file = bucket.version(key, version).and_then(|it| it.file.as_ref());
            let file = file.ok_or_else(|| {
                Failure::with(
                    StatusCode::NOT_FOUND,
                    "NoSuchKey",
                    "The specified key does not exist.",
                )
            })?;
            let path = bucket.path(file);
            drop(buckets);
            let bytes = read(path).await;
            bytes.map_err(|error| internal(&error.to_string()))
        })
    }
}

impl Buckets {
    async fn create(&self, region: &str, name: &str, properties: &Json) -> Result<(), Failure> {
        let mut buckets = self.by_name.lock().await;
        if buckets.contains_key(name) {
            return Err(Failure::with(
                StatusCode::CONFLICT,
                "BucketAlreadyOwnedByYou",
                "Your previous request to create the named bucket succeeded and you already own it.",
            ));
        }
        let settings = Settings {
            name: name.to_owned(),
            region: region.to_owned(),
            created: now_ms(),
            properties: properties.clone(),
        };
        let bucket = Bucket::create(self.folder.join(name), settings)
            .map_err(|error| internal(&error.to_string()))?;
        buckets.insert(name.to_owned(), bucket);
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), Failure> {
        let mut buckets = self.by_name.lock().await;
        let bucket = buckets.get(name).ok_or_else(no_such_bucket)?;
        if !bucket.is_empty() {
            return Err(Failure::with(
                StatusCode::CONFLICT,
                "BucketNotEmpty",
                "The bucket you tried to delete is not empty. You must delete all versions in the bucket.",
            ));
        }
        match buckets.remove(name) {
            Some(bucket) => bucket
                .remove()
                .map_err(|error| internal(&error.to_string())),
            None => Ok(()),
        }
    }
}

/// What the running pipelines write: deliveries and records that failed.
impl Backing for Buckets {
    fn put<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, io::Result<PathBuf>> {
        Box::pin(async move {
            let mut buckets = self.by_name.lock().await;
            let bucket = buckets.get_mut(bucket).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("there is no bucket {bucket} (NoSuchBucket)"),
                )
            })?;
            let staged = bucket.stage(&body, None)?;
            let path = bucket.path(staged.file.as_deref().unwrap_or_default());
            bucket.put(key, staged)?;
            Ok(path)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_a_body_are_joined() {
        for (body, expected) in [
            (
                &b"3;chunk-signature=a\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n"
                    [..],
                Some(&b"abcde"[..]),
            ),
            (b"0\r\n\r\n", Some(b"")),
            (b"5\r\nabc", None),
            (b"zz\r\n", None),
            (b"", None),
        ] {
            assert_eq!(unchunked(body).as_deref(), expected, "{body:?}");
        }
    }
}
