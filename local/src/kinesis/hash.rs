//! Hash keys: which shard a record belongs to.

use md5::{Digest, Md5};

/// The hash key of a partition key: its MD5 as an unsigned big-endian number.
pub(super) fn of_partition_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key).into())
}

/// Reads an `ExplicitHashKey`: a decimal number below 2^128 without leading zeros.
pub(super) fn explicit(text: &str) -> Result<u128, String> {
    let canonical = text == "0"
        || (!text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    canonical.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        format!("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}")
    })
}

/// First and last hash key of shard `index` out of `count`: an even split of 0 … 2^128 − 1.
pub(super) fn range(index: u32, count: u32) -> (u128, u128) {
    let last = if index + 1 == count {
        u128::MAX
    } else {
        start(index + 1, count) - 1
    };
    (start(index, count), last)
}

/// floor(index · 2^128 / count) without leaving 128 bits.
fn start(index: u32, count: u32) -> u128 {
    if index == 0 {
        return 0;
    }
    let (index, count) = (u128::from(index), u128::from(count));
    // 2^128 = count · quotient + remainder
    let (mut quotient, mut remainder) = (u128::MAX / count, u128::MAX % count + 1);
    if remainder == count {
        quotient += 1;
        remainder = 0;
    }
    index * quotient + index * remainder / count
}

/// Index of the shard whose range holds a hash key.
pub(super) fn shard_of(hash: u128, count: usize) -> usize {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    // At most one off, because ranges differ by at most one key in length.
    let mut low = 0;
    let mut high = count.saturating_sub(1);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if start(middle, count) <= hash {
            low = middle
        } else {
            high = middle - 1
        }
    }
    low as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_keys_without_gap_or_overlap() {
        for count in [1, 2, 3, 4, 5, 7, 10, 64, 1000, 100_000] {
            let mut next = 0u128;
            for index in 0..count {
                let (first, last) = range(index, count);
                assert_eq!(first, next, "shard {index} of {count}");
                assert!(last >= first);
                if index < 10 || index + 10 > count {
                    assert_eq!(shard_of(first, count as usize), index as usize);
                    assert_eq!(shard_of(last, count as usize), index as usize);
                }
                next = last.wrapping_add(1);
            }
            assert_eq!(next, 0, "the last range of {count} ends at 2^128 - 1");
        }
    }

    /// The ranges that the Kinesis API shows for new streams of two and three shards.
    #[test]
    fn even_split_is_that_of_aws() {
        assert_eq!(
            range(1, 2).0,
            170_141_183_460_469_231_731_687_303_715_884_105_728
        );
        assert_eq!(
            range(0, 3).1,
            113_427_455_640_312_821_154_458_202_477_256_070_484
        );
        assert_eq!(
            range(2, 3).0,
            226_854_911_280_625_642_308_916_404_954_512_140_970
        );
    }

    /// MD5 digests of RFC 1321.
    #[test]
    fn partition_key_is_hashed_by_md5_as_big_endian_number() {
        assert_eq!(of_partition_key(""), 0xd41d8cd98f00b204e9800998ecf8427e);
        assert_eq!(of_partition_key("abc"), 0x900150983cd24fb0d6963f7d28e17f72);
        assert_eq!(shard_of(of_partition_key("abc"), 2), 1);
        assert_eq!(shard_of(of_partition_key("abc"), 1), 0);
    }

    #[test]
    fn explicit_hash_keys_are_canonical_decimals() {
        assert_eq!(explicit("0"), Ok(0));
        assert_eq!(
            explicit("340282366920938463463374607431768211455"),
            Ok(u128::MAX)
        );
        for bad in [
            "",
            "00",
            "01",
            "-1",
            "+1",
            "x",
            "340282366920938463463374607431768211456",
        ] {
            assert!(explicit(bad).is_err(), "{bad}");
        }
    }
}
