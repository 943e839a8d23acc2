//! Uploaded artifacts: from the bucket that the template names to programs that can be started.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::Value as Json;
use zip::ZipArchive;

use super::step::text;
use crate::account::Buckets;
use crate::call::Failure;

/// Brings the object that a resource's properties name into a folder, unpacked. `pointer` leads to
/// `S3Bucket` and `S3Key`; `service` is who would have read it on AWS.
///
/// # Errors
/// What CloudFormation would say: there is no such object, or it is no archive.
pub(super) async fn bring(
    buckets: Option<Arc<dyn Buckets>>,
    properties: &Json,
    pointer: &str,
    service: &str,
    folder: PathBuf,
) -> Result<PathBuf, String> {
    let field = |name: &str| text(properties, &format!("{pointer}/{name}"));
    let (Some(bucket), Some(key)) = (field("S3Bucket"), field("S3Key")) else {
        return Err(format!(
            "{pointer} names no object in S3, and only such are run here"
        ));
    };
    let Some(buckets) = buckets else {
        return Err("this cloud has no buckets".to_owned());
    };
    let version = field("S3ObjectVersion");
    let object = buckets.get(bucket, key, version).await;
    let object = object.map_err(|failure| refused(&failure, service, bucket, key))?;
    let what = format!("s3://{bucket}/{key}");
    let unpacked = tokio::task::spawn_blocking(move || unpack(object, &folder).map(|()| folder));
    match unpacked.await {
        Ok(Ok(folder)) => Ok(folder),
        Ok(Err(error)) => Err(format!("Could not unzip uploaded file {what}: {error:#}")),
        Err(error) => Err(format!("unpack {what}: {error}")),
    }
}

fn refused(failure: &Failure, service: &str, bucket: &str, key: &str) -> String {
    format!(
        "Resource handler returned message: \"Error occurred while GetObject. S3 Error Code: {}. S3 Error Message: {} (s3://{bucket}/{key}) (Service: {service}, Status Code: 400)\" (HandlerErrorCode: InvalidRequest)",
        failure.code, failure.message
    )
}

/// Unpacks in place of what an earlier run has left.
fn unpack(object: Bytes, folder: &Path) -> anyhow::Result<()> {
    let mut archive = ZipArchive::new(Cursor::new(object)).context("it is no zip archive")?;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("empty {}", folder.display()));
        }
        _ => fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?,
    }
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).context("read the archive")?;
        let name = entry.name().context("read the archive")?.into_owned();
        let path = Path::new(&name);
        let is_inside = path
            .components()
            .all(|it| matches!(it, Component::Normal(_) | Component::CurDir));
        if !is_inside {
            bail!("the archive's entry `{name}` leads out of its folder");
        }
        let path = folder.join(path);
        if entry.is_dir() {
            fs::create_dir_all(&path)?;
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut contents = Vec::new();
        entry
            .read_to_end(&mut contents)
            .with_context(|| format!("read its entry `{name}`"))?;
        fs::write(&path, contents).with_context(|| format!("write {}", path.display()))?;
        if let Some(mode) = entry.unix_mode() {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o777))?;
        }
    }
    Ok(())
}
