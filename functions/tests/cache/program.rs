//! The binary, with a Lambda Runtime API of the test and a cache with TLS and a password.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::{environment, metrics, redis as names};
use redis::Commands as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::events::{Record, event, record};
use crate::server::{launch, socket};
use crate::tls::TlsEndpoint;

const PASSWORD: &str = "do-not-log-me";
const REQUEST_ID: &str = "8f1f2a0e-0000-4000-8000-00000000000f";

/// AWS's sample event, then one with an invalid record: both are logged, without secrets.
#[test]
fn binary_counts_over_tls_and_logs_without_secrets() {
    let cache = TlsCache::start();
    let api = RuntimeApi::start();
    let program = start(&[
        ("AWS_LAMBDA_RUNTIME_API", &api.address),
        (environment::REDIS_URL, &cache.url("localhost")),
        ("SSL_CERT_FILE", cache.endpoint.authority.to_str().unwrap()),
    ]);
    let sample = include_str!("../events/kinesis.json");
    assert_eq!(
        api.invoke(sample),
        (
            "response".to_owned(),
            r#"{"batchItemFailures":[]}"#.to_owned()
        )
    );
    let bad = Record {
        data: "%secret payload%".to_owned(),
        ..record("kitchen", "99999", 1, "")
    };
    let (path, body) = api.invoke(&event(&[bad]).to_string());
    assert_eq!(path, "response");
    assert_eq!(
        body,
        r#"{"batchItemFailures":[{"itemIdentifier":"99999"}]}"#
    );
    let (path, body) = api.invoke(r#"{"detail-type":"Scheduled Event"}"#);
    assert_eq!(path, "error");
    assert!(body.contains("missing field `Records`"), "{body}");
    let (path, body) = api.invoke("null");
    assert_eq!(path, "error");
    assert!(body.contains("invalid type: null"), "{body}");

    let mut admin = cache.admin();
    assert_eq!(admin.get::<_, u64>(names::COUNT).unwrap(), 2);
    let kitchen = names::device_key("kitchen");
    let latest: String = admin.hget(kitchen, names::field::LATEST).unwrap();
    assert!(
        latest.contains(r#""payload":{"temperature":21.5}"#),
        "{latest}"
    );

    let output = program.end();
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(
        !output.contains(PASSWORD) && !output.contains("secret payload"),
        "{output}"
    );
    let batches: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "batch")
        .collect();
    assert_eq!(batches.len(), 2, "{output}");
    for (name, value) in [
        ("records", 2),
        ("new", 2),
        ("duplicates", 0),
        ("failed", 0),
        ("devices", 2),
    ] {
        assert_eq!(batches[0][name], value, "{name}: {output}");
    }
    assert_eq!(batches[0]["request_id"], REQUEST_ID);
    assert!(batches[0]["milliseconds"].is_number());
    let rejected = lines
        .iter()
        .find(|line| line["message"] == "record rejected")
        .unwrap();
    assert_eq!(
        (&rejected["level"], &rejected["device"]),
        (&"WARN".into(), &"kitchen".into())
    );
    assert!(
        rejected["reason"]
            .as_str()
            .unwrap()
            .contains("invalid data: expected base64"),
        "{rejected}"
    );
    let metrics: Vec<_> = lines
        .iter()
        .filter(|line| line["_aws"].is_object())
        .collect();
    assert_eq!(metrics.len(), 2);
    assert_eq!(metrics[0][metrics::NEW], 2);
    assert_eq!(metrics[1][metrics::REJECTED], 1);
    assert_eq!(metrics[0][metrics::FUNCTION_NAME], "sensors-test");
}

#[test]
fn binary_refuses_a_certificate_of_an_unknown_authority() {
    let cache = TlsCache::start();
    let stranger = TlsCache::start();
    let api = RuntimeApi::start();
    let program = start(&[
        ("AWS_LAMBDA_RUNTIME_API", &api.address),
        (environment::REDIS_URL, &cache.url("localhost")),
        (
            "SSL_CERT_FILE",
            stranger.endpoint.authority.to_str().unwrap(),
        ),
    ]);
    api.grant(Duration::from_secs(3));
    let (path, body) = api.invoke(&event(&[record("a", 7, 1, "x")]).to_string());
    assert_eq!(path, "response");
    assert_eq!(body, r#"{"batchItemFailures":[{"itemIdentifier":"7"}]}"#);
    let output = program.end();
    assert!(output.contains("certificate"), "{output}");
    assert!(!output.contains(PASSWORD), "{output}");
    assert!(output.contains(r#""CacheUnavailable":1"#), "{output}");
}

#[test]
fn binary_names_all_missing_variables() {
    let output: Output = command(&[]).env_clear().output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    // Without the variables for signing in, the function connects without signing in.
    for name in [environment::REDIS_URL]
        .iter()
        .chain(environment::FUNCTION_PLATFORM)
    {
        assert!(text.contains(name), "{name}: {text}");
    }
}

/// The largest batch that Lambda delivers takes little more memory than the event twice.
#[test]
fn binary_counts_ten_thousand_records_of_six_megabytes() {
    let cache = TlsCache::start();
    let api = RuntimeApi::start();
    let program = start(&[
        ("AWS_LAMBDA_RUNTIME_API", &api.address),
        (environment::REDIS_URL, &cache.url("localhost")),
        ("SSL_CERT_FILE", cache.endpoint.authority.to_str().unwrap()),
    ]);
    let batch = |base: u64, size: usize| {
        let records: Vec<Record> = (0..10_000)
            .map(|n| record(&format!("d{n}"), base + n, base + n, "x".repeat(size)))
            .collect();
        event(&records).to_string()
    };
    let small = api.invoke(&event(&[record("d", 1, 1, "x")]).to_string());
    assert_eq!(small.0, "response");
    let before = program.peak_memory();
    let large = batch(10, 120);
    assert!(
        (5_500_000..6_500_000).contains(&large.len()),
        "{}",
        large.len()
    );
    let (path, body) = api.invoke(&large);
    assert_eq!(
        (path.as_str(), body.as_str()),
        ("response", r#"{"batchItemFailures":[]}"#)
    );
    let grown = program.peak_memory() - before;
    assert!(
        grown < 3_000_000 + 2 * large.len(),
        "{grown} bytes for an event of {}",
        large.len()
    );
    let mut admin = cache.admin();
    assert_eq!(admin.get::<_, u64>(names::COUNT).unwrap(), 10_001);
    assert_eq!(
        admin.zcard::<_, usize>(names::DEVICES).unwrap(),
        names::MAX_DEVICES
    );
    drop(program.end());
}

/// A Redis server behind TLS.
struct TlsCache {
    endpoint: TlsEndpoint,
    folder: TempDir,
    child: Child,
}

impl TlsCache {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = socket(&folder);
        let arguments: [OsString; 6] = [
            "--port".into(),
            "0".into(),
            "--unixsocket".into(),
            socket.clone().into(),
            "--requirepass".into(),
            PASSWORD.into(),
        ];
        Self {
            child: launch(folder.path(), arguments).expect("redis-server starts"),
            endpoint: TlsEndpoint::start(folder.path(), socket),
            folder,
        }
    }

    fn url(&self, host: &str) -> String {
        format!(
            "rediss://:{PASSWORD}@{host}:{}",
            self.endpoint.address.port()
        )
    }

    fn admin(&self) -> redis::Connection {
        let socket = socket(&self.folder);
        redis::Client::open(format!("redis+unix://{}?pass={PASSWORD}", socket.display()))
            .unwrap()
            .get_connection()
            .unwrap()
    }
}

impl Drop for TlsCache {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sensors"));
    command
        .env_remove("AWS_LAMBDA_LOG_LEVEL")
        .env("AWS_LAMBDA_FUNCTION_NAME", "sensors-test")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command
}

/// The running binary, ended on drop.
pub(crate) struct Program {
    child: Child,
    output: Option<std::thread::JoinHandle<String>>,
}

pub(crate) fn start(variables: &[(&str, &str)]) -> Program {
    let mut child = command(variables).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let output = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    Program {
        child,
        output: Some(output),
    }
}

impl Program {
    /// Kills it, as Lambda does. Returns its standard output.
    pub(crate) fn end(mut self) -> String {
        self.kill();
        self.output.take().unwrap().join().unwrap()
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its peak memory, in bytes.
    fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("read the process's memory from /proc, which Linux has");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim()
            .trim_end_matches(" kB")
            .parse::<usize>()
            .unwrap()
            * 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The part of the Runtime API that one function needs:
/// <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.
pub(crate) struct RuntimeApi {
    pub(crate) address: String,
    events: Sender<String>,
    answers: Receiver<(String, String)>,
    time: std::cell::Cell<Duration>,
}

impl RuntimeApi {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (events, next) = channel();
        let (answer, answers) = channel();
        std::thread::spawn(move || {
            // A function has one connection at a time; it ends with the process.
            while let Ok((connection, _)) = listener.accept() {
                if serve(connection, &next, &answer).is_none() {
                    break;
                }
            }
        });
        Self {
            address,
            events,
            answers,
            time: Duration::from_secs(60).into(),
        }
    }

    /// Sets the time limit of the next invocations.
    pub(crate) fn grant(&self, time: Duration) {
        self.time.set(time);
    }

    /// Invokes the function. Returns the last part of the path and the body of its response.
    pub(crate) fn invoke(&self, event: &str) -> (String, String) {
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + self.time.get();
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Lambda-Runtime-Aws-Request-Id: {REQUEST_ID}\r\nLambda-Runtime-Deadline-Ms: {}\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:123456789012:function:f\r\n\
             \r\n{event}",
            event.len(),
            deadline.as_millis(),
        );
        self.events.send(response).unwrap();
        self.answers
            .recv_timeout(Duration::from_secs(60))
            .expect("a response of the function")
    }
}

/// Serves one connection; `None` when the test is over.
fn serve(
    mut connection: TcpStream,
    next: &Receiver<String>,
    answer: &Sender<(String, String)>,
) -> Option<()> {
    connection.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return Some(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let path = request.split(' ').nth(1)?;
        let response = match path.rsplit('/').next()? {
            "next" => next.recv().ok()?,
            last => {
                assert!(path.contains(REQUEST_ID), "{path}");
                answer
                    .send((last.to_owned(), String::from_utf8(body).unwrap()))
                    .ok()?;
                "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
        };
        if connection.write_all(response.as_bytes()).is_err() {
            return Some(());
        }
    }
}
