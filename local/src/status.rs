//! What happened so far, in numbers.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more; says how many that makes.
    pub fn increment(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many by now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Number of distinct texts, up to [`Distinct::MAX`].
#[derive(Debug, Default)]
pub struct Distinct {
    hasher: RandomState,
    /// Hashes of the texts: 64 bits each, whatever a text's length.
    hashes: Mutex<HashSet<u64>>,
}

impl Distinct {
    /// Highest number that is counted, so that memory stays bounded (about 2 MB).
    pub const MAX: usize = 100_000;

    /// Counts the text unless it was counted before.
    pub fn insert(&self, text: &str) {
        let hash = self.hasher.hash_one(text);
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if hashes.len() < Self::MAX {
            hashes.insert(hash);
        }
    }

    /// How many by now.
    pub fn get(&self) -> u64 {
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.len() as u64
    }
}

/// The counters of one run; shared by `Arc`.
#[derive(Debug, Default)]
pub struct Status {
    /// Messages that clients published and the broker took.
    pub messages: Counter,
    /// Messages to topics that no enabled rule takes.
    pub unmatched: Counter,
    /// Topics of the messages that a rule took; one topic is one device.
    pub devices: Distinct,
    /// Times that a rule fired.
    pub rules_fired: Counter,
    /// Actions that succeeded.
    pub actions: Counter,
    /// Actions that failed for good and went to the error action.
    pub action_failures: Counter,
    /// Further attempts of actions.
    pub action_retries: Counter,
    /// Failures that no error action took, or whose error action failed as well.
    pub failures_lost: Counter,
    /// Messages to subscribers that were dropped because the subscriber reads too slowly.
    pub deliveries_dropped: Counter,
    /// Messages by Basic Ingest to a rule that does not exist or is disabled.
    pub rules_not_found: Counter,
    /// Messages that a rule's SQL failed on.
    pub sql_failures: Counter,
    /// Connections that the broker closed because of what the client sent.
    pub clients_refused: Counter,
    /// Records put into streams.
    pub records: Counter,
    /// Invocations of functions.
    pub invocations: Counter,
    /// Invocations that failed.
    pub invocation_errors: Counter,
    /// Batches that a mapping completed.
    pub batches: Counter,
    /// Records that a mapping gave up on.
    pub records_discarded: Counter,
    /// Records that delivery streams took.
    pub archive_records: Counter,
    /// Objects written to the archive.
    pub archive_objects: Counter,
    /// Calls that a policy denied.
    pub denials: Counter,
}

impl Status {
    /// New counters, all zero.
    pub fn new() -> Arc<Status> {
        Arc::default()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages, {} rule firings, {} records in streams, {} batches, {} archive records in {} objects, {} failed actions, {} failed invocations, {} denials",
            self.messages.get(),
            self.rules_fired.get(),
            self.records.get(),
            self.batches.get(),
            self.archive_records.get(),
            self.archive_objects.get(),
            self.action_failures.get(),
            self.invocation_errors.get(),
            self.denials.get(),
        )?;
        match self.unmatched.get() {
            0 => Ok(()),
            unmatched => write!(f, ", {unmatched} unmatched"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_texts_are_counted_once_each_and_up_to_a_limit() {
        let distinct = Distinct::default();
        for text in ["a", "b", "a"] {
            distinct.insert(text);
        }
        assert_eq!(distinct.get(), 2);
        for number in 0..=Distinct::MAX {
            distinct.insert(&number.to_string());
        }
        assert_eq!(distinct.get(), Distinct::MAX as u64);
    }
}
