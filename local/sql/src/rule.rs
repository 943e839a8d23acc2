//! A compiled statement.

use crate::{Context, Error, Message, Outcome, SqlVersion, TopicFilter};

/// A compiled statement: parsed once, evaluated per message, from any thread.
#[derive(Debug)]
pub struct Rule {
    topic_filter: Option<TopicFilter>,
}

impl Rule {
    /// Parses and compiles a statement.
    ///
    /// # Errors
    /// The first thing wrong with the statement, with line and column.
    pub fn compile(sql: &str, version: SqlVersion) -> Result<Self, Error> {
        let _ = version;
        Err(Error::at(sql, 0, "no statement is supported"))
    }

    /// What FROM names. None: the rule is reached by Basic Ingest only.
    #[must_use]
    pub fn topic_filter(&self) -> Option<&TopicFilter> {
        self.topic_filter.as_ref()
    }

    /// Evaluates WHERE and SELECT. The topic filter is not looked at: whoever calls has routed the
    /// message by [`topic_filter`](Self::topic_filter).
    pub fn evaluate<'m>(&self, message: &Message<'m>, context: &dyn Context) -> Outcome<'m> {
        let _ = (message, context);
        Outcome::NotFired
    }
}
