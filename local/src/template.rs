//! What every service's reading of a template has in common.

use std::fmt;

use cfn::resolve::Problem;

/// The account that templates run in here.
pub const ACCOUNT_ID: &str = "000000000000";

/// Something of the template that does nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEmulated {
    /// Logical ID of the resource.
    pub logical_id: String,
    /// Its type, or the setting of it.
    pub what: String,
}

/// Everything that keeps a template from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplannable(pub Vec<Problem>);

impl fmt::Display for Unplannable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the template cannot run here")?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unplannable {}
