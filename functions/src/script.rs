//! The script `batch.lua`, with the contract's names and limits filled in.

use std::hash::{BuildHasher, Hasher, RandomState};

use contract::{redis as names, timing};
use redis::{Cmd, FromRedisValue, ParsingError, Value};

use crate::batch::Groups;

/// Limits of the cache and of an announcement.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most devices kept.
    pub devices: usize,
    /// Most bytes of their latest messages.
    pub device_bytes: usize,
    /// Most bytes of messages in an announcement; names do not count.
    pub announcement_bytes: usize,
}

/// The contract's limits.
impl Default for Limits {
    fn default() -> Self {
        Self {
            devices: names::MAX_DEVICES,
            device_bytes: names::MAX_DEVICE_BYTES,
            announcement_bytes: names::MAX_ANNOUNCEMENT_BYTES,
        }
    }
}

/// The script and its hash, by which the server finds it.
#[derive(Debug)]
pub struct Script {
    text: String,
    hash: String,
}

impl Script {
    /// The script with these limits.
    pub fn new(limits: Limits) -> Self {
        let text = fill_in(include_str!("batch.lua"), &constants(limits));
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    /// The command that runs the script on all groups.
    pub fn command(&self, groups: &Groups<'_>) -> Cmd {
        let packed = groups.pack();
        let streams = groups.streams;
        let mut command = Cmd::with_capacity(5 + streams.len(), packed.len() + 256);
        // No keys are declared: the script finds out which ones it uses. Only cluster mode requires them,
        // which the template's cache does not use.
        command.arg("EVALSHA").arg(&self.hash).arg(0);
        command.arg(random()).arg(packed).arg(streams);
        command
    }

    /// The command that loads the script into the server.
    pub fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.text);
        command
    }
}

/// Result of the script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Records counted.
    pub new: u64,
    /// Records that were counted before.
    pub duplicates: u64,
    /// Devices that changed.
    pub devices: u64,
    /// Devices evicted to stay within the limits.
    pub evicted: u64,
    /// Number of the new state; zero if nothing changed.
    pub seq: u64,
}

impl FromRedisValue for Counted {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let [new, duplicates, devices, evicted, seq] = FromRedisValue::from_redis_value(value)?;
        Ok(Self {
            new,
            duplicates,
            devices,
            evicted,
            seq,
        })
    }
}

/// Names and values of the constants in `batch.lua`.
fn constants(limits: Limits) -> Vec<(&'static str, String)> {
    let texts = [
        ("count", names::COUNT),
        ("latest", names::LATEST),
        ("seq", names::SEQ),
        ("epoch", names::EPOCH),
        ("devices", names::DEVICES),
        ("device_prefix", names::DEVICE_PREFIX),
        ("mark_prefix", names::MARK_PREFIX),
        ("device_count", names::field::COUNT),
        ("device_latest", names::field::LATEST),
        ("device_at", names::field::AT),
        ("device_sequence", names::field::SEQUENCE),
        ("ledger", names::LEDGER),
        ("channel", names::CHANNEL),
    ];
    let numbers = [
        ("mark_ttl", timing::WATERMARK_TTL.as_secs()),
        ("max_devices", limits.devices as u64),
        ("max_device_bytes", limits.device_bytes as u64),
        ("max_announcement_bytes", limits.announcement_bytes as u64),
    ];
    // For such names, Rust's quoting is valid in Lua.
    let texts = texts.map(|(name, text)| (name, format!("{text:?}")));
    let numbers = numbers.map(|(name, number)| (name, number.to_string()));
    texts.into_iter().chain(numbers).collect()
}

/// Replaces `C.name` by the constant's value: Redis would build a table of constants for each batch.
///
/// # Panics
/// The script uses an unknown constant; it is part of this program.
fn fill_in(script: &str, constants: &[(&str, String)]) -> String {
    let mut pieces = script.split("C.");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| c != '_' && !c.is_ascii_lowercase());
        let (name, rest) = piece.split_at(end.unwrap_or(piece.len()));
        let constant = constants.iter().find(|(known, _)| *known == name);
        let (_, value) =
            constant.unwrap_or_else(|| panic!("unknown constant in batch.lua: C.{name}"));
        text.push_str(value);
        text.push_str(rest);
    }
    text
}

/// 128 random bits. The standard library seeds its hash maps from the system's randomness, which is enough
/// for a unique name that is not secret.
fn random() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_part_of_the_script() {
        let small = Script::new(Limits {
            devices: 2,
            ..Limits::default()
        });
        assert_ne!(small.hash, Script::new(Limits::default()).hash);
        assert!(small.text.contains("kept > 2 or"), "{}", small.text);
    }

    #[test]
    fn constants_are_filled_in() {
        let constants = [("a", "1".to_owned()), ("a_b", "\"x\"".to_owned())];
        assert_eq!(fill_in("f(C.a, C.a_b)..C.a", &constants), "f(1, \"x\")..1");
        let used =
            |(name, _): &(&str, String)| include_str!("batch.lua").contains(&format!("C.{name}"));
        assert!(super::constants(Limits::default()).iter().all(used));
    }

    #[test]
    fn random_texts_differ() {
        assert_ne!(random(), random());
        assert_eq!(random().len(), 32);
    }
}
