//! Messages from the function through the cache to the web UI, and from there to the browser.
//!
//! All are JSON. Numbers of records and of states stay below 2^53, so that JavaScript represents them
//! exactly.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One message of a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its sender, see [`topic::device`](crate::topic::device).
    pub device: String,
    /// The device's payload in the form of [`encoding`](Self::encoding): JSON as the device wrote it, or a
    /// JSON string.
    pub payload: Box<RawValue>,
    /// How [`payload`](Self::payload) holds the device's bytes.
    pub encoding: Encoding,
    /// Arrival at the stream, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// How JSON represents a payload's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The bytes are JSON and unchanged.
    Json,
    /// The bytes are UTF-8, but not JSON: a string of them.
    Text,
    /// Other bytes: a string of standard base64 with padding.
    Base64,
}

/// A device's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// Its name, see [`topic::device`](crate::topic::device).
    pub device: String,
    /// Number of records counted.
    pub count: u64,
    /// Its latest message.
    pub latest: Message,
}

/// Published by the function on the channel after a batch that changed something.
///
/// An announcement has everything that changed. A subscriber reads from the cache only the devices in
/// [`unsent`](Self::unsent).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// See [`redis::EPOCH`](crate::redis::EPOCH).
    pub epoch: String,
    /// One more than in the previous announcement of the epoch; a gap means that one was lost.
    pub seq: u64,
    /// Number of records ever counted.
    pub count: u64,
    /// Latest message of all devices, whether or not this batch changed it.
    /// `None` if it would fill the announcement: read [`redis::LATEST`](crate::redis::LATEST).
    pub latest: Option<Message>,
    /// The devices that changed.
    pub devices: Vec<Device>,
    /// Changed devices whose state must be read from the cache, because the announcement would be larger
    /// than [`MAX_ANNOUNCEMENT_BYTES`](crate::redis::MAX_ANNOUNCEMENT_BYTES).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsent: Vec<String>,
    /// Evicted devices, none of which is in [`devices`](Self::devices) or [`unsent`](Self::unsent).
    /// May include a device that the batch added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

/// A text frame on the WebSocket, and the response of [`http::STATE`](crate::http::STATE).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// See [`redis::EPOCH`](crate::redis::EPOCH).
    pub epoch: String,
    /// Number of the newest state in the frame.
    pub seq: u64,
    /// Number of records ever counted.
    pub count: u64,
    /// Records a second, smoothed over a few seconds.
    pub rate: f64,
    /// Latest message of all devices.
    pub latest: Option<Message>,
    /// All devices in a full frame, changed devices in a later one.
    pub devices: Vec<DeviceFrame>,
    /// Devices evicted since the last frame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// Whether [`devices`](Self::devices) has all devices.
    pub full: bool,
    /// Time since which the cache is unreachable, in milliseconds since the Unix epoch; the rest of the
    /// frame is then the last known state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<u64>,
    /// The server's clock, in milliseconds since the Unix epoch.
    pub now: u64,
}

/// A device in a [`Frame`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceFrame {
    /// Its name, see [`topic::device`](crate::topic::device).
    pub device: String,
    /// Records counted.
    pub count: u64,
    /// Records a second, smoothed over a few seconds.
    pub rate: f64,
    /// Its latest message.
    pub latest: Message,
}
