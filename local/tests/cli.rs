//! The program's refusals: one clear message, exit code 1, nothing left running; and its end.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pipeline.json");

#[track_caller]
fn check_refused(arguments: &[&str], expected: &[&str]) {
    let data = tempfile::tempdir().unwrap();
    check_refused_in(data.path(), arguments, expected);
}

#[track_caller]
fn check_refused_in(data: &Path, arguments: &[&str], expected: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_local"))
        .args(arguments)
        .args(["--data", data.to_str().unwrap()])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = message
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{message}");
    for expected in expected {
        assert!(
            message.contains(expected),
            "expected {expected:?} in:\n{message}"
        );
    }
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn taken_port_is_told_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check_refused(
        &["--template", TEMPLATE, "--mqtt", &address],
        &[&address, "is taken", "--mqtt 127.0.0.1:0"],
    );
}

#[test]
fn control_port_that_was_named_is_not_replaced_by_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("empty.json");
    std::fs::write(&template, r#"{"Resources": {}}"#).unwrap();
    let template = template.to_str().unwrap();
    let flags = ["--template", template, "--mqtt", "127.0.0.1:0"];
    check_refused(
        &[&flags[..], &["--control", &address]].concat(),
        &[&address, "the control port", "--control 127.0.0.1:0"],
    );
}

#[test]
fn data_folder_of_another_run_is_told_with_a_way_out() {
    let data = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(data.path().join("lock")).unwrap();
    lock.lock().unwrap();
    check_refused_in(
        data.path(),
        &["--template", TEMPLATE, "--mqtt", "127.0.0.1:0"],
        &["another run uses the data folder", "--data DIR"],
    );
}

#[test]
fn missing_and_unreadable_templates_are_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    check_refused(
        &["--template", "/nowhere.json"],
        &["/nowhere.json", "cannot read"],
    );
    let yaml = path("template.yaml", "Resources: {}\n");
    check_refused(
        &["--template", &yaml],
        &[&yaml, "no CloudFormation template in JSON", "line 1"],
    );
    let unknown = path("unknown.json", r#"{"Resources": {}, "Recources": {}}"#);
    check_refused(&["--template", &unknown], &[&unknown, "Recources"]);
    let text = std::fs::read_to_string(TEMPLATE).unwrap();
    let unsupported = path(
        "unsupported.json",
        &text.replace("SELECT * FROM", "SELECT nonsense( FROM"),
    );
    check_refused(
        &["--template", &unsupported],
        &[
            "BareTopicToStream.Properties.TopicRulePayload.Sql",
            "DeviceTopicsToStream",
            "^",
        ],
    );
}

#[test]
fn missing_programs_are_told_by_logical_id_and_flag() {
    let arguments = ["--template", TEMPLATE, "--mqtt", "127.0.0.1:0"];
    check_refused(
        &arguments,
        &["DashboardEnvironment needs its unpacked bundle: pass --bundle"],
    );
    let bundle = Path::new(TEMPLATE).parent().unwrap().to_str().unwrap();
    let arguments = [&arguments[..], &["--bundle", bundle]].concat();
    check_refused(&arguments, &["Function needs its binary: pass --function"]);
    let arguments = [&arguments[..], &["--function", "/nowhere/bootstrap"]].concat();
    check_refused(
        &arguments,
        &["Function: cannot use --function /nowhere/bootstrap"],
    );
}

#[test]
fn interrupted_run_ends_as_usual_when_nobody_reads_its_output_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("empty.json");
    std::fs::write(&template, r#"{"Resources": {}}"#).unwrap();
    for reads_stderr in [true, false] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_local"))
            .arg("--template")
            .arg(&template)
            .args(["--mqtt", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"))
            // So that something is logged until the very end.
            .env("RUST_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "Stop with Ctrl-C"));
        drop(lines);
        let mut stderr = child.stderr.take().unwrap();
        let id = Pid::from_child(&child);
        let logged = if reads_stderr {
            kill_process(id, Signal::INT).unwrap();
            let mut logged = String::new();
            stderr.read_to_string(&mut logged).unwrap();
            logged
        } else {
            drop(stderr);
            kill_process(id, Signal::INT).unwrap();
            String::new()
        };
        assert_eq!(child.wait().unwrap().code(), Some(0), "{logged}");
        assert!(!logged.contains("Broken pipe"), "{logged}");
        assert!(!logged.contains("panicked"), "{logged}");
    }
}
