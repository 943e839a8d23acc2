//! Mappings over a real stream and a function that is a closure.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::*;
use crate::kinesis::{self, Mode, Record, ShardId};
use crate::lambda::{FunctionError, Invocation, Outcome};
use crate::s3::Store;
use crate::sqs::{self, Queue};
use crate::status::now_ms;

pub(super) const ARN: &str = "arn:aws:kinesis:eu-central-1:000000000000:stream/sensors";
const BUCKET: &str = "arn:aws:s3:::failures";

pub(super) fn config() -> Config {
    Config {
        logical_id: "Mapping".to_owned(),
        id: "11111111-2222-3333-4444-555555555555".to_owned(),
        function_arn: "arn:aws:lambda:eu-central-1:000000000000:function:sensors".to_owned(),
        role_arn: "arn:aws:iam::000000000000:role/function".to_owned(),
        region: "eu-central-1".to_owned(),
        batch_size: 100,
        window: Duration::ZERO,
        parallelization_factor: 1,
        bisect: false,
        maximum_retry_attempts: Some(2),
        maximum_record_age: None,
        report_batch_item_failures: true,
        starting_position: Position::TrimHorizon,
        filters: Vec::new(),
        enabled: true,
    }
}

pub(super) fn record(number: u64, partition_key: &str, data: &[u8]) -> Arc<Record> {
    Arc::new(Record {
        sequence_number: format!("49{number:054}").parse().unwrap(),
        partition_key: partition_key.into(),
        data: Bytes::copy_from_slice(data),
        arrival: 1_795_000_000_000 + number,
    })
}

pub(super) fn shard() -> ShardId {
    stream(1).shards()[0]
}

fn stream(shard_count: u32) -> Arc<Stream> {
    Stream::new(kinesis::Config {
        logical_id: "Stream".to_owned(),
        name: "sensors".to_owned(),
        arn: ARN.to_owned(),
        mode: Mode::Provisioned { shard_count },
        retention: Duration::from_secs(24 * 60 * 60),
        max_record_bytes: 1 << 20,
    })
}

/// What the function is to do with a batch.
#[derive(Clone, Copy)]
enum Answer {
    Done,
    Error,
    /// A partial response with the record at this index.
    From(usize),
    Throttled,
}

/// A function that reports each batch's data and answers from a script, then with success.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    poison: Option<&'static str>,
    batches: mpsc::UnboundedSender<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Invoke for Script {
    fn invoke(&self, event: Bytes) -> BoxFuture<'_, Invocation> {
        Box::pin(async move {
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(running, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            let event: serde_json::Value = serde_json::from_slice(&event).unwrap();
            let records = event["Records"].as_array().unwrap();
            let text = |it: &serde_json::Value| {
                String::from_utf8(
                    STANDARD
                        .decode(it["kinesis"]["data"].as_str().unwrap())
                        .unwrap(),
                )
                .unwrap()
            };
            let data: Vec<String> = records.iter().map(text).collect();
            let poisoned = self
                .poison
                .is_some_and(|poison| data.iter().any(|it| it == poison));
            let answer = self.answers.lock().unwrap().pop_front();
            let answer = answer.unwrap_or(if poisoned {
                Answer::Error
            } else {
                Answer::Done
            });
            self.batches.send(data).unwrap();
            let outcome = match answer {
                Answer::Done => Outcome::Completed(Bytes::from_static(b"{}")),
                Answer::Error => Outcome::Failed(FunctionError {
                    error_type: "Mine".to_owned(),
                    message: "no".to_owned(),
                }),
                Answer::Throttled => Outcome::NotInvoked("Rate Exceeded.".to_owned()),
                Answer::From(index) => {
                    let number = &records[index]["kinesis"]["sequenceNumber"];
                    let answer =
                        serde_json::json!({ "batchItemFailures": [{ "itemIdentifier": number }] });
                    Outcome::Completed(answer.to_string().into())
                }
            };
            Invocation {
                request_id: "request".to_owned(),
                outcome,
            }
        })
    }
}

struct Run {
    stream: Arc<Stream>,
    function: Arc<Script>,
    batches: mpsc::UnboundedReceiver<Vec<String>>,
    mapping: Option<Mapping>,
    status: Arc<Status>,
    shutdown: CancellationToken,
    folder: tempfile::TempDir,
    /// What takes invocation records instead of the bucket.
    queue: Option<Queue>,
}

/// The bucket of a folder.
fn bucket(folder: &Path) -> Destination {
    Destination::Bucket {
        bucket: "failures".to_owned(),
        arn: BUCKET.to_owned(),
        store: Store::new(folder).unwrap(),
    }
}

/// What a role must be allowed to read the stream.
fn reading(authorizer: &Authorizer) -> Permission {
    let actions = ["kinesis:GetShardIterator", "kinesis:GetRecords"];
    Permission::new(
        authorizer.clone(),
        &actions.map(|action| (action.to_owned(), ARN.to_owned())),
    )
}

/// A queue of a folder.
fn queue(folder: &Path) -> Queue {
    let config = sqs::Config {
        logical_id: "Failures".to_owned(),
        name: "failures".to_owned(),
        arn: "arn:aws:sqs:eu-central-1:000000000000:failures".to_owned(),
        url: "https://sqs.eu-central-1.amazonaws.com/000000000000/failures".to_owned(),
        max_message_bytes: 1 << 20,
    };
    Queue::new(config, folder)
}

impl Run {
    fn new(shards: u32, answers: &[Answer], poison: Option<&'static str>) -> Run {
        let (sender, batches) = mpsc::unbounded_channel();
        Run {
            stream: stream(shards),
            function: Arc::new(Script {
                answers: Mutex::new(answers.iter().copied().collect()),
                poison,
                batches: sender,
                running: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
            }),
            batches,
            mapping: None,
            status: Status::new(),
            shutdown: CancellationToken::new(),
            folder: tempfile::tempdir().unwrap(),
            queue: None,
        }
    }

    fn start(&mut self, config: Config, decide: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.shutdown = CancellationToken::new();
        let authorizer =
            Authorizer::new("Mapping", self.status.clone(), move |action, resource| {
                if decide(action) {
                    Ok(())
                } else {
                    Err(format!(
                        "not authorized to perform: {action} on resource: {resource}"
                    ))
                }
            });
        let queue = self.queue.clone().map(Destination::Queue);
        let destination = queue.unwrap_or_else(|| bucket(&self.folder.path().join("s3")));
        let mapping = Mapping::start(
            config,
            self.stream.clone(),
            self.function.clone(),
            Some(destination),
            reading(&authorizer),
            authorizer,
            self.status.clone(),
            self.folder.path(),
            self.shutdown.clone(),
        );
        self.mapping = Some(mapping.unwrap());
    }

    async fn put(&self, data: &[&str]) {
        for data in data {
            self.stream
                .put_record(data, None, Bytes::copy_from_slice(data.as_bytes()))
                .await
                .unwrap();
        }
    }

    async fn batch(&mut self) -> Vec<String> {
        self.batches.recv().await.unwrap()
    }

    /// Stops the mapping; says how many records it leaves in each shard.
    async fn stop(&mut self) -> Vec<Option<u64>> {
        self.shutdown.cancel();
        let mapping = self.mapping.take().unwrap();
        mapping.finished().await;
        self.stream.waiting()
    }

    /// Invocation records, in no order.
    fn failures(&self) -> Vec<serde_json::Value> {
        let mut folders = vec![self.folder.path().join("s3/failures")];
        let mut failures = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => failures
                        .push(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()),
                }
            }
        }
        failures
    }
}

#[tokio::test(start_paused = true)]
async fn batch_closes_when_its_size_is_reached() {
    let mut run = Run::new(1, &[], None);
    run.put(&["a", "b", "c", "d", "e"]).await;
    run.start(
        Config {
            batch_size: 2,
            window: Duration::from_secs(10),
            ..config()
        },
        |_| true,
    );
    assert_eq!(run.batch().await, ["a", "b"]);
    assert_eq!(run.batch().await, ["c", "d"]);
    let before = tokio::time::Instant::now();
    assert_eq!(run.batch().await, ["e"]);
    assert!(before.elapsed() >= Duration::from_secs(10));
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_window_records_go_as_soon_as_they_exist() {
    let mut run = Run::new(1, &[], None);
    run.start(config(), |_| true);
    let before = tokio::time::Instant::now();
    run.put(&["a"]).await;
    assert_eq!(run.batch().await, ["a"]);
    assert!(before.elapsed() < Duration::from_millis(10));
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn partial_response_retries_from_the_lowest_record() {
    let mut run = Run::new(1, &[Answer::From(1), Answer::From(0)], None);
    run.put(&["a", "b", "c"]).await;
    run.start(config(), |_| true);
    assert_eq!(run.batch().await, ["a", "b", "c"]);
    assert_eq!(run.batch().await, ["b", "c"]);
    assert_eq!(run.batch().await, ["b", "c"]);
    run.stop().await;
    assert!(run.failures().is_empty());
}

#[tokio::test(start_paused = true)]
async fn response_is_ignored_unless_the_mapping_wants_it() {
    let mut run = Run::new(1, &[Answer::From(0)], None);
    run.start(
        Config {
            report_batch_item_failures: false,
            ..config()
        },
        |_| true,
    );
    run.put(&["a"]).await;
    assert_eq!(run.batch().await, ["a"]);
    run.put(&["b"]).await;
    assert_eq!(run.batch().await, ["b"]);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bisecting_isolates_the_record_that_fails() {
    let mut run = Run::new(1, &[], Some("c"));
    run.put(&["a", "b", "c", "d"]).await;
    run.start(
        Config {
            bisect: true,
            maximum_retry_attempts: Some(1),
            ..config()
        },
        |_| true,
    );
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(run.batch().await.concat());
    }
    assert_eq!(seen, ["abcd", "ab", "cd", "c", "c", "d"]);
    run.stop().await;
    let failures = run.failures();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        failures[0]["requestContext"]["condition"],
        "RetryAttemptsExhausted"
    );
    assert_eq!(failures[0]["KinesisBatchInfo"]["batchSize"], 1);
    let event: serde_json::Value =
        serde_json::from_str(failures[0]["payload"].as_str().unwrap()).unwrap();
    assert_eq!(event["Records"][0]["kinesis"]["partitionKey"], "c");
    assert_eq!(run.status.records_discarded.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn exhausted_batch_is_given_up_and_the_shard_goes_on() {
    let mut run = Run::new(
        1,
        &[
            Answer::Error,
            Answer::Throttled,
            Answer::Error,
            Answer::Error,
        ],
        None,
    );
    run.start(config(), |_| true);
    run.put(&["a"]).await;
    // One attempt and two retries; being throttled is no attempt.
    for _ in 0..4 {
        assert_eq!(run.batch().await, ["a"]);
    }
    run.put(&["b"]).await;
    assert_eq!(run.batch().await, ["b"]);
    run.stop().await;
    assert_eq!(
        run.failures()[0]["requestContext"]["approximateInvokeCount"],
        3
    );
}

#[tokio::test(start_paused = true)]
async fn retries_wait_longer_each_time() {
    let mut run = Run::new(1, &[Answer::Error; 4], None);
    run.start(
        Config {
            maximum_retry_attempts: None,
            ..config()
        },
        |_| true,
    );
    run.put(&["a"]).await;
    run.batch().await;
    for expected in [250, 500, 1000, 2000] {
        let before = tokio::time::Instant::now();
        run.batch().await;
        assert!(before.elapsed() >= Duration::from_millis(expected));
    }
    run.stop().await;
}

#[tokio::test]
async fn records_beyond_their_age_are_given_up_without_an_attempt() {
    let mut run = Run::new(1, &[], None);
    let config = Config {
        maximum_record_age: Some(Duration::from_secs(60)),
        ..config()
    };
    run.start(config, |_| true);
    let young = Arc::new(Record {
        arrival: now_ms(),
        ..Record::clone(&record(3, "a", b"young"))
    });
    let records = vec![record(1, "a", b"old"), record(2, "a", b"older"), young];
    let shared = run.mapping.as_ref().unwrap().shared.clone();
    Lane::new(shared, shard(), 0, 1)
        .process(records)
        .await
        .unwrap();
    assert_eq!(run.batch().await, ["young"]);
    run.stop().await;
    let failures = run.failures();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        failures[0]["requestContext"]["condition"],
        "RecordAgeExceeded"
    );
    assert_eq!(failures[0]["KinesisBatchInfo"]["batchSize"], 2);
}

#[tokio::test(start_paused = true)]
async fn partition_keys_keep_their_order_in_parallel_lanes() {
    let mut run = Run::new(1, &[], None);
    for number in 0..40 {
        let (key, data) = (
            format!("key{}", number % 8),
            format!("{}:{number:02}", number % 8),
        );
        run.stream
            .put_record(&key, None, data.into())
            .await
            .unwrap();
    }
    run.start(
        Config {
            batch_size: 2,
            parallelization_factor: 4,
            ..config()
        },
        |_| true,
    );
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < 40 {
        seen.extend(run.batch().await);
    }
    for key in 0..8 {
        let of_key: Vec<_> = seen
            .iter()
            .filter(|it| it.starts_with(&format!("{key}:")))
            .collect();
        assert_eq!(of_key.len(), 5);
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
    assert!(run.function.most.load(Ordering::SeqCst) > 1);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn restart_goes_on_after_what_was_done() {
    let mut run = Run::new(1, &[], None);
    run.start(config(), |_| true);
    run.put(&["a"]).await;
    assert_eq!(run.batch().await, ["a"]);
    // Whatever the checkpoint says is only sure after another turn of the lane.
    run.put(&["b"]).await;
    assert_eq!(run.batch().await, ["b"]);
    while run.status.batches.get() < 2 {
        tokio::task::yield_now().await;
    }
    run.stop().await;
    run.put(&["c"]).await;
    run.start(config(), |_| true);
    assert_eq!(run.batch().await, ["c"]);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn role_that_may_not_read_is_the_mappings_problem() {
    let mut run = Run::new(1, &[], None);
    run.put(&["a"]).await;
    run.start(config(), |action| action != "kinesis:GetRecords");
    let mapping = run.mapping.take().unwrap();
    while !mapping.last_processing_result().starts_with("PROBLEM") {
        tokio::task::yield_now().await;
    }
    assert!(
        mapping
            .last_processing_result()
            .contains("kinesis:GetRecords")
    );
    assert!(run.batches.try_recv().is_err());
    run.mapping = Some(mapping);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn disabled_mapping_polls_nothing() {
    let mut run = Run::new(1, &[], None);
    run.put(&["a"]).await;
    run.start(
        Config {
            enabled: false,
            ..config()
        },
        |_| true,
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(run.mapping.as_ref().unwrap().state(), "Disabled");
    assert!(run.batches.try_recv().is_err());
    run.stop().await;
}

#[tokio::test]
async fn settings_out_of_range_are_named() {
    let run = Run::new(1, &[], None);
    let authorizer = Authorizer::new("Mapping", run.status.clone(), |_, _| Ok(()));
    let error = Mapping::start(
        Config {
            batch_size: 0,
            ..config()
        },
        run.stream.clone(),
        run.function.clone(),
        Some(bucket(run.folder.path())),
        reading(&authorizer),
        authorizer,
        run.status.clone(),
        run.folder.path(),
        CancellationToken::new(),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "Mapping: BatchSize: got 0, expected 1 to 10000"
    );
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_window_and_what_is_there_is_processed() {
    let mut run = Run::new(1, &[], None);
    run.start(
        Config {
            window: Duration::from_secs(300),
            batch_size: 2,
            ..config()
        },
        |_| true,
    );
    run.put(&["a"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(run.batches.try_recv().is_err());
    run.put(&["b", "c"]).await;
    assert_eq!(run.stop().await, [Some(0)]);
    assert_eq!(run.batch().await, ["a", "b"]);
    assert_eq!(run.batch().await, ["c"]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_succeed_before_the_end_waits_for_the_next_run() {
    let mut run = Run::new(1, &[Answer::Error; 3], None);
    run.start(
        Config {
            maximum_retry_attempts: None,
            ..config()
        },
        |_| true,
    );
    run.put(&["a", "b"]).await;
    assert_eq!(run.batch().await, ["a", "b"]);
    assert_eq!(run.stop().await, [Some(2)]);

    while run.batches.try_recv().is_ok() {}
    run.function.answers.lock().unwrap().clear();
    run.start(config(), |_| true);
    assert_eq!(run.batch().await, ["a", "b"]);
    assert_eq!(run.stop().await, [Some(0)]);
}

#[tokio::test(start_paused = true)]
async fn records_that_reached_no_destination_at_the_end_are_not_passed() {
    let mut run = Run::new(1, &[Answer::Error; 3], None);
    // A file where the bucket's folder would be.
    std::fs::create_dir_all(run.folder.path().join("s3")).unwrap();
    std::fs::write(run.folder.path().join("s3/failures"), "").unwrap();
    run.start(
        Config {
            maximum_retry_attempts: Some(0),
            ..config()
        },
        |_| true,
    );
    run.put(&["a"]).await;
    assert_eq!(run.batch().await, ["a"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(run.stop().await, [Some(1)]);
    assert_eq!(run.status.records_discarded.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn records_that_no_pattern_matches_are_passed_over() {
    let mut run = Run::new(1, &[], None);
    let pattern = |text: &str| Pattern::parse(text).unwrap();
    run.start(
        Config {
            filters: vec![
                pattern(r#"{"partitionKey":["a"]}"#),
                pattern(r#"{"data":["c"]}"#),
            ],
            ..config()
        },
        |_| true,
    );
    run.put(&["a", "b", "c", "d"]).await;
    assert_eq!(run.batch().await, ["a", "c"]);
    assert_eq!(run.stop().await, [Some(0)]);
    assert!(run.batches.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn two_mappings_of_a_stream_each_get_every_record() {
    let mut first = Run::new(1, &[], None);
    let mut second = Run::new(1, &[], None);
    second.stream = first.stream.clone();
    first.put(&["a"]).await;
    first.start(config(), |_| true);
    second.start(
        Config {
            starting_position: Position::Latest,
            ..config()
        },
        |_| true,
    );
    first.put(&["b"]).await;
    let mut seen = first.batch().await;
    while seen.len() < 2 {
        seen.extend(first.batch().await);
    }
    assert_eq!(seen, ["a", "b"]);
    assert_eq!(second.batch().await, ["b"]);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn role_that_may_not_write_the_failure_bucket_loses_the_records_in_plain_sight() {
    let mut run = Run::new(1, &[Answer::Error; 3], None);
    run.start(config(), |action| action != "s3:PutObject");
    run.put(&["a"]).await;
    for _ in 0..3 {
        assert_eq!(run.batch().await, ["a"]);
    }
    run.put(&["b"]).await;
    assert_eq!(run.batch().await, ["b"]);
    assert_eq!(run.stop().await, [Some(0)]);
    assert!(run.failures().is_empty());
    assert_eq!(run.status.records_discarded.get(), 1);
    assert_eq!(run.status.denials.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn queue_is_told_where_the_records_are_and_not_what_they_hold() {
    let mut run = Run::new(1, &[Answer::Error; 3], None);
    let queue = queue(run.folder.path());
    run.queue = Some(queue.clone());
    // No bucket is asked for anything.
    run.start(config(), |action| !action.starts_with("s3:"));
    run.put(&["a"]).await;
    for _ in 0..3 {
        assert_eq!(run.batch().await, ["a"]);
    }
    assert_eq!(run.stop().await, [Some(0)]);
    let messages = std::fs::read_to_string(queue.path()).unwrap();
    let message: serde_json::Value = serde_json::from_str(&messages).unwrap();
    let body = message["Body"].as_str().unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        body["requestContext"]["condition"],
        "RetryAttemptsExhausted"
    );
    assert_eq!(body["KinesisBatchInfo"]["batchSize"], 1);
    assert_eq!(body["KinesisBatchInfo"]["streamArn"], ARN);
    assert_eq!(body.get("payload"), None);
    assert_eq!(run.status.records_discarded.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn role_that_may_not_send_to_the_failure_queue_loses_the_records_in_plain_sight() {
    let mut run = Run::new(1, &[Answer::Error; 3], None);
    let queue = queue(run.folder.path());
    run.queue = Some(queue.clone());
    run.start(config(), |action| action != "sqs:SendMessage");
    run.put(&["a"]).await;
    for _ in 0..3 {
        assert_eq!(run.batch().await, ["a"]);
    }
    assert_eq!(run.stop().await, [Some(0)]);
    assert!(!queue.path().exists());
    assert_eq!(run.status.denials.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn records_delivered_again_are_those_from_one_on_to_the_end_of_their_batch() {
    let mut run = Run::new(1, &[], None);
    run.put(&["a", "b", "c"]).await;
    run.start(config(), |_| true);
    let faults = ["record:duplicate@100%".parse().unwrap()];
    let mapping = run.mapping.as_ref().unwrap();
    mapping.inject(Arc::new(Chances::of(&faults)));
    assert_eq!(run.batch().await, ["a", "b", "c"]);
    assert_eq!(run.batch().await, ["a", "b", "c"]);
    run.stop().await;
}
