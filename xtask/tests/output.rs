//! What the program prints where nobody reads it any more, and flags whose values look like flags.

use std::io::Read;
use std::process::{Command, Output, Stdio};

fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    xtask(arguments).output().unwrap()
}

/// Runs it with the outputs as pipes of which nobody reads; what it says on the other one, and its code.
fn unread(arguments: &[&str], stderr_too: bool) -> (String, Option<i32>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = xtask(arguments);
    if stderr_too {
        command.stderr(writer.try_clone().unwrap());
    } else {
        command.stderr(Stdio::piped());
    }
    command.stdout(writer);
    drop(reader);
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).unwrap();
    }
    (said, child.wait().unwrap().code())
}

#[test]
fn reader_that_is_gone_changes_neither_the_code_nor_what_is_said() {
    let on = |topic: &'static str| {
        let sql = ["rule", "--sql", "SELECT * FROM 'a'", "--payload", "{}"];
        [&sql[..], &["--topic", topic]].concat()
    };
    let (fires, does_not) = (on("a"), on("b"));
    let wrong = [&on("a")[..], &["--sql-version", "0"]].concat();
    for (arguments, code) in [
        (fires, 0),
        (does_not, 3),
        (wrong, 1),
        (vec!["review", "--help"], 0),
    ] {
        let (said, ended) = unread(&arguments, false);
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        assert!(!said.contains("Broken pipe"), "{said}");
        let (_, ended) = unread(&arguments, true);
        assert_eq!(ended, Some(code), "{arguments:?} with stderr unread, too");
    }
}

#[test]
fn payload_may_begin_with_a_hyphen() {
    for payload in ["-5", "--payload", "-"] {
        let sql = ["rule", "--sql", "SELECT 1 AS one FROM 'a'", "--topic", "a"];
        let output = output(&[&sql[..], &["--payload", payload]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{payload}: {said}");
        assert_eq!(output.stdout, b"{\"one\":1}\n", "{payload}");
    }
}
