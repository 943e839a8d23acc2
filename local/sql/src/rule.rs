//! A compiled statement.

use std::borrow::Cow;

use crate::{
    BasicIngest, Context, Error, EvaluationError, Message, Outcome, Output, SqlVersion,
    TopicFilter, Variables,
    evaluation::Evaluation,
    expression::Projection,
    json,
    parser::{self, Statement},
    value::Value,
};

/// Longest statement, in bytes (AWS IoT Core quotas).
const MAX_SQL: usize = 256 * 1024;

/// A compiled statement. It can be evaluated from any thread.
#[derive(Debug)]
pub struct Rule {
    statement: Statement,
    version: SqlVersion,
}

impl Rule {
    /// Compiles a statement: resolves function names, evaluates constant expressions, and compiles the patterns of
    /// regular expressions and times.
    ///
    /// # Errors
    /// The first problem of the statement, with line and column.
    pub fn compile(sql: &str, version: SqlVersion) -> Result<Self, Error> {
        if sql.len() > MAX_SQL {
            let length = sql.len();
            return Err(Error::at(
                sql,
                0,
                format!("statement has {length} bytes, at most {MAX_SQL} are allowed"),
            ));
        }
        Ok(Self {
            statement: parser::statement(sql, version)?,
            version,
        })
    }

    /// The filter of FROM. `None` if the rule is reached by Basic Ingest only.
    #[must_use]
    pub fn topic_filter(&self) -> Option<&TopicFilter> {
        self.statement.topic_filter.as_ref()
    }

    /// Whether a message published to `topic` is for this rule: FROM matches, or it is a [Basic Ingest] topic, which
    /// bypasses FROM. The caller must check that it names this rule.
    ///
    /// [Basic Ingest]: crate::BasicIngest
    #[must_use]
    pub fn takes(&self, topic: &str) -> bool {
        BasicIngest::parse(topic).is_some()
            || self
                .topic_filter()
                .is_some_and(|filter| filter.matches(topic))
    }

    /// The version for which it is compiled.
    #[must_use]
    pub fn version(&self) -> SqlVersion {
        self.version
    }

    /// Names of the variables in the SET clause, in order.
    pub(crate) fn variable_names(&self) -> Vec<Box<str>> {
        self.statement
            .variables
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Evaluates SET, WHERE and SELECT. Ignores the topic filter: the caller routes messages by
    /// [`topic_filter`](Self::topic_filter).
    pub fn evaluate<'m>(&self, message: &Message<'m>, context: &dyn Context) -> Outcome<'m> {
        let Statement {
            variables,
            projection,
            filter,
            ..
        } = &self.statement;
        if let (Projection::Everything, None, true) = (projection, filter, variables.is_empty()) {
            return Outcome::Fired(Output::new(
                Cow::Borrowed(message.payload),
                Variables::default(),
            ));
        }
        match self.fire(message, context) {
            Ok(Some(output)) => Outcome::Fired(output),
            Ok(None) => Outcome::NotFired,
            Err(error) => Outcome::Failed(error),
        }
    }

    /// `None` if WHERE is not true.
    fn fire<'m>(
        &self,
        message: &Message<'m>,
        context: &dyn Context,
    ) -> Result<Option<Output<'m>>, EvaluationError> {
        let evaluation = Evaluation::new(*message, context, self.version);
        for (_, expression) in &self.statement.variables {
            let value = evaluation.value(expression, None)?;
            evaluation.set(value);
        }
        if let Some(filter) = &self.statement.filter
            && !evaluation.holds(filter, None)?
        {
            return Ok(None);
        }
        let projection = &self.statement.projection;
        if matches!(projection, Projection::Everything) {
            return Ok(Some(Output::new(
                Cow::Borrowed(message.payload),
                evaluation.variables(),
            )));
        }
        let mut value = evaluation.project(projection, None)?;
        // "With SQL version 2016-03-23 or later, you can also select an array to output as a top-level object".
        if self.version == SqlVersion::V20151008 && matches!(value, Value::Array(_)) {
            value = Value::Undefined;
        }
        let mut text = String::new();
        json::write(&value, &mut text, json::MAX_BYTES)?;
        Ok(Some(Output::new(
            Cow::Owned(text.into_bytes()),
            evaluation.variables(),
        )))
    }

    /// Evaluates SET only, for templates of a message for which the statement is not evaluated.
    ///
    /// # Errors
    /// The evaluation exceeds a limit.
    pub fn variables(
        &self,
        message: &Message<'_>,
        context: &dyn Context,
    ) -> Result<Variables, EvaluationError> {
        let evaluation = Evaluation::new(*message, context, self.version);
        for (_, expression) in &self.statement.variables {
            let value = evaluation.value(expression, None)?;
            evaluation.set(value);
        }
        Ok(evaluation.variables())
    }
}
