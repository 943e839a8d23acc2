//! What a person sees of a run: logs on stderr, and below them, on a terminal, the status line.
//!
//! Where stderr is not a terminal there is no such line, and logs are written as they come.
//! The log file in the data folder ([`LOG_FILE`]) has the logs too, with those that are too many for a
//! terminal: what the programs log for each batch and request ([`DETAIL`]).

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::interval;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::logs::DETAIL;
use crate::overview::{Overview, StatusLine};

/// Name of the log file in the data folder.
pub const LOG_FILE: &str = "local.log";

/// Name of the log file of the run before.
const PREVIOUS_LOG_FILE: &str = "local.previous.log";

/// Interval at which the status line is updated.
const EVERY: Duration = Duration::from_millis(500);

/// Hidden until there is something to tell.
static LINE: LazyLock<ProgressBar> = LazyLock::new(|| {
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    // The template is fixed, so it is either always right or never.
    if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
        line.set_style(style);
    }
    line
});

/// The open log file; empty until the run owns its data folder.
static FILE: OnceLock<File> = OnceLock::new();

/// Sends logs to stderr and to the log file; `RUST_LOG` says how much.
///
/// Without `verbose`, stderr does not get those of the target [`DETAIL`].
pub fn log(verbose: bool) {
    let level = || EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let is_wanted = filter_fn(move |log| verbose || log.target() != DETAIL);
    let layer = || {
        let layer = tracing_subscriber::fmt::layer().with_target(false);
        // Its own reports would go to the stderr that cannot be written to.
        layer.log_internal_errors(false)
    };
    let on_stderr = layer()
        .with_writer(|| Log)
        .with_ansi(io::stderr().is_terminal() && is_colour_wanted())
        .with_filter(level().and(is_wanted));
    let in_file = layer()
        .with_writer(|| LogFile)
        .with_ansi(false)
        .with_filter(level());
    // A list, because each layer is then one of the registry alone, whatever the other's type.
    tracing_subscriber::registry()
        .with(vec![on_stderr.boxed(), in_file.boxed()])
        .init();
}

/// <https://no-color.org>
fn is_colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Begins the log file in the data folder; the one of the run before stays beside it.
///
/// # Errors
/// The file cannot be made.
pub fn open_log_file(data: &Path) -> anyhow::Result<()> {
    let path = data.join(LOG_FILE);
    match fs::rename(&path, data.join(PREVIOUS_LOG_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot rename {}", path.display()));
        }
        _ => {}
    }
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let _ = FILE.set(file);
    Ok(())
}

/// Keeps the line up to date until dropped, on a terminal; elsewhere it does nothing.
pub async fn keep_up_to_date(overview: Overview) {
    if !io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    LINE.set_draw_target(ProgressDrawTarget::stderr());
    // It has ended where a run goes on after a change.
    LINE.reset();
    let _cleared = Cleared;
    let mut status_line = StatusLine::new(overview.address.clone());
    let mut ticks = interval(EVERY);
    loop {
        ticks.tick().await;
        LINE.set_message(status_line.text(Instant::now(), &overview.snapshot()));
        LINE.tick();
    }
}

/// Takes the line off the terminal when dropped.
struct Cleared;

impl Drop for Cleared {
    fn drop(&mut self) {
        LINE.finish_and_clear();
        LINE.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// Does something that writes to the terminal, without the line in between.
pub fn above_the_line<T>(write: impl FnOnce() -> T) -> T {
    LINE.suspend(write)
}

/// Standard error for logs: above the line.
#[derive(Clone, Copy, Debug)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        above_the_line(|| io::stderr().lock().write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// The log file; while there is none, nothing is written.
#[derive(Clone, Copy, Debug)]
struct LogFile;

impl Write for LogFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match FILE.get() {
            Some(mut file) => file.write(buffer),
            None => Ok(buffer.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
