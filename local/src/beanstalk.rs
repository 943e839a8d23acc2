//! Elastic Beanstalk: an environment as the bundle's own process.
//!
//! The `web` process of the bundle's Procfile runs in the bundle's folder, with the environment
//! properties of the template's option settings. It is started again when it ends, as the
//! platform does. (Elastic Beanstalk Developer Guide: "Buildfile and Procfile", "Environment
//! properties and other software settings".)
//!
//! # Differs from AWS
//! - There is no load balancer and no nginx in front: the process itself listens on the dashboard's
//!   address, so `PORT` and `INTERFACE` are that address and not what the template says.
//! - One instance runs, whatever the scaling settings; deployment and update policies mean nothing.
//! - Of the platform's own files (`.platform`, `.ebextensions`, Buildfile) none is read.
//! - Output goes to the log group that log streaming would fill, whether it is switched on or not.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::logs::{LogStream, Logs};
use crate::process::{self, Program};

/// A process that does not answer its health check by then has failed to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two looks at a starting process.
const POLL: Duration = Duration::from_millis(20);
/// A process that was asked to end is killed after this time; systemd's default on the platform is longer.
const GRACE: Duration = Duration::from_secs(5);
/// Pause before a process that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// What an environment needs to know of its `AWS::ElasticBeanstalk::Environment`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logical ID in the template.
    pub logical_id: String,
    /// Physical name.
    pub name: String,
    /// The unpacked bundle.
    pub bundle: PathBuf,
    /// Where the process shall listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Environment properties.
    pub environment: BTreeMap<String, String>,
    /// `HealthCheckPath` of the default process.
    pub health_check_path: String,
    /// What the program shall trust as `SSL_CERT_FILE`.
    pub ca_file: Option<PathBuf>,
}

/// A running environment. Dropped, its process is killed.
#[derive(Debug)]
pub struct Environment {
    address: SocketAddr,
    stopping: CancellationToken,
    supervisor: JoinHandle<()>,
}

impl Environment {
    /// Starts the process and waits until it answers its health check.
    ///
    /// # Errors
    /// The address is taken, the bundle has no Procfile with a `web` process, or the process ends or
    /// does not answer in time.
    pub async fn start(config: Config, logs: &Logs) -> anyhow::Result<Environment> {
        let logical_id = config.logical_id.clone();
        let context = || format!("start {logical_id}");
        let command = web_process(&config.bundle).with_context(context)?;
        let address = free_address(config.address).await.with_context(context)?;
        let group = format!("/aws/elasticbeanstalk/{}/var/log", config.name);
        let output = [
            logs.stream(&format!("{group}/web.stdout.log"), "i-local"),
            logs.stream(&format!("{group}/web.stderr.log"), "i-local"),
        ];
        let launch = Launch { config, command, address, output };
        let mut program = launch.start().with_context(context)?;
        let answered = tokio::select! {
            answered = timeout(START_TIMEOUT, launch.answer()) => answered.is_ok(),
            ended = program.wait() => bail!(
                "{logical_id}: `{}` ended with {} before it answered; its output is in {}",
                launch.command,
                ended.map_or_else(|error| error.to_string(), process::describe),
                launch.log_folder(),
            ),
        };
        if !answered {
            program.kill().await;
            bail!(
                "{logical_id}: `{}` does not answer on http://{address}{} within {START_TIMEOUT:?}; its output is in {}",
                launch.command,
                launch.config.health_check_path,
                launch.log_folder(),
            );
        }
        let stopping = CancellationToken::new();
        let supervisor = tokio::spawn(supervise(launch, program, stopping.clone()));
        Ok(Environment { address, stopping, supervisor })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks the process to end, kills it if it does not, and waits until it is gone.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        let _ = (&mut self.supervisor).await;
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

/// What a start needs.
struct Launch {
    config: Config,
    command: String,
    address: SocketAddr,
    output: [LogStream; 2],
}

impl Launch {
    fn start(&self) -> anyhow::Result<Program> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("exec {}", self.command)])
            .current_dir(&self.config.bundle)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(&self.config.environment)
            .env(contract::environment::PORT, self.address.port().to_string())
            .env(contract::environment::INTERFACE, self.address.ip().to_string());
        if let Some(ca_file) = &self.config.ca_file {
            command.env("SSL_CERT_FILE", ca_file);
        }
        let mut program = Program::start(command)?;
        let [stdout, stderr] = self.output.clone();
        if let Some(pipe) = program.stdout() {
            tokio::spawn(async move { process::lines(pipe, |line| stdout.put_quietly(line)).await });
        }
        if let Some(pipe) = program.stderr() {
            tokio::spawn(async move { process::lines(pipe, |line| stderr.put(line)).await });
        }
        Ok(program)
    }

    /// Returns when the health check is answered with 200.
    async fn answer(&self) {
        // A process that listens on every address answers on this machine's own.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        while !matches!(health(address, &self.config.health_check_path).await, Ok(200)) {
            sleep(POLL).await;
        }
    }

    fn log_folder(&self) -> String {
        let folder = self.output[0].path().and_then(Path::parent);
        folder.map_or_else(String::new, |folder| folder.display().to_string())
    }
}

async fn supervise(launch: Launch, mut program: Program, stopping: CancellationToken) {
    loop {
        let ended = tokio::select! {
            biased;
            () = stopping.cancelled() => {
                program.stop(GRACE).await;
                return;
            }
            ended = program.wait() => ended,
        };
        let how = ended.map_or_else(|error| error.to_string(), process::describe);
        tracing::error!(
            environment = launch.config.logical_id,
            "`{}` ended with {how}; it is started again",
            launch.command
        );
        program = loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = sleep(RESTART_PAUSE) => {}
            }
            match launch.start() {
                Ok(program) => break program,
                Err(error) => {
                    tracing::error!(environment = launch.config.logical_id, "{error:#}");
                }
            }
        };
    }
}

/// The command of the Procfile's `web` process.
fn web_process(bundle: &Path) -> anyhow::Result<String> {
    let path = bundle.join("Procfile");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let web = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == "web")
        .map(|(_, command)| command.trim().to_owned());
    web.filter(|command| !command.is_empty()).ok_or_else(|| {
        anyhow!("{} names no process: expected a line such as `web: bin/webui`", path.display())
    })
}

/// The address, with a free port for port 0. Says early that a port is taken.
async fn free_address(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "{address} is taken: stop what listens there, or choose another address (--dashboard {}:0 takes a free port)",
            address.ip()
        ),
        _ => anyhow!("cannot listen on {address}: {error}"),
    })?;
    listener.local_addr().context("read the address")
}

/// The status of a GET.
async fn health(address: SocketAddr, path: &str) -> io::Result<u16> {
    let attempt = async {
        let mut socket = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|it| it.parse().ok());
        status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no status line"))
    };
    timeout(Duration::from_secs(1), attempt).await.map_err(io::Error::from)?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bundle whose web process is this shell command.
    fn bundle(command: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("run.sh"), command).unwrap();
        std::fs::write(folder.path().join("Procfile"), "worker: false\nweb: sh run.sh\n").unwrap();
        folder
    }

    fn config(bundle: &Path, address: SocketAddr) -> Config {
        Config {
            logical_id: "Dashboard".to_owned(),
            name: "dashboard".to_owned(),
            bundle: bundle.to_owned(),
            address,
            environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
            health_check_path: "/healthz".to_owned(),
            ca_file: None,
        }
    }

    #[tokio::test]
    async fn process_that_ends_early_is_told_with_its_command() {
        let (bundle, data) = (bundle("echo broken >&2; exit 3"), tempfile::tempdir().unwrap());
        let config = config(bundle.path(), (Ipv4Addr::LOCALHOST, 0).into());
        let error = Environment::start(config, &Logs::new(data.path())).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("Dashboard: `sh run.sh` ended with exit status 3"), "{error}");
    }

    #[tokio::test]
    async fn taken_address_and_missing_process_are_told() {
        let data = tempfile::tempdir().unwrap();
        let logs = Logs::new(data.path());
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let bundle = bundle("exit 0");
        let config = config(bundle.path(), taken.local_addr().unwrap());
        let error = Environment::start(config.clone(), &logs).await.unwrap_err();
        assert!(format!("{error:#}").contains("is taken"), "{error:#}");
        std::fs::write(bundle.path().join("Procfile"), "worker: x\n").unwrap();
        let error = Environment::start(config.clone(), &logs).await.unwrap_err();
        assert!(format!("{error:#}").contains("web: bin/webui"), "{error:#}");
        std::fs::remove_file(bundle.path().join("Procfile")).unwrap();
        let error = Environment::start(config, &logs).await.unwrap_err();
        assert!(format!("{error:#}").contains("cannot read"), "{error:#}");
    }
}
