//! Errors of compiling, with their position, and of evaluating.

use std::fmt;

/// A statement or substitution template that cannot be compiled.
///
/// `Display` shows message and position, the line of SQL, and a caret below the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The problem and what to do; one line in lower case.
    pub message: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    source_line: String,
}

impl Error {
    /// `offset` is a byte position in `text`, at most its length.
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
        /// Characters of a long line that are shown on each side of the position.
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

/// An evaluation that exceeded a limit.
///
/// Wrong types and missing members are never errors in IoT SQL: they are Undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// More steps than a reasonable statement takes for a payload of 128 KB.
    #[error("cannot evaluate within {0} steps; fix: select from fewer or smaller arrays")]
    TooMuchWork(u64),
    /// A text larger than any rule action accepts.
    #[error("cannot evaluate: a result has more than {0} bytes")]
    TooLarge(usize),
    /// Arrays and objects that are nested too deep.
    #[error("cannot evaluate: a result is nested deeper than {0} levels")]
    TooDeep(u32),
}
