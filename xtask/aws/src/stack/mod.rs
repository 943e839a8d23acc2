//! One CloudFormation stack: its API calls, its states, and an operation followed to its end.

pub(crate) mod call;
pub(crate) mod change;
pub(crate) mod event;
pub(crate) mod operation;
pub(crate) mod retry;
pub(crate) mod state;
pub(crate) mod transient;
