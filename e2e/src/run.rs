//! A local run: started on free ports in a folder of its own, and gone with the value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, bail};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::PATIENCE;
use crate::programs::Programs;

/// A run that is ready.
#[derive(Debug)]
pub struct Run {
    /// Address of the broker, `host:port`.
    pub mqtt: String,
    /// Address of the dashboard, `host:port`.
    pub dashboard: String,
    /// What it told until it was ready, one JSON object each.
    pub events: Vec<Json>,
    process: Process,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All that it told, one JSON object each.
    pub events: Vec<Json>,
    /// All that it logged.
    pub log: String,
    /// What it left behind.
    pub data: PathBuf,
    _folder: TempDir,
}

/// How a run is started.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// The built programs.
    pub programs: &'a Programs,
    /// What runs; [`None`]: the template of stage `dev` as it is.
    pub template: Option<&'a Json>,
    /// Address for MQTT.
    pub mqtt: &'a str,
    /// Folder of the data; [`None`]: one of its own.
    pub data: Option<&'a Path>,
    /// More flags of the program.
    pub arguments: Vec<String>,
}

impl<'a> Settings<'a> {
    /// The template of stage `dev` on free ports.
    pub fn new(programs: &'a Programs) -> Settings<'a> {
        Settings {
            programs,
            template: None,
            mqtt: "127.0.0.1:0",
            data: None,
            arguments: Vec::new(),
        }
    }

    /// The same with another template.
    pub fn template(self, template: &'a Json) -> Settings<'a> {
        Settings {
            template: Some(template),
            ..self
        }
    }
}

impl Run {
    /// Starts a run and waits until it is ready.
    ///
    /// # Errors
    ///
    /// It ended before it was ready, or was not ready in time; with its log.
    pub async fn start(settings: Settings<'_>) -> anyhow::Result<Run> {
        let mut process = Process::spawn(&settings)?;
        let mut events = Vec::new();
        while let Some(event) = process.next_event().await? {
            let ready = event["event"] == "ready";
            events.push(event);
            if ready {
                let address = |name: &str| {
                    let text = events.last()?.get(name)?.as_str()?;
                    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
                    Some(text.trim_end_matches('/').to_owned())
                };
                let (Some(mqtt), Some(dashboard)) = (address("mqtt"), address("dashboard")) else {
                    bail!("the run names no broker or no dashboard: {events:?}");
                };
                return Ok(Run {
                    mqtt,
                    dashboard,
                    events,
                    process,
                });
            }
        }
        bail!(
            "the run ended before it was ready; its log:\n{}",
            process.log()
        )
    }

    /// What it has logged until now.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until the log holds `text`.
    ///
    /// # Errors
    ///
    /// It does not come in time.
    pub async fn wait_for_log(&self, text: &str) -> anyhow::Result<()> {
        let found = async {
            // The log is a file, which nobody announces changes of.
            while !self.log().contains(text) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, found)
            .await
            .with_context(|| format!("the log never says {text:?}:\n{}", self.log()))
    }

    /// Folder of the run's data.
    pub fn data(&self) -> PathBuf {
        self.process.data()
    }

    /// Processes of the run, itself included.
    ///
    /// # Errors
    ///
    /// The list of processes cannot be read.
    pub fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let first = self.process.id().context("the run has ended")?;
        let mut found = vec![first];
        // Every process comes after its parent in some order; repeat until nothing is added.
        let all = parents()?;
        loop {
            let before = found.len();
            for (process, parent) in &all {
                if found.contains(parent) && !found.contains(process) {
                    found.push(*process);
                }
            }
            if found.len() == before {
                return Ok(found);
            }
        }
    }

    /// Presses Ctrl-C and waits until it has ended.
    ///
    /// # Errors
    ///
    /// It does not end in time; with its log.
    pub async fn stop(mut self) -> anyhow::Result<Ended> {
        self.process.signal("INT")?;
        let mut events = self.events;
        while let Some(event) = self.process.next_event().await? {
            events.push(event);
        }
        self.process.wait(events).await
    }

    /// Kills it, so that it can do nothing more, and waits until everything that it started is gone.
    ///
    /// # Errors
    ///
    /// Something goes on.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        let processes = self.processes()?;
        self.process.signal("KILL")?;
        self.process.child.wait().await?;
        let gone = async {
            while !running(&processes)?.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, gone)
            .await
            .context("its processes go on")?
    }
}

/// Starts a run that is expected to end by itself, and waits for that.
///
/// # Errors
///
/// It does not end in time; with its log.
pub async fn run_to_end(settings: Settings<'_>) -> anyhow::Result<Ended> {
    let mut process = Process::spawn(&settings)?;
    let mut events = Vec::new();
    while let Some(event) = process.next_event().await? {
        if event["event"] == "ready" {
            bail!("expected the run to end, but it is ready: {event}");
        }
        events.push(event);
    }
    process.wait(events).await
}

#[derive(Debug)]
struct Process {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    /// Template and log, and the data unless they are elsewhere.
    folder: Option<TempDir>,
    data: PathBuf,
}

impl Process {
    fn spawn(settings: &Settings<'_>) -> anyhow::Result<Process> {
        let Settings {
            programs,
            template,
            mqtt,
            data,
            arguments,
        } = settings;
        let folder = tempfile::tempdir().context("make a folder for the run")?;
        let data = data.map_or_else(|| folder.path().join("data"), Path::to_owned);
        let template = match template {
            None => programs.template.clone(),
            Some(template) => {
                let path = folder.path().join("edited.template.json");
                fs::write(&path, serde_json::to_vec_pretty(template)?)?;
                path
            }
        };
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(&programs.local);
        command
            .arg("--template")
            .arg(template)
            .arg("--function")
            .arg(&programs.function)
            .arg("--bundle")
            .arg(&programs.bundle)
            .arg("--data")
            .arg(&data)
            .args(["--mqtt", mqtt, "--dashboard", "127.0.0.1:0", "--json"])
            .args(arguments);
        for parameter in &programs.parameters {
            command.args(["--parameter", parameter]);
        }
        let mut child = command
            .env("PATH", &programs.path)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", programs.local.display()))?;
        let stdout = child.stdout.take().context("read what the run tells")?;
        Ok(Process {
            child,
            stdout: BufReader::new(stdout).lines(),
            folder: Some(folder),
            data,
        })
    }

    fn folder(&self) -> &Path {
        self.folder
            .as_ref()
            .map_or(Path::new(""), |folder| folder.path())
    }

    fn data(&self) -> PathBuf {
        self.data.clone()
    }

    fn log(&self) -> String {
        fs::read(self.folder().join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    fn id(&self) -> Option<u32> {
        self.child.id()
    }

    async fn next_event(&mut self) -> anyhow::Result<Option<Json>> {
        let line = timeout(PATIENCE, self.stdout.next_line())
            .await
            .with_context(|| format!("the run tells nothing more; its log:\n{}", self.log()))??;
        line.map(|line| {
            serde_json::from_str(&line).with_context(|| format!("got {line:?}, expected JSON"))
        })
        .transpose()
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let Some(id) = self.id() else { return Ok(()) };
        let status = std::process::Command::new("kill")
            .args([&format!("-{name}"), &id.to_string()])
            .status()
            .context("run kill")?;
        anyhow::ensure!(status.success(), "kill -{name} {id}: {status}");
        Ok(())
    }

    async fn wait(mut self, events: Vec<Json>) -> anyhow::Result<Ended> {
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("the run does not end; its log:\n{}", self.log()))??;
        let folder = self.folder.take().context("the run has no folder")?;
        let log = fs::read(folder.path().join("log"))?;
        Ok(Ended {
            status,
            events,
            log: String::from_utf8_lossy(&log).into_owned(),
            data: self.data(),
            _folder: folder,
        })
    }
}

impl Drop for Process {
    /// A test that fails leaves no process either: the run is asked to end, which ends what it has
    /// started, and is killed only if it does not.
    fn drop(&mut self) {
        if self.id().is_none() || self.signal("TERM").is_err() {
            return;
        }
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // Nothing more can be done when that fails, too.
        let _ = self.child.start_kill();
    }
}

/// Process → parent, of all processes.
fn parents() -> anyhow::Result<Vec<(u32, u32)>> {
    let output = std::process::Command::new("ps")
        .args(["-A", "-o", "pid=,ppid="])
        .output()
        .context("run ps")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace();
            Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
        })
        .collect())
}

/// Which of these processes still run. A process that has ended and waits to be collected does not.
///
/// # Errors
///
/// The list of processes cannot be read.
pub fn running(processes: &[u32]) -> anyhow::Result<Vec<String>> {
    let output = std::process::Command::new("ps")
        .args(["-A", "-o", "pid=,stat=,args="])
        .output()
        .context("run ps")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| {
            let mut words = line.split_whitespace();
            let process = words.next().and_then(|word| word.parse().ok());
            let zombie = words.next().is_some_and(|state| state.starts_with('Z'));
            process.is_some_and(|process| processes.contains(&process)) && !zombie
        })
        .map(str::to_owned)
        .collect())
}
