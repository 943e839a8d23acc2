//! Runs an emitted template on one machine.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use aws_environment::{Environment, Region};
use cfn::document::Document;
use clap::Parser;
use local::cli::Arguments;
use local::control::Control;
use local::events::{Event, Reporter};
use local::mqtt::device::{self, is_thing_name};
use local::paths::path_for;
use local::plan::Plan;
use local::program::{self, Signals, killed, lock};
use local::run::{Options, Run};
use local::terminal;
use local::tls::Authority;
use local::watch::{Change, Watch};
use outcome::is_json;

fn main() -> ExitCode {
    let is_json = is_json();
    match Arguments::try_parse() {
        Ok(arguments) => program::run(is_json, arguments.verbose, run(arguments)),
        Err(error) => outcome::not_parsed(&error, is_json).into(),
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let signals = Signals::new().context("listen for signals")?;
    if let Some(name) = &arguments.add_device {
        return add_device(name, &arguments);
    }
    run_template(arguments, signals).await
}

/// Makes a device's certificate and shows the line that publishes with it.
fn add_device(name: &str, arguments: &Arguments) -> anyhow::Result<()> {
    if !is_thing_name(name) {
        return Err(anyhow!(
            "`{name}` is no name for a thing: expected 1 to 128 letters, digits, `:`, `_` or `-`"
        ));
    }
    let authority = Authority::open(&arguments.data.join("tls"))?;
    let folder = device::folder(&arguments.data);
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
        started = Running::start(&arguments, plan, options, reporter) => Some(started?),
    };
    let Some(running) = started else {
        // Whatever had started ends with the future that was starting it.
        return Ok(());
    };
    running.run.inject(&arguments.fault).await?;
    let failure = loop {
        let overview = running.run.overview();
        let changes = tokio::select! {
            () = signals.next() => break None,
            failure = running.run.failed() => break Some(failure),
            () = terminal::keep_up_to_date(overview), if !arguments.json => break None,
            changes = watch.changed(), if arguments.watch => changes,
        };
        running.change(&arguments, &changes, &mut watch).await?;
    };
    reporter.tell(&Event::Stopping);
    tokio::select! {
        biased;
        () = signals.next() => killed(),
        summary = running.run.stop() => reporter.tell(&Event::Stopped { summary }),
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

/// A run of a template, with its control port.
struct Running {
    run: Run,
    options: Options,
    control: Option<Control>,
}

impl Running {
    async fn start(
        arguments: &Arguments,
        plan: Plan,
        options: Options,
        reporter: Reporter,
    ) -> anyhow::Result<Running> {
        let run = Run::start(plan, &options, reporter).await?;
        run.warn_of_denials().await;
        if let Some(address) = arguments.mqtts {
            let address = run.serve_devices(address).await?;
            reporter.tell(&Event::Started {
                logical_id: "MQTT with TLS".to_owned(),
                what: address.to_string(),
            });
        }
        let control = match arguments.control {
            Some(address) => Some(Control::start(address, run.overview()).await?),
            None => None,
        };
        reporter.tell(&run.ready(control.as_ref().map(Control::address)));
        Ok(Running {
            run,
            options,
            control,
        })
    }

    /// Restarts what has changed: a function's processes, a web process, or, with another template, the
    /// parts that it gives other settings, permissions or addresses.
    async fn change(
        &self,
        arguments: &Arguments,
        changes: &[Change],
        watch: &mut Watch,
    ) -> anyhow::Result<()> {
        let run = &self.run;
        for change in changes {
            match change {
                Change::Function(id) => {
                    if let Some(function) = run.functions().get(id) {
                        tracing::info!("{id}: another binary; its next invocation starts it");
                        function.renew();
                    }
                }
                Change::Environment(id) => {
                    if let Some(environment) = run.environments().get(id) {
                        tracing::info!("{id}: another bundle; its web process is restarted");
                        environment.renew();
                    }
                }
                Change::Template => {}
            }
        }
        if !changes.contains(&Change::Template) {
            return Ok(());
        }
        let planned = plan(arguments).and_then(|plan| {
            let programs = self.options.programs(&plan)?;
            Ok((plan, programs))
        });
        let (plan, programs) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                tracing::error!("keeping the previous template: {error:#}");
                return Ok(());
            }
        };
        *watch = watched(arguments, &plan);
        run.aim(plan, programs);
        let failed = |(_, error)| error;
        let difference = run.difference().await.map_err(failed)?;
        if difference.is_empty() {
            tracing::info!("template changed; everything that runs here is the same in it");
        } else {
            tracing::info!("template changed; updating: {}", difference.names());
        }
        run.bring_up(None).await.map_err(failed)?;
        if !difference.is_empty() {
            run.warn_of_denials().await;
        }
        if let Some(control) = &self.control {
            control.show(run.overview());
        }
        tracing::info!("the new template runs");
        Ok(())
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
