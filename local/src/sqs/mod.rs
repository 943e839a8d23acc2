//! SQS queues as files: a message is a line of `<folder>/<queue>.jsonl`, in the shape of
//! `ReceiveMessage`: `{"MessageId":"…","Attributes":{"SentTimestamp":"<ms since the Unix epoch>"},"Body":"…"}`.
//!
//! # Differs from AWS
//! - Nobody receives here: what a queue was sent stays in its file, for people and programs to read.
//!   `MessageRetentionPeriod`, `DelaySeconds` and `RedrivePolicy` do nothing.
//! - Standard queues only; whoever would send to a FIFO queue here cannot on AWS either.

pub mod part;
pub mod plan;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use uuid::Uuid;

use crate::status::now_ms;

/// An `AWS::SQS::Queue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Logical ID in the template.
    pub logical_id: String,
    /// `QueueName`
    pub name: String,
    /// ARN
    pub arn: String,
    /// URL, what `Ref` gives.
    pub url: String,
    /// `MaximumMessageSize` in bytes.
    pub max_message_bytes: usize,
}

/// A queue; clones are the same.
#[derive(Clone, Debug)]
pub struct Queue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    path: PathBuf,
    /// Opened by the first message.
    file: Mutex<Option<File>>,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendMessageError {
    /// Larger than the queue takes.
    #[error(
        "InvalidParameterValue: One or more parameters are invalid. Reason: Message must be shorter than {0} bytes."
    )]
    TooLong(usize),
    /// Not text: "A message can include only XML, JSON, and unformatted text" (`SendMessage`, API reference).
    #[error("InvalidMessageContents: The message contains characters outside the allowed set.")]
    NotText,
    /// The data folder's trouble, which may pass.
    #[error("ServiceUnavailable: {0}")]
    Unavailable(#[from] io::Error),
}

impl Queue {
    /// The queue of a data folder.
    pub fn new(config: Config, folder: &Path) -> Queue {
        let path = folder.join(format!("{}.jsonl", config.name));
        Queue {
            inner: Arc::new(Inner {
                config,
                path,
                file: Mutex::default(),
            }),
        }
    }

    /// What it was made of.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The file of its messages.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Takes a message: its line is whole in the file, or nothing of it.
    ///
    /// # Errors
    /// As `SendMessage`.
    pub async fn send(&self, body: &[u8]) -> Result<(), SendMessageError> {
        let most = self.inner.config.max_message_bytes;
        if body.len() > most {
            return Err(SendMessageError::TooLong(most));
        }
        let body = std::str::from_utf8(body)
            .ok()
            .filter(|text| !text.is_empty() && text.chars().all(is_allowed))
            .ok_or(SendMessageError::NotText)?;
        let mut line = json!({
            "MessageId": Uuid::new_v4().to_string(),
            "Attributes": { "SentTimestamp": now_ms().to_string() },
            "Body": body,
        })
        .to_string();
        line.push('\n');
        let inner = Arc::clone(&self.inner);
        let written = tokio::task::spawn_blocking(move || inner.append(line.as_bytes()));
        Ok(written.await.map_err(io::Error::other)??)
    }
}

impl Inner {
    fn append(&self, line: &[u8]) -> io::Result<()> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
        };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            *file = Some(open(&self.path).map_err(named)?);
        }
        let Some(open) = file.as_mut() else {
            return Ok(());
        };
        open.write_all(line).map_err(|error| {
            // The next message begins by cutting off what is there of this one.
            *file = None;
            named(error)
        })
    }
}

/// Opens the file behind its last whole line: a message of which only a part is there was not taken.
fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).open(path)?;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        file.seek(SeekFrom::Start(start))?;
        let block = &mut block[..usize::try_from(end - start).unwrap_or_default()];
        file.read_exact(block)?;
        if let Some(last) = block.iter().rposition(|byte| *byte == b'\n') {
            end = start + last as u64 + 1;
            break;
        }
        end = start;
    }
    file.set_len(end)?;
    Ok(file)
}

/// What a message may hold (`SendMessage`, API reference).
fn is_allowed(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    fn queue(folder: &Path, max_message_bytes: usize) -> Queue {
        let config = Config {
            logical_id: "Failures".to_owned(),
            name: "failures".to_owned(),
            arn: "arn:aws:sqs:eu-west-1:000000000000:failures".to_owned(),
            url: "https://sqs.eu-west-1.amazonaws.com/000000000000/failures".to_owned(),
            max_message_bytes,
        };
        Queue::new(config, folder)
    }

    fn bodies(queue: &Queue) -> Vec<String> {
        let text = std::fs::read_to_string(queue.path()).unwrap_or_default();
        let body = |line: &str| {
            let message: Json = serde_json::from_str(line).unwrap();
            message["Body"].as_str().unwrap().to_owned()
        };
        text.lines().map(body).collect()
    }

    #[tokio::test]
    async fn messages_are_lines_of_a_file_that_the_next_run_continues() {
        let folder = tempfile::tempdir().unwrap();
        queue(folder.path(), 100).send(b"one\nline").await.unwrap();
        let again = queue(folder.path(), 100);
        again.send("{\"größe\": 2}".as_bytes()).await.unwrap();
        assert_eq!(bodies(&again), ["one\nline", "{\"größe\": 2}"]);
    }

    #[tokio::test]
    async fn message_that_a_kill_cut_off_is_removed_by_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let first = queue(folder.path(), 100_000);
        first.send(b"whole").await.unwrap();
        let torn = format!("{{\"MessageId\":\"{}", "x".repeat(10_000));
        let mut file = OpenOptions::new().append(true).open(first.path()).unwrap();
        file.write_all(torn.as_bytes()).unwrap();
        let again = queue(folder.path(), 100_000);
        again.send(b"next").await.unwrap();
        assert_eq!(bodies(&again), ["whole", "next"]);
    }

    #[tokio::test]
    async fn what_sqs_refuses_is_refused_in_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let queue = queue(folder.path(), 4);
        let cases: [(&[u8], &str); 4] = [
            (b"12345", "must be shorter than 4 bytes"),
            (b"", "InvalidMessageContents"),
            (b"a\0", "InvalidMessageContents"),
            (b"\xff", "InvalidMessageContents"),
        ];
        for (body, expected) in cases {
            let error = queue.send(body).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{body:?}: {error}");
        }
        assert!(!queue.path().exists());
    }
}
