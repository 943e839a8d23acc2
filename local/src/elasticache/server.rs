//! The server of a cache: it is started again whenever it ends, and its data outlive it.
//!
//! It writes every change to its append-only file before it answers, and leaves it to the operating
//! system when that comes to the disk. So whatever kills it, or all of us, what a program was told to be
//! counted is there when it starts again. A mapping's checkpoint, which is written after that, is then
//! never ahead of the counts; what was counted and not checkpointed comes again, and the function's
//! marks know it. Only a machine that loses power may lose the last seconds of both.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Config;
use super::sign_in::Door;
use crate::process::{Program, describe, lines};

/// A server is ready within so long, its data read, or never.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Waiting times between attempts to start a server again, the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A server that is asked to end gets so long; then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the server before this one may take to let go of its data.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// What somebody wants of a running server.
#[derive(Debug)]
pub(super) enum Order {
    Restart { keeping_data: bool },
}

/// A server that is started again whenever it ends.
pub(super) struct Server {
    config: Config,
    binary: PathBuf,
    address: SocketAddr,
    door: Option<Arc<Door>>,
    shutdown: CancellationToken,
    /// Two servers would spoil one another's files; the lock goes with the server.
    _lock: File,
}

impl Server {
    /// Starts a server with the data that the one before it in the same folder has left.
    ///
    /// # Errors
    /// There is no server to start, or it does not start.
    pub(super) async fn start(
        config: &Config,
        door: Option<&Arc<Door>>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<(Server, Program)> {
        let binary = find_server()?;
        let lock = lock(&config.folder).await?;
        // The server cannot be asked for a free port, so one is tried that was free just now; if
        // somebody was quicker, another one.
        let mut last = None;
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await?
                .local_addr()?
                .port();
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
            match try_server(&binary, config, address).await {
                Ok(program) => {
                    if let Some(door) = door {
                        door.furnish(address).await?;
                    }
                    let server = Server {
                        config: config.clone(),
                        binary,
                        address,
                        door: door.cloned(),
                        shutdown,
                        _lock: lock,
                    };
                    return Ok((server, program));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no port is free")))
    }

    /// Where it answers.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps the server running until the shutdown.
    pub(super) async fn keep(self, mut program: Program, mut orders: mpsc::Receiver<Order>) {
        let id = &self.config.logical_id;
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => {
                    program.stop(END_TIMEOUT).await;
                    return;
                }
                status = program.wait() => {
                    let ended = status.map_or_else(|error| error.to_string(), describe);
                    tracing::error!(
                        "{id}: the cache server has ended by itself: {ended}; starting it again with its data"
                    );
                }
                Some(Order::Restart { keeping_data }) = orders.recv() => {
                    if keeping_data {
                        tracing::warn!("{id}: the cache server restarts with its data");
                        program.stop(END_TIMEOUT).await;
                    } else {
                        tracing::warn!("{id}: the cache server restarts without its data");
                        program.kill().await;
                        self.forget();
                    }
                }
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                started = self.start_again() => program = started,
            }
        }
    }

    /// Removes the data.
    fn forget(&self) {
        let data = data(&self.config);
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::error!(
                "{}: cannot remove {}: {error}",
                self.config.logical_id,
                data.display()
            ),
            _ => {}
        }
    }

    async fn start_again(&self) -> Program {
        let mut backoff = BACKOFF.0;
        loop {
            let started = async {
                let program = try_server(&self.binary, &self.config, self.address).await?;
                if let Some(door) = &self.door {
                    door.furnish(self.address).await?;
                }
                anyhow::Ok(program)
            };
            match started.await {
                Ok(program) => {
                    tracing::info!("{}: the cache server runs again", self.config.logical_id);
                    return program;
                }
                Err(error) => tracing::error!(
                    "{}: the cache server does not start again, trying once more: {error:#}",
                    self.config.logical_id
                ),
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }
}

/// Where a server keeps its data.
fn data(config: &Config) -> PathBuf {
    config.folder.join("data")
}

/// Takes the folder of a server's data, which one that is about to end may still hold.
async fn lock(folder: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                sleep(Duration::from_millis(10)).await;
            }
            Err(TryLockError::WouldBlock) => bail!(
                "another cache server uses the data in {}: stop its run",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", path.display()));
            }
        }
    }
}

async fn try_server(
    binary: &Path,
    config: &Config,
    address: SocketAddr,
) -> anyhow::Result<Program> {
    let data = data(config);
    let is_new = !data.exists();
    fs::create_dir_all(&data).with_context(|| format!("make the folder {}", data.display()))?;
    let mut command = Command::new(binary);
    command
        .current_dir(&data)
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "yes", "--appendfsync", "no"])
        .args(["--daemonize", "no", "--loglevel", "notice"]);
    if let Some(policy) = &config.maxmemory_policy {
        command.args(["--maxmemory-policy", policy]);
    }
    let mut program = Program::start(command)?;
    let id = config.logical_id.clone();
    if let Some(pipe) = program.stdout() {
        tokio::spawn(lines(
            pipe,
            move |line| tracing::debug!(target: "cache", id, "{line}"),
        ));
    }
    let id = config.logical_id.clone();
    if let Some(pipe) = program.stderr() {
        tokio::spawn(lines(
            pipe,
            move |line| tracing::warn!(target: "cache", id, "{line}"),
        ));
    }
    let ready = async {
        while ping(address).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let hint = if is_new {
        String::new()
    } else {
        format!(
            "; if it cannot read its data, remove {} to begin without",
            data.display()
        )
    };
    let name = binary.display();
    tokio::select! {
        () = ready => Ok(program),
        status = program.wait() => bail!("{name} ended at once: {}{hint}", describe(status?)),
        () = sleep(START_TIMEOUT) => bail!(
            "{name} does not answer on {address} after {} s{hint}",
            START_TIMEOUT.as_secs()
        ),
    }
}

/// The server's binary.
fn find_server() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["valkey-server", "redis-server"]
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()))
        .context(
            "neither valkey-server nor redis-server is on the PATH; install one, or name a running server by --redis URL:\n  \
             Debian, Ubuntu: apt install redis-server\n  \
             Fedora:         dnf install valkey\n  \
             macOS:          brew install valkey",
        )
}

/// The address of a server that somebody else runs.
pub(super) async fn given(url: &str) -> anyhow::Result<SocketAddr> {
    let rest = url
        .strip_prefix("redis://")
        .context("expected redis://HOST:PORT; TLS and unix sockets are not supported here")?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        bail!(
            "expected redis://HOST:PORT without a user: programs connect by the template's URL, which has none"
        );
    }
    let with_port = match authority.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => authority.to_owned(),
        _ => format!("{authority}:6379"),
    };
    let address = tokio::net::lookup_host(&with_port)
        .await?
        .next()
        .context("the host has no address")?;
    ping(address).await?;
    Ok(address)
}

/// Asks whether somebody who speaks RESP answers.
async fn ping(address: SocketAddr) -> anyhow::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asked = async {
        let mut connection = TcpStream::connect(address).await?;
        connection.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        connection.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = timeout(Duration::from_secs(3), asked)
        .await
        .context("no answer within 3 s")?;
    match &answer.with_context(|| format!("connect to {address}"))? {
        b"+PONG\r\n" => Ok(()),
        other => bail!(
            "{address} answers PING with {:?}, expected PONG",
            String::from_utf8_lossy(other)
        ),
    }
}
