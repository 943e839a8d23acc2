//! Address blocks, and their subnets for `Fn::Cidr`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 block such as `10.0.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// First address as a number; host bits are zero
    first: u128,
    /// Length of the prefix, 0–32 or 0–128
    prefix: u32,
    /// Length of an address, 32 or 128
    width: u32,
}

impl Block {
    pub(crate) fn parse(text: &str) -> Option<Block> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let (bits, width) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let prefix = prefix.unwrap_or(width);
        (prefix <= width).then(|| Block {
            first: bits & !host_mask(width - prefix),
            prefix,
            width,
        })
    }

    /// Whether all addresses of `other` are in this block.
    pub(crate) fn contains(&self, other: &Block) -> bool {
        self.width == other.width
            && self.prefix <= other.prefix
            && other.first & !host_mask(self.width - self.prefix) == self.first
    }

    /// All addresses of IPv4 or IPv6.
    pub(crate) fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// The first `count` blocks with `host_bits` host bits.
    pub(super) fn subnets(&self, count: u32, host_bits: u32) -> Result<Vec<String>, String> {
        if host_bits == 0 || host_bits > self.width - self.prefix {
            return Err(format!(
                "{host_bits} host bits do not fit a block with prefix /{}: give 1 to {}",
                self.prefix,
                self.width - self.prefix
            ));
        }
        let room = self.width - self.prefix - host_bits;
        if room < 32 && u64::from(count) > 1u64 << room {
            return Err(format!(
                "{count} blocks were asked for, only {} fit",
                1u64 << room
            ));
        }
        let prefix = self.width - host_bits;
        Ok((0..u128::from(count))
            .map(|index| {
                let first = self.first + (index << host_bits);
                let address = match u32::try_from(first) {
                    Ok(bits) if self.width == 32 => IpAddr::V4(Ipv4Addr::from(bits)),
                    _ => IpAddr::V6(Ipv6Addr::from(first)),
                };
                format!("{address}/{prefix}")
            })
            .collect())
    }
}

fn host_mask(bits: u32) -> u128 {
    if bits >= 128 {
        u128::MAX
    } else {
        (1 << bits) - 1
    }
}
