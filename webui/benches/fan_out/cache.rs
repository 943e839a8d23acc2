//! The cache: a real redis-server, and updates published into it at a steady pace.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use contract::redis as names;

use crate::clients::{PREFIX, Times};
use crate::process::{Process, free_port, is_up};

/// Updates go to this many devices in turn.
pub(crate) const DEVICES: u64 = 100;

/// A redis-server of its own, ended when dropped.
pub(crate) struct Cache {
    pub(crate) address: SocketAddr,
    _server: Process,
}

impl Cache {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let address = free_port()?;
        let port = address.port().to_string();
        let nothing_on_disk = ["--save", "", "--appendonly", "no"];
        let bound = ["--bind", "127.0.0.1", "--port", &port];
        let server = Process::start("redis-server", bound.iter().chain(&nothing_on_disk), &[])
            .context("start redis-server; Debian's package is redis-server")?;
        is_up(address)?;
        Ok(Self {
            address,
            _server: server,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The state after an update, as the function would have left it.
    pub(crate) fn hold(&self, seq: u64) -> anyhow::Result<()> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        let mut pipe = redis::pipe();
        pipe.atomic()
            .set(names::EPOCH, "bench")
            .set(names::SEQ, seq)
            .set(names::COUNT, seq)
            .set(names::LATEST, message(seq));
        for device in 0..DEVICES {
            let name = name(device);
            let key = names::device_key(&name);
            pipe.zadd(names::DEVICES, name, device)
                .hset(&key, names::field::COUNT, seq / DEVICES)
                .hset(&key, names::field::LATEST, message(device));
        }
        pipe.exec(&mut connection).context("write the state")
    }
}

fn name(device: u64) -> String {
    format!("sensor-{:03}", device % DEVICES)
}

/// What a sensor says.
fn message(seq: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    format!(
        r#"{{"device":"{}","payload":{{"temperature":{}.{},"humidity":{},"battery":{}}},"encoding":"json","at":{}}}"#,
        name(seq),
        18 + seq % 7,
        seq % 10,
        40 + seq % 13,
        60 + seq % 37,
        now.as_millis()
    )
}

/// What the function announces after a batch of one record.
fn announcement(seq: u64) -> String {
    format!(
        r#"{PREFIX}{seq},"count":{seq},"latest":{message},"devices":[{{"device":"{name}","count":{count},"latest":{message}}}]}}"#,
        message = message(seq),
        name = name(seq),
        count = seq / DEVICES + 1
    )
}

/// Where updates are published.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Channel {
    /// On the cache's channel.
    Redis(SocketAddr),
    /// By POST to this address, for a server that knows no Redis.
    Http(SocketAddr),
}

/// Publishes updates.
pub(crate) struct Publisher {
    channel: Channel,
    stream: TcpStream,
    times: Arc<Times>,
}

impl Publisher {
    pub(crate) fn connect(channel: Channel, times: &Arc<Times>) -> io::Result<Self> {
        let (Channel::Redis(address) | Channel::Http(address)) = channel;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut answers = stream.try_clone()?;
        // Nobody waits for the answers. The thread ends with the connection.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while answers.read(&mut buffer).is_ok_and(|length| length > 0) {}
        });
        Ok(Self {
            channel,
            stream,
            times: Arc::clone(times),
        })
    }

    /// Publishes the updates after `after` up to `last`, evenly over the duration.
    pub(crate) fn publish(&mut self, after: u64, last: u64, duration: Duration) -> io::Result<()> {
        let began = Instant::now();
        let each = duration / u32::try_from(last - after).unwrap_or(u32::MAX);
        for (index, seq) in (after + 1..=last).enumerate() {
            let due = each * index as u32;
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            let announcement = announcement(seq);
            let length = announcement.len();
            let request = match self.channel {
                Channel::Redis(_) => format!(
                    "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{}\r\n${length}\r\n{announcement}\r\n",
                    names::CHANNEL.len(),
                    names::CHANNEL
                ),
                Channel::Http(_) => format!(
                    "POST /publish HTTP/1.1\r\nhost: bench\r\ncontent-length: {length}\r\n\r\n{announcement}"
                ),
            };
            self.times.publish(seq);
            self.stream.write_all(request.as_bytes())?;
        }
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}
