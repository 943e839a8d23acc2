//! Elastic Beanstalk: the web process of a source bundle.
//!
//! Runs the `web` line of the bundle's Procfile, in the bundle's folder, with the environment properties
//! of the template's option settings, and starts it again when it ends.
//! (AWS Elastic Beanstalk Developer Guide: "Buildfile and Procfile", "Environment properties and other
//! software settings".)
//!
//! # Differs from AWS
//! - One process on this machine: no nginx, no balancer, no instances, no health colours.
//! - `PORT` and `INTERFACE` are those of the local run's dashboard address, whatever the template says.
//! - The process gets nothing of our own environment except `PATH` and `HOME`, and `SSL_CERT_FILE` where the
//!   development authority is in use.
//! - Only `web` is run of the Procfile. A process that keeps ending is started again after waiting times
//!   that double from 250 ms to 10 s.

pub mod instance_metadata;
pub mod part;
pub mod plan;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::environment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::logs::{LogStream, Logs};
use crate::process::{Program, describe, lines};

/// The web process answers within so long, or never.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What the web process may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// First and last waiting time before another start. A process that ran longer than the last one begins anew.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// What an environment needs to know of its `AWS::ElasticBeanstalk::Environment` and the command line.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logical ID in the template.
    pub logical_id: String,
    /// Physical name.
    pub name: String,
    /// Folder of the unpacked source bundle.
    pub bundle: PathBuf,
    /// Option settings of the namespace `aws:elasticbeanstalk:application:environment`.
    pub environment: BTreeMap<String, String>,
    /// Where the web process shall listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Path that answers 2xx when the process is healthy, such as `/healthz`.
    pub health_check_path: String,
    /// What the process shall trust as `SSL_CERT_FILE`.
    pub ca_file: Option<PathBuf>,
}

/// A running environment. Dropped, its web process is killed.
#[derive(Debug)]
pub struct Environment {
    address: SocketAddr,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    renewal: Arc<Notify>,
}

impl Environment {
    /// Starts the web process and waits until it is healthy. Its output goes to the terminal and into the
    /// log group that instances stream to ("Using Elastic Beanstalk with Amazon CloudWatch Logs").
    ///
    /// # Errors
    /// The bundle has no `web` process, the address is taken, or the process does not get healthy.
    pub async fn start(mut config: Config, logs: &Logs) -> anyhow::Result<Environment> {
        let id = config.logical_id.clone();
        let log = logs.stream(
            &format!(
                "/aws/elasticbeanstalk/{}/var/log/web.stdout.log",
                config.name
            ),
            "local",
        );
        let line =
            web_process(&config.bundle).with_context(|| format!("{id}: read its source bundle"))?;
        // Asked here, because the process could only say so in its log. Given back at once for the process.
        let listener = TcpListener::bind(config.address).await.with_context(|| {
            format!(
                "{id}: cannot listen on {}; choose another address by --dashboard",
                config.address
            )
        })?;
        config.address = listener.local_addr()?;
        drop(listener);
        let mut program =
            start(&config, &line, &log).with_context(|| format!("{id}: start its web process"))?;
        let healthy = async {
            while !is_healthy(config.address, &config.health_check_path).await {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = healthy => {}
            status = program.wait() => bail!("{id}: its web process `{line}` ended at once: {}; its output is above", describe(status?)),
            () = sleep(START_TIMEOUT) => bail!("{id}: its web process does not answer {} on {} after {} s", config.health_check_path, config.address, START_TIMEOUT.as_secs()),
        }
        let (address, tasks, shutdown) =
            (config.address, TaskTracker::new(), CancellationToken::new());
        let renewal = Arc::new(Notify::new());
        let running = keep_running(
            program,
            config,
            line,
            log,
            Arc::clone(&renewal),
            shutdown.clone(),
        );
        tasks.spawn(running);
        tasks.close();
        Ok(Environment {
            address,
            tasks,
            shutdown,
            renewal,
        })
    }

    /// The bundle is another one now: the web process is started again.
    pub fn renew(&self) {
        self.renewal.notify_one();
    }

    /// Where the web process listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the web process, by SIGTERM if it heeds that, and waits until it is gone.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn keep_running(
    mut program: Program,
    config: Config,
    line: String,
    log: LogStream,
    renewal: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut backoff = BACKOFF.0;
    loop {
        let started = Instant::now();
        let status = tokio::select! {
            () = shutdown.cancelled() => return program.stop(GRACE).await,
            () = renewal.notified() => {
                program.stop(GRACE).await;
                backoff = Duration::ZERO;
                None
            }
            status = program.wait() => Some(status),
        };
        if let Some(status) = status {
            let ended = status.map_or_else(|error| error.to_string(), describe);
            tracing::error!(
                "{}: its web process has ended: {ended}; it is started again",
                config.logical_id
            );
        }
        if started.elapsed() > BACKOFF.1 {
            backoff = BACKOFF.0;
        }
        program = loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(backoff) => {}
            }
            backoff = (backoff * 2).clamp(BACKOFF.0, BACKOFF.1);
            match start(&config, &line, &log) {
                Ok(program) => break program,
                Err(error) => tracing::error!(
                    "{}: cannot start its web process: {error:#}",
                    config.logical_id
                ),
            }
        };
    }
}

fn start(config: &Config, line: &str, log: &LogStream) -> anyhow::Result<Program> {
    // Beanstalk's Procfile lines go through a shell; `exec` leaves the program alone in its place.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("exec {line}")])
        .current_dir(&config.bundle)
        .env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .envs(&config.environment)
        .env(environment::PORT, config.address.port().to_string())
        .env(environment::INTERFACE, config.address.ip().to_string());
    if let Some(ca_file) = &config.ca_file {
        command.env("SSL_CERT_FILE", ca_file);
    }
    let mut program = Program::start(command)?;
    if let (Some(out), Some(error)) = (program.stdout(), program.stderr()) {
        let (first, second) = (log.clone(), log.clone());
        tokio::spawn(async move { lines(out, |line| first.put(line)).await });
        tokio::spawn(async move { lines(error, |line| second.put(line)).await });
    }
    Ok(program)
}

/// The command of the process that Beanstalk's proxy talks to.
fn web_process(bundle: &Path) -> anyhow::Result<String> {
    let file = bundle.join("Procfile");
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let command = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == "web")
        .map(|(_, command)| command.trim().to_owned());
    command
        .filter(|command| !command.is_empty())
        .with_context(|| format!("{} has no line `web: COMMAND`", file.display()))
}

async fn is_healthy(address: SocketAddr, path: &str) -> bool {
    // Whoever listens everywhere is asked here.
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let asked = async {
        let mut connection = TcpStream::connect((ip, address.port())).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut status = [0; 10];
        connection.read_exact(&mut status).await?;
        Ok::<_, std::io::Error>(status.starts_with(b"HTTP/1.") && status.ends_with(b" 2"))
    };
    matches!(timeout(Duration::from_secs(2), asked).await, Ok(Ok(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_line_of_the_procfile_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str| {
            std::fs::write(folder.path().join("Procfile"), text).unwrap();
            web_process(folder.path()).ok()
        };
        assert_eq!(check("web: bin/webui\n").as_deref(), Some("bin/webui"));
        assert_eq!(
            check("worker: x\nweb: bin/webui --url http://a:1\n").as_deref(),
            Some("bin/webui --url http://a:1")
        );
        assert_eq!(check("worker: x\n"), None);
        assert_eq!(check("web:\n"), None);
    }
}
