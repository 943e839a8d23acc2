//! ElastiCache: a real Redis or Valkey server, behind TLS where the template asks for it.
//!
//! The server is the one of `--redis`, else `valkey-server` or `redis-server` of the PATH, started on a
//! free port without a configuration file. With `TransitEncryptionEnabled` a TLS endpoint stands in front
//! of it, so that `rediss://` runs unchanged.
//! (Amazon ElastiCache User Guide: "ElastiCache in-transit encryption (TLS)".)
//!
//! Its data are in the data folder and outlive the run, as a cache on AWS outlives whoever looks at it.
//!
//! # Differs from AWS
//! - One server, whatever the number of nodes and replicas; reader and primary are the same.
//! - Its version is the one that is installed. Without `UserGroupIds` everyone may come in.
//! - Its certificate is signed by a development authority, which programs trust by `SSL_CERT_FILE`.
//! - The server itself can be reached without TLS from this machine, for tools.
//! - A server that ends by itself, or is killed, is started again at the same address with its data. A
//!   node that fails on AWS is replaced by an empty one, unless a replica takes over:
//!   `--fault cache:wipe` shows that.
//! - A change of the template that replaces the cache on AWS keeps its data here.
//!
//! Layout: [`sign_in`] is who may come in; `server` is the program with its data.

pub mod addresses;
pub mod part;
pub mod plan;
mod server;
pub mod sign_in;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::timing::CACHE_CONNECTION_LIFETIME;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::server::{Order, Server};
use self::sign_in::{Door, Guard};
use crate::sessions::Sessions;
use crate::tls::Authority;

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
    /// Folder that keeps the data of a server.
    pub folder: PathBuf,
}

/// A running cache. Dropped, its server is ended.
#[derive(Debug)]
pub struct Cache {
    endpoint: SocketAddr,
    url: String,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// None: the server is somebody else's.
    orders: Option<mpsc::Sender<Order>>,
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
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
        // A start that fails leaves nothing behind.
        let unfinished = shutdown.clone().drop_guard();
        let mut orders = None;
        let server = match &config.url {
            Some(url) => {
                let server = server::given(url).await;
                let server = server.with_context(|| format!("{id}: use --redis {url}"))?;
                if door.is_some() {
                    tracing::warn!(
                        "{id}: programs sign in at its front; the server of --redis is not ours, so the users' access strings are not applied there"
                    );
                }
                server
            }
            None => {
                let started = Server::start(&config, door.as_ref(), shutdown.clone()).await;
                let (server, program) =
                    started.with_context(|| format!("{id}: start a cache server"))?;
                let address = server.address();
                let (sender, receiver) = mpsc::channel(1);
                orders = Some(sender);
                tasks.spawn(server.keep(program, receiver));
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
        unfinished.disarm();
        Ok(Cache {
            endpoint,
            url: format!("redis://{server}/"),
            tasks,
            shutdown,
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

    /// Whether nobody has stopped it.
    pub fn is_running(&self) -> bool {
        !self.shutdown.is_cancelled()
    }

    /// Ends the server and waits until it is gone; its data are kept. A server that somebody else
    /// started runs on.
    pub async fn stop(&self) {
        self.shutdown.cancel();
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
