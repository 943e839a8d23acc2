//! What an evaluation hands to the actions.

use std::{borrow::Cow, sync::Arc};

use crate::{EvaluationError, json, value::Value};

/// Result of evaluating a rule for one message.
#[derive(Clone, Debug)]
pub enum Outcome<'m> {
    /// WHERE was not `true`: no action runs, and that is no error.
    NotFired,
    /// The actions run with this.
    Fired(Output<'m>),
    /// No action runs. AWS writes SQL failures to its log; the error action does not see them.
    Failed(EvaluationError),
}

/// The bytes for the actions.
#[derive(Clone, Debug)]
pub struct Output<'m> {
    bytes: Cow<'m, [u8]>,
    variables: Variables,
}

/// Values of a SET clause, for the substitution templates of the same message.
///
/// Evaluating a variable again could give something else (`newuuid()`), so templates take what the
/// statement found.
#[derive(Clone, Debug, Default)]
pub struct Variables(pub(crate) Arc<[Value<'static>]>);

impl<'m> Output<'m> {
    pub(crate) fn new(bytes: Cow<'m, [u8]>, variables: Variables) -> Self {
        Self { bytes, variables }
    }

    /// JSON text, or the message's own bytes where nothing was added (`SELECT *`).
    /// Empty where `SELECT VALUE` found Undefined.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Like [`bytes`](Self::bytes), without a copy where that is possible.
    #[must_use]
    pub fn into_bytes(self) -> Cow<'m, [u8]> {
        self.bytes
    }

    /// The elements as JSON text if the output is a JSON array, else none: what an action's
    /// `BatchMode` sends as single records.
    #[must_use]
    pub fn elements(&self) -> Option<Vec<&[u8]>> {
        json::elements(&self.bytes)
    }

    /// For [`Template::evaluate_with`](crate::Template::evaluate_with).
    #[must_use]
    pub fn variables(&self) -> &Variables {
        &self.variables
    }
}
