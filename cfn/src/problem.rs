//! What is wrong with a template, in terms of who wrote it.

use std::fmt;

/// One thing to mend, in a template or in the parameters given for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Logical ID of the resource; the section, such as `Parameters`, for what stands elsewhere.
    pub logical_id: String,
    /// Place below it, such as `StreamEncryption.KeyId`; empty for the whole.
    pub path: String,
    /// What was got, what was expected, what to do.
    pub message: String,
}

impl Problem {
    /// A problem with a whole resource.
    pub fn of(logical_id: &str, message: impl Into<String>) -> Problem {
        Problem::at(logical_id, "", message)
    }

    /// A problem at a place below a resource.
    pub fn at(logical_id: &str, path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            logical_id: logical_id.to_owned(),
            path: path.into(),
            message: message.into(),
        }
    }

    /// A problem at a location in one piece, such as `SensorStream.ShardCount`.
    pub fn new(location: impl AsRef<str>, message: impl Into<String>) -> Problem {
        match location.as_ref().split_once('.') {
            Some((logical_id, path)) => Problem::at(logical_id, path, message),
            None => Problem::of(location.as_ref(), message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(formatter, "{}: {}", self.logical_id, self.message),
            path => write!(formatter, "{}.{path}: {}", self.logical_id, self.message),
        }
    }
}

impl std::error::Error for Problem {}

/// Everything that is wrong, reported at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            problem.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
