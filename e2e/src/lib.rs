//! The whole pipeline, the browser, the deployment: tests only.
//!
//! The tests run the built programs, which `cargo xtask test` makes first; this library is what they
//! share: starting the local run, publishing, watching the dashboard, reading the archive.
//!
//! Layout: [`programs`], [`run`], [`publish`], [`dashboard`], [`archive`], [`template`].

pub mod archive;
pub mod dashboard;
pub mod programs;
pub mod publish;
pub mod run;
pub mod template;

use std::time::Duration;

/// The longest that anything here may take; reaching it means that it never comes.
pub const PATIENCE: Duration = Duration::from_secs(60);
