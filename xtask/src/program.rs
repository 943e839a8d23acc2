//! Programs of this workspace: building them, and becoming one.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value as Json;

use crate::workspace;

/// One binary of one package.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    /// What a person calls it.
    pub(crate) what: &'static str,
    pub(crate) package: &'static str,
    pub(crate) binary: &'static str,
}

pub(crate) const FUNCTION: Program = Program {
    what: "the function",
    package: "functions",
    binary: "sensors",
};
pub(crate) const WEBUI: Program = Program {
    what: "the web UI",
    package: "webui",
    binary: "webui",
};
pub(crate) const LOCAL: Program = Program {
    what: "the local run",
    package: "local",
    binary: "local",
};
pub(crate) const CLOUD: Program = Program {
    what: "the emulated AWS",
    package: "local-cloud",
    binary: "local-cloud",
};
pub(crate) const CODEGEN: Program = Program {
    what: "the generator",
    package: "cfn-codegen",
    binary: "cfn-codegen",
};
pub(crate) const AWS: Program = Program {
    what: "the AWS client",
    package: "xtask-aws",
    binary: "xtask-aws",
};
pub(crate) const MQTT: Program = Program {
    what: "the MQTT client",
    package: "xtask-mqtt",
    binary: "xtask-mqtt",
};

/// The cargo that runs us, or the one on the PATH.
///
/// What cargo tells the program that it runs is about that program. Build scripts look at some of it,
/// and would run anew whenever somebody else calls.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Names a file with the paths of programs that are built already: binary → path, as JSON.
///
/// `cargo xtask test` sets it for the commands that its tests run, so that they build nothing.
pub(crate) const BUILT: &str = "XTASK_PROGRAMS";

/// Builds one program and returns its path. Reports progress when it takes longer than a moment.
///
/// # Errors
/// The program does not compile.
pub(crate) fn build(program: Program) -> anyhow::Result<PathBuf> {
    let [path] = build_together(program.what, [program])?;
    Ok(path)
}

/// Builds programs by one cargo call, which compiles what they share once and keeps all cores busy.
///
/// For runs on this machine only: each program gets the features that the others ask of shared
/// packages. What runs on AWS is built by `xtask-aws`, each program by a call of its own.
///
/// # Errors
/// One of the programs does not compile.
pub(crate) fn build_together<const N: usize>(
    what: &str,
    programs: [Program; N],
) -> anyhow::Result<[PathBuf; N]> {
    if let Some(file) = env::var_os(BUILT) {
        return built(Path::new(&file), programs);
    }
    let mut command = cargo();
    command.args(["build", "--quiet"]);
    for Program {
        package, binary, ..
    } in programs
    {
        command.args(["--package", package, "--bin", binary]);
    }
    let artifacts = run_cargo(what, &mut command, &[])?;
    let find = |program: Program| {
        artifacts.program(program.binary).with_context(|| {
            format!(
                "cargo names no program `{}` of package {}",
                program.binary, program.package
            )
        })
    };
    let paths = programs.into_iter().map(find);
    let paths: Vec<PathBuf> = paths.collect::<anyhow::Result<_>>()?;
    paths
        .try_into()
        .ok()
        .context("as many paths as there are programs")
}

fn built<const N: usize>(file: &Path, programs: [Program; N]) -> anyhow::Result<[PathBuf; N]> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read {} of {BUILT}", file.display()))?;
    let paths: Json = serde_json::from_str(&text)
        .with_context(|| format!("cannot read {} of {BUILT}", file.display()))?;
    let paths: Vec<PathBuf> = programs
        .iter()
        .filter_map(|program| paths[program.binary].as_str().map(PathBuf::from))
        .collect();
    paths
        .try_into()
        .ok()
        .with_context(|| format!("{} of {BUILT} lacks a program", file.display()))
}

/// What a cargo call made.
#[derive(Default)]
pub(crate) struct Artifacts {
    /// Libraries, programs and tests that were compiled.
    pub(crate) compiled: usize,
    /// Those that were up to date.
    pub(crate) fresh: usize,
    executables: Vec<Executable>,
}

/// A program or test program that cargo built.
pub(crate) struct Executable {
    pub(crate) package: String,
    /// Folder of the package
    pub(crate) folder: PathBuf,
    /// Name of the target
    pub(crate) name: String,
    /// lib, bin or test
    pub(crate) kind: String,
    pub(crate) is_test: bool,
    pub(crate) path: PathBuf,
}

impl Artifacts {
    /// The path of a program, by the name of its binary.
    pub(crate) fn program(&self, binary: &str) -> Option<PathBuf> {
        let found = self
            .executables
            .iter()
            .find(|it| it.name == binary && it.kind == "bin" && !it.is_test);
        found.map(|it| it.path.clone())
    }

    /// The test programs.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &Executable> {
        self.executables.iter().filter(|it| it.is_test)
    }

    fn add(&mut self, message: &Json) {
        match message["fresh"].as_bool() {
            Some(true) => self.fresh += 1,
            _ => self.compiled += 1,
        }
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        let Some(path) = message["executable"].as_str() else {
            return;
        };
        let manifest = PathBuf::from(text(&message["manifest_path"]));
        let id = text(&message["package_id"]);
        // `path+file:///…/folder#version` when package and folder have one name, else `…#name@version`.
        let (location, name) = id.rsplit_once('#').unwrap_or((&id, ""));
        let package = match name.split_once('@') {
            Some((name, _)) => name,
            None => location.rsplit('/').next().unwrap_or_default(),
        };
        self.executables.push(Executable {
            package: package.to_owned(),
            folder: manifest.parent().map(Path::to_owned).unwrap_or_default(),
            name: text(&message["target"]["name"]),
            kind: text(&message["target"]["kind"][0]),
            is_test: message["profile"]["test"] == true,
            path: path.into(),
        });
    }
}

/// Runs a cargo command that compiles, with what belongs behind its own flags. Its messages go to standard error as they come; progress is
/// reported when it takes longer than a moment.
///
/// # Errors
/// Cargo fails.
pub(crate) fn run_cargo(
    what: &str,
    command: &mut Command,
    rest: &[&str],
) -> anyhow::Result<Artifacts> {
    let mut child = command
        .arg("--message-format=json-render-diagnostics")
        .args(rest)
        .current_dir(workspace::root()?)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let output = child.stdout.take().context("read what cargo says")?;
    let compiled = AtomicUsize::new(0);
    let mut artifacts = Artifacts::default();
    thread::scope(|scope| {
        // Dropped at the end of the closure, which ends the thread.
        let (_done, waiting) = channel::<Infallible>();
        scope.spawn({
            let compiled = &compiled;
            move || narrate(what, compiled, &waiting)
        });
        for line in BufReader::new(output).lines() {
            let message: Json = serde_json::from_str(&line.context("read what cargo says")?)
                .context("read what cargo says")?;
            if message["reason"] == "compiler-artifact" {
                artifacts.add(&message);
                compiled.store(artifacts.compiled, Ordering::Relaxed);
            }
        }
        anyhow::Ok(())
    })?;
    if !child.wait().context("wait for cargo")?.success() {
        bail!("cannot build {what}: cargo's messages above say why");
    }
    Ok(artifacts)
}

/// Plain lines while cargo works: one after a moment, then one every ten seconds.
fn narrate(what: &str, compiled: &AtomicUsize, waiting: &std::sync::mpsc::Receiver<Infallible>) {
    let started = Instant::now();
    let mut pause = Duration::from_millis(700);
    while let Err(RecvTimeoutError::Timeout) = waiting.recv_timeout(pause) {
        match compiled.load(Ordering::Relaxed) {
            0 if started.elapsed().as_secs() == 0 => eprintln!("building {what} …"),
            0 => eprintln!("building {what} … waiting for another cargo or a large package"),
            count => eprintln!(
                "building {what} … {count} packages compiled in {} s",
                started.elapsed().as_secs()
            ),
        }
        pause = Duration::from_secs(10);
    }
    if started.elapsed().as_secs() > 0 {
        eprintln!("built {what} in {:.1} s", started.elapsed().as_secs_f64());
    }
}

/// Becomes a program, so that signals go straight to it and its exit code is ours.
pub(crate) fn become_program(
    program: &Path,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (&'static str, OsString)>,
) -> anyhow::Result<Infallible> {
    become_without(program, arguments, environment, [])
}

/// Becomes a program, without these variables of the environment.
pub(crate) fn become_without(
    program: &std::path::Path,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (&'static str, OsString)>,
    removed: impl IntoIterator<Item = String>,
) -> anyhow::Result<Infallible> {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment);
    for name in removed {
        command.env_remove(name);
    }
    Err(command.exec()).with_context(|| format!("run {}", program.display()))
}
