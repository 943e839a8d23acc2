//! Faults of a run.
//!
//! | text | what happens |
//! |---|---|
//! | `function:crash@5%` | in this share of invocations the function's process is killed at some moment of the work, or its response is lost |
//! | `cache:restart@30s` | this long after the start the cache is restarted and keeps its data |
//! | `cache:wipe@30s` | the same, but the cache loses its data |
//! | `stream:throttle@10s..20s` | between these two moments no stream takes a record |
//! | `record:duplicate@1%` | this share of records is delivered a second time with all that follow in the batch, as when a checkpoint is lost |
//!
//! Times count from the moment when the run is ready.

use std::str::FromStr;
use std::time::Duration;

use super::{ParseError, duration, share};

/// Accepted forms, shown in the parse error.
pub const FORMS: &str = "function:crash@5%, cache:restart@30s, cache:wipe@30s, stream:throttle@10s..20s, record:duplicate@1%";

/// One fault of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A share of invocations, 0 to 1, whose process is killed.
    FunctionCrash(f64),
    /// The cache is restarted this long after the start.
    CacheRestart(Duration),
    /// The cache is restarted without its data this long after the start.
    CacheWipe(Duration),
    /// Streams take no record between two moments after the start.
    StreamThrottle(Duration, Duration),
    /// A share of records, 0 to 1, that are delivered twice.
    RecordDuplicate(f64),
}

impl FromStr for Fault {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Fault, ParseError> {
        let no = |reason: String| ParseError {
            reason,
            forms: FORMS,
        };
        let (what, amount) = match text.split_once('@') {
            Some((what, amount)) => (what, Some(amount)),
            None => (text, None),
        };
        let parse: fn(&str) -> Result<Fault, String> = match what {
            "function:crash" => |it| share(it).map(Fault::FunctionCrash),
            "record:duplicate" => |it| share(it).map(Fault::RecordDuplicate),
            "cache:restart" => |it| duration(it).map(Fault::CacheRestart),
            "cache:wipe" => |it| duration(it).map(Fault::CacheWipe),
            "stream:throttle" => throttle,
            other => return Err(no(format!("there is no fault `{other}`"))),
        };
        let amount = amount.ok_or_else(|| no(format!("`{what}` needs a share or time after `@`")));
        parse(amount?).map_err(no)
    }
}

fn throttle(span: &str) -> Result<Fault, String> {
    let Some((from, to)) = span.split_once("..") else {
        return Err(format!("`{span}` is not a span such as 10s..20s"));
    };
    match (duration(from)?, duration(to)?) {
        (from, to) if from < to => Ok(Fault::StreamThrottle(from, to)),
        _ => Err(format!("`{span}` ends before it begins")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_parsed() {
        let seconds = Duration::from_secs;
        for (text, expected) in [
            ("function:crash@5%", Fault::FunctionCrash(0.05)),
            ("record:duplicate@1%", Fault::RecordDuplicate(0.01)),
            ("cache:restart@30s", Fault::CacheRestart(seconds(30))),
            ("cache:wipe@500ms", Fault::CacheWipe(seconds(1) / 2)),
            (
                "stream:throttle@10s..20s",
                Fault::StreamThrottle(seconds(10), seconds(20)),
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (text, reason) in [
            (
                "function:crash",
                "`function:crash` needs a share or time after `@`",
            ),
            ("function:crash@5", "`5` is not a share from 0% to 100%"),
            (
                "cache:restart@soon",
                "`soon` is not a time such as 500ms or 30s",
            ),
            (
                "stream:throttle@10s",
                "`10s` is not a span such as 10s..20s",
            ),
            (
                "stream:throttle@20s..10s",
                "`20s..10s` ends before it begins",
            ),
            ("cache:melt@1s", "there is no fault `cache:melt`"),
            ("foo", "there is no fault `foo`"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
            assert!(error.to_string().ends_with(FORMS), "{error}");
        }
    }
}
