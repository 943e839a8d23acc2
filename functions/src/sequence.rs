//! Sequence numbers: whole numbers of up to 129 digits, far beyond any machine integer.
//!
//! <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_Record.html>: unique within a shard, and
//! those of a child shard are higher than those of its parents, so they order the records of one
//! partition key in one stream for ever.

use std::cmp::Ordering;

/// Most digits that Kinesis gives.
pub const MAX_DIGITS: usize = 129;

/// The digits without leading zeros, so that [`compare`] can go by length;
/// nothing for what is no such number.
pub fn digits(text: &str) -> Option<&str> {
    let number = !text.is_empty()
        && text.len() <= MAX_DIGITS
        // All of them looked at, whatever comes: several at once.
        && text.bytes().filter(|byte| !byte.is_ascii_digit()).count() == 0;
    // A zero stays a digit: lists of numbers are told apart by their digits.
    number.then(|| match text.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    })
}

/// Compares two results of [`digits`] as numbers.
pub fn compare(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// How many digits all numbers from `lowest` to `highest` have in common in front.
///
/// Those of one shard and batch differ in their last digits only, so this shortens lists of them.
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
    fn only_decimal_numbers_of_129_digits_are_taken() {
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
    fn what_lowest_and_highest_share_all_between_share() {
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
    fn numbers_are_compared_as_numbers_never_as_text() {
        for (a, b) in [("9", "10"), ("0", "1"), ("99", "100"), ("123", "124")] {
            assert_eq!(compare(a, b), Ordering::Less, "{a} {b}");
            assert_eq!(compare(b, a), Ordering::Greater, "{b} {a}");
            assert_eq!(compare(a, a), Ordering::Equal, "{a}");
        }
    }
}
