//! Sequence numbers as AWS shows them.

use std::fmt;
use std::str::FromStr;

/// Digits of a sequence number on AWS; up to 129 are allowed.
const DIGITS: usize = 56;
/// What AWS's present numbers begin with; keeps ours as long as theirs, so that whoever compares
/// them as machine integers or as text fails here too.
const LEAD: &str = "49";
/// The low bits tell shards apart; a stream has at most 100,000.
const SHARD_BITS: u32 = 17;

/// A record's place in its shard: a decimal number of 56 digits that grows.
/// Compare these values, never their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber(u128);

impl SequenceNumber {
    /// Before every record.
    pub const ZERO: SequenceNumber = SequenceNumber(0);

    /// The number for a record that arrives now (milliseconds since the Unix epoch) after `last` in the
    /// shard with this index. No other shard of the stream gives the same number, so that records of
    /// several shards can come together in one when the number of shards changes.
    pub(super) fn next(now: u64, last: SequenceNumber, shard: u32) -> SequenceNumber {
        let after_last = (last.0 >> SHARD_BITS) + 1;
        let now = u128::from(now) << (48 - SHARD_BITS);
        SequenceNumber(now.max(after_last) << SHARD_BITS | u128::from(shard))
    }

    /// As a number.
    pub(super) fn value(self) -> u128 {
        self.0
    }

    /// Of a [`value`](Self::value).
    pub(super) fn of_value(value: u128) -> SequenceNumber {
        SequenceNumber(value)
    }

    /// The number directly before this one: reading after it begins at this one.
    pub fn before(self) -> SequenceNumber {
        SequenceNumber(self.0.saturating_sub(1))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LEAD}{:0width$}", self.0, width = DIGITS - LEAD.len())
    }
}

impl FromStr for SequenceNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<SequenceNumber, String> {
        text.strip_prefix(LEAD)
            .filter(|rest| rest.len() == DIGITS - LEAD.len())
            .and_then(|rest| rest.parse().ok())
            .map(SequenceNumber)
            .ok_or_else(|| format!("{text:?} is not a sequence number of this stream"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_are_inverse() {
        let number = SequenceNumber::next(1_795_000_000_000, SequenceNumber::ZERO, 3);
        let text = number.to_string();
        assert_eq!(text.len(), DIGITS);
        assert_eq!(text.parse(), Ok(number));
        assert!("49".parse::<SequenceNumber>().is_err());
        assert!("".parse::<SequenceNumber>().is_err());
    }

    #[test]
    fn numbers_grow_when_the_clock_stands_still_or_goes_back() {
        let first = SequenceNumber::next(1_000, SequenceNumber::ZERO, 0);
        let second = SequenceNumber::next(1_000, first, 0);
        let third = SequenceNumber::next(900, second, 0);
        assert!(first < second && second < third);
        assert!(SequenceNumber::next(1_001, third, 0) > third);
    }

    #[test]
    fn shards_never_give_the_same_number() {
        let of = |shard| SequenceNumber::next(1_000, SequenceNumber::ZERO, shard);
        assert_ne!(of(0), of(1));
        assert!(of(99_999) < SequenceNumber::next(1_000, of(99_999), 0));
    }
}
