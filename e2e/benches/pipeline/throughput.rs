//! Messages a second at QoS 1: this run until its dashboard has counted them, and mosquitto until its
//! subscriber has them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use contract::topic;
use e2e::PATIENCE;
use e2e::programs::Programs;
use e2e::publish::publish;
use e2e::run::{Run, Settings};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{fleet, percentile, with_shards};

const CONNECTIONS: u32 = 32;
/// So many that no shard gets much more than its share.
const DEVICES_OF_CONNECTION: u32 = 16;
const MESSAGES_EACH: u64 = 2_000;
const MESSAGES: u64 = MESSAGES_EACH * CONNECTIONS as u64;
const ROUNDS: usize = 5;

/// Each takes a thousand records a second: with several devices of each hash range, together more than
/// anybody reaches here.
const SHARDS: u32 = 128;

pub(crate) async fn measure(programs: &Programs, mosquitto: &Path) -> anyhow::Result<()> {
    println!(
        "\n### {MESSAGES} messages at QoS 1 of {CONNECTIONS} connections and {} devices, as fast as they are confirmed\n",
        CONNECTIONS * DEVICES_OF_CONNECTION
    );
    println!(
        "| round | local, confirmed/s | local, counted/s | mosquitto, received/s | counted/received |"
    );
    println!("|--:|--:|--:|--:|--:|");
    let template = with_shards(programs, SHARDS)?;
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let run = Run::start(Settings::new(programs).template(&template)).await?;
        let started = Instant::now();
        let (_, confirmed) =
            tokio::try_join!(fleet::watch(&run.dashboard, MESSAGES, |_, _| {}), async {
                publish_all(&run.mqtt).await?;
                Ok(per_second(started))
            })?;
        let counted = per_second(started);
        run.stop().await?;
        let received = received(mosquitto).await?;
        ratios.push(counted / received);
        println!(
            "| {round} | {confirmed:.0} | {counted:.0} | {received:.0} | {:.2} |",
            counted / received
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("\nmedian ratio: {:.2}", percentile(&ratios, 0.5));
    Ok(())
}

fn per_second(started: Instant) -> f64 {
    MESSAGES as f64 / started.elapsed().as_secs_f64()
}

/// Every connection for some of the devices in turn.
async fn publish_all(address: &str) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let address = address.to_owned();
        tasks.spawn(async move {
            let messages = (0..MESSAGES_EACH).map(|n| {
                let turn = n as u32 % DEVICES_OF_CONNECTION;
                let device = fleet::device(connection * DEVICES_OF_CONNECTION + turn);
                let payload = format!(r#"{{"n":{n},"temperature":21.5,"humidity":48}}"#);
                (topic::of_device(&device), payload.into_bytes())
            });
            publish(&address, &format!("bench-{connection}"), messages.collect()).await
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Messages a second from mosquitto's publishers to its subscriber.
async fn received(mosquitto: &Path) -> anyhow::Result<f64> {
    let broker = Mosquitto::start(mosquitto).await?;
    let mut options = MqttOptions::new("subscriber", broker.host(), broker.address.port());
    options.set_inflight(1_000);
    let (client, mut event_loop) = AsyncClient::new(options, 10);
    client
        .subscribe(topic::of_device("+"), QoS::AtLeastOnce)
        .await?;
    let (subscribed, ready) = oneshot::channel();
    let receiving = tokio::spawn(async move {
        let mut subscribed = Some(subscribed);
        let mut received = 0;
        while received < MESSAGES {
            match timeout(PATIENCE, event_loop.poll()).await?? {
                Event::Incoming(Packet::SubAck(_)) => {
                    let _ = subscribed.take().map(|it| it.send(()));
                }
                Event::Incoming(Packet::Publish(_)) => received += 1,
                _ => {}
            }
        }
        anyhow::Ok(())
    });
    timeout(PATIENCE, ready)
        .await
        .context("mosquitto is silent")??;
    let started = Instant::now();
    let address = broker.address.to_string();
    publish_all(&address).await?;
    receiving.await??;
    Ok(per_second(started))
}

/// A broker that neither drops nor holds back. Ends with the value.
struct Mosquitto {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Mosquitto {
    async fn start(program: &Path) -> anyhow::Result<Mosquitto> {
        let folder = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let file = folder.path().join("mosquitto.conf");
        let settings = format!(
            "listener {} {}\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
             set_tcp_nodelay true\nlog_type error\n",
            address.port(),
            address.ip()
        );
        fs::write(&file, settings)?;
        let process = Command::new(program)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start mosquitto")?;
        let started = Mosquitto {
            process,
            address,
            _folder: folder,
        };
        let listening = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, listening)
            .await
            .context("mosquitto does not listen")?;
        Ok(started)
    }

    fn host(&self) -> String {
        self.address.ip().to_string()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
