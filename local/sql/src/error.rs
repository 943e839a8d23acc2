//! What is wrong with a statement, and where; what went wrong in an evaluation.

use std::fmt;

/// A statement or substitution template that cannot be compiled.
///
/// `Display` gives message and position, the line of SQL, and a caret below the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong: got, expected, what to do. One line, lower case.
    pub message: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    source_line: String,
}

impl Error {
    /// `offset`: byte position in `text`, at most its length.
    pub(crate) fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = text.get(start..).unwrap_or_default();
        Self {
            message: message.into(),
            line,
            column: before.get(start..).unwrap_or_default().chars().count() + 1,
            source_line: rest.lines().next().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Characters of a long line that are shown on each side of the place.
        const AROUND: usize = 60;
        let Self {
            message,
            line,
            column,
            source_line,
        } = self;
        let skipped = (column - 1).saturating_sub(AROUND);
        let shown: String = source_line
            .chars()
            .skip(skipped)
            .take(2 * AROUND)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        writeln!(f, "{message} (line {line}, column {column})")?;
        writeln!(f, "  | {shown}")?;
        write!(f, "  | {:>width$}", "^", width = column - skipped)
    }
}

impl std::error::Error for Error {}

/// An evaluation that was given up because it grew out of bounds.
///
/// Wrong types and missing members are never errors in IoT SQL: they are Undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// More steps than any sensible statement takes on a payload of 128 KB.
    #[error("evaluation given up after {0} steps: select from fewer or smaller arrays")]
    TooMuchWork(u64),
    /// A value grew beyond what any rule action takes.
    #[error("evaluation given up: a result grew beyond {0} bytes")]
    TooLarge(usize),
    /// Arrays and objects nested too deep.
    #[error("evaluation given up: a result is nested deeper than {0} levels")]
    TooDeep(u32),
}
