//! How a command ends: its exit code and, with `--json`, the failure as the last line of standard output.
//!
//! Shared by `cargo xtask` and the programs that it becomes, so that a failure looks the same wherever it
//! is found.

use std::env;
use std::ffi::OsStr;
use std::io::{Write, stdout};
use std::process::{ExitCode, Termination};

use serde_json::{Value as Json, json};

/// Exit codes, one meaning each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command did what it says.
    Done,
    /// The command failed, and standard error says why.
    Failed,
    /// A flag or an argument is wrong.
    Usage,
    /// The command is done and its answer needs attention.
    Attention,
    /// `diff --exit-code` found a change.
    Changed,
    /// Ctrl-C ended `deploy` or `destroy`.
    Interrupted,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub const ALL: [Exit; 6] = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Attention,
        Exit::Changed,
        Exit::Interrupted,
    ];

    /// The code.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Attention => 3,
            Exit::Changed => 4,
            // What a shell expects of a program that SIGINT ended.
            Exit::Interrupted => 130,
        }
    }

    /// What the code means, as README has it.
    pub const fn sentence(self) -> &'static str {
        match self {
            Exit::Done => "The command did what it says.",
            Exit::Failed => "The command failed, and standard error says why.",
            Exit::Usage => "A flag or an argument is wrong, and nothing was begun.",
            Exit::Attention => {
                "The command is done and its answer needs attention: a rule does not fire, no topic rule takes a message, or `review` found a change that must be looked at."
            }
            Exit::Changed => "`diff --exit-code` found a change.",
            Exit::Interrupted => {
                "Ctrl-C ended `deploy` or `destroy`; what CloudFormation has begun goes on."
            }
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// A failure for machines: `{"result": "failed", "error": TEXT, "exitCode": CODE}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong and how to fix it, as standard error has it.
    pub error: String,
    /// How the command ends.
    pub exit: Exit,
}

impl Failure {
    /// The failure as JSON.
    pub fn json(&self) -> Json {
        json!({ "result": "failed", "error": self.error, "exitCode": self.exit.code() })
    }

    /// Prints the failure as one line of JSON, where `--json` was given.
    pub fn print(&self, is_json: bool) {
        if is_json {
            // Who closed standard output wants no answer.
            let _ = writeln!(stdout(), "{}", self.json());
        }
    }
}

/// Whether this process was given `--json`, whatever else is wrong with its arguments.
pub fn is_json() -> bool {
    has_json(env::args_os())
}

fn has_json<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> bool {
    arguments
        .into_iter()
        .take_while(|it| it.as_ref() != "--")
        .any(|it| it.as_ref() == "--json")
}

/// Prints what the flag parser says: help and version to standard output, an error to standard error, and
/// as JSON where `--json` was given.
pub fn not_parsed(error: &clap::Error, is_json: bool) -> Exit {
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Done;
    }
    let exit = Exit::Usage;
    let text = error.render().to_string();
    // Usage and the hint to `--help` follow after a blank line.
    let text = text.split("\n\n").next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let error = words.join(" ");
    Failure { error, exit }.print(is_json);
    exit
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn codes_and_their_sentences_are_those_of_the_readme() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let readme = fs::read_to_string(readme).unwrap();
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.sentence());
            assert!(readme.contains(&row), "README.md has no row: {row}");
        }
        let mut codes = Exit::ALL.map(Exit::code).to_vec();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
    }

    #[test]
    fn json_is_a_flag_only_before_two_dashes() {
        for (line, expected) in [
            ("xtask status --json", true),
            ("xtask --wrong --json", true),
            ("xtask publish -- --json", false),
            ("xtask status", false),
        ] {
            assert_eq!(has_json(line.split(' ')), expected, "{line}");
        }
    }

    #[test]
    fn failure_has_one_shape() {
        let failure = Failure {
            error: "cannot \"x\"".to_owned(),
            exit: Exit::Failed,
        };
        assert_eq!(
            failure.json().to_string(),
            r#"{"error":"cannot \"x\"","exitCode":1,"result":"failed"}"#
        );
    }
}
