//! Names and numbers that the infrastructure, the function, the web UI and the tests must agree on.
//!
//! Nothing here does IO, and nothing here knows AWS's formats.
//! A name that stands in this crate stands nowhere else in the repository.
//!
//! Layout: [`topic`], [`environment`], [`redis`] and who may do what there in [`access`], [`http`],
//! [`timing`], [`metrics`], [`oidc`], and [`message`] for what travels.

pub mod access;
pub mod environment;
pub mod http;
pub mod message;
pub mod metrics;
pub mod oidc;
pub mod redis;
pub mod timing;
pub mod topic;
