//! Keys and the channel in the cache.
//!
//! [`COUNT`], [`LATEST`] and [`CHANNEL`] keep the names of the original system.
//! Nothing here needs a server newer than Redis 6.2.

/// Pattern of all keys here.
pub const KEYS: &str = "sensor*";

/// Integer: number of records ever counted.
pub const COUNT: &str = "sensorCount";

/// JSON [`Message`](crate::message::Message): the latest of all devices.
pub const LATEST: &str = "sensorLatest";

/// Integer: number of state changes since [`EPOCH`] was created.
pub const SEQ: &str = "sensorSeq";

/// Random text, created with the first state of an empty cache.
/// When it changes, [`SEQ`] has restarted, and a subscriber must read everything again.
pub const EPOCH: &str = "sensorEpoch";

/// Sorted set: device, scored by the arrival of its last record in milliseconds since the Unix epoch.
pub const DEVICES: &str = "sensorDevices";

/// Prefix of a device's hash, see [`device_key`]; its fields are in [`field`].
pub const DEVICE_PREFIX: &str = "sensor:";

/// Prefix of the watermarks: last counted sequence number of one stream and partition key, under
/// `sensorMark:<stream ARN>:<partition key>`. It is a field of the device's hash while the device is
/// kept, and after its eviction a key of that name with a time to live of
/// [`timing::WATERMARK_TTL`](crate::timing::WATERMARK_TTL).
pub const MARK_PREFIX: &str = "sensorMark:";

/// Pub/sub channel on which every new state is announced, see
/// [`Announcement`](crate::message::Announcement).
pub const CHANNEL: &str = "sensors";

/// Fields of a device's hash.
pub mod field {
    /// Integer: number of the device's records.
    pub const COUNT: &str = "count";
    /// JSON [`Message`](crate::message::Message): the device's latest.
    pub const LATEST: &str = "latest";
    /// Arrival of [`LATEST`] in milliseconds since the Unix epoch; used by the function only.
    pub const AT: &str = "at";
    /// Sequence number of [`LATEST`]; used by the function only.
    pub const SEQUENCE: &str = "sequence";
}

/// Text, used by the function only: three integers separated by spaces, the arrival of the latest message
/// of all devices in milliseconds since the Unix epoch, its sequence number, and the total bytes of the
/// devices' latest messages.
pub const LEDGER: &str = "sensorLedger";

/// Most devices kept; the longest silent are evicted first.
pub const MAX_DEVICES: usize = 10_000;

/// Most bytes of latest messages kept, over all devices; the longest silent devices are evicted first.
pub const MAX_DEVICE_BYTES: usize = 64 * 1024 * 1024;

/// Largest announcement, in bytes; beyond it devices are named in
/// [`unsent`](crate::message::Announcement::unsent).
pub const MAX_ANNOUNCEMENT_BYTES: usize = 1024 * 1024;

/// Key of a device's hash.
pub fn device_key(device: &str) -> String {
    format!("{DEVICE_PREFIX}{device}")
}

/// Field or key of the watermark of one stream and partition key, see [`MARK_PREFIX`].
pub fn mark_key(stream_arn: &str, partition_key: &str) -> String {
    format!("{MARK_PREFIX}{stream_arn}:{partition_key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_matches_the_pattern() {
        let (start, end) = KEYS.split_at(KEYS.len() - 1);
        assert_eq!(end, "*");
        for key in [
            COUNT,
            LATEST,
            SEQ,
            EPOCH,
            DEVICES,
            DEVICE_PREFIX,
            MARK_PREFIX,
            LEDGER,
        ] {
            assert!(key.starts_with(start), "{key}");
        }
    }
}
