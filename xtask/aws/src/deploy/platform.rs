//! Which Beanstalk platform a stage runs on: remembered in a file beside the source, so that it
//! changes by a decision and not by the day of the deployment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::aws::Cloud;
use crate::aws::beanstalk::{self, version};
use crate::screen::progress::Output;

/// Region → ARN of the platform version. ARNs differ between regions, so one line for each.
type Platforms = BTreeMap<String, String>;

/// Decides on the platform and remembers it.
///
/// The file decides, unless `update` asks for the newest. What an environment already runs on is
/// never taken back: managed updates may have moved it further than the file knows.
pub(crate) async fn resolve(
    cloud: &Cloud,
    output: Output,
    file: &Path,
    update: bool,
    running: Option<&str>,
) -> anyhow::Result<String> {
    let mut platforms = read(file)?;
    let known = platforms.get(&cloud.region).cloned();
    let mut chosen = match known.clone().filter(|_| !update) {
        Some(known) => known,
        None if update => beanstalk::recommended_platform(cloud).await?,
        None => match running {
            Some(running) => running.to_owned(),
            None => beanstalk::recommended_platform(cloud).await?,
        },
    };
    if let Some(running) = running.filter(|running| version(running) > version(&chosen)) {
        output.say(format!(
            "the dashboard already runs on a newer platform, which is kept: {running}"
        ));
        chosen = running.to_owned();
    }
    if known.as_deref() != Some(&chosen) {
        output.say(format!(
            "platform: {chosen} (remembered in {})",
            file.display()
        ));
        platforms.insert(cloud.region.clone(), chosen.clone());
        write(file, &platforms)?;
    }
    Ok(chosen)
}

/// The platform that the file remembers for the region.
pub(crate) fn known(cloud: &Cloud, file: &Path) -> anyhow::Result<Option<String>> {
    Ok(read(file)?.remove(&cloud.region))
}

/// The file of a stage.
pub(crate) fn file(root: &Path, stage: stack::Stage) -> PathBuf {
    root.join("platforms").join(format!("{stage}.json"))
}

fn read(file: &Path) -> anyhow::Result<Platforms> {
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is no JSON object of region and platform ARN: mend it or delete it",
                file.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Platforms::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

fn write(file: &Path, platforms: &Platforms) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let mut text = serde_json::to_string_pretty(platforms).context("write the platforms")?;
    text.push('\n');
    // Whoever is killed meanwhile leaves the file as it was, not half of it.
    let unfinished = file.with_extension("json.unfinished");
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, file))
        .with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_as_a_whole_whatever_a_killed_run_has_left() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("platforms/dev.json");
        let mut platforms = Platforms::from([("eu-west-1".to_owned(), "old".to_owned())]);
        write(&file, &platforms)?;
        fs::write(file.with_extension("json.unfinished"), "{ \"eu-")?;
        assert_eq!(read(&file)?, platforms);
        platforms.insert("eu-west-1".to_owned(), "new".to_owned());
        write(&file, &platforms)?;
        assert_eq!(read(&file)?, platforms);
        assert_eq!(fs::read_dir(folder.path().join("platforms"))?.count(), 1);
        Ok(())
    }
}
