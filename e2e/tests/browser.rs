//! The dashboard in Chromium.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};
use e2e::programs::Programs;
use e2e::run::{Run, Settings};
use tokio::process::Command;

/// The page's tests are written where a browser is driven best.
fn node(programs: &Programs) -> Command {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let mut node = Command::new(&programs.node);
    node.current_dir(package)
        .env("PATH", &programs.path)
        .env("WEBUI_BIN", &programs.webui)
        .env("CHROMIUM", &programs.browser)
        .stdin(Stdio::null());
    node
}

async fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .context("run node")?;
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    ensure!(
        output.status.success(),
        "{}\n{}",
        output.status,
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

#[tokio::test]
async fn page_alone_passes_its_own_tests() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    succeed(node(&programs).args(["--test", "--test-concurrency=1"])).await
}

#[tokio::test]
async fn message_shows_on_the_page_without_a_reload() -> anyhow::Result<()> {
    let programs = Programs::load()?;
    let run = Run::start(Settings::new(&programs)).await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser.mjs");
    succeed(
        node(&programs)
            .arg(script)
            .env("DASHBOARD", format!("http://{}/", run.dashboard))
            .env("BROKER", &run.mqtt)
            .env("PUBLISHER", &programs.mqtt),
    )
    .await
    .with_context(|| run.log())
}
