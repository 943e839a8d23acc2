//! `smoke`: a message of its own is sent through a deployed stage, and its way is timed: into AWS IoT,
//! into the stream, to the dashboard's WebSocket and, when asked for, into the archive.
//!
//! When a part of the way stays silent, the event source mapping's own words tell which.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_cloudformation::types::StackResourceSummary;
use contract::topic;
use serde_json::json;
use stack::Stage;
use tokio::time::{Instant, sleep, timeout_at};

use crate::arguments::Smoke;
use crate::aws::{Cloud, failed};
use crate::message::{Publisher, now_ms};
use crate::outputs;
use crate::screen::progress::Output;
use crate::socket::Socket;
use crate::stack::call::{self, Stack};

/// What the archive may take beyond everybody's patience: Firehose collects for a minute, and its own
/// delivery comes on top.
const BUFFERING: Duration = Duration::from_secs(120);

/// Clocks of this machine and of AWS differ; a part of the way that is longer than this in the wrong
/// direction says so and nothing else.
const CLOCKS: u64 = 1_000;

pub(crate) async fn run(arguments: Smoke) -> anyhow::Result<()> {
    let output = if arguments.json {
        Output::Json
    } else {
        Output::Plain
    };
    let cloud = Cloud::connect(Duration::from_secs(1)).await?;
    let stack = outputs::deployed(&cloud, arguments.stage).await?;
    Probe {
        cloud: &cloud,
        output,
        stack: &stack,
        stage: arguments.stage,
        patience: Duration::from_secs(arguments.patience.max(1)),
    }
    .run(arguments.archive)
    .await
}

/// How long each part may take when `deploy` ends with it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// One message and its way.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    pub(crate) cloud: &'a Cloud,
    pub(crate) output: Output,
    pub(crate) stack: &'a Stack,
    pub(crate) stage: Stage,
    /// How long each part of the way may take.
    pub(crate) patience: Duration,
}

/// The parts of the stage that the way leads through, by their physical IDs.
struct Way {
    mapping: String,
    dashboard: String,
    archive: Option<String>,
}

impl Probe<'_> {
    /// Sends a message and follows it.
    pub(crate) async fn run(&self, archive: bool) -> anyhow::Result<()> {
        let way = self.way().await?;
        // Neither needs the other, and both may take minutes after a creation.
        let deadline = Instant::now() + self.patience;
        let (enabled, publisher, socket) = tokio::join!(
            self.wait_for_mapping(&way.mapping, deadline),
            Publisher::new(self.cloud),
            Socket::open(&way.dashboard, deadline)
        );
        enabled?;
        let publisher = publisher?;
        let mut socket = socket.with_context(|| self.silent(
            "the dashboard does not answer",
            &format!("look at the environment by `cargo xtask status --stage {0}` and at the web UI's lines in `cargo xtask logs --stage {0}`", self.stage),
        ))?;
        self.output
            .say(format!("the dashboard answers: {}", way.dashboard));

        let device = format!("smoke-{}", random());
        let topic = topic::of_device(&device);
        let payload = json!({ "smoke": true, "note": "a message that tries the whole way; nobody measured it" });
        let began = Instant::now();
        let sent_at = now_ms();
        publisher
            .publish(&topic, payload.to_string().into_bytes())
            .await
            .with_context(|| {
                self.silent(
                    "AWS IoT does not take the message",
                    "the credentials need iot:Publish; the endpoint is the account's own",
                )
            })?;
        self.hop("AWS IoT took the message", began.elapsed());

        let deadline = Instant::now() + self.patience;
        let shown = timeout_at(deadline, socket.message_of(&device)).await;
        let shown = match shown {
            Ok(shown) => shown.with_context(|| {
                self.silent(
                    "the dashboard's connection broke",
                    "look at the web UI's log lines",
                )
            })?,
            Err(_) => bail!(self.where_it_stopped(&way.mapping).await),
        };
        let took = began.elapsed();
        if let Some(arrival) = arrival(sent_at, shown.at, took) {
            self.hop("the stream had it", arrival);
        }
        self.hop("the dashboard showed it", took);
        if archive {
            self.find_in_archive(&way, &topic, began).await?;
        }
        self.output.say(format!("stage {} works", self.stage));
        self.output.tell(&json!({
            "result": "works", "device": device, "dashboardMs": took.as_millis(),
        }));
        Ok(())
    }

    async fn way(&self) -> anyhow::Result<Way> {
        let resources = call::resources(self.cloud, &self.stack.id).await?;
        let mapping = physical(&resources, |it| {
            it.resource_type() == Some("AWS::Lambda::EventSourceMapping")
        });
        let archive = physical(&resources, |it| {
            it.logical_resource_id() == Some("ArchiveBucket")
        });
        Ok(Way {
            mapping: mapping.with_context(|| {
                format!(
                    "`{}` has no event source mapping, so nothing reads the stream",
                    self.stack.name
                )
            })?,
            dashboard: outputs::dashboard_url(self.stack, self.stage)?.to_owned(),
            archive,
        })
    }

    /// A new mapping takes up to minutes until it reads.
    async fn wait_for_mapping(&self, mapping: &str, deadline: Instant) -> anyhow::Result<()> {
        let mut is_said = false;
        loop {
            let (state, reason) = self.mapping(mapping).await?;
            match state.as_str() {
                "Enabled" => return Ok(()),
                "Disabled" | "Disabling" | "Deleting" => bail!(
                    "the event source mapping is {state} ({reason}), so nothing reads the stream: `cargo xtask deploy --stage {}` switches it on",
                    self.stage
                ),
                _ if Instant::now() >= deadline => bail!(
                    "the event source mapping is still {state} after {} s ({reason}): look at it in the Lambda console, or give it more time by --patience",
                    self.patience.as_secs()
                ),
                _ => {}
            }
            if !is_said {
                self.output.say(format!(
                    "waiting for the event source mapping, which is {state}"
                ));
                is_said = true;
            }
            sleep(self.cloud.poll).await;
        }
    }

    /// The mapping's state, and why it is in it.
    async fn mapping(&self, mapping: &str) -> anyhow::Result<(String, String)> {
        let found = self
            .cloud
            .lambda
            .get_event_source_mapping()
            .uuid(mapping)
            .send()
            .await;
        let found = found.map_err(|error| failed("look at the event source mapping", error))?;
        let reason = found.state_transition_reason().unwrap_or("no reason given");
        Ok((
            found.state().unwrap_or_default().to_owned(),
            reason.to_owned(),
        ))
    }

    /// Which part of the way stays silent: the mapping knows what it has read.
    async fn where_it_stopped(&self, mapping: &str) -> String {
        let found = self
            .cloud
            .lambda
            .get_event_source_mapping()
            .uuid(mapping)
            .send()
            .await;
        let found = found.ok();
        let last = found.as_ref().and_then(|it| it.last_processing_result());
        let last = last.unwrap_or_default();
        let stage = self.stage;
        match last {
            "" | "No records processed" => self.silent(
                "AWS IoT took the message, and the function has been given nothing: the rule or the stream is silent",
                &format!("look at the rule's errors in `cargo xtask logs --stage {stage}`, and at the permissions of its role"),
            ),
            "OK" => self.silent(
                "the function has processed what was in the stream, and the dashboard did not show it: the cache or the web UI is silent",
                &format!("look at the function's and the web UI's lines in `cargo xtask logs --stage {stage}`"),
            ),
            problem => self.silent(
                &format!("the function fails ({problem})"),
                &format!("look at its lines in `cargo xtask logs --stage {stage}`"),
            ),
        }
    }

    fn silent(&self, what: &str, advice: &str) -> String {
        format!(
            "{what}, after at most {} s of waiting; {advice}",
            self.patience.as_secs()
        )
    }

    fn hop(&self, what: &str, took: Duration) {
        self.output
            .say(format!("  {:>8.3} s  {what}", took.as_secs_f64()));
        self.output
            .tell(&json!({ "hop": what, "ms": took.as_millis() }));
    }

    /// Waits until an object of the archive holds the message.
    async fn find_in_archive(&self, way: &Way, topic: &str, began: Instant) -> anyhow::Result<()> {
        let bucket = way
            .archive
            .as_deref()
            .context("the stack has no archive bucket")?;
        self.output
            .say("waiting for the archive: it collects for a minute or 5 MB");
        let deadline = began + self.patience + BUFFERING;
        let since =
            now_ms().saturating_sub(u64::try_from(began.elapsed().as_millis()).unwrap_or(0));
        let mut known = std::collections::BTreeSet::new();
        while Instant::now() < deadline {
            for key in self.recent(bucket, since).await? {
                if known.insert(key.clone()) && self.holds(bucket, &key, topic).await? {
                    self.hop("the archive holds it", began.elapsed());
                    return Ok(());
                }
            }
            sleep(self.cloud.poll).await;
        }
        bail!(
            "the archive does not hold the message after {} s; look at the rule's and the archive's errors in `cargo xtask logs --stage {}`",
            (self.patience + BUFFERING).as_secs(),
            self.stage
        )
    }

    /// Objects of the archive that may hold something sent at `since`, by today's folder and the
    /// hour's neighbours: an archive of years is not listed from its beginning.
    async fn recent(&self, bucket: &str, since: u64) -> anyhow::Result<Vec<String>> {
        let mut keys = Vec::new();
        for prefix in folders(since) {
            let mut next = None;
            loop {
                let page = self
                    .cloud
                    .s3
                    .list_objects_v2()
                    .bucket(bucket)
                    .prefix(&prefix)
                    .set_continuation_token(next)
                    .send()
                    .await
                    .map_err(|error| failed("list the archive", error))?;
                keys.extend(
                    page.contents()
                        .iter()
                        .filter(|it| {
                            it.last_modified().is_none_or(|at| {
                                at.secs() >= i64::try_from(since / 1_000).unwrap_or(0) - 1
                            })
                        })
                        .filter_map(|it| it.key().map(str::to_owned)),
                );
                next = page.next_continuation_token;
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(keys)
    }

    async fn holds(&self, bucket: &str, key: &str, topic: &str) -> anyhow::Result<bool> {
        let object = self
            .cloud
            .s3
            .get_object()
            .bucket(bucket)
            .key(key)
            .send()
            .await;
        let object = object.map_err(|error| failed("read an object of the archive", error))?;
        let bytes = object
            .body
            .collect()
            .await
            .context("read an object of the archive")?
            .into_bytes();
        let mut text = Vec::new();
        // Firehose compresses as the template says; an object that is not is looked at as it is.
        if flate2::read::MultiGzDecoder::new(&bytes[..])
            .read_to_end(&mut text)
            .is_err()
        {
            text = bytes.to_vec();
        }
        Ok(text
            .windows(topic.len())
            .any(|part| part == topic.as_bytes()))
    }
}

fn physical(
    resources: &[StackResourceSummary],
    is: impl Fn(&StackResourceSummary) -> bool,
) -> Option<String> {
    let found = resources.iter().find(|it| is(it))?;
    found.physical_resource_id().map(str::to_owned)
}

/// Time from sending to the arrival at the stream by AWS's clock; `None` when it cannot be true.
fn arrival(sent_at: u64, at: u64, whole: Duration) -> Option<Duration> {
    if at + CLOCKS < sent_at {
        return None;
    }
    let arrival = Duration::from_millis(at.saturating_sub(sent_at));
    (arrival <= whole).then_some(arrival)
}

/// Folders in which Firehose puts what arrives in this hour and the next, in UTC.
fn folders(since: u64) -> Vec<String> {
    let Ok(since) = jiff::Timestamp::from_millisecond(i64::try_from(since).unwrap_or(i64::MAX))
    else {
        return Vec::new();
    };
    [0_i64, 3_600]
        .into_iter()
        .filter_map(|more| {
            since
                .checked_add(jiff::SignedDuration::from_secs(more))
                .ok()
        })
        .map(|at| at.strftime("raw/dt=%Y-%m-%d/hour=%H/").to_string())
        .collect()
}

/// Eight letters and digits that nobody else has at the moment.
fn random() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    format!("{:08x}", hasher.finish() >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrival_is_left_out_when_the_clocks_disagree() {
        let whole = Duration::from_millis(500);
        assert_eq!(
            arrival(1_000, 1_200, whole),
            Some(Duration::from_millis(200))
        );
        assert_eq!(arrival(5_000, 1_000, whole), None);
        assert_eq!(arrival(1_000, 9_000, whole), None);
        // A little before it was sent: the clocks are as good as equal.
        assert_eq!(arrival(1_000, 900, whole), Some(Duration::ZERO));
    }

    #[test]
    fn archive_is_looked_for_in_this_hour_and_the_next() {
        // 2026-11-23T23:59:59Z
        assert_eq!(
            folders(1_795_478_399_000),
            ["raw/dt=2026-11-23/hour=23/", "raw/dt=2026-11-24/hour=00/"]
        );
    }

    #[test]
    fn canaries_differ() {
        assert_ne!(random(), random());
    }
}
