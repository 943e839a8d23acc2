//! The server's metrics, in Prometheus's text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Media type of the exposition format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A counter that only increases.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds, in milliseconds.
const BUCKETS: [u64; 12] = [
    10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000, 600_000,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BUCKETS.len() + 1],
    sum: Counter,
}

impl Histogram {
    pub(crate) fn observe(&self, milliseconds: u64) {
        let bucket = BUCKETS.partition_point(|bound| *bound < milliseconds);
        self.buckets[bucket].increment();
        self.sum.add(milliseconds);
    }
}

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) frames: Counter,
    pub(crate) merged: Counter,
    pub(crate) stalled: Counter,
    pub(crate) silent: Counter,
    pub(crate) violations: Counter,
    pub(crate) refused_total: Counter,
    pub(crate) refused_address: Counter,
    pub(crate) refused_origin: Counter,
    pub(crate) announcements: Counter,
    pub(crate) rereads: Counter,
    pub(crate) reconnects: Counter,
    pub(crate) lag: Histogram,
}

/// Values that are read when the metrics are requested.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) clients: usize,
    pub(crate) devices: usize,
    pub(crate) records: u64,
    pub(crate) ready: bool,
}

impl Metrics {
    pub(crate) fn text(&self, gauges: &Gauges) -> String {
        let mut text = String::with_capacity(4096);
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let plain = |value: u64| [("", value)];
        family(
            "webui_clients",
            "gauge",
            "Open WebSockets.",
            &plain(gauges.clients as u64),
        );
        family(
            "webui_devices",
            "gauge",
            "Devices kept.",
            &plain(gauges.devices as u64),
        );
        family(
            "webui_records",
            "gauge",
            "Records ever counted.",
            &plain(gauges.records),
        );
        family(
            "webui_cache_up",
            "gauge",
            "Whether the cache is reachable.",
            &plain(gauges.ready.into()),
        );
        family(
            "webui_frames_sent_total",
            "counter",
            "Frames sent to clients.",
            &plain(self.frames.get()),
        );
        family(
            "webui_frames_merged_total",
            "counter",
            "Frames merged into a later one for slow clients.",
            &plain(self.merged.get()),
        );
        family(
            "webui_clients_dropped_total",
            "counter",
            "Clients dropped by the server.",
            &[
                ("{reason=\"stalled\"}", self.stalled.get()),
                ("{reason=\"silent\"}", self.silent.get()),
                ("{reason=\"violation\"}", self.violations.get()),
            ],
        );
        family(
            "webui_clients_refused_total",
            "counter",
            "WebSockets refused.",
            &[
                ("{reason=\"total\"}", self.refused_total.get()),
                ("{reason=\"address\"}", self.refused_address.get()),
                ("{reason=\"origin\"}", self.refused_origin.get()),
            ],
        );
        family(
            "webui_announcements_total",
            "counter",
            "Announcements received.",
            &plain(self.announcements.get()),
        );
        family(
            "webui_state_reads_total",
            "counter",
            "Reads of the whole state.",
            &plain(self.rereads.get()),
        );
        family(
            "webui_cache_reconnects_total",
            "counter",
            "Reconnections to the cache.",
            &plain(self.reconnects.get()),
        );
        let _ = writeln!(
            text,
            "# HELP webui_lag_seconds Time from a record's arrival at the stream to its frame.\n# TYPE webui_lag_seconds histogram"
        );
        let mut count = 0;
        for (bucket, bound) in self.lag.buckets.iter().zip(BUCKETS) {
            count += bucket.get();
            let bound = bound as f64 / 1000.0;
            let _ = writeln!(text, "webui_lag_seconds_bucket{{le=\"{bound}\"}} {count}");
        }
        count += self.lag.buckets[BUCKETS.len()].get();
        let sum = self.lag.sum.get() as f64 / 1000.0;
        let _ = writeln!(
            text,
            "webui_lag_seconds_bucket{{le=\"+Inf\"}} {count}\nwebui_lag_seconds_sum {sum}\nwebui_lag_seconds_count {count}"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let metrics = Metrics::default();
        for milliseconds in [5, 10, 30, 700_000] {
            metrics.lag.observe(milliseconds);
        }
        let text = metrics.text(&Gauges {
            clients: 1,
            devices: 2,
            records: 3,
            ready: true,
        });
        for line in [
            "webui_lag_seconds_bucket{le=\"0.01\"} 2",
            "webui_lag_seconds_bucket{le=\"0.05\"} 3",
            "webui_lag_seconds_bucket{le=\"600\"} 3",
            "webui_lag_seconds_bucket{le=\"+Inf\"} 4",
            "webui_lag_seconds_sum 700.045",
            "webui_clients 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
    }
}
