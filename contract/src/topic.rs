//! MQTT topics of the sensors.

/// The topic of the original system, still accepted.
pub const BARE: &str = "topic/sensors";

/// Filter of the device topics, `topic/sensors/<device>`.
pub const DEVICE_FILTER: &str = "topic/sensors/+";

/// Reason String of the PUBACK (MQTT 5) with which the local run confirms a message that no topic rule
/// takes. AWS IoT Core confirms such a message without a reason.
pub const NO_RULE: &str = "no topic rule takes this topic";

/// The device of a topic: the part after `topic/sensors/`, or the whole topic if there is none, which no
/// device of one level can equal.
///
/// The Kinesis partition key is the topic, so this is also the device of a record.
///
/// ```
/// assert_eq!(contract::topic::device("topic/sensors/kitchen"), "kitchen");
/// assert_eq!(contract::topic::device("topic/sensors"), "topic/sensors");
/// ```
pub fn device(topic: &str) -> &str {
    topic
        .strip_prefix(BARE)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|device| !device.is_empty())
        .unwrap_or(topic)
}

/// The topic to which a device publishes; the inverse of [`device`].
pub fn of_device(device: &str) -> String {
    if device == BARE {
        BARE.to_owned()
    } else {
        format!("{BARE}/{device}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_and_topic_are_inverses() {
        for topic in ["topic/sensors", "topic/sensors/kitchen", "topic/sensors/ü"] {
            assert_eq!(of_device(device(topic)), topic);
        }
    }
}
