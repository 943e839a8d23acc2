//! The program: its environment, its signals, and TLS.

#[path = "../../functions/tests/cache/tls.rs"]
mod tls;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tls::TlsEndpoint;

const LIMIT: Duration = Duration::from_secs(20);

/// A process, ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program with this environment only. Returns its log lines.
fn webui(variables: &[(&str, &str)]) -> (Process, mpsc::Receiver<serde_json::Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webui"));
    command
        .env_clear()
        .envs(variables.iter().copied())
        .stdout(Stdio::piped());
    let mut process = Process(command.spawn().expect("the program starts"));
    let lines = BufReader::new(process.0.stdout.take().expect("it is piped")).lines();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let line = serde_json::from_str(&line).expect("every line of the log is JSON");
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    (process, receiver)
}

/// Waits for a log message. Returns its line.
fn wait_for(log: &mpsc::Receiver<serde_json::Value>, message: &str) -> serde_json::Value {
    let end = Instant::now() + LIMIT;
    let mut seen = Vec::new();
    loop {
        match log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if line["message"] == message => return line,
            Ok(line) => seen.push(line),
            Err(_) => panic!("no log message {message:?}: {seen:#?}"),
        }
    }
}

fn terminate(process: &Process, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &process.0.id().to_string()])
        .status();
    assert!(sent.expect("kill is everywhere").success());
}

#[test]
fn problems_of_the_environment_end_the_program_with_one_message() {
    let output = Command::new(env!("CARGO_BIN_EXE_webui"))
        .env_clear()
        .env("PORT", "http")
        .output()
        .expect("the program starts");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("invalid PORT \"http\"") && error.contains("missing REDIS_URL"),
        "{error}"
    );
}

#[test]
fn both_signals_end_the_program_well_and_the_log_tells_no_secret() {
    for signal in ["-TERM", "-INT"] {
        // Nobody listens there.
        let (mut process, log) = webui(&[
            ("PORT", "0"),
            ("INTERFACE", "127.0.0.1"),
            ("REDIS_URL", "redis://user:hunter2@127.0.0.1:1"),
        ]);
        let away = wait_for(&log, "cache unreachable");
        assert!(!away.to_string().contains("hunter2"), "{away}");
        terminate(&process, signal);
        wait_for(&log, "stopped");
        assert!(process.0.wait().expect("it ends").success());
    }
}

#[test]
fn cache_behind_tls_is_followed_only_with_its_authority() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("redis.sock");
    let _cache = Process(
        Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--unixsocket")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs: `cargo xtask test` brings it"),
    );
    wait_until_there(&socket);
    let endpoint = TlsEndpoint::start(folder.path(), socket);
    let url = format!("rediss://localhost:{}", endpoint.address.port());
    let common = [
        ("PORT", "0"),
        ("INTERFACE", "127.0.0.1"),
        ("REDIS_URL", url.as_str()),
    ];
    let authority = endpoint.authority.display().to_string();
    let (_trusting, log) = webui(&[&common[..], &[("SSL_CERT_FILE", &authority)]].concat());
    wait_for(&log, "cache connected");

    let other = tempfile::tempdir().expect("a temporary folder");
    let stranger = TlsEndpoint::start(other.path(), other.path().join("nobody"));
    let authority = stranger.authority.display().to_string();
    let (_distrusting, log) = webui(&[&common[..], &[("SSL_CERT_FILE", &authority)]].concat());
    let error = wait_for(&log, "cache unreachable").to_string();
    assert!(error.contains("certificate"), "{error}");
}

fn wait_until_there(socket: &Path) {
    let end = Instant::now() + LIMIT;
    while UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < end, "redis-server does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn port_in_use_is_one_clear_message() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_webui"));
    command
        .env_clear()
        .env("PORT", &port)
        .env("INTERFACE", "127.0.0.1");
    command
        .env("REDIS_URL", "redis://127.0.0.1:1")
        .stderr(Stdio::piped())
        .stdout(Stdio::null());
    let mut process = Process(command.spawn().expect("the program starts"));
    let mut error = String::new();
    let mut stderr = process.0.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut error).expect("text");
    assert!(!process.0.wait().expect("it ends").success());
    assert!(
        error.contains(&format!("listen on 127.0.0.1:{port}")),
        "{error}"
    );
}
