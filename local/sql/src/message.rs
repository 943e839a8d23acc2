//! Input of an evaluation: the message and the caller's context.

/// A message as the rules engine receives it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// The complete topic. It may have a Basic Ingest prefix (`$aws/rules/<rule>/`), which `topic()` leaves out, as on
    /// AWS.
    pub topic: &'a str,
    /// The published bytes: JSON, text, binary or none.
    pub payload: &'a [u8],
    /// Time at which the rules engine received it, in milliseconds since the Unix epoch: `timestamp()`.
    pub timestamp_ms: u64,
    /// The MQTT client that published: `clientid()`. If `None`, not published by MQTT, the function returns `n/a`.
    pub client_id: Option<&'a str>,
    /// `principal()`: for X.509 the certificate's SHA-256 fingerprint in hex. Undefined if `None`.
    pub principal: Option<&'a str>,
    /// `sourceip()`. Undefined if `None`.
    pub source_ip: Option<&'a str>,
    /// `traceid()`: a UUID for messages by MQTT. Undefined if `None`.
    pub trace_id: Option<&'a str>,
    /// Properties of an MQTT 5 PUBLISH; `None` for MQTT 3.1.1 and other protocols.
    pub mqtt: Option<MqttProperties<'a>>,
}

/// Properties of an MQTT 5 PUBLISH, for `get_mqtt_property` and `get_user_properties`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MqttProperties<'a> {
    /// Whether the payload is marked as UTF-8 text (payload format indicator 1).
    pub is_utf8: Option<bool>,
    /// Media type of the payload, such as `application/json`.
    pub content_type: Option<&'a str>,
    /// Topic for a response.
    pub response_topic: Option<&'a str>,
    /// Relates a response to its request.
    pub correlation_data: Option<&'a [u8]>,
    /// User properties in their order; a key may be repeated.
    pub user: &'a [(&'a str, &'a str)],
}

/// Input of SQL functions that is not in the message.
///
/// With the same context and message, an evaluation gives the same result.
pub trait Context {
    /// A uniformly distributed number, at least 0.0 and below 1.0: `rand()`.
    fn random(&self) -> f64;

    /// A random UUID in lower case with hyphens: `newuuid()`.
    fn new_uuid(&self) -> String;

    /// The account's twelve digits: `accountid()`.
    fn account_id(&self) -> &str;
}
