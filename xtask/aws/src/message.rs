//! `publish --stage` and `simulate --stage`: messages through the IoT data plane, as a device with the
//! credentials of a person would send them.
//!
//! <https://docs.aws.amazon.com/iot/latest/apireference/API_iotdata_Publish.html>

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use aws_sdk_iotdataplane::primitives::Blob;
use fleet::{Fault, Faults, Fleet, Publication, Settings};
use outcome::Exit;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::arguments::{Publish, Simulate};
use crate::aws::iot::Iot;
use crate::aws::{CallFailed, Cloud, failed};
use crate::stack::call;
use crate::topic_rules;

/// Bytes of a payload at most: "Maximum publish payload" of AWS IoT Core's quotas.
const LONGEST: usize = 128 * 1024;

/// Calls under way at once; more than that, and the machine and not the cloud is measured.
const AT_ONCE: usize = 64;

/// Pause between two lines about how a simulation goes.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// A way into a stage for messages.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    client: aws_sdk_iotdataplane::Client,
}

impl Publisher {
    /// The account's own way in, by the address that IoT gives it; AWS_ENDPOINT_URL and
    /// AWS_ENDPOINT_URL_IOT_DATA_PLANE lead elsewhere.
    pub(crate) async fn new(cloud: &Cloud) -> anyhow::Result<Publisher> {
        let mut config = aws_sdk_iotdataplane::config::Builder::from(&cloud.config);
        if cloud.endpoints.of("iot_data_plane").is_none() {
            // Who may publish may not always ask; the region's address leads to the account, too.
            if let Ok(address) = Iot::new(cloud)?.endpoint().await {
                config = config.endpoint_url(format!("https://{address}"));
            }
        }
        Ok(Publisher {
            client: aws_sdk_iotdataplane::Client::from_conf(config.build()),
        })
    }

    /// Publishes a message with QoS 1: what was acknowledged has arrived.
    pub(crate) async fn publish(&self, topic: &str, payload: Vec<u8>) -> Result<(), CallFailed> {
        self.client
            .publish()
            .topic(topic)
            .qos(1)
            .payload(Blob::new(payload))
            .send()
            .await
            .map(drop)
            .map_err(|error| failed("publish the message", error))
    }
}

/// Publishes one message.
pub(crate) async fn publish(arguments: Publish) -> anyhow::Result<ExitCode> {
    let Publish {
        stage,
        topic,
        message,
    } = arguments;
    let payload = if message == "-" {
        let mut payload = Vec::new();
        std::io::stdin()
            .read_to_end(&mut payload)
            .context("read the message from standard input")?;
        payload
    } else {
        message.into_bytes()
    };
    let bytes = payload.len();
    if bytes > LONGEST {
        bail!("the message has {bytes} bytes, and AWS IoT takes at most {LONGEST}");
    }
    let cloud = Cloud::connect(Duration::from_secs(1)).await?;
    let stack = crate::outputs::deployed(&cloud, stage).await?;
    Publisher::new(&cloud)
        .await?
        .publish(&topic, payload)
        .await?;
    let unit = if bytes == 1 { "byte" } else { "bytes" };
    println!("published {bytes} {unit} to {topic} of stage {stage}");
    // IoT confirms every message; which ones a rule takes is known from the template alone.
    let template = call::template(&cloud, &stack.id).await;
    match template.and_then(|template| topic_rules::takes(&template, &topic)) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => {
            eprintln!(
                "no topic rule takes `{topic}`: the message is neither counted nor archived; devices publish to `{}`",
                contract::topic::of_device("NAME")
            );
            Ok(Exit::Attention.into())
        }
        Err(error) => {
            eprintln!("warning: cannot check whether a topic rule takes `{topic}`: {error:#}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What became of a simulation's messages.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    confirmed: u64,
    failed: u64,
    first_failure: Option<CallFailed>,
}

impl Tally {
    fn take(&mut self, done: Result<(), CallFailed>) {
        match done {
            Ok(()) => self.confirmed += 1,
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert(error);
            }
        }
    }
}

/// Publishes what a fleet of simulated sensors says, each message at its own due time.
pub(crate) async fn simulate(arguments: Simulate) -> anyhow::Result<()> {
    let (mut fleet, end) = fleet(&arguments)?;
    let cloud = Cloud::connect(Duration::from_secs(1)).await?;
    crate::outputs::deployed(&cloud, arguments.stage).await?;
    let publisher = Publisher::new(&cloud).await?;
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut calls: JoinSet<Result<(), CallFailed>> = JoinSet::new();
    let mut lines = interval(BETWEEN_LINES);
    lines.set_missed_tick_behavior(MissedTickBehavior::Delay);
    lines.reset();
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    while end.is_none_or(|end| tally.sent < end) {
        let due = started + Duration::from_secs_f64(tally.sent as f64 / arguments.rate);
        let permit = tokio::select! {
            biased;
            _ = &mut stop => break,
            _ = lines.tick() => {
                eprintln!("{} sent, {} confirmed", tally.sent, tally.confirmed);
                continue;
            }
            Some(done) = calls.join_next() => {
                tally.take(done.context("wait for a message")?);
                continue;
            }
            permit = slot(&room, due) => permit?,
        };
        let Publication { topic, payload, .. } = fleet.publish(now_ms());
        let publisher = publisher.clone();
        calls.spawn(async move {
            let done = publisher.publish(&topic, payload).await;
            drop(permit);
            done
        });
        tally.sent += 1;
        // Nothing gets better by a thousand more of the same failure.
        if tally.confirmed == 0 && tally.failed >= AT_ONCE as u64 {
            break;
        }
    }
    while let Some(done) = calls.join_next().await {
        tally.take(done.context("wait for a message")?);
    }
    report(&arguments, tally, started.elapsed())
}

/// Waits until a message is due and there is room for its call.
async fn slot(
    room: &Arc<Semaphore>,
    due: Instant,
) -> anyhow::Result<tokio::sync::OwnedSemaphorePermit> {
    tokio::time::sleep_until(due.into()).await;
    let permit = room.clone().acquire_owned().await;
    permit.context("wait for room for a call")
}

/// The fleet, and how many messages it says in all.
fn fleet(arguments: &Simulate) -> anyhow::Result<(Fleet, Option<u64>)> {
    let Simulate {
        devices,
        rate,
        seconds,
        faults,
        seed,
        ..
    } = arguments;
    if *devices == 0 {
        bail!("--devices: got 0, expected at least 1");
    }
    if !(rate.is_finite() && *rate > 0.0) {
        bail!("--rate: got {rate}, expected messages a second above 0");
    }
    if seconds.is_some_and(|seconds| !(seconds.is_finite() && seconds > 0.0)) {
        bail!("--seconds: expected a number above 0");
    }
    let faults = faults.as_deref().unwrap_or_default().split(',');
    let faults = faults
        .filter(|fault| !fault.is_empty())
        .map(|fault| {
            let fault = fault.trim().parse::<Fault>();
            fault.map_err(|error| anyhow::anyhow!("--faults: {error}"))
        })
        .collect::<anyhow::Result<Faults>>()?;
    let fleet = Fleet::new(Settings {
        devices: *devices,
        faults,
        seed: *seed,
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are checked to be above 0, and too many is no end at all"
    )]
    let end = seconds.map(|seconds| (rate * seconds).round() as u64);
    Ok((fleet, end))
}

fn report(arguments: &Simulate, tally: Tally, took: Duration) -> anyhow::Result<()> {
    let Tally {
        sent,
        confirmed,
        failed,
        first_failure,
    } = tally;
    let slots = Duration::from_secs_f64(sent as f64 / arguments.rate);
    let seconds = took.max(slots).as_secs_f64().max(f64::MIN_POSITIVE);
    let reached = confirmed as f64 / seconds;
    if arguments.json {
        println!(
            "{}",
            json!({
                "devices": arguments.devices, "published": sent, "confirmed": confirmed,
                "failed": failed, "seconds": seconds, "rate": reached,
            })
        );
    } else {
        println!(
            "published {sent} messages of {} devices in {seconds:.1} s ({reached:.1} a second), {confirmed} confirmed",
            arguments.devices
        );
    }
    match first_failure {
        None => Ok(()),
        Some(error) => {
            Err(error).with_context(|| format!("{failed} of {sent} messages were not taken"))
        }
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
