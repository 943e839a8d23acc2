//! A shard's write limit.

use std::time::Duration;

use tokio::time::Instant;

/// Records a second that a shard takes.
pub(super) const RECORDS_PER_SECOND: f64 = 1_000.0;
/// Bytes a second that a shard takes; AWS's "1 MB" is 1 MiB.
pub(super) const BYTES_PER_SECOND: f64 = 1_048_576.0;

/// Two buckets, each holding one second's worth.
#[derive(Debug)]
pub(super) struct WriteLimit {
    records: f64,
    bytes: f64,
    filled: Instant,
}

impl WriteLimit {
    pub(super) fn new(now: Instant) -> WriteLimit {
        WriteLimit {
            records: RECORDS_PER_SECOND,
            bytes: BYTES_PER_SECOND,
            filled: now,
        }
    }

    /// Whether one more record of this many bytes is within the limit; counts it if so.
    ///
    /// A record larger than a second's worth (streams may allow 10 MiB) is taken by a full bucket,
    /// which then stays in debt, so that throughput over time is that of the shard.
    pub(super) fn admit(&mut self, size: usize, now: Instant) -> bool {
        let elapsed = now
            .duration_since(self.filled)
            .min(Duration::from_secs(60))
            .as_secs_f64();
        self.filled = now;
        self.records = (self.records + elapsed * RECORDS_PER_SECOND).min(RECORDS_PER_SECOND);
        self.bytes = (self.bytes + elapsed * BYTES_PER_SECOND).min(BYTES_PER_SECOND);
        let size = size as f64;
        if self.records < 1.0 || self.bytes < size.min(BYTES_PER_SECOND) {
            return false;
        }
        self.records -= 1.0;
        self.bytes -= size;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(limit: &mut WriteLimit, size: usize, now: Instant) -> usize {
        (0..100_000).take_while(|_| limit.admit(size, now)).count()
    }

    #[test]
    fn a_second_takes_a_thousand_records() {
        let start = Instant::now();
        let mut limit = WriteLimit::new(start);
        assert_eq!(admitted(&mut limit, 10, start), 1_000);
        assert_eq!(
            admitted(&mut limit, 10, start + Duration::from_millis(500)),
            500
        );
        assert_eq!(
            admitted(&mut limit, 10, start + Duration::from_secs(60)),
            1_000
        );
    }

    #[test]
    fn a_second_takes_a_mebibyte() {
        let start = Instant::now();
        let mut limit = WriteLimit::new(start);
        assert_eq!(admitted(&mut limit, 128 * 1024, start), 8);
        assert_eq!(
            admitted(&mut limit, 128 * 1024, start + Duration::from_millis(250)),
            2
        );
    }

    #[test]
    fn a_record_above_a_seconds_worth_leaves_a_debt() {
        let start = Instant::now();
        let mut limit = WriteLimit::new(start);
        assert!(limit.admit(3 * 1024 * 1024, start));
        assert!(!limit.admit(1, start + Duration::from_millis(1_900)));
        assert!(limit.admit(1, start + Duration::from_millis(2_100)));
    }
}
