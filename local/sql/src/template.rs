//! Substitution templates: `${expression}` in the fields of actions ("Substitution templates").

use crate::{
    Context, Error, EvaluationError, Message, Rule, SqlVersion, Variables, conversion,
    evaluation::Evaluation, expression::Expression, json::MAX_BYTES, parser::Parser, value::Value,
};

/// A compiled field of an action, such as `sensors-${topic(2)}`.
#[derive(Debug)]
pub struct Template {
    parts: Vec<Part>,
    version: SqlVersion,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Expression(Expression),
}

impl Template {
    /// Compiles a field's text without variables of a SET clause.
    ///
    /// # Errors
    /// The first problem of an expression, with line and column in the field's text.
    pub fn compile(text: &str, version: SqlVersion) -> Result<Self, Error> {
        Self::compile_with(text, version, &[])
    }

    /// Compiles a field of an action of `rule`, with its version and the variables of its SET clause.
    /// Evaluate it by [`evaluate_with`](Self::evaluate_with).
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn compile_for(text: &str, rule: &Rule) -> Result<Self, Error> {
        Self::compile_with(text, rule.version(), &rule.variable_names())
    }

    fn compile_with(
        text: &str,
        version: SqlVersion,
        variables: &[Box<str>],
    ) -> Result<Self, Error> {
        /// Start of an expression.
        const OPEN: &str = "${";
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(found) = text.get(at..).and_then(|rest| rest.find(OPEN)) {
            parts.push(Part::Text(
                text.get(at..at + found).unwrap_or_default().to_owned(),
            ));
            let mut parser =
                Parser::new(text, at + found + OPEN.len(), version, variables.to_vec())?;
            let expression = parser.expression()?;
            at = parser.ends_with("}")?;
            parts.push(Part::Expression(expression));
        }
        parts.push(Part::Text(text.get(at..).unwrap_or_default().to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { parts, version })
    }

    /// The text if it has no expression, so that it is the same for each message.
    #[must_use]
    pub fn as_constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Evaluates for the message as published, independently of the rule's SELECT.
    /// An expression that is Undefined or Null is the empty string, as AWS documents for Undefined; the action decides
    /// whether it accepts that.
    ///
    /// # Errors
    /// The evaluation exceeds a limit.
    pub fn evaluate(
        &self,
        message: &Message<'_>,
        context: &dyn Context,
    ) -> Result<String, EvaluationError> {
        self.evaluate_with(message, context, &Variables::default())
    }

    /// Like [`evaluate`](Self::evaluate), with the values of the rule's SET clause for this message:
    /// [`Output::variables`](crate::Output::variables) or [`Rule::variables`].
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_with(
        &self,
        message: &Message<'_>,
        context: &dyn Context,
        variables: &Variables,
    ) -> Result<String, EvaluationError> {
        if let Some(text) = self.as_constant() {
            return Ok(text.to_owned());
        }
        let evaluation = Evaluation::new(*message, context, self.version);
        variables
            .0
            .iter()
            .for_each(|value| evaluation.set(value.borrowed()));
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Expression(expression) => {
                    let value: Value<'_> = evaluation.value(expression, None)?;
                    text.push_str(&conversion::text(&value)?.unwrap_or_default());
                }
            }
            if text.len() > MAX_BYTES {
                return Err(EvaluationError::TooLarge(MAX_BYTES));
            }
        }
        Ok(text)
    }
}
