//! Functions: a small program speaks the Runtime API as a real one does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use local::lambda::{Config, Function, LogFormat, Outcome};
use local::logs::Logs;
use local::permission::Authorizer;
use local::status::Status;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Does what the event's `do` says.
const BOOTSTRAP: &str = r#"#!/usr/bin/env python3
import http.client, json, os, sys, time
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
base = "/2018-06-01/runtime/"
def call(method, path, body=None, headers={}):
    api.request(method, base + path, body, headers)
    answer = api.getresponse()
    return answer, answer.read()
if os.environ.get("FAIL_INIT"):
    call("POST", "init/error", json.dumps({"errorType": "Mine.Init", "errorMessage": "no"}))
    sys.exit(1)
handled = 0
while True:
    answer, event = call("GET", "invocation/next")
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    event = json.loads(event)
    handled += 1
    print("handling", event["do"], flush=True)
    if event["do"] == "report":
        wrong, _ = call("POST", "invocation/other/response", "{}")
        busy, _ = call("GET", "invocation/next")
        result = {"environment": dict(os.environ), "cwd": os.getcwd(), "handled": handled,
            "left": int(answer.headers["Lambda-Runtime-Deadline-Ms"]) - int(time.time() * 1000),
            "arn": answer.headers["Lambda-Runtime-Invoked-Function-Arn"],
            "wrong": wrong.status, "busy": busy.status}
        accepted, _ = call("POST", f"invocation/{id}/response", json.dumps(result))
        assert accepted.status == 202
    elif event["do"] == "error":
        call("POST", f"invocation/{id}/error", json.dumps({"errorType": "Mine", "errorMessage": "bad record"}))
    elif event["do"] == "crash":
        os._exit(7)
    elif event["do"] == "eat":
        eaten = bytearray(400 * 1024 * 1024)
        time.sleep(1000)
    elif event["do"] == "hang":
        time.sleep(1000)
    elif event["do"] == "wait":
        time.sleep(0.3)
        call("POST", f"invocation/{id}/response", str(os.getpid()))
    elif event["do"] == "large":
        large, _ = call("POST", f"invocation/{id}/response", "x" * (6 * 1024 * 1024 + 101))
        api.close()
"#;

fn function(folder: &Path, change: impl FnOnce(&mut Config)) -> (Function, CancellationToken) {
    let bootstrap = folder.join("bootstrap");
    fs::write(&bootstrap, BOOTSTRAP).unwrap();
    fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = Config {
        logical_id: "Function".to_owned(),
        name: "sensors".to_owned(),
        arn: "arn:aws:lambda:eu-central-1:000000000000:function:sensors".to_owned(),
        region: "eu-central-1".to_owned(),
        bootstrap,
        handler: "bootstrap".to_owned(),
        environment: BTreeMap::from([("MINE".to_owned(), "1".to_owned())]),
        timeout: Duration::from_secs(20),
        memory_mb: 256,
        log_group: "/aws/lambda/sensors".to_owned(),
        log_group_arn: "arn:aws:logs:eu-central-1:000000000000:log-group:/aws/lambda/sensors"
            .to_owned(),
        log_format: LogFormat::Text,
        log_level: None,
        reserved_concurrency: None,
        credentials: None,
        ca_file: None,
        folder: folder.join("function"),
    };
    change(&mut config);
    let status = Status::new();
    let authorizer = Authorizer::new("Function", status.clone(), |_, _| Ok(()));
    let shutdown = CancellationToken::new();
    let logs = Logs::new(folder.join("logs"));
    (
        Function::start(config, &logs, &authorizer, status, shutdown.clone()).unwrap(),
        shutdown,
    )
}

async fn invoke(function: &Function, what: &str) -> Outcome {
    function
        .invoke(Bytes::from(json!({ "do": what }).to_string()))
        .await
        .outcome
}

async fn report(function: &Function) -> Value {
    match invoke(function, "report").await {
        Outcome::Completed(body) => serde_json::from_slice(&body).unwrap(),
        other => panic!("{other:?}; this test needs python3 (apt install python3)"),
    }
}

fn error_type(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(error) => &error.error_type,
        other => panic!("{other:?}"),
    }
}

/// Text of all log events, in order within a stream.
fn log(folder: &Path) -> String {
    let mut folders = vec![folder.join("logs")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => {
                    for line in fs::read_to_string(path).unwrap().lines() {
                        let event: Value = serde_json::from_str(line).unwrap();
                        text.push_str(event["message"].as_str().unwrap());
                        text.push('\n');
                    }
                }
            }
        }
    }
    text
}

#[tokio::test]
async fn process_gets_what_lambda_gives_and_nothing_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (function, _shutdown) = function(folder.path(), |_| {});
    let first = report(&function).await;
    let environment = first["environment"].as_object().unwrap();
    assert_eq!(environment["MINE"], "1");
    assert_eq!(environment["AWS_LAMBDA_FUNCTION_NAME"], "sensors");
    assert_eq!(environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "256");
    assert_eq!(environment["TZ"], ":UTC");
    assert_eq!(environment["LAMBDA_TASK_ROOT"], first["cwd"]);
    assert!(!environment.contains_key("CARGO_MANIFEST_DIR") && !environment.contains_key("HOME"));
    assert!(
        first["left"]
            .as_i64()
            .is_some_and(|left| (10_000..=20_000).contains(&left))
    );
    assert_eq!(first["arn"], function.config().arn);
    assert_eq!(
        (&first["wrong"], &first["busy"]),
        (&json!(400), &json!(403))
    );
    assert_eq!(
        report(&function).await["handled"],
        2,
        "the environment is used again"
    );
    let log = log(folder.path());
    for expected in [
        "START RequestId: ",
        "handling report",
        "END RequestId: ",
        "Memory Size: 256 MB",
        "Init Duration: ",
    ] {
        assert!(log.contains(expected), "{expected} in {log}");
    }
}

#[tokio::test]
async fn error_keeps_the_environment_and_a_crash_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (function, _shutdown) = function(folder.path(), |_| {});
    assert_eq!(error_type(&invoke(&function, "error").await), "Mine");
    assert_eq!(report(&function).await["handled"], 2);
    assert_eq!(
        error_type(&invoke(&function, "crash").await),
        "Runtime.ExitError"
    );
    assert_eq!(report(&function).await["handled"], 1);
}

#[tokio::test]
async fn timeout_kills_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (function, _shutdown) = function(folder.path(), |config| {
        config.timeout = Duration::from_secs(1)
    });
    assert_eq!(
        error_type(&invoke(&function, "hang").await),
        "Sandbox.Timedout"
    );
    assert_eq!(report(&function).await["handled"], 1);
    assert!(log(folder.path()).contains("Task timed out after 1.00 seconds"));
}

#[tokio::test]
async fn response_over_six_megabytes_fails_the_invocation() {
    let folder = tempfile::tempdir().unwrap();
    let (function, _shutdown) = function(folder.path(), |_| {});
    assert_eq!(
        error_type(&invoke(&function, "large").await),
        "Function.ResponseSizeTooLarge"
    );
}

#[tokio::test]
async fn failed_init_is_tried_once_more_and_then_told() {
    let folder = tempfile::tempdir().unwrap();
    let (function, _shutdown) = function(folder.path(), |config| {
        config
            .environment
            .insert("FAIL_INIT".to_owned(), "1".to_owned());
    });
    assert_eq!(error_type(&invoke(&function, "report").await), "Mine.Init");
    assert_eq!(log(folder.path()).matches("INIT_REPORT").count(), 2);
}

#[tokio::test]
async fn invocations_at_once_have_environments_of_their_own_up_to_the_reserve() {
    let folder = tempfile::tempdir().unwrap();
    let (function, _shutdown) = function(folder.path(), |config| {
        config.reserved_concurrency = Some(2)
    });
    let (one, two, three) = tokio::join!(
        invoke(&function, "wait"),
        invoke(&function, "wait"),
        invoke(&function, "wait")
    );
    let (Outcome::Completed(one), Outcome::Completed(two)) = (one, two) else {
        panic!("an invocation failed")
    };
    assert_ne!(one, two);
    assert!(
        matches!(three, Outcome::NotInvoked(reason) if reason.starts_with("TooManyRequestsException"))
    );
}

#[tokio::test]
async fn shutdown_gives_up_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (function, shutdown) = function(folder.path(), |_| {});
    report(&function).await;
    let (outcome, ()) = tokio::join!(invoke(&function, "hang"), async { shutdown.cancel() });
    assert!(matches!(outcome, Outcome::NotInvoked(_)));
}

#[tokio::test]
async fn process_that_eats_more_than_its_memory_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (function, shutdown) = function(folder.path(), |_| {});
    let outcome = invoke(&function, "eat").await;
    assert_eq!(error_type(&outcome), "Runtime.OutOfMemory");
    // The next invocation has a process of its own.
    assert_eq!(report(&function).await["handled"], 1);
    shutdown.cancel();
}

#[tokio::test]
async fn crash_on_demand_is_that_of_a_killed_process_however_fast_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (function, shutdown) = function(folder.path(), |_| {});
    let faults = ["function:crash@100%".parse().unwrap()];
    function.inject(std::sync::Arc::new(local::fault::Chances::of(&faults)));
    // Whatever moments are drawn, one process never answers and the other at once.
    for action in ["hang", "error", "error", "error", "error", "error"] {
        let outcome = invoke(&function, action).await;
        assert_eq!(error_type(&outcome), "Runtime.ExitError", "{action}");
    }
    shutdown.cancel();
}
