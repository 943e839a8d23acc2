//! CloudWatch Logs: groups and streams as files, and their events on the terminal.
//!
//! A stream is the file `<folder>/<group>/<stream>.log`; each line is one event as `GetLogEvents` shows
//! it: `{"timestamp":<ms since the Unix epoch>,"message":"…"}`.
//!
//! # Differs from AWS
//! - A group or stream that is not there is made by the first event.
//! - Nothing expires: `RetentionInDays` is not applied.
//! - Streams of one name are continued over restarts.

mod terminal;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::Level;

use crate::status::now_ms;

/// Target of log lines that only the log file has, and stderr with `--verbose`.
pub const DETAIL: &str = "detail";

/// All log groups of a run; clones are the same.
#[derive(Clone, Debug)]
pub struct Logs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    streams: Mutex<HashMap<(String, String), LogStream>>,
}

impl Logs {
    /// Log groups below a folder, which is made by the first event.
    pub fn new(folder: impl Into<PathBuf>) -> Logs {
        Logs {
            inner: Arc::new(Inner {
                folder: folder.into(),
                streams: Mutex::default(),
            }),
        }
    }

    /// The folder that they are below.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Groups that somebody writes to in this run.
    pub fn groups(&self) -> Vec<String> {
        let streams = self
            .inner
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut groups: Vec<String> = streams.keys().map(|(group, _)| group.clone()).collect();
        groups.sort();
        groups.dedup();
        groups
    }

    /// A stream of a group.
    pub fn stream(&self, group: &str, stream: &str) -> LogStream {
        let mut streams = self
            .inner
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let name = (group.to_owned(), stream.to_owned());
        let made = || LogStream::new(group, Some(file_of(&self.inner.folder, group, stream)));
        streams.entry(name).or_insert_with(made).clone()
    }
}

/// A log stream; clones are the same.
#[derive(Clone, Debug)]
pub struct LogStream {
    inner: Arc<StreamInner>,
}

#[derive(Debug)]
struct StreamInner {
    group: String,
    path: Option<PathBuf>,
    file: Mutex<Sink>,
}

#[derive(Debug)]
enum Sink {
    Unopened,
    Open(File),
    /// Nothing can or may be written; said once.
    Closed,
}

#[derive(Serialize)]
struct Event<'a> {
    timestamp: u64,
    message: &'a str,
}

impl LogStream {
    fn new(group: &str, path: Option<PathBuf>) -> LogStream {
        let sink = if path.is_some() {
            Sink::Unopened
        } else {
            Sink::Closed
        };
        LogStream {
            inner: Arc::new(StreamInner {
                group: group.to_owned(),
                path,
                file: Mutex::new(sink),
            }),
        }
    }

    /// A stream whose events are seen on the terminal and kept nowhere, for who may not write logs.
    pub fn terminal_only(group: &str) -> LogStream {
        LogStream::new(group, None)
    }

    /// Adds an event that people watching the run want to see.
    pub fn put(&self, message: &str) {
        // Its last part says enough: the rest is the environment's name and a path.
        let group = self.inner.group.rsplit('/').next();
        let (level, text) = terminal::line(message);
        match level {
            Level::ERROR => tracing::error!(target: "logs", group, "{text}"),
            Level::WARN => tracing::warn!(target: "logs", group, "{text}"),
            // Programs log a line of this level for each batch; what is not JSON may be anything.
            Level::INFO if message.starts_with('{') => {
                tracing::info!(target: DETAIL, group, "{text}");
            }
            Level::INFO => tracing::info!(target: "logs", group, "{text}"),
            _ => tracing::debug!(target: "logs", group, "{text}"),
        }
        self.write(message);
    }

    /// Adds an event that is of interest afterwards only.
    pub fn put_quietly(&self, message: &str) {
        tracing::debug!(target: "logs", group = self.inner.group, "{message}");
        self.write(message);
    }

    /// The stream's file; none if its events are kept nowhere.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    fn write(&self, message: &str) {
        let Some(path) = &self.inner.path else { return };
        let mut sink = self
            .inner
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = append(&mut sink, path, message) {
            *sink = Sink::Closed;
            tracing::error!(
                "cannot write the log {}: {error}; its events are on the terminal only",
                path.display()
            );
        }
    }
}

fn append(sink: &mut Sink, path: &Path, message: &str) -> io::Result<()> {
    if matches!(sink, Sink::Unopened) {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        *sink = Sink::Open(File::options().create(true).append(true).open(path)?);
    }
    let Sink::Open(file) = sink else {
        return Ok(());
    };
    let mut line = serde_json::to_vec(&Event {
        timestamp: now_ms(),
        message,
    })?;
    line.push(b'\n');
    // One write, so that events of several writers never mix.
    file.write_all(&line)
}

fn file_of(folder: &Path, group: &str, stream: &str) -> PathBuf {
    let mut path = folder.to_owned();
    path.extend(
        group
            .split('/')
            .chain(stream.split('/'))
            .filter(|it| !matches!(*it, "" | "." | "..")),
    );
    let mut name = path.into_os_string();
    name.push(".log");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_that_keep_their_message() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path());
        logs.stream("/aws/lambda/sensors", "2026/11/23/[$LATEST]a")
            .put("one\ntwo");
        logs.stream("/aws/lambda/sensors", "2026/11/23/[$LATEST]a")
            .put_quietly("three");
        let text = fs::read_to_string(
            folder
                .path()
                .join("aws/lambda/sensors/2026/11/23/[$LATEST]a.log"),
        )
        .unwrap();
        let events: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events[0]["message"], "one\ntwo");
        assert_eq!(events[1]["message"], "three");
        assert!(events[0]["timestamp"].as_u64() > Some(1_700_000_000_000));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let path = file_of(Path::new("/logs"), "../../etc/./cron", "..");
        assert_eq!(path, Path::new("/logs/etc/cron.log"));
    }
}
