//! Problems of a template, with their location in the template.

use std::fmt;

/// A problem of a template or of its parameters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Logical ID of the resource, or another section such as `Parameters`.
    pub logical_id: String,
    /// Path in it, such as `StreamEncryption.KeyId`; empty for the whole resource.
    pub path: String,
    /// The message: what was got, what was expected, what to do.
    pub message: String,
}

impl Problem {
    /// Creates a problem of a whole resource.
    pub fn of(logical_id: &str, message: impl Into<String>) -> Problem {
        Problem::at(logical_id, "", message)
    }

    /// Creates a problem at a path in a resource.
    pub fn at(logical_id: &str, path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            logical_id: logical_id.to_owned(),
            path: path.into(),
            message: message.into(),
        }
    }

    /// Creates a problem at a joined location, such as `SensorStream.ShardCount`.
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

/// All problems, reported together.
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
