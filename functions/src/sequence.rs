//! Sequence numbers: integers of up to 129 digits.
//!
//! They are unique within a shard, and those of a child shard are higher than those of its parents, so they
//! order the records of a partition key in a stream:
//! <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_Record.html>.

use std::cmp::Ordering;

/// Most digits of a Kinesis sequence number.
pub const MAX_DIGITS: usize = 129;

/// The digits without leading zeros, as [`compare`] needs them; `None` for another text.
pub fn digits(text: &str) -> Option<&str> {
    let number = !text.is_empty()
        && text.len() <= MAX_DIGITS
        // Without an early exit, so that the compiler vectorizes the loop.
        && text.bytes().filter(|byte| !byte.is_ascii_digit()).count() == 0;
    // Zero keeps a digit: an empty text means that there is no number.
    number.then(|| match text.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    })
}

/// Compares two results of [`digits`] as integers.
pub fn compare(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Length of the common prefix of all numbers from `lowest` to `highest`.
///
/// Numbers of one shard and batch differ in their last digits only, so this shortens lists of them.
pub fn common(lowest: &str, highest: &str) -> usize {
    if lowest.len() != highest.len() {
        return 0;
    }
    let pairs = lowest.bytes().zip(highest.bytes());
    pairs.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decimal_numbers_of_129_digits_are_accepted() {
        let longest = "9".repeat(MAX_DIGITS);
        let too_long = "1".repeat(MAX_DIGITS + 1);
        for (text, expected) in [
            ("0", Some("0")),
            ("000", Some("0")),
            ("0120", Some("120")),
            (longest.as_str(), Some(longest.as_str())),
            (too_long.as_str(), None),
            ("", None),
            ("-1", None),
            ("1e3", None),
            ("１２", None),
        ] {
            assert_eq!(digits(text), expected, "{text}");
        }
    }

    #[test]
    fn the_common_prefix_is_that_of_lowest_and_highest() {
        for (lowest, highest, expected) in [
            ("1234", "1239", 3),
            ("1234", "1334", 1),
            ("9", "10", 0),
            ("99", "990", 0),
            ("7", "7", 1),
        ] {
            assert_eq!(common(lowest, highest), expected, "{lowest} {highest}");
        }
    }

    #[test]
    fn numbers_are_not_compared_as_text() {
        for (a, b) in [("9", "10"), ("0", "1"), ("99", "100"), ("123", "124")] {
            assert_eq!(compare(a, b), Ordering::Less, "{a} {b}");
            assert_eq!(compare(b, a), Ordering::Greater, "{b} {a}");
            assert_eq!(compare(a, a), Ordering::Equal, "{a}");
        }
    }
}
