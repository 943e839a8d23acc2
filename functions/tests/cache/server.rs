//! A Redis server for one test: empty, in memory, ended with the test.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use contract::message::{Announcement, Device, Message};
use contract::redis as names;
use functions::cache::Cache;
use functions::handler::Function;
use functions::script::Limits;
use redis::{AsyncCommands as _, Client, aio::MultiplexedConnection};
use tempfile::TempDir;

pub(crate) struct Server {
    folder: TempDir,
    child: Option<Child>,
    pub(crate) client: Client,
}

impl Server {
    /// Starts it on a socket in a temporary folder.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::open(format!("redis+unix://{}", socket(&folder).display())).unwrap();
        let mut server = Self {
            folder,
            child: None,
            client,
        };
        server.restart();
        server
    }

    /// Restarts it, empty.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let socket = socket(&self.folder);
        let arguments = ["--port", "0", "--unixsocket"].map(OsString::from);
        self.child = Some(
            launch(
                self.folder.path(),
                arguments.into_iter().chain([socket.into()]),
            )
            .unwrap(),
        );
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn function(&self) -> Function {
        self.function_with(Limits::default())
    }

    pub(crate) fn function_with(&self, limits: Limits) -> Function {
        Function::new(Cache::with_limits(self.client.clone(), limits), |_| ())
    }

    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        self.client
            .get_multiplexed_async_connection()
            .await
            .unwrap()
    }

    /// The current state.
    pub(crate) async fn state(&self) -> State {
        State::read(&mut self.connection().await).await
    }

    /// Subscribes to announcements.
    pub(crate) async fn listen(&self) -> Listener {
        let mut pubsub = self.client.get_async_pubsub().await.unwrap();
        pubsub.subscribe(names::CHANNEL).await.unwrap();
        Listener { pubsub }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn socket(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("redis.sock")
}

/// Starts a server and waits until it accepts connections.
/// `None` if it ended, such as when its port was taken.
pub(crate) fn launch(
    folder: &Path,
    arguments: impl IntoIterator<Item = OsString>,
) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args([
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--dir",
        ])
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot start redis-server: {error}; `cargo xtask test` brings it")
        });
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.any(|line| {
        line.is_ok_and(|line| {
            line.contains("Ready to accept connections")
                || line.contains("server is now ready to accept connections at")
        })
    });
    if !ready {
        child.wait().unwrap();
        return None;
    }
    // Its output is read on, so that it does not block.
    std::thread::spawn(move || lines.for_each(drop));
    Some(child)
}

/// State in the cache.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) count: u64,
    pub(crate) seq: u64,
    pub(crate) epoch: Option<String>,
    pub(crate) latest: Option<Message>,
    /// Sorted by name.
    pub(crate) devices: Vec<Device>,
}

impl State {
    pub(crate) async fn read(connection: &mut MultiplexedConnection) -> Self {
        let (count, seq, epoch, latest): (
            Option<u64>,
            Option<u64>,
            Option<String>,
            Option<String>,
        ) = redis::cmd("MGET")
            .arg(&[names::COUNT, names::SEQ, names::EPOCH, names::LATEST])
            .query_async(connection)
            .await
            .unwrap();
        let mut members: Vec<(String, u64)> = connection
            .zrange_withscores(names::DEVICES, 0, -1)
            .await
            .unwrap();
        members.sort();
        let mut devices = Vec::new();
        for (device, score) in members {
            let (count, latest): (u64, String) = redis::cmd("HMGET")
                .arg(names::device_key(&device))
                .arg(&[names::field::COUNT, names::field::LATEST])
                .query_async(connection)
                .await
                .unwrap();
            let latest: Message = serde_json::from_str(&latest).unwrap();
            assert_eq!(
                latest.at, score,
                "devices are scored by their latest arrival"
            );
            devices.push(Device {
                device,
                count,
                latest,
            });
        }
        Self {
            count: count.unwrap_or_default(),
            seq: seq.unwrap_or_default(),
            epoch,
            latest: latest.map(|latest| serde_json::from_str(&latest).unwrap()),
            devices,
        }
    }

    /// `name=count:latest payload` of every device.
    pub(crate) fn summary(&self) -> String {
        let device = |device: &Device| {
            format!(
                "{}={}:{}",
                device.device, device.count, device.latest.payload
            )
        };
        self.devices
            .iter()
            .map(device)
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub(crate) fn latest_payload(&self) -> &str {
        self.latest
            .as_ref()
            .map_or("none", |latest| latest.payload.get())
    }
}

pub(crate) struct Listener {
    pubsub: redis::aio::PubSub,
}

impl Listener {
    /// All announcements until now: the test publishes a last message, and Redis keeps the order.
    pub(crate) async fn announcements(&mut self, server: &Server) -> Vec<Announcement> {
        use futures_util::StreamExt as _;
        let _: () = server
            .connection()
            .await
            .publish(names::CHANNEL, "end")
            .await
            .unwrap();
        let mut announcements = Vec::new();
        let mut messages = self.pubsub.on_message();
        while let Some(message) = messages.next().await {
            let text: String = message.get_payload().unwrap();
            if text == "end" {
                break;
            }
            announcements.push(
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
            );
        }
        announcements
    }
}
