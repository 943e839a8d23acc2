//! Checks of the templates by programs that we did not write. The two find different faults.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use stack::Stage;

use super::{Setting, succeed};
use crate::{program, synth, tools, workspace};

/// cfn-lint with AWS's registry schemas: no error and no warning.
pub(super) fn cfn_lint(setting: &Setting) -> anyhow::Result<()> {
    let lint = tools::cfn_lint()?;
    succeed(
        Command::new(lint)
            .args(["--non-zero-exit-code", "warning", "--"])
            .args(templates()?),
        setting,
    )
}

/// AWS's own validator. It wants a newer Rust than ours, though it compiles with ours, so it is a
/// package outside the workspace, with its own lock file.
pub(super) fn cloudformation_validate(setting: &Setting) -> anyhow::Result<()> {
    let package = setting.root.join("e2e/judges/cloudformation-validate");
    let target = workspace::target()?.join("judges");
    succeed(
        program::cargo()
            .args([
                "run",
                "--quiet",
                "--locked",
                "--ignore-rust-version",
                "--manifest-path",
            ])
            .arg(package.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .arg("--")
            .args(templates()?),
        setting,
    )
}

/// Every stage's templates, synthesised now.
fn templates() -> anyhow::Result<Vec<PathBuf>> {
    let mut templates = Vec::new();
    for stage in Stage::ALL {
        let folder = synth::default_folder(stage)?;
        let written = synth::write(stage, &folder).context("synthesise")?;
        templates.extend(written.into_iter().map(|written| written.template));
    }
    Ok(templates)
}
