//! Durations, counted in steps of about three per cent.

use std::time::Duration;

/// Steps to every doubling.
const STEPS: u64 = 32;

/// Counts nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; 60 * STEPS as usize],
            total: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, nanoseconds: u64) {
        let value = nanoseconds.max(STEPS);
        let shift = value.ilog2() - STEPS.ilog2();
        let bucket = u64::from(shift) * STEPS + (value >> shift) - STEPS;
        self.buckets[bucket as usize] += 1;
        self.total += 1;
    }

    /// The duration that a share of all do not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut counted = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            counted += count;
            if counted >= wanted && counted > 0 {
                let (shift, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
                return Duration::from_nanos((step + STEPS) << shift);
            }
        }
        Duration::ZERO
    }
}
