//! The programs under test, built beforehand.

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use serde::Deserialize;

/// Environment variable with the path of the file that `cargo xtask test` writes.
pub const VARIABLE: &str = "E2E_PROGRAMS";

/// Paths, and what the local run is told beside them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Programs {
    /// Runs a template.
    pub local: PathBuf,
    /// The Lambda function.
    pub function: PathBuf,
    /// The dashboard server.
    pub webui: PathBuf,
    /// Publishes over MQTT.
    pub mqtt: PathBuf,
    /// `cargo xtask`.
    pub xtask: PathBuf,
    /// File that names the programs for `cargo xtask`, which then builds none.
    pub built: PathBuf,
    /// The unpacked Beanstalk bundle.
    pub bundle: PathBuf,
    /// The main template of stage `dev`.
    pub template: PathBuf,
    /// `NAME=VALUE` of the parameters that have no default.
    pub parameters: Vec<String>,
    /// Node.js.
    pub node: PathBuf,
    /// Chromium.
    pub browser: PathBuf,
    /// A PATH with everything that the tests call by name.
    pub path: String,
}

impl Programs {
    /// Reads the file that [`VARIABLE`] names.
    ///
    /// # Errors
    ///
    /// Without it: how to run these tests.
    pub fn load() -> anyhow::Result<Programs> {
        let file = env::var_os(VARIABLE).with_context(|| {
            format!("{VARIABLE} is not set: run `cargo xtask test --only end-to-end`, which builds the programs")
        })?;
        let text = fs::read_to_string(&file).with_context(|| {
            format!(
                "read {}: run `cargo xtask test --only end-to-end`",
                file.display()
            )
        })?;
        serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))
    }
}
