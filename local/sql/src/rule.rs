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

/// A compiled statement: parsed once, evaluated per message, from any thread.
#[derive(Debug)]
pub struct Rule {
    statement: Statement,
    version: SqlVersion,
}

impl Rule {
    /// Parses and compiles a statement: names of functions are resolved, constant expressions evaluated, patterns of
    /// regular expressions and times prepared.
    ///
    /// # Errors
    /// The first thing wrong with the statement, with line and column.
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

    /// What FROM names. None: the rule is reached by Basic Ingest only.
    #[must_use]
    pub fn topic_filter(&self) -> Option<&TopicFilter> {
        self.statement.topic_filter.as_ref()
    }

    /// Whether a message published to `topic` is for this rule: FROM takes it, or it is a [Basic Ingest] topic, which
    /// reaches the rule that it names past FROM. Whether it names this one, only the caller knows.
    ///
    /// [Basic Ingest]: crate::BasicIngest
    #[must_use]
    pub fn takes(&self, topic: &str) -> bool {
        BasicIngest::parse(topic).is_some()
            || self
                .topic_filter()
                .is_some_and(|filter| filter.matches(topic))
    }

    /// The version that it was compiled for.
    #[must_use]
    pub fn version(&self) -> SqlVersion {
        self.version
    }

    /// Names of the SET clause, in order.
    pub(crate) fn variable_names(&self) -> Vec<Box<str>> {
        self.statement
            .variables
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Evaluates SET, WHERE and SELECT. The topic filter is not looked at: whoever calls has routed the
    /// message by [`topic_filter`](Self::topic_filter).
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

    /// None: WHERE is not true.
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

    /// The values of SET alone, for templates of a message that the statement was not evaluated for.
    ///
    /// # Errors
    /// The evaluation grows out of bounds.
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
