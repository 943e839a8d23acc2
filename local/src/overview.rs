//! How a run is doing right now: for `GET /api/pipeline`, and for the line on the terminal.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::event_source_mapping::Mapping;
use crate::kinesis::Stream;
use crate::status::Status;

/// What a run consists of, as far as it can be asked how it is doing.
#[derive(Clone, Debug)]
pub struct Overview {
    pub(crate) status: Arc<Status>,
    pub(crate) streams: BTreeMap<String, Arc<Stream>>,
    pub(crate) mappings: BTreeMap<String, Mapping>,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Messages that clients published and the broker took.
    pub messages: u64,
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
            rule_firings: status.rules_fired.get(),
            action_failures: status.action_failures.get(),
            sql_failures: status.sql_failures.get(),
            streams: by_name(&self.streams, |stream| shards(stream)),
            mappings: by_name(&self.mappings, state),
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

/// One line: what came in, what waits in each shard, what was done with it, what went wrong.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages", self.messages)?;
        for (index, shards) in self.streams.values().enumerate() {
            f.write_str(if index == 0 { ", waiting " } else { " and " })?;
            let waiting: Vec<String> = shards
                .iter()
                .map(|it| it.waiting.map_or("-".to_owned(), |it| it.to_string()))
                .collect();
            f.write_str(&waiting.join("+"))?;
        }
        write!(
            f,
            ", {} batches, {} archive objects",
            self.batches, self.archive_objects
        )?;
        let wrong = [
            ("failed actions", self.action_failures),
            ("SQL failures", self.sql_failures),
            ("failed invocations", self.invocation_errors),
            ("discarded records", self.records_discarded),
            ("denials", self.denials),
        ];
        for (what, count) in wrong.into_iter().filter(|(_, count)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_names_what_went_wrong_only_if_something_did() {
        let shard = |waiting| Shard {
            shard: "shardId-000000000000".to_owned(),
            records: 9,
            waiting,
        };
        let mut snapshot = Snapshot {
            messages: 12,
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
        };
        assert_eq!(
            snapshot.to_string(),
            "12 messages, waiting 3+-, 4 batches, 1 archive objects"
        );
        snapshot.invocation_errors = 1;
        snapshot.denials = 2;
        assert_eq!(
            snapshot.to_string(),
            "12 messages, waiting 3+-, 4 batches, 1 archive objects, 1 failed invocations, 2 denials"
        );
    }
}
