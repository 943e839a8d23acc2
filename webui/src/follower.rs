//! Keeps the board up to date with the cache.
//!
//! One connection subscribes to the channel, another reads. Subscribing comes before reading, so that no
//! announcement is missed; those that the read includes are recognized by their number.
//! Pub/sub delivers at most once, so the position in the cache is also polled.
//!
//! ElastiCache closes connections that signed in with IAM after some hours. Before it does, new connections
//! replace them without an interruption.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::message::{Announcement, Device, Message};
use contract::redis::{CHANNEL, COUNT, DEVICES, EPOCH, LATEST, SEQ, device_key, field};
use futures_util::StreamExt;
use redis::AsyncConnectionConfig;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::board::{Applied, Snapshot};
use crate::cache::Cache;
use crate::hub::Hub;

/// Time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for a response. A large state is read in chunks of [`CHUNK`] devices.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which both connections are checked. A cache that vanished silently is detected after this and
/// [`RESPONSE_TIMEOUT`].
const CHECK: Duration = Duration::from_secs(3);

/// Delays between attempts: they double from the first to the last. Each is shortened at random by up to
/// half, so that several servers do not reconnect at the same time.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Delay after connections could not be replaced; the old ones still work.
const RENEWAL_RETRY: Duration = Duration::from_secs(60);

/// Number of devices read at once.
const CHUNK: usize = 256;

/// Follows the cache until dropped.
pub(crate) async fn follow(cache: Cache, hub: Arc<Hub>) {
    let mut wait = BACKOFF.0;
    let mut before = false;
    loop {
        let was_ready = &mut false;
        let Err(error) = session(&cache, &hub, before, was_ready).await;
        if *was_ready {
            before = true;
            wait = BACKOFF.0;
        }
        hub.change(|board, clock| board.set_unreachable(clock.milliseconds));
        warn!(
            error = format!("{error:#}"),
            retry_in_ms = wait.as_millis() as u64,
            "cache unreachable"
        );
        sleep(wait.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// The two connections.
struct Link {
    sink: PubSubSink,
    announcements: PubSubStream,
    cache: MultiplexedConnection,
}

impl Link {
    /// Connects, subscribes, and then reads everything.
    async fn open(cache: &Cache, hub: &Hub) -> anyhow::Result<Link> {
        let client = cache.client().await.context("sign in")?;
        let listener = timeout(CONNECT_TIMEOUT, client.get_async_pubsub());
        let listener = listener
            .await
            .context("connecting timed out")?
            .map_err(|error| cache.explain(error))
            .context("connect")?;
        let (mut sink, announcements) = listener.split();
        let subscribed = timeout(RESPONSE_TIMEOUT, sink.subscribe(CHANNEL));
        subscribed
            .await
            .context("subscribing timed out")?
            .context("subscribe")?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let mut reading = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| cache.explain(error))
            .context("connect for reading")?;
        read_all(&mut reading, hub).await?;
        Ok(Link {
            sink,
            announcements,
            cache: reading,
        })
    }
}

/// Follows the cache until the first failure.
async fn session(
    cache: &Cache,
    hub: &Hub,
    before: bool,
    was_ready: &mut bool,
) -> anyhow::Result<std::convert::Infallible> {
    let mut link = Link::open(cache, hub).await?;
    *was_ready = true;
    if before {
        hub.metrics.reconnects.increment();
    }
    info!("cache connected");

    // At random, so that several servers do not reconnect at the same time.
    let renewal = || Instant::now() + cache.renewal.mul_f64(1.0 - fastrand::f64() / 10.0);
    // One timer for all announcements.
    let mut renew = pin!(sleep_until(renewal()));
    let mut check = interval_at(Instant::now() + CHECK, CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ahead = None;
    loop {
        tokio::select! {
            announcement = link.announcements.next() => {
                let Some(announcement) = announcement else {
                    bail!("the connection was closed");
                };
                hub.metrics.announcements.increment();
                take(announcement.get_payload_bytes(), &mut link.cache, hub).await?;
            }
            _ = check.tick() => {
                let pong = timeout(RESPONSE_TIMEOUT, link.sink.ping::<redis::Value>());
                pong.await.context("ping timed out")?.context("ping")?;
                ahead = check_position(&mut link.cache, hub, ahead).await?;
            }
            () = renew.as_mut() => match Link::open(cache, hub).await {
                Ok(renewed) => {
                    link = renewed;
                    renew.as_mut().reset(renewal());
                    hub.metrics.reconnects.increment();
                    info!("cache connections renewed");
                }
                Err(error) => {
                    renew.as_mut().reset(Instant::now() + RENEWAL_RETRY);
                    warn!(
                        error = format!("{error:#}"),
                        retry_in_ms = RENEWAL_RETRY.as_millis() as u64,
                        "cache connections not renewed, keeping the old ones"
                    );
                }
            },
        }
    }
}

/// Applies an announcement, after reading its unsent parts.
async fn take(payload: &[u8], cache: &mut MultiplexedConnection, hub: &Hub) -> anyhow::Result<()> {
    let mut announcement: Announcement = match serde_json::from_slice(payload) {
        Ok(announcement) => announcement,
        Err(error) => {
            warn!(%error, "invalid announcement, reading everything");
            return read_all(cache, hub).await;
        }
    };
    if announcement.latest.is_none() {
        announcement.latest = read_latest(cache).await?;
    }
    let unsent = std::mem::take(&mut announcement.unsent);
    announcement
        .devices
        .extend(read_devices(cache, &unsent).await?);
    match hub.change(|board, clock| board.apply(announcement, clock)) {
        Applied::Yes | Applied::Old => Ok(()),
        Applied::Gap => read_all(cache, hub).await,
    }
}

/// Reads everything if the board is still behind the cache's position of the previous check: an
/// announcement was lost, or the cache was emptied. Returns the cache's position if the board is behind it.
async fn check_position(
    cache: &mut MultiplexedConnection,
    hub: &Hub,
    last: Option<(String, u64)>,
) -> anyhow::Result<Option<(String, u64)>> {
    let (epoch, seq): (Option<String>, Option<u64>) = redis::cmd("MGET")
        .arg(EPOCH)
        .arg(SEQ)
        .query_async(cache)
        .await
        .context("read the position")?;
    let there = (epoch.unwrap_or_default(), seq.unwrap_or_default());
    let is_behind = |there: &(String, u64)| {
        hub.read(|board| {
            let (epoch, seq) = board.position();
            epoch != there.0 || seq < there.1
        })
    };
    if last
        .as_ref()
        .is_some_and(|last| last.0 == there.0 && is_behind(last))
    {
        read_all(cache, hub).await?;
    }
    Ok(Some(there).filter(is_behind))
}

/// Epoch, number, count, latest message, and names of the devices.
type State = (
    Option<String>,
    Option<u64>,
    Option<u64>,
    Option<Vec<u8>>,
    Vec<String>,
);

async fn read_all(cache: &mut MultiplexedConnection, hub: &Hub) -> anyhow::Result<()> {
    loop {
        let (epoch, seq, count, latest, names): State = redis::pipe()
            .atomic()
            .get(EPOCH)
            .get(SEQ)
            .get(COUNT)
            .get(LATEST)
            .zrange(DEVICES, 0, -1)
            .query_async(cache)
            .await
            .context("read the state")?;
        // Devices may be newer than the rest: the board ignores older states of a device.
        let devices = read_devices(cache, &names).await?;
        let still: Option<String> = redis::cmd("GET")
            .arg(EPOCH)
            .query_async(cache)
            .await
            .context("read the epoch")?;
        if still != epoch {
            continue;
        }
        hub.metrics.rereads.increment();
        let snapshot = Snapshot {
            epoch: epoch.unwrap_or_default(),
            seq: seq.unwrap_or_default(),
            count: count.unwrap_or_default(),
            latest: latest.and_then(|latest| parse(&latest, LATEST)),
            devices,
        };
        hub.change(|board, clock| board.replace(snapshot, clock));
        return Ok(());
    }
}

async fn read_latest(cache: &mut MultiplexedConnection) -> anyhow::Result<Option<Message>> {
    let latest: Option<Vec<u8>> = redis::cmd("GET")
        .arg(LATEST)
        .query_async(cache)
        .await
        .context("read the latest message")?;
    Ok(latest.and_then(|latest| parse(&latest, LATEST)))
}

async fn read_devices(
    cache: &mut MultiplexedConnection,
    names: &[String],
) -> anyhow::Result<Vec<Device>> {
    let mut devices = Vec::with_capacity(names.len());
    for names in names.chunks(CHUNK) {
        let mut pipe = redis::pipe();
        for name in names {
            pipe.cmd("HMGET")
                .arg(device_key(name))
                .arg(field::COUNT)
                .arg(field::LATEST);
        }
        let fields: Vec<(Option<u64>, Option<Vec<u8>>)> =
            pipe.query_async(cache).await.context("read devices")?;
        for (name, fields) in names.iter().zip(fields) {
            // Missing if the device was evicted since its name was read.
            if let (Some(count), Some(latest)) = fields
                && let Some(latest) = parse(&latest, name)
            {
                devices.push(Device {
                    device: name.clone(),
                    count,
                    latest,
                });
            }
        }
    }
    Ok(devices)
}

/// Parses a message. Returns `None` for one that another program wrote.
fn parse(latest: &[u8], of: &str) -> Option<Message> {
    serde_json::from_slice(latest)
        .inspect_err(|error| warn!(%error, of, "invalid message in the cache"))
        .ok()
}
