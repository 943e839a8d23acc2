//! Programs of this workspace: building them, and becoming one.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
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
pub(crate) const AWS: Program = Program {
    what: "what talks to AWS",
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

/// Builds a program by a cargo call of its own, so that no other package's features get into it,
/// and returns its path. Says so when it takes longer than a moment.
pub(crate) fn build(program: Program) -> anyhow::Result<PathBuf> {
    let Program {
        what,
        package,
        binary,
    } = program;
    let mut child = cargo()
        .args(["build", "--quiet", "--package", package, "--bin", binary])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace::root()?)
        .stdout(Stdio::piped())
        .spawn()
        .context("run cargo")?;
    let output = child.stdout.take().context("read what cargo says")?;
    let compiled = AtomicUsize::new(0);
    let mut executable = None;
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
            if message["reason"] != "compiler-artifact" {
                continue;
            }
            if message["fresh"] == false {
                compiled.fetch_add(1, Ordering::Relaxed);
            }
            if message["target"]["name"] == binary
                && let Some(path) = message["executable"].as_str()
            {
                executable = Some(PathBuf::from(path));
            }
        }
        anyhow::Ok(())
    })?;
    if !child.wait().context("wait for cargo")?.success() {
        bail!("building {what} failed: cargo's messages above say why (package {package})");
    }
    executable.with_context(|| format!("cargo names no program `{binary}` of package {package}"))
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
    program: &std::path::Path,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (&'static str, OsString)>,
) -> anyhow::Result<Infallible> {
    let error = Command::new(program)
        .args(arguments)
        .envs(environment)
        .exec();
    Err(error).with_context(|| format!("run {}", program.display()))
}
