//! Uploads artifacts: each once, in parts, with a checksum that S3 verifies.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};

use crate::artifact::Artifact;
use crate::aws::s3::size;
use crate::aws::{Cloud, failed};
use crate::screen::progress::Output;

/// Size of a part, the smallest that S3 accepts: a broken connection costs one part, and the bar moves.
const PART: usize = 5 << 20;

/// Concurrent parts of one object.
const AT_ONCE: usize = 4;

/// Uploads missing artifacts; returns for each whether it was uploaded.
///
/// A key contains its contents' hash, so an object that exists is the one that would be uploaded.
pub(crate) async fn all(
    cloud: &Cloud,
    output: Output,
    bucket: &str,
    artifacts: &[Artifact],
) -> anyhow::Result<Vec<bool>> {
    let there = try_join_all(artifacts.iter().map(|it| is_there(cloud, bucket, &it.key))).await?;
    let missing = || artifacts.iter().zip(&there).filter(|(_, there)| !**there);
    let total: usize = missing().map(|(it, _)| it.contents.len()).sum();
    let gauge = Gauge::new(output, total as u64);
    let uploads = missing().map(|(artifact, _)| one(cloud, &gauge, bucket, artifact));
    let done = try_join_all(uploads).await;
    gauge.end();
    done?;
    Ok(there.into_iter().map(|there| !there).collect())
}

async fn is_there(cloud: &Cloud, bucket: &str, key: &str) -> anyhow::Result<bool> {
    let there = cloud.s3.head_object().bucket(bucket).key(key).send().await;
    match there {
        Ok(_) => Ok(true),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(HeadObjectError::is_not_found) =>
        {
            Ok(false)
        }
        Err(error) => Err(failed("look whether the artifact is there", error))
            .with_context(|| format!("s3://{bucket}/{key}")),
    }
}

async fn one(
    cloud: &Cloud,
    gauge: &Gauge,
    bucket: &str,
    artifact: &Artifact,
) -> anyhow::Result<()> {
    let Artifact { key, contents, .. } = artifact;
    let done = if contents.len() <= PART {
        whole(cloud, bucket, key, contents).await
    } else {
        in_parts(cloud, gauge, bucket, key, contents).await
    };
    done.with_context(|| format!("s3://{bucket}/{key}"))?;
    if contents.len() <= PART {
        gauge.add(contents.len());
    }
    Ok(())
}

async fn whole(cloud: &Cloud, bucket: &str, key: &str, contents: &[u8]) -> anyhow::Result<()> {
    cloud
        .s3
        .put_object()
        .bucket(bucket)
        .key(key)
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .body(ByteStream::from(contents.to_vec()))
        .send()
        .await
        .map_err(|error| failed("upload the artifact", error))?;
    Ok(())
}

async fn in_parts(
    cloud: &Cloud,
    gauge: &Gauge,
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
    let id = begun.upload_id.context("S3 returned no upload ID")?;
    let parts = (1_i32..)
        .zip(contents.chunks(PART))
        .map(|(number, contents)| {
            let id = &id;
            async move {
                let uploaded = part(cloud, bucket, key, id, number, contents).await?;
                gauge.add(contents.len());
                gauge.say(key, contents.len());
                anyhow::Ok(uploaded)
            }
        });
    let parts: Vec<CompletedPart> = stream::iter(parts).buffered(AT_ONCE).try_collect().await?;
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
    cloud
        .s3
        .complete_multipart_upload()
        .bucket(bucket)
        .key(key)
        .upload_id(id)
        .multipart_upload(parts.build())
        .send()
        .await
        .map_err(|error| failed("end the upload", error))?;
    Ok(())
}

async fn part(
    cloud: &Cloud,
    bucket: &str,
    key: &str,
    id: &str,
    number: i32,
    contents: &[u8],
) -> anyhow::Result<CompletedPart> {
    let uploaded = cloud
        .s3
        .upload_part()
        .bucket(bucket)
        .key(key)
        .upload_id(id)
        .part_number(number)
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .body(ByteStream::from(contents.to_vec()))
        .send()
        .await
        // The bucket's lifecycle rule removes the uploaded parts.
        .map_err(|error| failed("upload a part of the artifact", error))?;
    Ok(CompletedPart::builder()
        .part_number(number)
        .set_e_tag(uploaded.e_tag)
        .set_checksum_sha256(uploaded.checksum_sha256)
        .build())
}

/// Progress of all uploads together: a bar on a terminal, plain lines elsewhere.
struct Gauge {
    output: Output,
    bar: Option<ProgressBar>,
    total: u64,
    done: AtomicU64,
}

impl Gauge {
    fn new(output: Output, total: u64) -> Gauge {
        let is_shown = output == Output::Live && total > 0 && std::io::stderr().is_terminal();
        let style = "  uploading {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        let bar = is_shown.then(|| {
            let bar = ProgressBar::new(total);
            // The template is a constant; the default bar would do as well.
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar.tick();
            bar
        });
        Gauge {
            output,
            bar,
            total,
            done: AtomicU64::new(0),
        }
    }

    fn add(&self, bytes: usize) {
        self.done.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(bytes as u64);
        }
    }

    /// Prints the progress where there is no bar.
    fn say(&self, key: &str, bytes: usize) {
        if self.bar.is_none() {
            let done = self.done.load(Ordering::Relaxed);
            self.output.say(format!(
                "  uploaded {} of {key}; {} of {} in all",
                size(bytes as u64),
                size(done),
                size(self.total)
            ));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
