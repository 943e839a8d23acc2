//! Structured logs: one JSON object a line on standard output, where Lambda picks them up.

use anyhow::anyhow;
use contract::environment::AWS_LAMBDA_LOG_LEVEL;
use tracing::level_filters::LevelFilter;

/// Starts logging at the level of the function's `LoggingConfig`, which Lambda passes in
/// [`AWS_LAMBDA_LOG_LEVEL`], else at `INFO`.
///
/// # Errors
/// When logging was started before.
pub fn start(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_max_level(level(variable(AWS_LAMBDA_LOG_LEVEL).as_deref()))
        .try_init()
        .map_err(|error| anyhow!("start logging: {error}"))
}

/// Lambda's level names; `FATAL` has no counterpart here and becomes the next one.
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
