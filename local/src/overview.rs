//! State of a run at one moment: for `GET /api/pipeline`, and for the status line on the terminal.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::event_source_mapping::Mapping;
use crate::kinesis::Stream;
use crate::status::Status;

/// What a run consists of, as far as it can be asked how it is doing.
#[derive(Clone, Debug)]
pub struct Overview {
    pub(crate) status: Arc<Status>,
    pub(crate) streams: BTreeMap<String, Arc<Stream>>,
    pub(crate) mappings: BTreeMap<String, Arc<Mapping>>,
    /// What the status line begins with: the dashboard's URL, or the broker's address in a run without.
    pub(crate) address: String,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Messages that clients published and the broker took.
    pub messages: u64,
    /// Messages to topics that no enabled rule takes.
    pub unmatched: u64,
    /// Devices whose messages a rule took in this run, at most [`Distinct::MAX`](crate::status::Distinct::MAX).
    pub devices: u64,
    /// Times that a rule fired.
    pub rule_firings: u64,
    /// Actions that failed for good and went to the error action.
    pub action_failures: u64,
    /// Messages that a rule's SQL failed on.
    pub sql_failures: u64,
    /// Shards of each stream, by its logical ID.
    pub streams: BTreeMap<String, Vec<Shard>>,
    /// Event source mappings, by their logical ID.
    pub mappings: BTreeMap<String, MappingState>,
    /// Invocations of functions.
    pub invocations: u64,
    /// Invocations that failed.
    pub invocation_errors: u64,
    /// Batches that a mapping completed.
    pub batches: u64,
    /// Records that a mapping gave up on.
    pub records_discarded: u64,
    /// Records that delivery streams took.
    pub archive_records: u64,
    /// Objects written to the archive.
    pub archive_objects: u64,
    /// Calls that a policy denied.
    pub denials: u64,
}

/// A shard at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// Its ID.
    pub shard: String,
    /// Records put into it.
    pub records: u64,
    /// Records that a reader has not done with yet; `None`: nobody reads it.
    pub waiting: Option<u64>,
}

/// An event source mapping at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MappingState {
    /// `Enabled` or `Disabled`.
    pub state: String,
    /// `LastProcessingResult`, such as `OK` or `PROBLEM: Function call failed`.
    pub last_processing_result: String,
}

impl Overview {
    /// How it is now.
    pub fn snapshot(&self) -> Snapshot {
        let status = &self.status;
        let shards = |stream: &Stream| {
            let counts = stream.counts();
            let waiting = stream.waiting();
            let each = stream.shards().into_iter().zip(counts).zip(waiting);
            each.map(|((shard, records), waiting)| Shard {
                shard: shard.to_string(),
                records,
                waiting,
            })
            .collect()
        };
        let state = |mapping: &Mapping| MappingState {
            state: mapping.state().to_owned(),
            last_processing_result: mapping.last_processing_result(),
        };
        Snapshot {
            messages: status.messages.get(),
            unmatched: status.unmatched.get(),
            devices: status.devices.get(),
            rule_firings: status.rules_fired.get(),
            action_failures: status.action_failures.get(),
            sql_failures: status.sql_failures.get(),
            streams: by_name(&self.streams, |stream| shards(stream)),
            mappings: by_name(&self.mappings, |mapping| state(mapping)),
            invocations: status.invocations.get(),
            invocation_errors: status.invocation_errors.get(),
            batches: status.batches.get(),
            records_discarded: status.records_discarded.get(),
            archive_records: status.archive_records.get(),
            archive_objects: status.archive_objects.get(),
            denials: status.denials.get(),
        }
    }
}

fn by_name<T, U>(parts: &BTreeMap<String, T>, shown: impl Fn(&T) -> U) -> BTreeMap<String, U> {
    let shown = |(name, part): (&String, &T)| (name.clone(), shown(part));
    parts.iter().map(shown).collect()
}

/// Time over which the messages a second are counted.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// The status line of a run, with what must be remembered between two of them.
#[derive(Debug)]
pub struct StatusLine {
    address: String,
    /// Total of messages at earlier moments, the oldest first.
    totals: VecDeque<(Instant, u64)>,
}

impl StatusLine {
    /// The line of a run that is reached at this address.
    pub fn new(address: String) -> StatusLine {
        StatusLine {
            address,
            totals: VecDeque::new(),
        }
    }

    /// The line at a moment: address, devices, messages a second, total, lag, and what went wrong.
    pub fn text(&mut self, now: Instant, snapshot: &Snapshot) -> String {
        let rate = self.rate(now, snapshot.messages);
        let mut parts = vec![
            self.address.clone(),
            counted(snapshot.devices, "device"),
            format!("{rate:.1} msg/s"),
            format!("{} total", grouped(snapshot.messages)),
        ];
        let shards = snapshot.streams.values().flatten();
        let waiting: Vec<u64> = shards.filter_map(|shard| shard.waiting).collect();
        if !waiting.is_empty() {
            parts.push(format!("lag {}", grouped(waiting.iter().sum())));
        }
        let wrong = [
            ("unmatched", snapshot.unmatched),
            ("failed actions", snapshot.action_failures),
            ("SQL failures", snapshot.sql_failures),
            ("failed invocations", snapshot.invocation_errors),
            ("discarded records", snapshot.records_discarded),
            ("denials", snapshot.denials),
        ];
        let wrong = wrong.into_iter().filter(|(_, count)| *count > 0);
        parts.extend(wrong.map(|(what, count)| format!("{} {what}", grouped(count))));
        parts.join(" · ")
    }

    /// Messages a second since the window began.
    fn rate(&mut self, now: Instant, total: u64) -> f64 {
        self.totals.push_back((now, total));
        // The first one that is as old as the window stays: the rate is counted from there.
        while let Some((second, _)) = self.totals.get(1)
            && now.duration_since(*second) >= RATE_WINDOW
        {
            self.totals.pop_front();
        }
        let Some((since, before)) = self.totals.front() else {
            return 0.0;
        };
        let seconds = now.duration_since(*since).as_secs_f64();
        if seconds > 0.0 {
            total.saturating_sub(*before) as f64 / seconds
        } else {
            0.0
        }
    }
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(count))
}

/// A number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(messages: u64) -> Snapshot {
        let shard = |waiting| Shard {
            shard: "shardId-000000000000".to_owned(),
            records: 9,
            waiting,
        };
        Snapshot {
            messages,
            unmatched: 0,
            devices: 20,
            rule_firings: 24,
            action_failures: 0,
            sql_failures: 0,
            streams: [("Stream".to_owned(), vec![shard(Some(3)), shard(None)])].into(),
            mappings: BTreeMap::new(),
            invocations: 5,
            invocation_errors: 0,
            batches: 4,
            records_discarded: 0,
            archive_records: 12,
            archive_objects: 1,
            denials: 0,
        }
    }

    #[test]
    fn line_names_what_went_wrong_only_if_something_did() {
        let mut line = StatusLine::new("http://127.0.0.1:8080".to_owned());
        let now = Instant::now();
        let mut snapshot = snapshot(172_190);
        assert_eq!(
            line.text(now, &snapshot),
            "http://127.0.0.1:8080 · 20 devices · 0.0 msg/s · 172,190 total · lag 3"
        );
        snapshot.devices = 1;
        snapshot.unmatched = 1_000;
        snapshot.denials = 2;
        assert_eq!(
            line.text(now, &snapshot),
            "http://127.0.0.1:8080 · 1 device · 0.0 msg/s · 172,190 total · lag 3 · 1,000 unmatched · 2 denials"
        );
        snapshot.streams.clear();
        assert!(!line.text(now, &snapshot).contains("lag"));
    }

    #[test]
    fn rate_is_that_of_the_last_seconds() {
        let mut line = StatusLine::new(String::new());
        let start = Instant::now();
        let at = |half_seconds: u32| start + Duration::from_millis(500) * half_seconds;
        // 20 a second for ten seconds, then nothing.
        for tick in 0..=20 {
            let rate = line.rate(at(tick), u64::from(tick) * 10);
            assert!(tick == 0 || (rate - 20.0).abs() < 0.01, "{tick}: {rate}");
        }
        let rates: Vec<f64> = (21..=30).map(|tick| line.rate(at(tick), 200)).collect();
        assert!(rates.is_sorted_by(|a, b| a > b), "{rates:?}");
        assert_eq!(rates.last(), Some(&0.0));
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (172_190, "172,190"),
            (1_000_000, "1,000,000"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }
}
