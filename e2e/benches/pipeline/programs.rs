//! The programs, built as they are for AWS.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use e2e::programs::Programs;
use serde_json::Value as Json;

/// Builds everything and lays the bundle out in `folder`; runs find servers on the `path`.
pub(crate) fn build(folder: &Path, path: String) -> anyhow::Result<Programs> {
    let function = program("functions", "sensors")?;
    let webui = program("webui", "webui")?;
    let local = program("local", "local")?;
    let mqtt = program("xtask-mqtt", "xtask-mqtt")?;
    let bundle = folder.join("bundle");
    let settings = bundle::Settings {
        redirect_to_https: false,
        sign_in: None,
    };
    bundle::write_folder(&bundle, settings, &webui)?;
    let synthesized = cargo()
        .args(["run", "--quiet", "--package", "xtask", "--", "synth"])
        .args(["--stage", "dev", "--out"])
        .arg(folder)
        .stdout(Stdio::null())
        .status()
        .context("run cargo")?;
    ensure!(synthesized.success(), "cargo xtask synth: {synthesized}");
    let template = folder.join("sensors-dev.template.json");
    Ok(Programs {
        // No rehearsal takes part.
        xtask: PathBuf::new(),
        built: PathBuf::new(),
        local,
        function,
        webui,
        mqtt,
        bundle,
        parameters: parameters(&template)?,
        template,
        // Of no use here.
        node: PathBuf::new(),
        browser: PathBuf::new(),
        path,
    })
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds one program by a cargo call of its own, so that no other package's features get into it.
fn program(package: &str, binary: &str) -> anyhow::Result<PathBuf> {
    let output = cargo()
        .args(["build", "--release", "--quiet", "--message-format=json"])
        .args(["--package", package, "--bin", binary])
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    ensure!(output.status.success(), "cargo build: {}", output.status);
    String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<Json>(line).ok())
        .filter(|message| message["target"]["name"] == binary)
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .with_context(|| format!("cargo names no binary {binary}"))
}

/// `NAME=VALUE` of the parameters without a default: the programs come by their paths, so any value
/// will do.
fn parameters(template: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(template)
        .with_context(|| format!("read {}", template.display()))?;
    let template: Json = serde_json::from_str(&text)?;
    let parameters = template["Parameters"].as_object();
    Ok(parameters
        .into_iter()
        .flatten()
        .filter(|(_, parameter)| parameter.get("Default").is_none())
        .map(|(name, _)| format!("{name}=unused"))
        .collect())
}
