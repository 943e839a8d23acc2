//! `cargo xtask local`: brings together what the local run needs, and becomes it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cfn::document::Document;
use clap::Args;
use stack::{Stage, parameters};

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
    /// Address for MQTT with TLS, for devices with certificates
    #[arg(long, value_name = "ADDR")]
    mqtts: Option<String>,
    /// What shall go wrong, such as function:crash@5%, cache:restart@30s, cache:wipe@30s,
    /// stream:throttle@10s..20s or record:duplicate@1%; may be repeated
    #[arg(long, value_name = "PART:WHAT")]
    fault: Vec<String>,
    /// Address for the dashboard; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    dashboard: String,
    /// Address of the JSON status endpoint; port 0 takes a free one [default: 127.0.0.1:8081, or a free
    /// port where that is taken]
    #[arg(long, value_name = "ADDR")]
    control: Option<String>,
    /// Use this running Redis or Valkey instead of starting one
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Folder for what the run keeps, such as the archive [default: target/local]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Start again what changes: the template, a function's binary, the bundle
    #[arg(long)]
    watch: bool,
    /// Show also what the programs log for each batch and request; without, only DATA/local.log has it
    #[arg(long)]
    verbose: bool,
    /// Print events as JSON lines
    #[arg(long)]
    json: bool,
}

/// There is no HTTPS listener in front of the dashboard here.
pub(crate) const BUNDLE: bundle::Settings = bundle::Settings {
    redirect_to_https: false,
    sign_in: None,
};

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        stage,
        template,
        mqtt,
        mqtts,
        fault,
        dashboard,
        control,
        redis,
        data,
        watch,
        verbose,
        json,
    } = arguments;
    let template = match template {
        Some(template) => template,
        None => main_template(stage)?,
    };
    // Before anything is built: what cannot be read cannot run.
    let parameters = artifact_parameters(&template)?;
    if redis.is_none() {
        tools::redis()?;
    }
    let [function, webui, local] = program::build_together(
        "the programs",
        [program::FUNCTION, program::WEBUI, program::LOCAL],
    )?;
    let data = match data {
        Some(data) => data,
        None => workspace::target()?.join("local"),
    };
    let folder = data.join("bundle");
    let settings = bundle::Settings {
        redirect_to_https: false,
        sign_in: None,
    };
    bundle::write_folder(&folder, settings, &webui)?;
    if watch {
        follow(&folder, &webui)?;
    }

    let mut passed: Vec<OsString> = Vec::new();
    let mut pass = |flag: &str, value: OsString| passed.extend([flag.into(), value]);
    pass("--template", template.into());
    pass("--function", function.into());
    pass("--bundle", folder.into());
    for parameter in parameters {
        pass("--parameter", parameter.into());
    }
    pass("--mqtt", mqtt.into());
    if let Some(mqtts) = mqtts {
        pass("--mqtts", mqtts.into());
    }
    for fault in fault {
        pass("--fault", fault.into());
    }
    pass("--dashboard", dashboard.into());
    pass("--control", control.unwrap_or("auto".to_owned()).into());
    pass("--data", data.into());
    if let Some(redis) = redis {
        pass("--redis", redis.into());
    }
    passed.extend(watch.then(|| "--watch".into()));
    passed.extend(verbose.then(|| "--verbose".into()));
    passed.extend(json.then(|| "--json".into()));
    match program::become_program(&local, passed, [("PATH", tools::path()?)])? {}
}

/// Lets the bundle have whatever cargo builds next, so that a watching run sees it.
fn follow(bundle: &Path, webui: &Path) -> anyhow::Result<()> {
    let binary = bundle.join(bundle::WEBUI);
    fs::remove_file(&binary).with_context(|| format!("replace {}", binary.display()))?;
    let webui = fs::canonicalize(webui).with_context(|| format!("find {}", webui.display()))?;
    std::os::unix::fs::symlink(&webui, &binary)
        .with_context(|| format!("link {} to {}", binary.display(), webui.display()))
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

/// `NAME=VALUE` of the artifact parameters that the template declares.
///
/// On AWS `deploy` passes them. Here the programs come by their paths, so any value of the right
/// shape will do.
pub(crate) fn artifact_parameters(template: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(template)
        .with_context(|| format!("read the template {}", template.display()))?;
    let document = Document::parse(&text)
        .with_context(|| format!("{} is no template in JSON", template.display()))?;
    Ok([
        (parameters::ARTIFACTS_BUCKET, "sensors-local-artifacts"),
        (parameters::FUNCTION_KEY, "function.zip"),
        (parameters::BUNDLE_KEY, "webui.zip"),
        (
            parameters::PLATFORM_ARN,
            "arn:aws:elasticbeanstalk:us-east-1::platform/Go 1 running on 64bit Amazon Linux 2023/4.0.0",
        ),
    ]
    .into_iter()
    .filter(|(name, _)| document.parameters.contains_key(*name))
    .map(|(name, value)| format!("{name}={value}"))
    .collect())
}
