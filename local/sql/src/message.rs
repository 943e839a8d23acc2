//! What a rule is evaluated against: the message, and what the caller supplies beside it.

/// One message, as the rules engine sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// The topic, complete. A Basic Ingest prefix (`$aws/rules/<rule>/`) may be there: `topic()`
    /// leaves it out, as AWS does.
    pub topic: &'a str,
    /// The bytes published: JSON, text, binary or nothing.
    pub payload: &'a [u8],
    /// When the rules engine got the message, in milliseconds since the Unix epoch: `timestamp()`.
    pub timestamp_ms: u64,
    /// The MQTT client that published: `clientid()`. None: not by MQTT, the function returns `n/a`.
    pub client_id: Option<&'a str>,
    /// `principal()`: for X.509 the certificate's SHA-256 fingerprint in hex. None: Undefined.
    pub principal: Option<&'a str>,
    /// `sourceip()`. None: Undefined.
    pub source_ip: Option<&'a str>,
    /// `traceid()`: a UUID for messages that came by MQTT. None: Undefined.
    pub trace_id: Option<&'a str>,
    /// Properties of an MQTT 5 PUBLISH. None: MQTT 3.1.1 or not by MQTT.
    pub mqtt: Option<MqttProperties<'a>>,
}

/// What an MQTT 5 PUBLISH carries beside topic and payload: `get_mqtt_property` and
/// `get_user_properties`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MqttProperties<'a> {
    /// Whether the payload is said to be UTF-8 text (payload format indicator 1).
    pub is_utf8: Option<bool>,
    /// Content type.
    pub content_type: Option<&'a str>,
    /// Response topic.
    pub response_topic: Option<&'a str>,
    /// Correlation data.
    pub correlation_data: Option<&'a [u8]>,
    /// User properties in the order sent; a key may come more than once.
    pub user: &'a [(&'a str, &'a str)],
}

/// What SQL can ask that does not come with the message.
///
/// The crate has no clock, no random numbers and no account of its own, so that an evaluation gives
/// the same result whenever the context does.
pub trait Context {
    /// A uniformly distributed number, at least 0.0 and below 1.0: `rand()`.
    fn random(&self) -> f64;

    /// A random UUID in lower case with hyphens: `newuuid()`.
    fn new_uuid(&self) -> String;

    /// The account's twelve digits: `accountid()`.
    fn account_id(&self) -> &str;
}
