//! A published message, as the broker hands it to subscribers and rules.

use std::sync::Arc;

use bytes::Bytes;

/// A published message.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The topic; a Basic Ingest prefix is still there.
    pub topic: String,
    /// The bytes published.
    pub payload: Bytes,
    /// When it came, in milliseconds since the Unix epoch.
    pub received: u64,
    /// Who published.
    pub client_id: Arc<str>,
    /// From which address.
    pub source_ip: Arc<str>,
    /// What an MQTT 5 PUBLISH carries beside; none for MQTT 3.1.1.
    pub properties: Option<Box<Properties>>,
}

/// Properties of an MQTT 5 PUBLISH that travel with the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Payload format indicator: 1 says UTF-8 text.
    pub payload_format: Option<u8>,
    /// Seconds.
    pub message_expiry: Option<u32>,
    /// Content type.
    pub content_type: Option<String>,
    /// Response topic.
    pub response_topic: Option<String>,
    /// Correlation data.
    pub correlation_data: Option<Bytes>,
    /// User properties in the order sent.
    pub user: Vec<(String, String)>,
}
