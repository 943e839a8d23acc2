//! A cache and a server for each test, ended with the test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use contract::message::Frame;
use contract::redis as names;
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use webui::{CAPS, Caps, Config, WINDOW};

/// Time limit of every wait.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A redis-server on a temporary socket.
pub(crate) struct Cache {
    server: Child,
    folder: TempDir,
}

impl Cache {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = launch(&folder.path().join("redis.sock"));
        let cache = Self { server, folder };
        cache.is_up().await;
        cache
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    async fn is_up(&self) {
        until("redis-server answers", async || {
            let client = self.client().get_multiplexed_async_connection().await.ok();
            client.is_some()
        })
        .await;
    }

    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(format!("redis+unix://{}", self.socket().display())).expect("a path")
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_file(self.socket());
    }

    /// Restarts it, empty.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.server = launch(&self.socket());
        self.is_up().await;
    }

    pub(crate) async fn run(&self, pipe: &redis::Pipeline) {
        let mut connection = self
            .client()
            .get_multiplexed_async_connection()
            .await
            .expect("a connection");
        pipe.exec_async(&mut connection)
            .await
            .expect("the commands are right");
    }
}

fn launch(socket: &std::path::Path) -> Child {
    Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--unixsocket",
        ])
        .arg(socket)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server runs: `cargo xtask test` brings it")
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes to the cache as the function does.
pub(crate) struct Writer {
    pub(crate) epoch: &'static str,
    pub(crate) seq: u64,
    pub(crate) count: u64,
}

impl Writer {
    pub(crate) fn new(epoch: &'static str) -> Self {
        Self {
            epoch,
            seq: 0,
            count: 0,
        }
    }

    /// Writes the `count`th message of a device, and announces it if `announced`.
    pub(crate) async fn write(&mut self, cache: &Cache, device: &str, count: u64, announced: bool) {
        self.seq += 1;
        self.count += 1;
        let message = format!(
            r#"{{"device":"{device}","payload":{{"n":{count}}},"encoding":"json","at":{}}}"#,
            1_700_000_000_000_u64 + self.seq
        );
        let mut pipe = redis::pipe();
        pipe.atomic()
            .set(names::EPOCH, self.epoch)
            .set(names::SEQ, self.seq)
            .set(names::COUNT, self.count)
            .set(names::LATEST, &message)
            .zadd(names::DEVICES, device, self.seq)
            .hset(names::device_key(device), names::field::COUNT, count)
            .hset(names::device_key(device), names::field::LATEST, &message);
        if announced {
            let announcement = format!(
                r#"{{"epoch":"{}","seq":{},"count":{},"latest":{message},"devices":[{{"device":"{device}","count":{count},"latest":{message}}}]}}"#,
                self.epoch, self.seq, self.count
            );
            pipe.publish(names::CHANNEL, announcement);
        }
        cache.run(&pipe).await;
    }
}

/// The server, in this process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

pub(crate) type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Server {
    pub(crate) async fn start(cache: &Cache) -> Self {
        let server = Self::start_with(cache.client(), CAPS).await;
        until("the server is ready", async || {
            server.get("/readyz").await.starts_with("HTTP/1.1 200")
        })
        .await;
        server
    }

    pub(crate) async fn start_with(cache: impl Into<webui::Cache>, caps: Caps) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let config = Config {
            address,
            cache: cache.into(),
            caps,
            window: WINDOW,
        };
        let task = tokio::spawn(webui::run(listener, config, shutdown.clone()));
        Self {
            address,
            shutdown,
            task,
        }
    }

    /// Sends a request. Returns the whole response.
    pub(crate) async fn request(&self, path: &str, headers: &str) -> Vec<u8> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n",
            self.address
        );
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut answer = Vec::new();
        timeout(LIMIT, stream.read_to_end(&mut answer))
            .await
            .expect("in time")
            .expect("it answers");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        String::from_utf8(self.request(path, "").await).expect("text")
    }

    pub(crate) async fn connect_with(
        &self,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, tokio_tungstenite::tungstenite::Error> {
        let mut request = format!("ws://{}/ws", self.address).into_client_request()?;
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, value.parse().expect("a header's value"));
        }
        Ok(tokio_tungstenite::connect_async(request).await?.0)
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_with(&[]).await.expect("a WebSocket")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The next message except pings.
pub(crate) async fn next(client: &mut Client) -> Message {
    loop {
        let message = timeout(LIMIT, client.next())
            .await
            .expect("a message in time");
        match message.expect("an open socket").expect("a right frame") {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

pub(crate) async fn frame(client: &mut Client) -> Frame {
    match next(client).await {
        Message::Text(text) => serde_json::from_str(&text).expect("a frame"),
        other => panic!("not a frame: {other:?}"),
    }
}

/// The first frame that meets the condition.
pub(crate) async fn frame_where(client: &mut Client, wanted: impl Fn(&Frame) -> bool) -> Frame {
    loop {
        let frame = frame(client).await;
        if wanted(&frame) {
            return frame;
        }
    }
}

/// Polls until the condition is true.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition().await {
        assert!(Instant::now() < end, "timeout: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
