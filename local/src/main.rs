//! Runs an emitted template on one machine.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use aws_environment::{Environment, Region};
use cfn::document::Document;
use clap::Parser;
use local::cli::{Arguments, path_for};
use local::cloud::fault::Faults;
use local::cloud::{Cloud, Settings};
use local::control::Control;
use local::events::{Event, Reporter};
use local::mqtt::device::is_thing_name;
use local::pipeline::{Kept, Options, Pipeline, Renewal, Surroundings, devices};
use local::plan::Plan;
use local::terminal;
use local::tls::Authority;
use local::watch::{Change, Watch};
use outcome::{Exit, Failure};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the shell expects of a program that a signal has ended.
const KILLED: i32 = 130;

fn main() -> ExitCode {
    let is_json = outcome::is_json();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return outcome::not_parsed(&error, is_json).into(),
    };
    terminal::log(arguments.verbose);
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider was installed already");
    }
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = format!("{error:#}");
            let exit = Exit::Failed;
            say(format_args!("error: {error}"));
            Failure { error, exit }.print(is_json);
            exit.into()
        }
    }
}

/// Writes a line to stderr. That its reader is gone, as after Ctrl-C in a pipeline, is not an error.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let signals = Signals::new().context("listen for signals")?;
    if let Some(name) = &arguments.add_device {
        return add_device(name, &arguments);
    }
    match arguments.cloud {
        Some(address) => run_cloud(address, arguments, signals).await,
        None => run_template(arguments, signals).await,
    }
}

/// Makes a device's certificate and shows the line that publishes with it.
fn add_device(name: &str, arguments: &Arguments) -> anyhow::Result<()> {
    if !is_thing_name(name) {
        return Err(anyhow!(
            "`{name}` is no name for a thing: expected 1 to 128 letters, digits, `:`, `_` or `-`"
        ));
    }
    let authority = Authority::open(&devices::authority(&arguments.data))?;
    let folder = devices::folder(&arguments.data);
    let files = authority.device(name, &folder)?;
    let address = arguments.mqtts.map_or(8883, |address| address.port());
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let publish = format!(
        "mosquitto_pub -h localhost -p {address} --cafile {} --cert {certificate} --key {key} -i {name} -q 1 -t {} -m '{{\"temperature\": 21.5}}'",
        authority.ca_file().display(),
        contract::topic::of_device(name),
    );
    let mut stdout = io::stdout().lock();
    let _ = writeln!(
        stdout,
        "certificate  {certificate}\nkey          {key}\n\n{publish}"
    );
    Ok(())
}

async fn run_template(arguments: Arguments, mut signals: Signals) -> anyhow::Result<()> {
    let reporter = Reporter::new(arguments.json);
    let faults = arguments.run_faults().map_err(|it| anyhow!(it))?;
    let plan = plan(&arguments)?;
    let _data = lock(&arguments.data)?;
    terminal::open_log_file(&arguments.data)?;
    reporter.not_emulated(
        plan.not_emulated
            .iter()
            .map(|it| (it.logical_id.as_str(), it.what.as_str())),
    );
    let options = Options {
        functions: arguments.function.clone(),
        bundles: arguments.bundle.clone(),
        mqtt: arguments.mqtt,
        dashboard: arguments.dashboard,
        redis: arguments.redis.clone(),
        data: arguments.data.clone(),
    };
    let mut watch = watched(&arguments, &plan);
    let started = tokio::select! {
        biased;
        () = signals.next() => None,
        started = Running::start(&arguments, plan, options, Kept::default(), Ports::default()) => Some(started?),
    };
    let Some(mut running) = started else {
        // Whatever had started ends with the future that was starting it.
        return Ok(());
    };
    running.pipeline.inject(&faults)?;
    let failure = loop {
        let overview = running.pipeline.overview();
        let changes = tokio::select! {
            () = signals.next() => break None,
            failure = running.pipeline.failed() => break Some(failure),
            () = terminal::keep_up_to_date(overview), if !arguments.json => break None,
            changes = watch.changed(), if arguments.watch => changes,
        };
        running = running.renew(&arguments, changes, &mut watch).await?;
    };
    reporter.tell(&Event::Stopping);
    tokio::select! {
        biased;
        () = signals.next() => killed(),
        summary = running.pipeline.stop() => reporter.tell(&Event::Stopped { summary }),
    }
    failure.map_or(Ok(()), Err)
}

/// The files of a run.
fn watched(arguments: &Arguments, plan: &Plan) -> Watch {
    let mut watch = Watch::default();
    if let Some(template) = &arguments.template {
        watch.add(template, Change::Template);
    }
    for function in &plan.functions {
        if let Some(path) = path_for(&arguments.function, &function.logical_id) {
            watch.add(path, Change::Function(function.logical_id.clone()));
        }
    }
    for environment in &plan.environments {
        if let Some(path) = path_for(&arguments.bundle, &environment.logical_id) {
            watch.add(path, Change::Environment(environment.logical_id.clone()));
        }
    }
    watch
}

/// A run of a template, with the ports beside it.
struct Running {
    pipeline: Pipeline,
    options: Options,
    ports: Ports,
}

/// Ports that a run keeps when it starts again.
#[derive(Default)]
struct Ports {
    mqtts: Option<SocketAddr>,
    control: Option<Control>,
}

impl Running {
    async fn start(
        arguments: &Arguments,
        plan: Plan,
        mut options: Options,
        kept: Kept,
        mut ports: Ports,
    ) -> anyhow::Result<Running> {
        let reporter = Reporter::new(arguments.json);
        let surroundings = Surroundings {
            kept,
            ..Surroundings::default()
        };
        let mut pipeline =
            Pipeline::start_in(plan, options.clone(), reporter, surroundings).await?;
        // A run that starts again keeps its addresses.
        options.mqtt = pipeline.mqtt();
        options.dashboard = pipeline.dashboard().unwrap_or(options.dashboard);
        if let Some(address) = ports.mqtts.or(arguments.mqtts) {
            let address = pipeline.serve_devices(address).await?;
            ports.mqtts = Some(address);
            reporter.tell(&Event::Started {
                logical_id: "MQTT with TLS".to_owned(),
                what: address.to_string(),
            });
        }
        let overview = pipeline.overview();
        match (&ports.control, arguments.control) {
            (Some(control), _) => control.show(overview),
            (None, Some(address)) => {
                ports.control = Some(Control::start(address, overview).await?);
            }
            (None, None) => {}
        }
        reporter.tell(&pipeline.ready(ports.control.as_ref().map(Control::address)));
        Ok(Running {
            pipeline,
            options,
            ports,
        })
    }

    /// Starts again what has changed: a function's processes, a web process, or, with another template,
    /// the parts that are others in it. Where it changes who may do what or where the data are, that is
    /// everything but the caches and streams that are the same in it.
    async fn renew(
        mut self,
        arguments: &Arguments,
        changes: Vec<Change>,
        watch: &mut Watch,
    ) -> anyhow::Result<Running> {
        for change in &changes {
            match change {
                Change::Function(id) => {
                    if let Some(function) = self.pipeline.functions().get(id) {
                        tracing::info!("{id}: another binary; its next invocation starts it");
                        function.renew();
                    }
                }
                Change::Environment(id) => {
                    if let Some(environment) = self.pipeline.environments().get(id) {
                        tracing::info!("{id}: another bundle; its web process starts again");
                        environment.renew();
                    }
                }
                Change::Template => {}
            }
        }
        if !changes.contains(&Change::Template) {
            return Ok(self);
        }
        let planned = plan(arguments).and_then(|plan| {
            Pipeline::check(&plan, &self.options)?;
            Ok(plan)
        });
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!("the old template runs on: {error:#}");
                return Ok(self);
            }
        };
        *watch = watched(arguments, &plan);
        match self.pipeline.renewal(&plan) {
            Renewal::Parts(parts) => {
                if parts.is_empty() {
                    tracing::info!("another template, in which all that runs here is the same");
                } else {
                    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
                    tracing::info!("another template; starting again: {}", names.join(", "));
                }
                self.pipeline.renew(plan, &parts).await?;
                if let Some(control) = &self.ports.control {
                    control.show(self.pipeline.overview());
                }
                tracing::info!("the other template runs");
                Ok(self)
            }
            Renewal::Everything => {
                tracing::info!("another template; starting again with what is the same in it");
                let Running {
                    pipeline,
                    options,
                    ports,
                } = self;
                let (kept, _) = pipeline.stop_keeping().await;
                Running::start(arguments, plan, options, kept, ports).await
            }
        }
    }
}

async fn run_cloud(
    address: SocketAddr,
    arguments: Arguments,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let reporter = Reporter::new(arguments.json);
    let faults = arguments.cloud_faults().map_err(|it| anyhow!(it))?;
    let data = arguments.data.join("cloud");
    let _data = lock(&data)?;
    terminal::open_log_file(&data)?;
    let mut cloud = Cloud::start(address, |endpoint| Settings {
        data: data.clone(),
        endpoint,
        mqtt: arguments.mqtt,
        dashboard: arguments.dashboard,
        redis: arguments.redis,
        faults: Faults::new(faults),
        pace: arguments.pace,
        run: !arguments.no_run,
        reporter,
    })
    .await?;
    let endpoint = format!("http://{}", cloud.address());
    reporter.tell(&Event::CloudReady { endpoint, data });
    let failure = tokio::select! {
        () = signals.next() => None,
        failure = cloud.failed() => Some(failure),
    };
    reporter.tell(&Event::Stopping);
    tokio::select! {
        biased;
        () = signals.next() => killed(),
        () = cloud.stop() => {
            let summary = "stacks, buckets and operations under way are kept in the data folder".to_owned();
            reporter.tell(&Event::Stopped { summary });
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Our programs end by themselves when we do.
fn killed() -> ! {
    say(format_args!("killed"));
    std::process::exit(KILLED);
}

/// Takes the data folder for this run alone: two would mix their checkpoints and archives.
/// The system gives it back however the run ends.
fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    std::fs::create_dir_all(data).with_context(|| format!("make the folder {}", data.display()))?;
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(anyhow!(
            "another run uses the data folder {}: stop it, or choose another folder (--data DIR)",
            data.display()
        )),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

fn plan(arguments: &Arguments) -> anyhow::Result<Plan> {
    let file = arguments.template.as_deref().unwrap_or(Path::new(""));
    let path = file.display();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the template {path}"))?;
    let document = Document::parse(&text)
        .map_err(|error| anyhow!("{path} is no CloudFormation template in JSON: {error}"))?;
    let region = Environment::of_process().region?.unwrap_or(Region {
        name: "eu-central-1".to_owned(),
        origin: "the default".to_owned(),
    });
    Plan::new(
        document,
        &region.name,
        &arguments.stack_name,
        arguments.parameters(),
    )
    .with_context(|| format!("{path}, region {region}"))
}

/// What asks us to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
