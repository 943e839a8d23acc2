//! Names and numbers that the infrastructure, the function, the web UI and the tests must agree on.
//!
//! Nothing here does IO, and nothing here knows AWS's formats.
//! Other packages use these constants instead of repeating their values.
//!
//! Layout: [`topic`] and [`environment`]; [`redis`] with the rights in [`access`]; [`message`], the JSON
//! between function, web UI and browser; [`http`], [`timing`], [`metrics`], [`oidc`].

pub mod access;
pub mod environment;
pub mod http;
pub mod message;
pub mod metrics;
pub mod oidc;
pub mod redis;
pub mod timing;
pub mod topic;
