//! `cargo xtask test`: everything that CI runs, its own set-up included.
//!
//! What the chosen steps need is found or brought first, all of it, before anything is compiled. Then
//! the steps run in order and all of them, so that one run reports everything that is wrong.
//!
//! Layout: the steps and the table here; `programs` builds and runs the test programs, `pipeline`
//! prepares the end-to-end tests, `judges` holds the checks by programs that we did not write, `bare`
//! repeats the essence on a machine whose tools are hidden.

mod bare;
mod judges;
pub(crate) mod pipeline;
mod programs;

use std::cell::{Cell, OnceCell, RefCell};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use crate::program::Artifacts;
use crate::tools::{
    CARGO_DENY, CARGO_LAMBDA, CFN_LINT, CHECKOV, CHROMIUM, GIT, MOSQUITTO, MOTO, NGINX, NODE,
    NODE_MODULES, Need, PARLIAMENT, PROCPS, PYTHON, Provided, REDIS, System, Tool, provide,
};
use crate::{Exit, program, style, tools, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Run this step alone; may be repeated
    #[arg(long, value_name = "STEP", value_parser = step_name())]
    only: Vec<String>,
    /// Leave this step out; may be repeated
    #[arg(long, value_name = "STEP", value_parser = step_name())]
    skip: Vec<String>,
    /// Find or bring what the steps need, and run none of them
    #[arg(long)]
    prepare: bool,
    /// Filter and flags for the test programs: a test's name, --nocapture, …
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

struct Step {
    name: &'static str,
    /// What it calls that we did not write.
    needs: &'static [&'static Tool],
    /// Left out on a person's machine unless it is asked for by `--only`.
    only_in_ci: bool,
    run: fn(&Setting) -> anyhow::Result<()>,
}

impl Step {
    fn needs(&self) -> &'static [&'static Tool] {
        match self.name == BARE && tools::is_bare() {
            true => tools::ALL,
            false => self.needs,
        }
    }
}

/// The step that hides the machine's tools.
const BARE: &str = "bare";

/// The step that compares two builds. It computes alone, so it starts as soon as everything else is
/// built, at the lowest priority.
const REPRODUCIBLE: &str = "reproducible";

/// From what answers soonest to what takes longest.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        needs: &[],
        only_in_ci: false,
        run: format,
    },
    Step {
        name: "codegen",
        needs: &[],
        only_in_ci: false,
        run: codegen,
    },
    Step {
        name: "lint",
        needs: &[],
        only_in_ci: false,
        run: lint,
    },
    Step {
        name: "docs",
        needs: &[],
        only_in_ci: false,
        run: docs,
    },
    Step {
        name: "build",
        needs: &[],
        only_in_ci: false,
        run: |setting| programs::build(setting).map(drop),
    },
    Step {
        name: "test",
        needs: &[&PROCPS, &PYTHON, &REDIS, &MOTO],
        only_in_ci: false,
        run: test,
    },
    Step {
        name: "snapshots",
        needs: &[],
        only_in_ci: false,
        run: snapshots,
    },
    Step {
        name: "cfn-lint",
        needs: &[&CFN_LINT],
        only_in_ci: false,
        run: judges::cfn_lint,
    },
    Step {
        name: "cloudformation-validate",
        needs: &[],
        only_in_ci: false,
        run: judges::cloudformation_validate,
    },
    Step {
        name: "checkov",
        needs: &[&CHECKOV],
        only_in_ci: false,
        run: judges::checkov,
    },
    Step {
        name: "parliament",
        needs: &[&PARLIAMENT],
        only_in_ci: false,
        run: judges::parliament,
    },
    Step {
        name: "deny",
        needs: &[&CARGO_DENY],
        only_in_ci: false,
        run: judges::deny,
    },
    Step {
        name: "mosquitto",
        needs: &[&MOSQUITTO],
        only_in_ci: true,
        run: mosquitto,
    },
    Step {
        name: "end-to-end",
        needs: &[&PROCPS, &REDIS, &NGINX, &NODE, &CHROMIUM, &NODE_MODULES],
        only_in_ci: false,
        run: pipeline::run,
    },
    Step {
        name: BARE,
        needs: &[],
        only_in_ci: true,
        run: bare::run,
    },
    Step {
        name: REPRODUCIBLE,
        needs: &[&GIT, &CARGO_LAMBDA],
        only_in_ci: false,
        run: programs::reproducible,
    },
];

/// What every step may use.
struct Setting<'a> {
    root: &'a Path,
    /// Filter and flags for test programs
    rest: &'a [String],
    tools: Provided,
    /// Names of the steps that run
    chosen: Vec<&'static str>,
    /// The test programs and the programs that they run, once somebody has asked for them
    built: OnceCell<Result<Artifacts, String>>,
    /// Compiled and up to date, of the step that runs
    counts: Cell<(usize, usize)>,
    /// [`REPRODUCIBLE`], from the build on
    background: RefCell<Option<programs::Background>>,
}

impl Setting<'_> {
    fn runs(&self, step: &str) -> bool {
        self.chosen.contains(&step)
    }

    /// Runs a cargo command that compiles, and counts what it compiles.
    fn cargo(&self, what: &str, command: &mut Command, rest: &[&str]) -> anyhow::Result<Artifacts> {
        let artifacts = program::run_cargo(what, command, rest)?;
        let (compiled, fresh) = self.counts.get();
        self.counts
            .set((compiled + artifacts.compiled, fresh + artifacts.fresh));
        Ok(artifacts)
    }
}

fn step_name() -> clap::builder::PossibleValuesParser {
    STEPS
        .iter()
        .map(|step| step.name)
        .collect::<Vec<_>>()
        .into()
}

fn choose(only: &[String], skip: &[String], is_ci: bool) -> Vec<&'static Step> {
    let named = |names: &[String], step: &Step| names.iter().any(|name| name == step.name);
    STEPS
        .iter()
        .filter(|step| match only.is_empty() {
            true => is_ci || !step.only_in_ci,
            false => named(only, step),
        })
        .filter(|step| !named(skip, step))
        .collect()
}

/// What a step came to.
struct Outcome {
    name: &'static str,
    took: Duration,
    /// Seconds of CPU time, of all processes
    cpu: f64,
    compiled: usize,
    fresh: usize,
    result: anyhow::Result<()>,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        only,
        skip,
        prepare,
        rest,
    } = arguments;
    let root = workspace::root()?;
    let title = style::stderr();
    let chosen = choose(&only, &skip, judges::in_ci());
    if chosen.is_empty() {
        bail!("no step is left to run: every one is skipped");
    }
    let started = Instant::now();
    let needs: Vec<Need> = chosen
        .iter()
        .flat_map(|step| step.needs().iter().map(|tool| Need::new(tool, step.name)))
        .collect();
    if !needs.is_empty() {
        eprintln!("{}", title.title("── tools ──"));
    }
    let tools = provide(&needs, System::Extended).context("cannot run the checks")?;
    for (name, path) in tools.list() {
        eprintln!("{name:width$}  {}", workspace::shown(path), width = 34);
    }
    if !needs.is_empty() {
        eprintln!(
            "all tools are here after {:.1} s",
            started.elapsed().as_secs_f64()
        );
    }
    if prepare {
        return Ok(Exit::Done);
    }
    let setting = Setting {
        root: &root,
        rest: &rest,
        tools,
        chosen: chosen.iter().map(|step| step.name).collect(),
        built: OnceCell::new(),
        counts: Cell::default(),
        background: RefCell::default(),
    };
    let mut outcomes = Vec::new();
    for step in chosen {
        eprintln!("\n{}", title.title(&format!("── {} ──", step.name)));
        let (started, cpu) = (Instant::now(), cpu_seconds());
        setting.counts.take();
        let result = (step.run)(&setting);
        if let Err(error) = &result {
            eprintln!("{}: {}: {error:#}", title.bad("failed"), step.name);
        }
        let (compiled, fresh) = setting.counts.take();
        outcomes.push(Outcome {
            name: step.name,
            took: started.elapsed(),
            cpu: cpu_seconds() - cpu,
            compiled,
            fresh,
            result,
        });
    }
    print_table(&outcomes, started.elapsed());
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.result.is_err())
        .map(|outcome| outcome.name)
        .collect();
    if !failed.is_empty() {
        bail!(
            "failed: {}; again by `cargo xtask test --only {}`",
            failed.join(", "),
            failed[0]
        );
    }
    Ok(Exit::Done)
}

/// User and system time of all processes that have ended and were waited for. Zero where /proc does not
/// tell.
fn cpu_seconds() -> f64 {
    /// Ticks a second in `/proc`, the same on every Linux.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the program's name in parentheses, which may hold anything: cutime is field 16, cstime 17.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(13).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

fn print_table(outcomes: &[Outcome], took: Duration) {
    let style = style::stdout();
    let width = outcomes.iter().map(|it| it.name.len()).max().unwrap_or(0);
    println!("\n{:width$}          seconds  CPU seconds", "");
    for outcome in outcomes {
        let verdict = match outcome.result {
            Ok(()) => style.good("ok    "),
            Err(_) => style.bad("FAILED"),
        };
        let Outcome {
            name,
            took,
            cpu,
            compiled,
            fresh,
            ..
        } = outcome;
        let counts = match (compiled, fresh) {
            (0, 0) => String::new(),
            _ => format!("  compiled {compiled}, up to date {fresh}"),
        };
        println!(
            "{name:width$}  {verdict}  {:>7.1}  {cpu:>11.1}{counts}",
            took.as_secs_f64()
        );
    }
    println!("{:width$}          {:>7.1}", "all", took.as_secs_f64());
}

fn format(setting: &Setting) -> anyhow::Result<()> {
    succeed(program::cargo().args(["fmt", "--all", "--check"]), setting)
        .context("fix: `cargo fmt --all`")
}

fn codegen(setting: &Setting) -> anyhow::Result<()> {
    let generator = program::build(program::CODEGEN)?;
    succeed(
        std::process::Command::new(generator).arg("--check"),
        setting,
    )
}

fn lint(setting: &Setting) -> anyhow::Result<()> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
    ];
    let deny = ["--", "--deny", "warnings"];
    setting
        .cargo("the lints", program::cargo().args(arguments), &deny)
        .map(drop)
}

/// The documentation. That there are no examples is known; to ask for them gives shared packages the
/// features that they have in `lint`, so that they are not compiled a second time.
fn docs(setting: &Setting) -> anyhow::Result<()> {
    let arguments = ["doc", "--workspace", "--no-deps", "--locked", "--quiet"];
    let mut cargo = program::cargo();
    cargo
        .args(arguments)
        .args(["--lib", "--bins", "--examples"])
        .env("RUSTDOCFLAGS", "--deny warnings");
    setting
        .cargo("the documentation", &mut cargo, &[])
        .map(drop)
}

/// Everything that needs no program of ours built beforehand.
fn test(setting: &Setting) -> anyhow::Result<()> {
    let artifacts = programs::build(setting)?;
    let chosen = artifacts.tests().filter(|it| it.package != "e2e");
    let environment = [
        ("MOTO_PYTHON", setting.tools.path(&MOTO)?.into_os_string()),
        ("PATH", tools::path()?),
    ];
    let count = programs::cores();
    let passed = programs::run(chosen, &environment, count, setting.rest).map(drop);
    // The examples of the documentation, which cargo alone knows how to run.
    let examples = match setting.rest {
        [] => succeed(
            program::cargo().args(["test", "--workspace", "--doc", "--locked", "--quiet"]),
            setting,
        ),
        _ => Ok(()),
    };
    passed.and(examples)
}

/// The broker as clients know it that share no code with us.
fn mosquitto(setting: &Setting) -> anyhow::Result<()> {
    let artifacts = programs::build(setting)?;
    let chosen = artifacts
        .tests()
        .filter(|it| it.package == "local" && it.name == "mosquitto");
    let environment = [("PATH", tools::path()?)];
    programs::run(chosen, &environment, 1, &["--ignored".to_owned()]).map(drop)
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
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
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
        .with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} {} ended with {status}", first.unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str], skip: &[&str], is_ci: bool) -> Vec<&'static str> {
        let owned = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let chosen = choose(&owned(only), &owned(skip), is_ci);
        chosen.iter().map(|step| step.name).collect()
    }

    #[test]
    fn steps_of_ci_run_in_ci_and_when_they_are_named() {
        let person = names(&[], &[], false);
        assert!(
            !person.contains(&"mosquitto") && !person.contains(&BARE),
            "{person:?}"
        );
        let ci = names(&[], &[REPRODUCIBLE], true);
        assert!(ci.contains(&"mosquitto") && ci.contains(&BARE), "{ci:?}");
        assert_eq!(ci.len(), STEPS.len() - 1);
        assert_eq!(names(&["mosquitto"], &[], false), ["mosquitto"]);
    }

    #[test]
    fn chosen_steps_need_their_own_tools_only() {
        for (only, expected) in [
            (&["lint", "docs"][..], &[][..]),
            (&["cfn-lint"], &["cfn-lint"]),
            (&["reproducible"], &["git", "cargo-lambda"]),
        ] {
            let owned: Vec<String> = only.iter().map(|it| (*it).to_owned()).collect();
            let chosen = choose(&owned, &[], true);
            let needs: Vec<&str> = chosen
                .iter()
                .flat_map(|step| step.needs.iter().map(|tool| tool.name))
                .collect();
            assert_eq!(needs, expected);
        }
    }
}
