//! ElastiCache: a real Redis or Valkey server, behind TLS where the template asks for it.
//!
//! The server is the one of `--redis`, else `valkey-server` or `redis-server` of the PATH, started on a
//! free port without a configuration file and without persistence. With `TransitEncryptionEnabled` a TLS
//! endpoint stands in front of it, so that `rediss://` runs unchanged.
//! (Amazon ElastiCache User Guide: "ElastiCache in-transit encryption (TLS)".)
//!
//! # Differs from AWS
//! - One server, whatever the number of nodes and replicas; reader and primary are the same.
//! - Its version is the one that is installed. Without `UserGroupIds` everyone may come in.
//! - Its certificate is signed by a development authority, which programs trust by `SSL_CERT_FILE`.
//! - The server itself can be reached without TLS from this machine, for tools.
//! - A server that ends by itself is started again at the same address, without its data.
//!
//! Layout: [`sign_in`] is who may come in.

pub mod sign_in;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::timing::CACHE_CONNECTION_LIFETIME;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::sign_in::{Door, Guard};
use crate::process::{Program, describe, lines};
use crate::sessions::Sessions;
use crate::tls::Authority;

/// A server is ready within so long, or never.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Waiting times between attempts to start a server again, the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A server that is asked to save its data and end gets so long.
const SAVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a server saves its data, below its working directory, and looks for them when it starts.
const DUMP: &str = "dump.rdb";

/// What a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a cache needs to know of its `AWS::ElastiCache::ReplicationGroup` and the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Logical ID in the template.
    pub logical_id: String,
    /// `Port`, which security groups speak of; the local endpoint has a free one instead.
    pub port: u16,
    /// `maxmemory-policy` of the parameter group.
    pub maxmemory_policy: Option<String>,
    /// `redis://host:port` of a server that runs already.
    pub url: Option<String>,
    /// `TransitEncryptionEnabled`
    pub tls: bool,
    /// Who may come in; nobody is asked when it is empty.
    pub guard: Option<Guard>,
    /// Working directory of a server.
    pub folder: PathBuf,
}

/// A running cache. Dropped, its server is killed.
#[derive(Debug)]
pub struct Cache {
    endpoint: SocketAddr,
    url: String,
    tasks: TaskTracker,
    shutdown: DropGuard,
    /// None: the server is somebody else's.
    orders: Option<mpsc::Sender<Order>>,
}

/// What somebody wants of a running server.
#[derive(Debug)]
enum Order {
    Restart { keeping_data: bool },
}

/// A server that is started again whenever it ends.
struct Kept {
    config: Config,
    binary: PathBuf,
    address: SocketAddr,
    door: Option<Arc<Door>>,
    orders: mpsc::Receiver<Order>,
    shutdown: CancellationToken,
}

impl Cache {
    /// Starts a cache and waits until it answers. `sessions` are those of the programs that may sign in.
    ///
    /// # Errors
    /// There is no server, it does not start, or the given one cannot be reached.
    pub async fn start(
        config: Config,
        authority: &Authority,
        sessions: &Arc<Sessions>,
    ) -> anyhow::Result<Cache> {
        let id = config.logical_id.clone();
        let door = config
            .guard
            .clone()
            .map(|guard| Arc::new(Door::new(guard, Arc::clone(sessions), config.url.is_none())));
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        let mut orders = None;
        let server = match &config.url {
            Some(url) => {
                let server = given(url).await;
                let server = server.with_context(|| format!("{id}: use --redis {url}"))?;
                if door.is_some() {
                    tracing::warn!(
                        "{id}: programs sign in at its front; the server of --redis is not ours, so the users' access strings are not applied there"
                    );
                }
                server
            }
            None => {
                let started = start_server(&config, door.as_deref()).await;
                let (binary, address, program) =
                    started.with_context(|| format!("{id}: start a cache server"))?;
                let (sender, receiver) = mpsc::channel(1);
                orders = Some(sender);
                let kept = Kept {
                    config: config.clone(),
                    binary,
                    address,
                    door: door.clone(),
                    orders: receiver,
                    shutdown: shutdown.clone(),
                };
                tasks.spawn(kept.run(program));
                address
            }
        };
        let mut endpoint = server;
        if config.tls {
            let settings = authority.server_config(&["localhost", "127.0.0.1"])?;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .context("open a TLS endpoint")?;
            endpoint = listener.local_addr()?;
            tasks.spawn(serve_tls(
                listener,
                TlsAcceptor::from(settings),
                server,
                door,
                shutdown.clone(),
            ));
        }
        tasks.close();
        Ok(Cache {
            endpoint,
            url: format!("redis://{server}/"),
            tasks,
            shutdown: shutdown.drop_guard(),
            orders,
        })
    }

    /// What starts the server again, with or without its data; for use while it runs.
    ///
    /// # Errors
    /// The server is not ours.
    pub fn restarter(&self) -> anyhow::Result<Restarter> {
        match &self.orders {
            Some(orders) => Ok(Restarter(orders.clone())),
            None => bail!("the cache server of --redis is not ours to restart"),
        }
    }

    /// Where programs find it, with TLS where the template asks for it.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// URL without TLS, for tools.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends the server and waits until it is gone. A server that somebody else started runs on.
    pub async fn stop(self) {
        drop(self.shutdown);
        self.tasks.wait().await;
    }
}

/// Starts a cache server again.
#[derive(Clone, Debug)]
pub struct Restarter(mpsc::Sender<Order>);

impl Restarter {
    /// Starts it again. Connections to it end.
    pub async fn restart(&self, keeping_data: bool) {
        // A cache that has been stopped needs no restart.
        let _ = self.0.send(Order::Restart { keeping_data }).await;
    }
}

/// An address whose packets vanish, as they do on AWS where no security group admits them: connecting
/// ends in the caller's timeout, never in a refusal.
///
/// It is a port that takes no more connections, because its queue is full of our own.
#[derive(Debug)]
pub struct Blackhole {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Blackhole {
    /// Opens one; it is there until dropped.
    ///
    /// # Errors
    /// No port can be opened.
    pub async fn open() -> io::Result<Blackhole> {
        /// A loopback connection that takes longer will never be made.
        const TOO_LONG: Duration = Duration::from_millis(200);
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let mut queued = Vec::new();
        while queued.len() < 1024 {
            match timeout(TOO_LONG, TcpStream::connect(address)).await {
                Ok(connection) => queued.push(connection?),
                Err(_) => break,
            }
        }
        Ok(Blackhole {
            listener,
            _queued: queued,
        })
    }

    /// The address.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The address of a server that somebody else runs.
async fn given(url: &str) -> anyhow::Result<SocketAddr> {
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

async fn start_server(
    config: &Config,
    door: Option<&Door>,
) -> anyhow::Result<(PathBuf, SocketAddr, Program)> {
    let binary = find_server()?;
    std::fs::create_dir_all(&config.folder)
        .with_context(|| format!("make the folder {}", config.folder.display()))?;
    forget(config)?;
    // The server cannot be asked for a free port, so one is tried that was free just now; if somebody was
    // quicker, another one.
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
                return Ok((binary, address, program));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no port is free")))
}

async fn try_server(
    binary: &Path,
    config: &Config,
    address: SocketAddr,
) -> anyhow::Result<Program> {
    let mut command = Command::new(binary);
    command
        .current_dir(&config.folder)
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args([
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--loglevel",
            "notice",
        ]);
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
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = ready => Ok(program),
        status = program.wait() => bail!("{} ended at once: {}", binary.display(), describe(status?)),
        () = tokio::time::sleep(START_TIMEOUT) => bail!("{} does not answer on {address} after {} s", binary.display(), START_TIMEOUT.as_secs()),
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

/// Removes the data that a server would begin with.
fn forget(config: &Config) -> anyhow::Result<()> {
    let dump = config.folder.join(DUMP);
    match std::fs::remove_file(&dump) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dump.display()))
        }
        _ => Ok(()),
    }
}

impl Kept {
    /// Keeps the server running until the shutdown.
    async fn run(mut self, mut program: Program) {
        loop {
            let shutdown = self.shutdown.clone();
            let keeping_data = tokio::select! {
                () = shutdown.cancelled() => {
                    program.kill().await;
                    return;
                }
                status = program.wait() => {
                    let ended = status.map_or_else(|error| error.to_string(), describe);
                    tracing::error!(
                        "{}: the cache server has ended by itself: {ended}; starting it again, without its data",
                        self.config.logical_id
                    );
                    false
                }
                Some(Order::Restart { keeping_data }) = self.orders.recv() => {
                    self.end(&mut program, keeping_data).await
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                started = self.start_again(keeping_data) => program = started,
            }
        }
    }

    /// Ends the server; says whether its data are kept.
    async fn end(&self, program: &mut Program, keeping_data: bool) -> bool {
        let id = &self.config.logical_id;
        if keeping_data {
            match self.save_and_end(program).await {
                Ok(()) => {
                    tracing::warn!("{id}: the cache server restarts with its data");
                    return true;
                }
                Err(error) => tracing::error!("{id}: the cache server does not save: {error:#}"),
            }
        }
        tracing::warn!("{id}: the cache server restarts without its data");
        program.kill().await;
        false
    }

    async fn save_and_end(&self, program: &mut Program) -> anyhow::Result<()> {
        let mut connection = TcpStream::connect(self.address).await?;
        connection.write_all(b"SHUTDOWN SAVE\r\n").await?;
        let ended = timeout(SAVE_TIMEOUT, program.wait()).await;
        let status = ended.context("it does not end")??;
        if !status.success() {
            bail!("it ended with {}", describe(status));
        }
        Ok(())
    }

    async fn start_again(&self, keeping_data: bool) -> Program {
        let mut backoff = BACKOFF.0;
        loop {
            let started = async {
                if !keeping_data {
                    forget(&self.config)?;
                }
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
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }
}

async fn serve_tls(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    server: SocketAddr,
    door: Option<Arc<Door>>,
    shutdown: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let client = match accepted {
            Ok((client, _)) => client,
            Err(error) => {
                // Out of descriptors, most likely: at once again would be a busy loop.
                tracing::warn!("TLS endpoint of the cache: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, door, shutdown) = (acceptor.clone(), door.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                result = relay(client, &acceptor, server, door.as_deref()) => if let Err(error) = result {
                    tracing::debug!("connection to the cache: {error:#}");
                }
            }
        });
    }
}

async fn relay(
    client: TcpStream,
    acceptor: &TlsAcceptor,
    server: SocketAddr,
    door: Option<&Door>,
) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    let mut client = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(client)).await??;
    let admitted = match door {
        None => None,
        Some(door) => match door.admit(&mut client).await? {
            None => return Ok(()),
            admitted => admitted,
        },
    };
    let mut server = TcpStream::connect(server)
        .await
        .context("the cache server cannot be reached")?;
    server.set_nodelay(true)?;
    let Some(admitted) = admitted else {
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    };
    server.write_all(&admitted.to_server).await?;
    let copying = copy_bidirectional(&mut client, &mut server);
    // However busy it is, a connection that was signed in with IAM ends some day.
    match timeout(CACHE_CONNECTION_LIFETIME, copying).await {
        Ok(copied) => drop(copied?),
        Err(_) => client.shutdown().await?,
    }
    Ok(())
}
