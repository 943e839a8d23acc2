//! Terminal output of a running operation: plain lines, a live block, or JSON.

pub(crate) mod block;
pub(crate) mod forecast;
pub(crate) mod progress;
pub(crate) mod typical;
