//! Delivery streams over real folders: what the bucket or a crash keeps back comes later.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::firehose::DeliveryStream;

struct Run {
    folder: tempfile::TempDir,
    may_write: Arc<AtomicBool>,
}

struct Running {
    stream: DeliveryStream,
    shutdown: CancellationToken,
}

impl Run {
    fn new() -> Run {
        Run {
            folder: tempfile::tempdir().unwrap(),
            may_write: Arc::new(AtomicBool::new(true)),
        }
    }

    fn start(&self) -> Running {
        let config = Config {
            logical_id: "Delivery".to_owned(),
            name: "delivery".to_owned(),
            arn: "arn:aws:firehose:eu-central-1:000000000000:deliverystream/delivery".to_owned(),
            bucket: "archive".to_owned(),
            prefix: Some("raw/".to_owned()),
            error_prefix: None,
            time_zone: None,
            size_in_mbs: 1,
            interval: Duration::from_secs(900),
            compression: "UNCOMPRESSED".to_owned(),
            file_extension: None,
            append_delimiter: true,
        };
        let status = Status::new();
        let may_write = Arc::clone(&self.may_write);
        // An authorizer keeps its decisions, as policies do not change within a run.
        let authorizer =
            Authorizer::new(
                "Delivery",
                Arc::clone(&status),
                move |action, _| match may_write.load(Ordering::SeqCst) {
                    true => Ok(()),
                    false => Err(format!("not authorized to perform: {action}")),
                },
            );
        let shutdown = CancellationToken::new();
        let stream = DeliveryStream::start(
            config,
            Store::new(self.folder.path().join("s3")).unwrap(),
            authorizer,
            None,
            status,
            self.folder.path(),
            shutdown.clone(),
        );
        Running {
            stream: stream.unwrap(),
            shutdown,
        }
    }

    /// All that is in the bucket, in no order of objects.
    fn archived(&self) -> Vec<String> {
        let mut folders = vec![self.folder.path().join("s3/archive")];
        let mut lines = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => {
                        let text = fs::read_to_string(path).unwrap();
                        lines.extend(text.lines().map(str::to_owned));
                    }
                }
            }
        }
        lines.sort();
        lines
    }

    async fn until_archived(&self, count: usize) -> Vec<String> {
        loop {
            let archived = self.archived();
            if archived.len() >= count {
                return archived;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("Delivery")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|it| it == extension))
            .collect()
    }
}

impl Running {
    async fn put(&self, text: &str) {
        let data = Bytes::copy_from_slice(text.as_bytes());
        self.stream.put_record(data).await.unwrap();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.stream.finished().await;
    }
}

#[tokio::test]
async fn buffer_is_delivered_at_the_end_and_its_file_is_gone() {
    let run = Run::new();
    let running = run.start();
    running.put("a").await;
    running.put("b").await;
    assert_eq!(run.files("open").len(), 1);
    running.stop().await;
    assert_eq!(run.archived(), ["a", "b"]);
    assert!(run.files("open").is_empty());
}

#[tokio::test]
async fn buffer_of_a_killed_run_is_delivered_by_the_next() {
    let run = Run::new();
    let running = run.start();
    running.put("a").await;
    running.put("b").await;
    // What is on disk when a run is killed.
    let open = &run.files("open")[0];
    let bytes = fs::read(open).unwrap();
    let open = open.clone();
    running.stop().await;
    fs::remove_dir_all(run.folder.path().join("s3/archive")).unwrap();
    fs::write(&open, bytes).unwrap();

    let running = run.start();
    assert_eq!(run.until_archived(2).await, ["a", "b"]);
    running.stop().await;
    assert_eq!(run.archived(), ["a", "b"]);
}

#[tokio::test]
async fn refused_records_are_kept_and_delivered_by_the_next_run() {
    let run = Run::new();
    run.may_write.store(false, Ordering::SeqCst);
    let running = run.start();
    running.put("a").await;
    running.stop().await;
    assert!(run.archived().is_empty());
    assert_eq!(run.files("records").len(), 1);

    run.may_write.store(true, Ordering::SeqCst);
    let running = run.start();
    running.put("b").await;
    assert_eq!(run.until_archived(1).await, ["a"]);
    running.stop().await;
    assert_eq!(run.archived(), ["a", "b"]);
    assert!(run.files("records").is_empty());
}

#[tokio::test]
async fn chunk_that_cannot_be_read_does_not_keep_back_the_others() {
    let run = Run::new();
    let folder = run.folder.path().join("Delivery");
    // A folder cannot be read as a file, whoever asks.
    fs::create_dir_all(folder.join("1-1-unreadable.records")).unwrap();
    write_kept(&folder, 2, 1, b"b\n").unwrap();
    let running = run.start();
    assert_eq!(run.until_archived(1).await, ["b"]);
    running.stop().await;
}
