//! `cargo xtask rehearse`: a whole deployment on this machine, with the programs that deploy to AWS, against
//! `local-cloud`.
//!
//! Layout: the steps; `Cloud`, the process that answers the AWS APIs; `Stage`, the commands run against
//! it; the table at the end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use local_flags::fault::cloud::Fault;
use serde_json::{Value as Json, json};

use crate::{Exit, program, style, tools, workspace};

/// The property that changes between the deployments, and its new value: updated in place, and the
/// function restarts with it.
const CHANGE: &str = "Function.MemorySize=512";

/// Milliseconds between two polls of a command that waits: the cloud is near.
const POLL: &str = "200";

/// The cloud's log; a folder that has one is of a rehearsal.
const LOG: &str = "cloud.log";

/// Stage to deploy: this one needs no certificate.
const STAGE: &str = "dev";

/// The step that must fail.
const REFUSED: &str = "the bootstrap is not removed while the stage uses it";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Inject a fault into the cloud, e.g. 'cfn:Cache=CREATE_FAILED:no capacity@once',
    /// cfn:throttle@20%, cfn:token-expired@10s or s3:slow@500ms; a command that fails is run
    /// again, once; may be repeated
    #[arg(long, value_name = "SERVICE:WHAT", value_parser = fault)]
    fault: Vec<String>,
    /// Time that the cloud takes for a resource
    #[arg(long, value_name = "PACE", default_value = "fast")]
    pace: Pace,
    /// Wait until the archive holds the message
    #[arg(long)]
    archive: bool,
    /// Keep the stage deployed until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Folder of the cloud and its log, emptied first [default: target/rehearsal]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print the output of the commands and every step as JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pace {
    /// As short as possible
    Fast,
    /// As long as AWS usually takes
    Real,
}

/// A fault of the cloud; `local-cloud` parses the text again.
fn fault(text: &str) -> Result<String, String> {
    let fault = text.parse::<Fault>();
    fault
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => workspace::target()?.join("rehearsal"),
    };
    check_ours(&data)?;
    tools::redis()?;
    let [function, webui, cloud] = program::build_together(
        "the programs",
        [program::FUNCTION, program::WEBUI, program::CLOUD],
    )?;
    let programs = Programs {
        cloud,
        aws: program::build(program::AWS)?,
        function,
        webui,
    };
    empty(&data)?;
    let mut rehearsal = Rehearsal {
        arguments: &arguments,
        done: Vec::new(),
    };
    let started = Instant::now();
    let cloud = Cloud::start(&programs.cloud, &data, &arguments)?;
    rehearsal.note("the cloud answers", true, started.elapsed());
    let stage = Stage {
        programs: &programs,
        cloud: &cloud,
        data: &data,
        is_json: arguments.json,
    };
    let is_good = rehearsal.play(&stage)?;
    if !arguments.json {
        rehearsal.print();
    }
    if !is_good {
        eprintln!(
            "{}: what the cloud said is in {}",
            style::stderr().bad("failed"),
            workspace::shown(&cloud.log)
        );
        return Ok(Exit::Failed);
    }
    if arguments.keep {
        cloud.stay(arguments.json)?;
    } else {
        cloud.stop()?;
    }
    Ok(Exit::Done)
}

/// Checks that a folder is empty, absent, or of an earlier rehearsal.
fn check_ours(data: &Path) -> anyhow::Result<()> {
    let is_ours = data.join(LOG).is_file();
    let is_empty = match fs::read_dir(data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot use {} (--data)", data.display()));
        }
    };
    if !is_empty && !is_ours {
        bail!(
            "cannot use {} (--data): it holds something else; fix: name a folder that is empty or does not exist",
            data.display()
        );
    }
    Ok(())
}

/// Empties a folder of ours, or makes it.
fn empty(data: &Path) -> anyhow::Result<()> {
    check_ours(data)?;
    if data.exists() {
        fs::remove_dir_all(data).with_context(|| format!("cannot delete {}", data.display()))?;
    }
    fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))
}

struct Programs {
    cloud: PathBuf,
    aws: PathBuf,
    function: PathBuf,
    webui: PathBuf,
}

/// Finished steps, in order.
struct Rehearsal<'a> {
    arguments: &'a Arguments,
    done: Vec<(String, bool, Duration)>,
}

impl Rehearsal<'_> {
    /// Runs the steps until one fails; returns whether all succeeded.
    fn play(&mut self, stage: &Stage) -> anyhow::Result<bool> {
        let archive: &[&str] = if self.arguments.archive {
            &["--archive"]
        } else {
            &[]
        };
        let smoke = [&["smoke"], archive].concat();
        let changed = [stage.deploy(), vec!["--set".into(), CHANGE.into()]].concat();
        let bootstrap = ["bootstrap", "--yes", "--poll", POLL];
        let remove = [&bootstrap[..], &["--remove"]].concat();
        let mut steps: Vec<(&str, Vec<OsString>)> = vec![
            ("bootstrap the account", Stage::words(&bootstrap)),
            ("deploy to an empty account", stage.deploy()),
            ("a message gets through", Stage::words(&smoke)),
            ("deploy a changed property", changed.clone()),
            ("a message gets through", Stage::words(&["smoke"])),
            ("deploy without a change", changed),
            (REFUSED, Stage::words(&remove)),
        ];
        if !self.arguments.keep {
            let destroy = [
                "destroy",
                "--yes",
                "--delete-data",
                "--lift-protection",
                "--poll",
                POLL,
            ];
            steps.push(("destroy with all data", Stage::words(&destroy)));
            steps.push(("destroy finds nothing", Stage::words(&destroy)));
            steps.push(("remove the bootstrap", Stage::words(&remove)));
        }
        for (name, words) in steps {
            if self.step(stage, name, &words)? {
                continue;
            }
            // Whoever meets a fault runs the command again.
            let again = format!("{name}, again");
            if self.arguments.fault.is_empty() || !self.step(stage, &again, &words)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn step(&mut self, stage: &Stage, name: &str, words: &[OsString]) -> anyhow::Result<bool> {
        if !self.arguments.json {
            eprintln!("\n{}", style::stderr().title(&format!("── {name} ──")));
        }
        let started = Instant::now();
        let status = stage.run(words)?;
        // What must be refused is refused: the stage uses it.
        let is_good = status.success() != (name == REFUSED);
        self.note(name, is_good, started.elapsed());
        Ok(is_good)
    }

    fn note(&mut self, name: &str, is_good: bool, took: Duration) {
        if self.arguments.json {
            let seconds = took.as_secs_f64();
            println!(
                "{}",
                json!({ "event": "step", "name": name, "ok": is_good, "seconds": seconds })
            );
        }
        self.done.push((name.to_owned(), is_good, took));
    }

    fn print(&self) {
        let style = style::stdout();
        let width = self.done.iter().map(|(name, ..)| name.len()).max();
        println!();
        for (name, is_good, took) in &self.done {
            let verdict = if *is_good {
                style.good("ok    ")
            } else {
                style.bad("FAILED")
            };
            println!(
                "{name:width$}  {verdict}  {:>6.1} s",
                took.as_secs_f64(),
                width = width.unwrap_or(0)
            );
        }
    }
}

/// The process that answers the AWS APIs; it is stopped with this one.
struct Cloud {
    process: Child,
    endpoint: String,
    log: PathBuf,
}

impl Cloud {
    fn start(program: &Path, data: &Path, arguments: &Arguments) -> anyhow::Result<Cloud> {
        let log = data.join(LOG);
        let said = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(["--listen", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"])
            .args(["--dashboard", "127.0.0.1:0", "--json", "--data"])
            .arg(data.join("account"))
            .args(["--pace", pace(arguments.pace)])
            .env("PATH", tools::path()?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said);
        for fault in &arguments.fault {
            command.args(["--fault", fault]);
        }
        let mut process = command.spawn().context("start the cloud")?;
        let output = process.stdout.take().context("read what the cloud says")?;
        let mut cloud = Cloud {
            process,
            endpoint: String::new(),
            log,
        };
        let mut lines = BufReader::new(output).lines();
        for line in lines.by_ref() {
            let event: Json = serde_json::from_str(&line.context("read what the cloud says")?)
                .context("read what the cloud says")?;
            if event["event"] == "cloud-ready"
                && let Some(endpoint) = event["endpoint"].as_str()
            {
                endpoint.clone_into(&mut cloud.endpoint);
                break;
            }
        }
        if cloud.endpoint.is_empty() {
            let said = fs::read_to_string(&cloud.log).unwrap_or_default();
            bail!("the cloud does not start: {}", said.trim());
        }
        // Read to the end, so that the cloud never waits for us; its log says the same.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(cloud)
    }

    /// Waits for Ctrl-C, which the cloud gets as well.
    fn stay(mut self, is_json: bool) -> anyhow::Result<()> {
        if !is_json {
            println!("\nthe stage stays until Ctrl-C; in another terminal:\n");
            for (name, value) in self.environment() {
                println!("  export {name}={value}");
            }
            println!("  cargo xtask status --stage {STAGE}");
        }
        self.process.wait().context("wait for the cloud")?;
        Ok(())
    }

    /// Ends the cloud as Ctrl-C does.
    fn stop(mut self) -> anyhow::Result<()> {
        self.interrupt()?;
        let status = self.process.wait().context("wait for the cloud")?;
        if !status.success() {
            bail!("the cloud ended with {status}: {}", self.log.display());
        }
        Ok(())
    }

    fn interrupt(&mut self) -> anyhow::Result<()> {
        Command::new("kill")
            .args(["-INT", &self.process.id().to_string()])
            .status()
            .context("run kill")?;
        Ok(())
    }

    /// Variables with which a program calls this cloud, without the user's own account.
    fn environment(&self) -> [(&'static str, &str); 6] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ACCESS_KEY_ID", "rehearsal"),
            ("AWS_SECRET_ACCESS_KEY", "rehearsal"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ]
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            // It stops its own programs when it is asked to.
            let _ = self.interrupt();
            let _ = self.process.wait();
        }
    }
}

fn pace(pace: Pace) -> &'static str {
    match pace {
        Pace::Fast => "fast",
        Pace::Real => "real",
    }
}

/// Commands as a user types them.
struct Stage<'a> {
    programs: &'a Programs,
    cloud: &'a Cloud,
    data: &'a Path,
    is_json: bool,
}

impl Stage<'_> {
    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(Into::into).collect()
    }

    /// Arguments of a deployment of this machine's programs, whatever the stage's architecture.
    fn deploy(&self) -> Vec<OsString> {
        let mut words = Stage::words(&["deploy", "--yes", "--no-smoke", "--any-architecture"]);
        // As prod, so that destroy meets a protected stack.
        words.push("--protect".into());
        words.extend(Stage::words(&["--poll", POLL, "--function"]));
        words.push(self.programs.function.clone().into());
        words.push("--webui".into());
        words.push(self.programs.webui.clone().into());
        words.push("--lock".into());
        words.push(self.data.join("platform.json").into());
        words
    }

    fn run(&self, words: &[OsString]) -> anyhow::Result<ExitStatus> {
        let mut command = Command::new(&self.programs.aws);
        command.args(words);
        if words.first().is_none_or(|word| word != "bootstrap") {
            command.args(["--stage", STAGE]);
        }
        if self.is_json {
            command.arg("--json");
        }
        // Of the user's own account nothing gets in, such as a profile or an endpoint of one service.
        let theirs = std::env::vars_os().map(|(name, _)| name);
        for name in theirs.filter(|name| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        command
            .envs(self.cloud.environment())
            .env("XTASK_ROOT", workspace::root()?)
            .env("PATH", tools::path()?)
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("run {}", self.programs.aws.display()))
    }
}
