//! ElastiCache: a Redis or Valkey server as the cache, behind a TLS endpoint where the template asks
//! for encryption in transit.
//!
//! (Amazon ElastiCache User Guide, "ElastiCache in-transit encryption (TLS)".)
//!
//! # Differs from AWS
//! - One server without replicas, whatever the number of nodes; reader and primary endpoint are the same.
//! - The server is what the machine has, Redis 6.2 at least, not the template's engine and version.
//! - Of the parameter group `maxmemory-policy` is passed on; memory is not limited to the node type's.
//! - Users, user groups and authentication tokens are not emulated.
//! - Nothing is kept: a server that ends is started again with empty memory.
//! - With `--redis` all caches are that one server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::process::{self, Program};
use crate::tls::Authority;

/// Programs that can be the cache, the first that is there is taken.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];
/// A server that does not answer by then has failed to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two looks at a starting server.
const POLL: Duration = Duration::from_millis(10);
/// A server that was asked to end is killed after this time.
const GRACE: Duration = Duration::from_secs(2);
/// Attempts to find a port that nobody else takes in between.
const PORTS: usize = 5;

/// What a cache needs to know of its `AWS::ElastiCache::ReplicationGroup`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logical ID in the template.
    pub logical_id: String,
    /// `Port`: the one that security groups speak of.
    pub port: u16,
    /// `TransitEncryptionEnabled`
    pub tls: bool,
    /// `maxmemory-policy` of the parameter group.
    pub maxmemory_policy: Option<String>,
    /// A running server to use instead of starting one, as `redis://[user:password@]host[:port][/db]`.
    pub url: Option<String>,
    /// Working directory of the server.
    pub folder: PathBuf,
}

/// A running cache. Dropped, its server is killed.
#[derive(Debug)]
pub struct Cache {
    endpoint: SocketAddr,
    url: String,
    stopping: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Cache {
    /// Starts a server, or finds the one that is to be used, and waits until it answers.
    ///
    /// # Errors
    /// No server program is installed, it does not start, or the given URL does not answer.
    pub async fn start(config: Config, authority: &Authority) -> anyhow::Result<Cache> {
        let stopping = CancellationToken::new();
        let mut tasks = Vec::new();
        let (upstream, url) = match &config.url {
            Some(url) => {
                let upstream = Upstream::parse(url)?;
                let ping = timeout(START_TIMEOUT, upstream.connect()).await;
                ping.map_err(|_| anyhow!("no answer within {START_TIMEOUT:?}"))
                    .and_then(|it| it)
                    .with_context(|| format!("--redis: cannot use {}", upstream.address))?;
                (upstream, url.clone())
            }
            None => {
                let server = Server::start(&config)
                    .await
                    .with_context(|| format!("start {}", config.logical_id))?;
                let address = server.address.to_string();
                tasks.push(tokio::spawn(server.supervise(stopping.clone())));
                let url = format!("redis://{address}");
                (Upstream { address, handshake: Vec::new() }, url)
            }
        };
        let tls = if config.tls {
            Some(TlsAcceptor::from(authority.server_config(&["127.0.0.1", "localhost"])?))
        } else {
            None
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("listen for the cache's endpoint")?;
        let endpoint = listener.local_addr().context("read the address")?;
        let serving = serve(listener, tls, Arc::new(upstream), stopping.clone());
        tasks.push(tokio::spawn(serving));
        Ok(Cache { endpoint, url, stopping, tasks })
    }

    /// Where programs of the template connect to; with TLS if the template says so.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// URL of the server itself, without TLS, for people and tools.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends connections and server, and waits until it is gone.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        for task in std::mem::take(&mut self.tasks) {
            let _ = task.await;
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.stopping.cancel();
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// An address where connections are taken and nothing is ever answered: what a program sees of a
/// cache that no security group lets it reach, up to the moment when it gives up.
#[derive(Debug)]
pub struct Blackhole {
    listener: TcpListener,
}

impl Blackhole {
    /// Opens one.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn open() -> std::io::Result<Blackhole> {
        Ok(Blackhole { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await? })
    }

    /// Its address, as long as it lives.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The server behind the endpoint.
struct Upstream {
    address: String,
    /// Commands that sign in and select the database, each answered with `+OK`.
    handshake: Vec<Vec<u8>>,
}

impl Upstream {
    fn parse(url: &str) -> anyhow::Result<Upstream> {
        // The URL may hold a password: it is never repeated.
        let client = redis::Client::open(url).map_err(|_| {
            anyhow!("--redis is no URL of a Redis server: expected such as redis://127.0.0.1:6379")
        })?;
        let info = client.get_connection_info();
        let redis::ConnectionAddr::Tcp(host, port) = info.addr() else {
            bail!("--redis: expected a URL that begins with redis://, because TLS is added here");
        };
        let settings = info.redis_settings();
        let mut handshake = Vec::new();
        if let Some(password) = settings.password() {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = settings.username() {
                auth.arg(username);
            }
            handshake.push(auth.arg(password).get_packed_command());
        }
        if settings.db() != 0 {
            handshake.push(redis::cmd("SELECT").arg(settings.db()).get_packed_command());
        }
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Ok(Upstream { address, handshake })
    }

    /// A connection that is signed in and answers.
    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let mut socket = TcpStream::connect(&self.address).await?;
        socket.set_nodelay(true)?;
        for command in &self.handshake {
            ask(&mut socket, command, "+OK").await?;
        }
        ask(&mut socket, b"PING\r\n", "+PONG").await?;
        Ok(socket)
    }
}

/// Sends a command and wants this one-line answer.
async fn ask(socket: &mut TcpStream, command: &[u8], expected: &str) -> anyhow::Result<()> {
    socket.write_all(command).await?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < 1024 {
        line.push(socket.read_u8().await?);
    }
    let answer = String::from_utf8_lossy(&line);
    if answer.trim_end() != expected {
        bail!("it answers {:?}", answer.trim_end());
    }
    Ok(())
}

async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    upstream: Arc<Upstream>,
    stopping: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            // Out of file descriptors: give connections time to end.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (tls, upstream, stopping) = (tls.clone(), Arc::clone(&upstream), stopping.clone());
        tokio::spawn(async move {
            let relayed = async {
                socket.set_nodelay(true)?;
                match tls {
                    Some(tls) => relay(tls.accept(socket).await?, &upstream).await,
                    None => relay(socket, &upstream).await,
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                result = relayed => if let Err(error) = result {
                    tracing::debug!("connection to the cache: {error:#}");
                }
            }
        });
    }
}

async fn relay(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: &Upstream,
) -> anyhow::Result<()> {
    let mut server = upstream.connect().await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// A server process.
struct Server {
    config: Config,
    executable: &'static str,
    address: SocketAddr,
    program: Program,
}

impl Server {
    async fn start(config: &Config) -> anyhow::Result<Server> {
        let executable = SERVERS.into_iter().find(|name| is_on_path(name)).ok_or_else(|| {
            anyhow!(
                "neither redis-server nor valkey-server is on the PATH; install one (apt-get install redis-server, dnf install valkey, brew install redis), or pass --redis URL"
            )
        })?;
        std::fs::create_dir_all(&config.folder)
            .with_context(|| format!("make {}", config.folder.display()))?;
        let mut failure = anyhow!("no free port");
        for _ in 0..PORTS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            drop(listener);
            match launch(config, executable, address).await {
                Ok(program) => {
                    return Ok(Server { config: config.clone(), executable, address, program });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn supervise(mut self, stopping: CancellationToken) {
        loop {
            let ended = tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    self.program.stop(GRACE).await;
                    return;
                }
                ended = self.program.wait() => ended,
            };
            let how = ended.map_or_else(|error| error.to_string(), process::describe);
            tracing::error!(
                cache = self.config.logical_id,
                "{} ended with {how}; it is started again with empty memory",
                self.executable
            );
            self.program = loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    launched = launch(&self.config, self.executable, self.address) => match launched {
                        Ok(program) => break program,
                        Err(error) => {
                            tracing::error!(cache = self.config.logical_id, "{error:#}");
                            sleep(Duration::from_secs(1)).await;
                        }
                    }
                }
            };
        }
    }
}

/// Starts the server on an address and waits until it answers.
async fn launch(
    config: &Config,
    executable: &str,
    address: SocketAddr,
) -> anyhow::Result<Program> {
    let mut command = Command::new(executable);
    command
        .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
        // Nothing of the cache is kept on AWS either, unless a snapshot is asked for.
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .current_dir(&config.folder);
    if let Some(policy) = &config.maxmemory_policy {
        command.args(["--maxmemory-policy", policy]);
    }
    let mut program = Program::start(command)?;
    let last_line = Arc::new(std::sync::Mutex::new(String::new()));
    if let Some(pipe) = program.stdout() {
        let last_line = Arc::clone(&last_line);
        tokio::spawn(async move {
            process::lines(pipe, |line| {
                tracing::debug!(target: "cache", "{line}");
                if !line.trim().is_empty() {
                    line.clone_into(&mut last_line.lock().unwrap_or_else(|it| it.into_inner()));
                }
            })
            .await;
        });
    }
    if let Some(pipe) = program.stderr() {
        tokio::spawn(async move {
            process::lines(pipe, |line| tracing::warn!(target: "cache", "{line}")).await;
        });
    }
    let upstream = Upstream { address: address.to_string(), handshake: Vec::new() };
    let answer = async {
        while upstream.connect().await.is_err() {
            sleep(POLL).await;
        }
    };
    let answered = tokio::select! {
        answered = timeout(START_TIMEOUT, answer) => answered.is_ok(),
        ended = program.wait() => {
            let how = ended.map_or_else(|error| error.to_string(), process::describe);
            let said = last_line.lock().unwrap_or_else(|it| it.into_inner()).clone();
            bail!("{executable} ended with {how}; it said: {said}");
        }
    };
    if !answered {
        program.kill().await;
        bail!("{executable} does not answer on {address} within {START_TIMEOUT:?}");
    }
    Ok(program)
}

fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_of_a_running_server_gives_address_and_handshake() {
        let upstream = Upstream::parse("redis://:secret@127.0.0.1:7000/2").unwrap();
        assert_eq!(upstream.address, "127.0.0.1:7000");
        assert_eq!(upstream.handshake.len(), 2);
        assert_eq!(Upstream::parse("redis://localhost").unwrap().address, "localhost:6379");
        for bad in ["rediss://localhost", "http://localhost", "localhost:6379", "", "redis+unix:///x"] {
            assert!(Upstream::parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn blackhole_takes_connections_and_never_answers() {
        let blackhole = Blackhole::open().await.unwrap();
        let upstream =
            Upstream { address: blackhole.address().unwrap().to_string(), handshake: Vec::new() };
        let connecting = timeout(Duration::from_millis(50), upstream.connect());
        assert!(connecting.await.is_err(), "neither refused nor answered");
    }
}
