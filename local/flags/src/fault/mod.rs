//! `--fault WHERE:WHAT`: faults of a run ([`run`]) and of the emulated cloud ([`cloud`]).

pub mod cloud;
pub mod run;

use std::fmt;
use std::time::Duration;

/// A text that is not a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong with it.
    pub reason: String,
    /// Accepted forms.
    pub forms: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; expected {}", self.reason, self.forms)
    }
}

impl std::error::Error for ParseError {}

/// Parses `20%` as a share from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .and_then(|it| it.parse::<f64>().ok())
        .filter(|it| (0.0..=100.0).contains(it))
        .map(|it| it / 100.0)
        .ok_or_else(|| format!("`{text}` is not a share from 0% to 100%"))
}

/// Parses `500ms` or `30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or_default(), 1.0),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|it| Duration::try_from_secs_f64(it * unit).ok())
        .ok_or_else(|| format!("`{text}` is not a time such as 500ms or 30s"))
}
