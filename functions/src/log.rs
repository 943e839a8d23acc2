//! Structured logs: JSON objects, one a line, on standard output, which Lambda collects.

use anyhow::anyhow;
use contract::environment::AWS_LAMBDA_LOG_LEVEL;
use serde::Serialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use crate::metrics::Outcome;

/// Starts logging at the level in [`AWS_LAMBDA_LOG_LEVEL`], by default `INFO`.
///
/// # Errors
/// Logging is already started.
pub fn start(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_max_level(level(variable(AWS_LAMBDA_LOG_LEVEL).as_deref()))
        .try_init()
        .map_err(|error| anyhow!("cannot start logging: {error}"))
}

/// The log line of a batch with its line feed, in the format of [`start`]; formatted here so that one call
/// writes it together with the batch's metrics.
pub fn batch(outcome: &Outcome, failed: usize, request_id: &str) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        timestamp: String,
        level: &'a str,
        message: &'a str,
        records: u64,
        new: u64,
        duplicates: u64,
        failed: usize,
        devices: u64,
        evicted: u64,
        milliseconds: f64,
        request_id: &'a str,
    }
    let mut timestamp = String::with_capacity(32);
    // Writing to memory does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let line = Line {
        timestamp,
        level: "INFO",
        message: "batch",
        records: outcome.records,
        new: outcome.new,
        duplicates: outcome.duplicates,
        failed,
        devices: outcome.devices,
        evicted: outcome.evicted,
        milliseconds: outcome.milliseconds,
        request_id,
    };
    let mut text = serde_json::to_string(&line).expect("names and numbers are valid JSON");
    text.push('\n');
    text
}

/// Parses Lambda's level names; `FATAL` becomes `ERROR`.
fn level(name: Option<&str>) -> LevelFilter {
    match name {
        Some("TRACE") => LevelFilter::TRACE,
        Some("DEBUG") => LevelFilter::DEBUG,
        Some("WARN") => LevelFilter::WARN,
        Some("ERROR" | "FATAL") => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_follows_the_functions_logging_configuration() {
        for (name, expected) in [
            (None, LevelFilter::INFO),
            (Some("WARN"), LevelFilter::WARN),
            (Some("FATAL"), LevelFilter::ERROR),
            (Some("loud"), LevelFilter::INFO),
        ] {
            assert_eq!(level(name), expected, "{name:?}");
        }
    }
}
