//! `cargo xtask local`: brings together what the local run needs, and becomes it.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use aws_environment::{Environment, Region};
use cfn::document::Document;
use cfn::resolve::{self, MissingParameters};
use clap::Args;
use local_flags::fault::run::Fault;
use stack::{Stage, parameters};

use crate::{Exit, address, program, synth, tools, workspace};

/// The account and the stack that `local` takes; its template is checked with the same.
const ACCOUNT_ID: &str = "000000000000";
const STACK_NAME: &str = "sensors-local";

/// The region where the environment names none.
const DEFAULT_REGION: &str = "eu-central-1";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Stage whose template runs: dev or prod
    #[arg(long, value_name = "STAGE", default_value_t = Stage::Dev)]
    stage: Stage,
    /// Run this template instead of the synthesized one
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Address for MQTT; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883", value_parser = address::parse)]
    mqtt: SocketAddr,
    /// Address for MQTT with TLS, for devices with certificates
    #[arg(long, value_name = "ADDR", value_parser = address::parse)]
    mqtts: Option<SocketAddr>,
    /// Inject a fault, e.g. function:crash@5%, cache:restart@30s, cache:wipe@30s,
    /// stream:throttle@10s..20s or record:duplicate@1%; may be repeated
    #[arg(long, value_name = "PART:WHAT", value_parser = fault)]
    fault: Vec<String>,
    /// Address for the dashboard; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address::parse)]
    dashboard: SocketAddr,
    /// Address of the JSON status endpoint; port 0 takes a free one [default: 127.0.0.1:8081, or a free
    /// port where that is taken]
    #[arg(long, value_name = "ADDR", value_parser = address::parse)]
    control: Option<SocketAddr>,
    /// Use this running Redis or Valkey instead of starting one
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Folder for the run's data, e.g. the archive [default: target/local]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Restart parts whose template, binary or bundle changes
    #[arg(long)]
    watch: bool,
    /// Show the log lines of each batch and request, which otherwise only DATA/local.log has
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
    let data = match data {
        Some(data) => data,
        None => workspace::target()?.join("local"),
    };
    // Everything that can be wrong is said before anything is built.
    let parameters = artifact_parameters(&template)?;
    check_template(&template, &parameters)?;
    check_data(&data)?;
    address::check_free("--mqtt", mqtt)?;
    address::check_free("--dashboard", dashboard)?;
    for (flag, address) in [("--mqtts", mqtts), ("--control", control)] {
        if let Some(address) = address {
            address::check_free(flag, address)?;
        }
    }
    match &redis {
        None => drop(tools::redis()?),
        Some(url) => check_redis(url)?,
    }
    let [function, webui, local] = program::build_together(
        "the programs",
        [program::FUNCTION, program::WEBUI, program::LOCAL],
    )?;
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
    pass("--mqtt", mqtt.to_string().into());
    if let Some(mqtts) = mqtts {
        pass("--mqtts", mqtts.to_string().into());
    }
    for fault in fault {
        pass("--fault", fault.into());
    }
    pass("--dashboard", dashboard.to_string().into());
    let control = control.map_or("auto".to_owned(), |it| it.to_string());
    pass("--control", control.into());
    pass("--data", data.into());
    if let Some(redis) = redis {
        pass("--redis", redis.into());
    }
    passed.extend(watch.then(|| "--watch".into()));
    passed.extend(verbose.then(|| "--verbose".into()));
    passed.extend(json.then(|| "--json".into()));
    match program::become_program(&local, passed, [("PATH", tools::path()?)])? {}
}

/// A fault of a run; `local` parses the text again.
fn fault(text: &str) -> Result<String, String> {
    let fault = text.parse::<Fault>();
    fault
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// Resolves the template as `local` does, with every problem named by its logical ID.
fn check_template(template: &Path, parameters: &[String]) -> anyhow::Result<()> {
    let region = Environment::of_process().region?.unwrap_or(Region {
        name: DEFAULT_REGION.to_owned(),
        origin: "the default of `local`".to_owned(),
    });
    let mut context = resolve::Context::new(ACCOUNT_ID, &region.name, STACK_NAME);
    context.missing_parameters = MissingParameters::Placeholder;
    context.parameters = parameters
        .iter()
        .filter_map(|parameter| parameter.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let Err(problems) = resolve::resolve(&document(template)?, &context) else {
        return Ok(());
    };
    let lines = problems.iter().map(|problem| format!("\n  {problem}"));
    let lines: String = lines.collect();
    // A mapping without a row for the region, for example.
    let hint = match lines.contains(&region.name) {
        true => format!("\nthe region is {region}; fix: `export AWS_REGION=…`"),
        false => String::new(),
    };
    bail!("cannot run {}:{lines}{hint}", template.display())
}

/// Checks that the data folder can be written, and that no other run uses it.
fn check_data(data: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot use {} (--data)", data.display());
    if data.exists() && !data.is_dir() {
        bail!("{}: it is not a folder", cannot());
    }
    fs::create_dir_all(data).with_context(cannot)?;
    let lock = File::create(data.join("lock")).with_context(cannot)?;
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!(
            "{}: another run uses it; fix: stop that run, or choose another folder by `--data DIR`",
            cannot()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
    }
}

/// Checks the server of `--redis`. Its URL may hold a password and is not shown.
fn check_redis(url: &str) -> anyhow::Result<()> {
    let address = local_flags::redis::address(url);
    let (host, port) = match address {
        Ok(address) => address,
        Err(error) => bail!("invalid --redis URL: {error}"),
    };
    let fix = "start the server, or leave --redis out to have one started";
    address::check_answers("--redis", &host, port, fix)
}

/// Links the bundle's program to the one that cargo builds, so that a watching run sees the next build.
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
    let document = document(template)?;
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

fn document(template: &Path) -> anyhow::Result<Document> {
    let text = fs::read_to_string(template)
        .with_context(|| format!("cannot read the template {}", template.display()))?;
    Document::parse(&text)
        .with_context(|| format!("cannot parse {} as a template in JSON", template.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapping_without_a_row_for_the_region_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let template = folder.path().join("t.json");
        fs::write(
            &template,
            r#"{
                "Mappings": {"Regions": {"mars-1": {"Prefix": "x"}}},
                "Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {
                    "TopicName": {"Fn::FindInMap": ["Regions", {"Ref": "AWS::Region"}, "Prefix"]}
                }}}
            }"#,
        )
        .unwrap();
        let region = Environment::of_process().region.unwrap();
        let error = check_template(&template, &[]).unwrap_err().to_string();
        let origin = region.map_or("the default of `local`".to_owned(), |it| it.origin);
        assert!(error.contains("Topic"), "{error}");
        assert!(error.contains(&format!("(from {origin})")), "{error}");
    }

    #[test]
    fn data_folder_of_another_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        check_data(folder.path()).unwrap();
        let lock = File::create(folder.path().join("lock")).unwrap();
        lock.lock().unwrap();
        let error = check_data(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another run uses it"), "{error}");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(check_data(&file).is_err());
    }
}
