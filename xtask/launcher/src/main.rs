//! The program that `cargo xtask` runs: it picks the package of a command and becomes `cargo run` of it.
//!
//! `codegen` is the reason. `xtask` depends on `cfn`, so it does not compile while generated code of `cfn`
//! is broken, and `cargo xtask codegen` must repair exactly that. This package depends on nothing and
//! `cfn-codegen` not on `cfn`; a test of `cfn-codegen` checks both.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let package = package(&arguments);
    if package == CODEGEN {
        arguments.remove(0);
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Variables about this package would make build scripts that read them run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
        .args(["run", "--locked", "--package", package, "--"])
        .args(arguments);
    let error = command.exec();
    eprintln!("error: cannot run cargo: {error}");
    ExitCode::FAILURE
}

const CODEGEN: &str = "cfn-codegen";

/// The package whose program is the command.
fn package(arguments: &[OsString]) -> &'static str {
    let is_codegen = arguments
        .first()
        .is_some_and(|command| command == "codegen");
    // Fetching a schema takes tools that `xtask` installs.
    let adds = |argument: &OsString| argument.to_string_lossy().starts_with("--add");
    if is_codegen && !arguments.iter().any(adds) {
        CODEGEN
    } else {
        "xtask"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codegen_does_not_compile_xtask_unless_it_fetches_a_schema() {
        let check = |line: &str, expected: &str| {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(package(&arguments), expected, "{line}");
        };
        check("codegen", "cfn-codegen");
        check("codegen --check", "cfn-codegen");
        check("codegen --add AWS::SQS::Queue", "xtask");
        check("codegen --add=AWS::SQS::Queue", "xtask");
        check("synth --stage codegen", "xtask");
        check("", "xtask");
        check("--help", "xtask");
    }
}
