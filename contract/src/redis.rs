//! Keys and channel in the cache.
//!
//! [`COUNT`], [`LATEST`] and [`CHANNEL`] keep the names of the original system.
//! Nothing here needs a server newer than Redis 6.2.

/// Pattern of all keys here, and of nothing else.
pub const KEYS: &str = "sensor*";

/// Integer: all records ever counted.
pub const COUNT: &str = "sensorCount";

/// JSON [`Message`](crate::message::Message): the latest of all.
pub const LATEST: &str = "sensorLatest";

/// Integer: number of the last state change since [`EPOCH`] was made.
pub const SEQ: &str = "sensorSeq";

/// Random text, made together with the first state after the cache was empty.
/// Another epoch means that [`SEQ`] started anew: whoever follows must read everything again.
pub const EPOCH: &str = "sensorEpoch";

/// Sorted set: device, scored by the arrival of its last record in milliseconds since the Unix epoch.
pub const DEVICES: &str = "sensorDevices";

/// Prefix of a device's hash, see [`device_key`]; its fields are in [`field`].
pub const DEVICE_PREFIX: &str = "sensor:";

/// Prefix of the watermarks: last counted sequence number of one stream and partition key, under
/// `sensorMark:<stream ARN>:<partition key>`. That is a field of the device's hash while the device is
/// kept; from its eviction on it is a key of that name, with a time to live of
/// [`timing::WATERMARK_TTL`](crate::timing::WATERMARK_TTL).
pub const MARK_PREFIX: &str = "sensorMark:";

/// Pub/sub channel on which every new state is announced, see
/// [`Announcement`](crate::message::Announcement).
pub const CHANNEL: &str = "sensors";

/// Fields of a device's hash.
pub mod field {
    /// Integer: records counted of this device.
    pub const COUNT: &str = "count";
    /// JSON [`Message`](crate::message::Message): the device's latest.
    pub const LATEST: &str = "latest";
    /// Arrival of [`LATEST`] in milliseconds since the Unix epoch; the function's own bookkeeping.
    pub const AT: &str = "at";
    /// Sequence number of [`LATEST`]; the function's own bookkeeping.
    pub const SEQUENCE: &str = "sequence";
}

/// Text: the function's own bookkeeping, of no use to a reader. Three whole numbers with spaces between:
/// arrival of the latest message of all in milliseconds since the Unix epoch, its sequence number, and
/// the bytes of all devices' latest messages.
pub const LEDGER: &str = "sensorLedger";

/// Devices kept at most; above it the longest silent are forgotten first.
pub const MAX_DEVICES: usize = 10_000;

/// Bytes of latest messages kept at most, over all devices; above it the longest silent are forgotten first.
pub const MAX_DEVICE_BYTES: usize = 64 * 1024 * 1024;

/// An announcement above this many bytes carries names instead of messages, and the web UI reads them.
pub const MAX_ANNOUNCEMENT_BYTES: usize = 1024 * 1024;

/// Key of a device's hash.
pub fn device_key(device: &str) -> String {
    format!("{DEVICE_PREFIX}{device}")
}

/// Field, or key, of the watermark of one stream and partition key, see [`MARK_PREFIX`].
pub fn mark_key(stream_arn: &str, partition_key: &str) -> String {
    format!("{MARK_PREFIX}{stream_arn}:{partition_key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_of_the_pattern() {
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
