//! What `--watch` looks at: the template, the functions' binaries, the bundles.
//!
//! Files are looked at now and then, which works on every file system. A change counts when a file has
//! been left alone for a moment, so that nobody reads half of what a compiler is still writing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

/// How often files are looked at, and how long they must be left alone.
const EVERY: Duration = Duration::from_millis(300);

/// Something that has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The template.
    Template,
    /// The binary of the function with this logical ID.
    Function(String),
    /// The bundle of the environment with this logical ID.
    Environment(String),
}

/// Files that are watched.
#[derive(Debug, Default)]
pub struct Watch {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    change: Change,
    known: Stamp,
    last: Stamp,
}

/// What a file or a folder looks like from outside; nothing: it is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp {
    newest: Option<SystemTime>,
    bytes: u64,
    files: u64,
}

impl Watch {
    /// Watches a file or a folder, too.
    pub fn add(&mut self, path: impl Into<PathBuf>, change: Change) {
        let path = path.into();
        let known = Stamp::of(&path);
        self.watched.push(Watched {
            path,
            change,
            known,
            last: known,
        });
    }

    /// Waits for changes. Cancel safe: what is not told now is told by the next call.
    pub async fn changed(&mut self) -> Vec<Change> {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let changes = self.look();
            if !changes.is_empty() {
                return changes;
            }
        }
    }

    fn look(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for watched in &mut self.watched {
            let now = Stamp::of(&watched.path);
            let is_left_alone = now == watched.last && now.newest.is_some();
            watched.last = now;
            if is_left_alone && now != watched.known {
                watched.known = now;
                changes.push(watched.change.clone());
            }
        }
        changes.sort();
        changes.dedup();
        changes
    }
}

impl Stamp {
    fn of(path: &Path) -> Stamp {
        let mut stamp = Stamp::default();
        stamp.add(path);
        stamp
    }

    fn add(&mut self, path: &Path) {
        let Ok(metadata) = fs::metadata(path) else {
            return;
        };
        if metadata.is_dir() {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.add(&entry.path());
            }
            return;
        }
        self.newest = self.newest.max(metadata.modified().ok());
        self.bytes += metadata.len();
        self.files += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_counts_once_the_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let template = folder.path().join("template.json");
        let bundle = folder.path().join("bundle");
        fs::create_dir_all(bundle.join("bin")).unwrap();
        fs::write(&template, "{}").unwrap();
        fs::write(bundle.join("bin/webui"), "1").unwrap();
        let environment = Change::Environment("Environment".to_owned());
        let mut watch = Watch::default();
        watch.add(&template, Change::Template);
        watch.add(&bundle, environment.clone());
        assert_eq!(watch.look(), []);

        fs::write(&template, "{\"a\"").unwrap();
        assert_eq!(watch.look(), []);
        fs::write(&template, "{\"a\":1}").unwrap();
        assert_eq!(watch.look(), []);
        assert_eq!(watch.look(), [Change::Template]);
        assert_eq!(watch.look(), []);

        // A compiler removes a binary and writes another.
        fs::remove_file(bundle.join("bin/webui")).unwrap();
        assert_eq!((watch.look(), watch.look()), (vec![], vec![]));
        fs::write(bundle.join("bin/webui"), "22").unwrap();
        assert_eq!(watch.look(), []);
        assert_eq!(watch.look(), [environment]);
    }
}
