//! `cargo xtask local`: brings together what the local run needs, and becomes it.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use cfn::document::Document;
use clap::Args;
use stack::Stage;

use crate::{Exit, program, synth, tools, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Stage whose template runs: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    stage: Stage,
    /// Run this template instead of the synthesised one
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Address for MQTT; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    mqtt: String,
    /// Address for the dashboard; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    dashboard: String,
    /// Use this running Redis or Valkey instead of starting one
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Folder for what the run keeps, such as the archive [default: target/local]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print events as JSON lines
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        stage,
        template,
        mqtt,
        dashboard,
        redis,
        data,
        json,
    } = arguments;
    let template = match template {
        Some(template) => template,
        None => main_template(stage)?,
    };
    // Before anything is built: what cannot be read cannot run.
    let parameters = parameters(&template)?;
    if redis.is_none() {
        tools::redis()?;
    }
    let function = program::build(program::FUNCTION)?;
    let webui = program::build(program::WEBUI)?;
    let local = program::build(program::LOCAL)?;
    let data = match data {
        Some(data) => data,
        None => workspace::target()?.join("local"),
    };
    let folder = data.join("bundle");
    let settings = bundle::Settings {
        redirect_to_https: false,
    };
    bundle::write_folder(&folder, settings, &webui)?;

    let mut passed: Vec<OsString> = Vec::new();
    let mut pass = |flag: &str, value: OsString| passed.extend([flag.into(), value]);
    pass("--template", template.into());
    pass("--function", function.into());
    pass("--bundle", folder.into());
    for parameter in parameters {
        pass("--parameter", parameter.into());
    }
    pass("--mqtt", mqtt.into());
    pass("--dashboard", dashboard.into());
    pass("--data", data.into());
    if let Some(redis) = redis {
        pass("--redis", redis.into());
    }
    passed.extend(json.then(|| "--json".into()));
    match program::become_program(&local, passed, [("PATH", tools::path()?)])? {}
}

/// The stage's main template, synthesised now.
pub(crate) fn main_template(stage: Stage) -> anyhow::Result<PathBuf> {
    let written = synth::write(stage, &synth::default_folder(stage)?)?;
    let last = written
        .into_iter()
        .next_back()
        .context("the stage has no stack")?;
    Ok(last.template)
}

/// `NAME=VALUE` of each parameter that the template declares without a default.
///
/// On AWS `deploy` passes them: where the artifacts are and which platform. Here the programs come by
/// their paths, so any value of the right shape will do.
pub(crate) fn parameters(template: &std::path::Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(template)
        .with_context(|| format!("read the template {}", template.display()))?;
    let document = Document::parse(&text)
        .with_context(|| format!("{} is no template that can be read", template.display()))?;
    let undecided = document
        .parameters
        .iter()
        .filter(|(_, parameter)| parameter.default.is_none());
    Ok(undecided
        .map(|(name, _)| format!("{name}={}", name.to_lowercase()))
        .collect())
}
