//! Commands that call AWS: built and run as a program of their own, with the arguments as they were typed.
//!
//! They are parsed here, too, from the same file, and the environment is checked here, so that `--help`,
//! a wrong flag and a missing region are answered before the AWS client is compiled.

#[path = "../aws/src/arguments.rs"]
pub(crate) mod arguments;

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use aws_environment::Environment;
use checks::{Finding, Verdict};

use crate::{Exit, program, tools, workspace};

/// Deploys, with the tools that build for AWS where something is built.
pub(crate) fn deploy(arguments: &arguments::Deploy) -> anyhow::Result<Exit> {
    let given = [
        ("--function", &arguments.function),
        ("--webui", &arguments.webui),
    ];
    for (flag, file) in given {
        if let Some(file) = file {
            check_file(flag, file)?;
        }
    }
    // It prints and asks AWS nothing.
    if !arguments.role_policy {
        check_environment()?;
    }
    if arguments.builds() {
        tools::cargo_lambda()?;
        bring_target(arguments)?;
    }
    become_aws()
}

/// Runs a command that calls AWS.
pub(crate) fn run() -> anyhow::Result<Exit> {
    check_environment()?;
    become_aws()
}

/// Checks this machine and the environment; the account is asked only when nothing is wrong with them.
pub(crate) fn doctor(arguments: &arguments::Ask) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    let problems = environment.problems();
    if problems.is_empty() {
        return become_aws();
    }
    let mut findings = checks::machine(arguments.stage, &tools::path_for_aws()?);
    findings.extend(checks::environment(&environment, &problems));
    for finding in &findings {
        match arguments.json {
            true => println!("{}", finding.json()),
            false => println!("{}", finding.line()),
        }
    }
    match checks::failures(&findings).count() {
        1 => bail!("1 check failed; the account was not asked"),
        failed => bail!("{failed} checks failed; the account was not asked"),
    }
}

/// Checks what the environment names.
///
/// # Errors
/// All problems that it has.
fn check_environment() -> anyhow::Result<()> {
    let problems = Environment::of_process().problems();
    match &problems[..] {
        [] => Ok(()),
        [problem] => bail!("{problem}"),
        problems => {
            let lines = problems
                .iter()
                .map(|problem| format!("\n  {}: {problem}", problem.part.name()));
            bail!("cannot call AWS:{}", lines.collect::<String>())
        }
    }
}

fn check_file(flag: &str, file: &Path) -> anyhow::Result<()> {
    let metadata = file
        .metadata()
        .with_context(|| format!("cannot read {} ({flag})", file.display()))?;
    if !metadata.is_file() {
        bail!("cannot read {} ({flag}): not a file", file.display());
    }
    Ok(())
}

/// Installs the Rust target of the stage where it is missing.
fn bring_target(arguments: &arguments::Deploy) -> anyhow::Result<()> {
    let path = tools::path_for_aws()?;
    let target = arguments.stage.config().arch.target();
    let [_, Finding { verdict, .. }] = checks::tools(arguments.stage, &path);
    match verdict {
        Verdict::Note(_) => {
            eprintln!("installing the Rust target {target}");
            let mut rustup = Command::new("rustup");
            rustup
                .args(["target", "add", target])
                .current_dir(workspace::root()?);
            tools::run(&mut rustup)
        }
        Verdict::Failed(text) => bail!("{text}"),
        Verdict::Good(_) | Verdict::Unknown(_) => Ok(()),
    }
}

fn become_aws() -> anyhow::Result<Exit> {
    let program = program::build(program::AWS)?;
    let root = workspace::root()?.into_os_string();
    let environment = [("PATH", tools::path_for_aws()?), ("XTASK_ROOT", root)];
    let empty = aws_environment::empty_variables();
    match program::become_without(&program, env::args_os().skip(1), environment, empty)? {}
}
