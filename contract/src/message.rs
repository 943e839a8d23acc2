//! What travels: from the function through the cache to the web UI, and from there to the browser.
//!
//! All of it is JSON. Numbers of records and of states stay below 2^53, so that JavaScript keeps them exact.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One message of a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Who sent it, see [`topic::device`](crate::topic::device).
    pub device: String,
    /// The device's payload; what it is, [`encoding`](Self::encoding) says.
    /// JSON is kept as it was written, text and base64 are JSON strings.
    pub payload: Box<RawValue>,
    /// How [`payload`](Self::payload) holds the device's bytes.
    pub encoding: Encoding,
    /// Arrival at the stream, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// How a payload's bytes are held in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The bytes are JSON and stand as they are.
    Json,
    /// The bytes are UTF-8, but not JSON: a string.
    Text,
    /// Neither: a string of standard base64 with padding.
    Base64,
}

/// A device's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// Who.
    pub device: String,
    /// Records counted.
    pub count: u64,
    /// Its latest message.
    pub latest: Message,
}

/// What the function publishes on the channel after a batch that changed something.
///
/// Each announcement carries everything that changed, so that nobody needs to read after it, except
/// when [`unsent`](Self::unsent) names devices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// See [`redis::EPOCH`](crate::redis::EPOCH).
    pub epoch: String,
    /// One more than the previous announcement's of the same epoch; a gap means that one was lost.
    pub seq: u64,
    /// All records ever counted.
    pub count: u64,
    /// Latest message of all, also when this batch did not change it.
    /// `None` when it alone would fill the announcement: read [`redis::LATEST`](crate::redis::LATEST).
    pub latest: Option<Message>,
    /// The devices that changed.
    pub devices: Vec<Device>,
    /// Devices that changed and whose state must be read from the cache, because the announcement
    /// would have been larger than [`MAX_ANNOUNCEMENT_BYTES`](crate::redis::MAX_ANNOUNCEMENT_BYTES).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsent: Vec<String>,
    /// Devices that were forgotten, none of which is in [`devices`](Self::devices) or
    /// [`unsent`](Self::unsent). A device that the batch itself brought may be among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

/// A text frame on the WebSocket, and the answer of [`http::STATE`](crate::http::STATE).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// See [`redis::EPOCH`](crate::redis::EPOCH).
    pub epoch: String,
    /// Number of the newest state that is in the frame.
    pub seq: u64,
    /// All records ever counted.
    pub count: u64,
    /// Records a second, smoothed over the last seconds.
    pub rate: f64,
    /// Latest message of all.
    pub latest: Option<Message>,
    /// All devices in a full frame, those that changed in a later one.
    pub devices: Vec<DeviceFrame>,
    /// Devices that were forgotten since the last frame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// Whether [`devices`](Self::devices) holds all devices.
    pub full: bool,
    /// Since when the cache has been unreachable, in milliseconds since the Unix epoch;
    /// everything else is then the last known state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<u64>,
    /// The server's clock, in milliseconds since the Unix epoch.
    pub now: u64,
}

/// A device in a [`Frame`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceFrame {
    /// Who.
    pub device: String,
    /// Records counted.
    pub count: u64,
    /// Records a second, smoothed over the last seconds.
    pub rate: f64,
    /// Its latest message.
    pub latest: Message,
}
