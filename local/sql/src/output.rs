//! Result of an evaluation, for the actions.

use std::{borrow::Cow, sync::Arc};

use crate::{EvaluationError, json, value::Value};

/// Result of evaluating a rule for one message.
#[derive(Clone, Debug)]
pub enum Outcome<'m> {
    /// WHERE was not `true`: no action runs.
    NotFired,
    /// The actions run with this output.
    Fired(Output<'m>),
    /// No action runs. AWS logs SQL failures; the error action does not run.
    Failed(EvaluationError),
}

/// Output for the actions.
#[derive(Clone, Debug)]
pub struct Output<'m> {
    bytes: Cow<'m, [u8]>,
    variables: Variables,
}

/// Values of a SET clause, for the substitution templates of the same message.
///
/// Templates use the statement's values, because evaluating again could give others (`newuuid()`).
#[derive(Clone, Debug, Default)]
pub struct Variables(pub(crate) Arc<[Value<'static>]>);

impl<'m> Output<'m> {
    pub(crate) fn new(bytes: Cow<'m, [u8]>, variables: Variables) -> Self {
        Self { bytes, variables }
    }

    /// JSON text, or the message's bytes for `SELECT *`. Empty if `SELECT VALUE` is Undefined.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Like [`bytes`](Self::bytes), without a copy if possible.
    #[must_use]
    pub fn into_bytes(self) -> Cow<'m, [u8]> {
        self.bytes
    }

    /// The elements as JSON text, which an action with `BatchMode` sends as single records. `None` if the output is not
    /// a JSON array.
    #[must_use]
    pub fn elements(&self) -> Option<Vec<&[u8]>> {
        json::elements(&self.bytes)
    }

    /// The variables, for [`Template::evaluate_with`](crate::Template::evaluate_with).
    #[must_use]
    pub fn variables(&self) -> &Variables {
        &self.variables
    }
}
