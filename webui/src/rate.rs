//! Smoothed rates of records.
//!
//! Records arrive in batches, and devices report every tenth of a second or every hour. So the rates between
//! two arrivals are averaged, weighted by the time between them: a fast device is averaged over
//! [`SMOOTHING`], a slow one has the rate of its last interval.

/// Time constant of the average, in seconds: an arrival has lost two thirds of its weight after it.
const SMOOTHING: f64 = 5.0;

/// Rates below this, one record in about half an hour, are zero.
const LEAST: f64 = 0.0005;

/// The rate of records. Times are seconds of a monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    last: Option<f64>,
    rate: f64,
    interval: f64,
    /// Sum of the weights so far, to correct the averages' start at zero.
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
        // Clocks differ, so an arrival may be slightly before the previous one.
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
    }

    /// Records a second, with three decimals. Falls after twice the usual interval without records.
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

    /// The rate `after` seconds after the last of `times` arrivals of `records` every `interval` seconds.
    fn check(interval: f64, records: u64, times: u32, after: f64) -> f64 {
        let mut rate = Rate::default();
        for n in 0..times {
            rate.add(f64::from(n) * interval, records);
        }
        rate.at(f64::from(times - 1) * interval + after)
    }

    #[test]
    fn one_arrival_has_no_rate() {
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
