//! What stands on the terminal: logs, and below them one line that tells how the run is doing.
//!
//! Where stderr is no terminal there is no such line, and logs are written as they come.

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::interval;

use crate::overview::Overview;

/// How often the line is made anew.
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

/// Keeps the line up to date until dropped, on a terminal; elsewhere it does nothing.
pub async fn keep_up_to_date(overview: Overview) {
    if !io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    LINE.set_draw_target(ProgressDrawTarget::stderr());
    // It has ended where a run goes on after a change.
    LINE.reset();
    let _cleared = Cleared;
    let mut ticks = interval(EVERY);
    loop {
        ticks.tick().await;
        LINE.set_message(overview.snapshot().to_string());
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
