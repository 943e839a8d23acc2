//! What the programs of this package and of those on top of it have in common: logs, signals, the data
//! folder's lock, and how they end.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use outcome::{Exit, Failure};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::terminal;

/// What the shell expects of a program that a signal has ended.
const KILLED: i32 = 130;

/// Runs a program with its logs, its TLS provider and its runtime, and prints what it fails with. With `verbose`
/// stderr gets also what programs log for each batch and request.
pub fn run(
    is_json: bool,
    verbose: bool,
    program: impl Future<Output = anyhow::Result<()>>,
) -> ExitCode {
    terminal::log(verbose);
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider was installed already");
    }
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(program));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = format!("{error:#}");
            let exit = Exit::Failed;
            say(format_args!("error: {error}"));
            Failure { error, exit }.print(is_json);
            exit.into()
        }
    }
}

/// Writes a line to stderr. That its reader is gone, as after Ctrl-C in a pipeline, is not an error.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Our programs end by themselves when we do.
pub fn killed() -> ! {
    say(format_args!("killed"));
    std::process::exit(KILLED);
}

/// Takes the data folder for this run alone: two would mix their checkpoints and archives.
/// The system gives it back however the run ends.
///
/// # Errors
/// Another run has it, or the folder cannot be used.
pub fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    std::fs::create_dir_all(data).with_context(|| format!("make the folder {}", data.display()))?;
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(anyhow!(
            "another run uses the data folder {}: stop it, or choose another folder (--data DIR)",
            data.display()
        )),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

/// What asks us to end.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns with the next signal that asks us to end. Cancel safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
