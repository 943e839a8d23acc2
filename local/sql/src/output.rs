//! What an evaluation hands to the actions.

use std::borrow::Cow;

use crate::EvaluationError;

/// Result of evaluating a rule for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'m> {
    /// WHERE was not `true`: no action runs, and that is no error.
    NotFired,
    /// The actions run with this.
    Fired(Output<'m>),
    /// No action runs. AWS writes SQL failures to its log; the error action does not see them.
    Failed(EvaluationError),
}

/// The bytes for the actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<'m> {
    bytes: Cow<'m, [u8]>,
}

impl<'m> Output<'m> {
    /// JSON text, or the message's own bytes where nothing was added (`SELECT *`).
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
        None
    }
}
