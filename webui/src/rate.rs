//! Records a second, smoothed over the last seconds.
//!
//! Records arrive in batches, and devices report every tenth of a second or every hour.
//! So what is averaged is the rate between two arrivals, weighted by the time between them: a quick
//! device is averaged over [`SMOOTHING`], a slow one shows one over its interval.

/// Seconds after which an arrival has lost about two thirds of its weight.
const SMOOTHING: f64 = 5.0;

/// A rate of less than one record in about half an hour is none.
const LEAST: f64 = 0.0005;

/// Counts records over time. Times are seconds of any steady clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    last: Option<f64>,
    rate: f64,
    interval: f64,
    /// How much of the averages is data; they start from nothing, not from a rate of zero.
    weight: f64,
}

impl Rate {
    /// Counts records that arrived together.
    pub(crate) fn add(&mut self, now: f64, records: u64) {
        if let Some(last) = self.last {
            let passed = (now - last).max(0.001);
            let weight = 1.0 - (-passed / SMOOTHING).exp();
            self.rate += weight * (records as f64 / passed - self.rate);
            self.interval += weight * (passed - self.interval);
            self.weight += weight * (1.0 - self.weight);
        }
        // Clocks differ: what arrives may be a little older than what arrived before.
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
    }

    /// Records a second, to three decimals. Falls once nothing has come for twice the usual interval.
    pub(crate) fn at(&self, now: f64) -> f64 {
        let Some(last) = self.last.filter(|_| self.weight > 0.0) else {
            return 0.0;
        };
        let (rate, interval) = (self.rate / self.weight, self.interval / self.weight);
        let overdue = (now - last - 2.0 * interval).max(0.0);
        let rate = rate * (-overdue / SMOOTHING.max(interval)).exp();
        if rate < LEAST {
            0.0
        } else {
            (rate * 1000.0).round() / 1000.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `interval` seconds `records`, `times` times; the rate `after` seconds from the last.
    fn check(interval: f64, records: u64, times: u32, after: f64) -> f64 {
        let mut rate = Rate::default();
        for n in 0..times {
            rate.add(f64::from(n) * interval, records);
        }
        rate.at(f64::from(times - 1) * interval + after)
    }

    #[test]
    fn one_arrival_is_no_rate() {
        assert_eq!(check(1.0, 1, 1, 0.0), 0.0);
    }

    #[test]
    fn a_steady_rate_is_right_from_the_second_arrival_on() {
        for (interval, records, expected) in [(1.0, 1, 1.0), (0.1, 5, 50.0), (30.0, 1, 0.033)] {
            for times in [2, 3, 100] {
                assert_eq!(check(interval, records, times, 0.0), expected);
            }
        }
    }

    #[test]
    fn a_pause_within_the_interval_changes_nothing_and_silence_ends_at_zero() {
        assert_eq!(check(1.0, 10, 20, 1.5), 10.0);
        assert!(check(1.0, 10, 20, 10.0) < 3.0);
        assert_eq!(check(1.0, 10, 20, 120.0), 0.0);
        assert_eq!(check(30.0, 1, 20, 45.0), 0.033);
    }
}
