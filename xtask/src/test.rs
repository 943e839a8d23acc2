//! `cargo xtask test`: everything that CI runs, its own set-up included.
//!
//! Steps run in order and all of them, so that one run tells everything that is wrong.
//! Layout: the steps and the table here; `pipeline` prepares the end-to-end tests, `judges` holds the
//! checks by programs that we did not write.

mod judges;
pub(crate) mod pipeline;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use crate::{Exit, program, style, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Run this step alone; may be repeated
    #[arg(long, value_name = "STEP", value_parser = step_name())]
    only: Vec<String>,
    /// Leave this step out; may be repeated
    #[arg(long, value_name = "STEP", value_parser = step_name())]
    skip: Vec<String>,
    /// Filter and flags for the tests, as for `cargo test`
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

struct Step {
    name: &'static str,
    run: fn(&Setting) -> anyhow::Result<()>,
}

/// What every step may use.
struct Setting<'a> {
    root: &'a Path,
    rest: &'a [String],
}

/// From what answers soonest to what takes longest.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        run: format,
    },
    Step {
        name: "codegen",
        run: codegen,
    },
    Step {
        name: "lint",
        run: lint,
    },
    Step {
        name: "docs",
        run: docs,
    },
    Step {
        name: "test",
        run: test,
    },
    Step {
        name: "snapshots",
        run: snapshots,
    },
    Step {
        name: "cfn-lint",
        run: judges::cfn_lint,
    },
    Step {
        name: "cloudformation-validate",
        run: judges::cloudformation_validate,
    },
    Step {
        name: "checkov",
        run: judges::checkov,
    },
    Step {
        name: "parliament",
        run: judges::parliament,
    },
    Step {
        name: "deny",
        run: judges::deny,
    },
    Step {
        name: "end-to-end",
        run: pipeline::run,
    },
    Step {
        name: "reproducible",
        run: reproducible,
    },
];

fn step_name() -> clap::builder::PossibleValuesParser {
    STEPS
        .iter()
        .map(|step| step.name)
        .collect::<Vec<_>>()
        .into()
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments { only, skip, rest } = arguments;
    let root = workspace::root()?;
    let setting = Setting {
        root: &root,
        rest: &rest,
    };
    let title = style::stderr();
    let chosen = STEPS.iter().filter(|step| {
        let named = |names: &[String]| names.iter().any(|name| name == step.name);
        (only.is_empty() || named(&only)) && !named(&skip)
    });
    let mut results = Vec::new();
    for step in chosen {
        eprintln!("\n{}", title.title(&format!("── {} ──", step.name)));
        let started = Instant::now();
        let result = (step.run)(&setting);
        if let Err(error) = &result {
            eprintln!("{}: {}: {error:#}", title.bad("failed"), step.name);
        }
        results.push((step.name, started.elapsed(), result));
    }
    print_table(&results);
    let failed: Vec<_> = results
        .iter()
        .filter(|(_, _, result)| result.is_err())
        .map(|(name, ..)| *name)
        .collect();
    if results.is_empty() {
        bail!("no step is left to run: every one is skipped");
    }
    if !failed.is_empty() {
        bail!(
            "failed: {}; again by `cargo xtask test --only {}`",
            failed.join(", "),
            failed[0]
        );
    }
    Ok(Exit::Done)
}

fn print_table(results: &[(&str, Duration, anyhow::Result<()>)]) {
    let style = style::stdout();
    let width = results
        .iter()
        .map(|(name, ..)| name.len())
        .max()
        .unwrap_or(0);
    println!();
    for (name, took, result) in results {
        let verdict = match result {
            Ok(()) => style.good("ok    "),
            Err(_) => style.bad("FAILED"),
        };
        println!("{name:width$}  {verdict}  {:>6.1} s", took.as_secs_f64());
    }
}

fn format(setting: &Setting) -> anyhow::Result<()> {
    succeed(program::cargo().args(["fmt", "--all", "--check"]), setting)
        .context("mend it by `cargo fmt --all`")
}

fn codegen(setting: &Setting) -> anyhow::Result<()> {
    cfn_codegen::run(setting.root, true).map(drop)
}

fn lint(setting: &Setting) -> anyhow::Result<()> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
    ];
    succeed(
        program::cargo()
            .args(arguments)
            .args(["--", "--deny", "warnings"]),
        setting,
    )
}

fn docs(setting: &Setting) -> anyhow::Result<()> {
    let arguments = ["doc", "--workspace", "--no-deps", "--locked", "--quiet"];
    succeed(
        program::cargo()
            .args(arguments)
            .env("RUSTDOCFLAGS", "--deny warnings"),
        setting,
    )
}

/// Everything that needs no program of ours built beforehand.
fn test(setting: &Setting) -> anyhow::Result<()> {
    crate::tools::redis()?;
    let moto = crate::tools::moto()?;
    let arguments = [
        "test",
        "--workspace",
        "--exclude",
        "e2e",
        "--locked",
        "--no-fail-fast",
    ];
    succeed(
        program::cargo()
            .args(arguments)
            .args(setting.rest)
            .env("MOTO_PYTHON", moto)
            .env("PATH", crate::tools::path()?),
        setting,
    )
}

/// The artifacts are the same bytes from whatever folder they are built.
fn reproducible(setting: &Setting) -> anyhow::Result<()> {
    crate::tools::cargo_lambda()?;
    let arguments = ["test", "--package", "xtask-aws", "--locked", "--quiet"];
    let test = "artifact::tests::same_source_in_two_folders_makes_the_same_artifacts";
    succeed(
        program::cargo()
            .args(arguments)
            .args(["--bin", "xtask-aws", "--", "--ignored", "--exact", test])
            .env("PATH", crate::tools::path_for_aws()?),
        setting,
    )
}

/// A snapshot that waits for review is a change that nobody has looked at.
fn snapshots(setting: &Setting) -> anyhow::Result<()> {
    let mut pending = Vec::new();
    collect_pending(&setting.root.join("snapshots"), &mut pending)?;
    if pending.is_empty() {
        return Ok(());
    }
    bail!(
        "pending: {}; look at them and accept them by `cargo insta review`",
        pending.join(", ")
    )
}

fn collect_pending(folder: &Path, pending: &mut Vec<String>) -> anyhow::Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect_pending(&path, pending)?;
        } else if path.to_string_lossy().ends_with(".snap.new") {
            pending.push(workspace::shown(&path));
        }
    }
    Ok(())
}

/// Runs a command in the repository, its output going where ours goes.
fn succeed(command: &mut Command, setting: &Setting) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let name = Path::new(&name)
        .file_name()
        .map_or(name.clone(), |it| it.to_string_lossy().into());
    let first = command
        .get_args()
        .next()
        .map(|it| it.to_string_lossy().into_owned());
    let status = command
        .current_dir(setting.root)
        .status()
        .with_context(|| format!("run {name}"))?;
    if !status.success() {
        bail!("{name} {} ended with {status}", first.unwrap_or_default());
    }
    Ok(())
}
