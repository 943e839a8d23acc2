//! Removes artifacts that no kept version refers to, after a successful deployment.
//!
//! The current and the previous version are kept: Beanstalk fetches the bundle whenever it launches an
//! instance, and a rollback needs the previous version. The bucket is versioned, so a removed artifact can
//! be restored until the bucket's lifecycle rule deletes it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use anyhow::Context;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use crate::aws::s3::size;
use crate::aws::{Cloud, failed};
use crate::screen::progress::Output;

/// Folders that hold only artifacts.
const FOLDERS: [&str; 3] = ["function/", "template/", "webui/"];

/// Maximum keys of one DeleteObjects call.
const AT_ONCE: usize = 1_000;

/// Removes every artifact that is not kept and is older than this deployment: a younger one belongs to
/// another deployment that may be about to use it.
pub(crate) async fn remove(
    cloud: &Cloud,
    output: Output,
    bucket: &str,
    kept: &[&str],
    began: SystemTime,
) -> anyhow::Result<()> {
    let kept: BTreeSet<&str> = kept.iter().map(|key| stem(key)).collect();
    let mut keys = Vec::new();
    let mut bytes = 0;
    for folder in FOLDERS {
        let mut next = None;
        loop {
            let page = cloud
                .s3
                .list_objects_v2()
                .bucket(bucket)
                .prefix(folder)
                .set_continuation_token(next)
                .send()
                .await
                .map_err(|error| failed("list the artifacts", error))?;
            for object in page.contents() {
                let is_old = object
                    .last_modified()
                    .and_then(|at| SystemTime::try_from(*at).ok())
                    .is_some_and(|at| at < began);
                if let Some(key) = object
                    .key()
                    .filter(|key| is_old && !kept.contains(stem(key)))
                {
                    keys.push(key.to_owned());
                    bytes += object
                        .size()
                        .and_then(|size| u64::try_from(size).ok())
                        .unwrap_or(0);
                }
            }
            next = page.next_continuation_token;
            if next.is_none() {
                break;
            }
        }
    }
    for keys in keys.chunks(AT_ONCE) {
        delete(cloud, bucket, keys).await?;
    }
    if !keys.is_empty() {
        let unit = if keys.len() == 1 {
            "artifact"
        } else {
            "artifacts"
        };
        output.say(format!(
            "removed {} older {unit} that nothing refers to ({})",
            keys.len(),
            size(bytes)
        ));
    }
    output.tell(&serde_json::json!({ "removedArtifacts": keys }));
    Ok(())
}

async fn delete(cloud: &Cloud, bucket: &str, keys: &[String]) -> anyhow::Result<()> {
    let objects = keys
        .iter()
        .map(|key| ObjectIdentifier::builder().key(key).build());
    let objects = objects
        .collect::<Result<Vec<_>, _>>()
        .context("name the artifacts to remove")?;
    let objects = Delete::builder().set_objects(Some(objects)).quiet(true);
    let answer = cloud
        .s3
        .delete_objects()
        .bucket(bucket)
        .delete(objects.build().context("name the artifacts to remove")?)
        .send()
        .await
        .map_err(|error| failed("remove older artifacts", error))?;
    match answer.errors().first() {
        None => Ok(()),
        Some(error) => anyhow::bail!(
            "{} cannot be removed: {}",
            error.key().unwrap_or("an artifact"),
            error.message().unwrap_or("no reason given")
        ),
    }
}

/// Folder and hash of a key; files that belong to an artifact have the same.
fn stem(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}
