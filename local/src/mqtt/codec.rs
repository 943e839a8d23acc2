//! Bytes ↔ packets, for both protocol versions behind one set of types.
//!
//! Parsing and writing of packets is rumqttc's; framing is done here, because a packet that ends too
//! early must be told apart from one whose rest has not arrived yet.

use bytes::{Buf, Bytes, BytesMut};
use rumqttc::mqttbytes::{self, QoS as QoS4, v4};
use rumqttc::v5::mqttbytes::{QoS as QoS5, v5};

use crate::iot::Properties;

/// Packets larger than this are refused: AWS's maximum packet size of 146 KB.
pub(super) const MAX_PACKET_BYTES: usize = 149_504;

/// The protocol version that a client chose in its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// MQTT 3.1.1
    V4,
    /// MQTT 5
    V5,
}

/// Quality of service, by the names of the MQTT specification; 2 does not exist on AWS.
#[allow(clippy::enum_variant_names)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum QoS {
    AtMostOnce,
    AtLeastOnce,
    /// Only so that it can be refused.
    ExactlyOnce,
}

/// What is wrong with a client's bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    #[error("packet of {0} bytes is larger than {MAX_PACKET_BYTES}")]
    TooLarge(usize),
    #[error("first packet is not a CONNECT")]
    NotConnect,
    #[error("protocol version {0} is neither 4 (MQTT 3.1.1) nor 5")]
    Version(u8),
    #[error("malformed packet: {0}")]
    Malformed(String),
}

/// What a client sends.
#[derive(Debug)]
pub(super) enum Incoming {
    Connect(Box<Connect>),
    Publish(Publish),
    PubAck {
        pkid: u16,
    },
    Subscribe {
        pkid: u16,
        filters: Vec<Filter>,
        has_id: bool,
    },
    Unsubscribe {
        pkid: u16,
        filters: Vec<String>,
    },
    PingReq,
    Disconnect {
        with_will: bool,
    },
    /// A packet that a client must not send, or that QoS 2 or enhanced authentication would need.
    Unexpected(&'static str),
}

#[derive(Debug)]
pub(super) struct Connect {
    pub(super) client_id: String,
    pub(super) clean: bool,
    pub(super) keep_alive: u16,
    /// Unacknowledged publishes that the client takes.
    pub(super) receive_maximum: u16,
    pub(super) max_packet_bytes: usize,
    /// Whether the client allows Reason Strings in acknowledgements (Request Problem Information, MQTT 5).
    pub(super) takes_reasons: bool,
    pub(super) enhanced_authentication: bool,
    pub(super) will: Option<Publish>,
}

#[derive(Clone, Debug)]
pub(super) struct Publish {
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) pkid: u16,
    /// Not yet checked to be UTF-8 in MQTT 5.
    pub(super) topic: Bytes,
    pub(super) topic_alias: Option<u16>,
    pub(super) payload: Bytes,
    pub(super) properties: Option<Box<Properties>>,
}

#[derive(Debug)]
pub(super) struct Filter {
    pub(super) path: String,
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retained: RetainedHandling,
}

/// Which retained messages a subscription asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetainedHandling {
    Always,
    IfNew,
    Never,
}

/// What the broker sends.
#[derive(Debug)]
pub(super) enum Outgoing {
    ConnAck {
        assigned: Option<String>,
        keep_alive: u16,
    },
    Refused(Refusal),
    PubAck {
        pkid: u16,
        /// Sent to MQTT 5 clients.
        reason: Option<&'static str>,
    },
    SubAck {
        pkid: u16,
        results: Vec<Result<QoS, Reason>>,
    },
    UnsubAck {
        pkid: u16,
        existed: Vec<bool>,
    },
    PingResp,
    Disconnect(Reason, String),
}

/// Why a CONNECT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    ClientId,
    Authentication,
    NotAuthorized,
}

/// Why a connection ends or a subscription is refused; sent to MQTT 5 clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Malformed,
    Protocol,
    NotAuthorized,
    ShuttingDown,
    KeepAlive,
    TakenOver,
    TopicFilter,
    TopicName,
    TopicAlias,
    PacketTooLarge,
    Quota,
    QosNotSupported,
    SubscriptionIds,
    SharedSubscriptions,
}

/// Takes one whole packet off the front of the buffer, if it has arrived.
pub(super) fn frame(buffer: &mut BytesMut) -> Result<Option<BytesMut>, CodecError> {
    let mut remaining = 0usize;
    for index in 0..4 {
        let Some(byte) = buffer.get(1 + index) else {
            return Ok(None);
        };
        remaining |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let total = 2 + index + remaining;
            if total > MAX_PACKET_BYTES {
                return Err(CodecError::TooLarge(total));
            }
            if buffer.len() < total {
                buffer.reserve(total - buffer.len());
                return Ok(None);
            }
            return Ok(Some(buffer.split_to(total)));
        }
    }
    Err(CodecError::Malformed(
        "remaining length has more than four bytes".to_owned(),
    ))
}

/// The protocol version, read from a whole CONNECT.
pub(super) fn version(frame: &[u8]) -> Result<Version, CodecError> {
    if frame.first().is_none_or(|byte| byte >> 4 != 1) {
        return Err(CodecError::NotConnect);
    }
    let header = 1
        + frame[1..]
            .iter()
            .take_while(|byte| **byte & 0x80 != 0)
            .count()
        + 1;
    let body = frame.get(header..).unwrap_or_default();
    let name = match body {
        [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => {
            return Err(CodecError::Malformed(
                "CONNECT without protocol name".to_owned(),
            ));
        }
    };
    match body.get(2 + name) {
        Some(4) => Ok(Version::V4),
        Some(5) => Ok(Version::V5),
        Some(other) => Err(CodecError::Version(*other)),
        None => Err(CodecError::Malformed(
            "CONNECT without protocol version".to_owned(),
        )),
    }
}

/// Parses a whole packet.
pub(super) fn decode(version: Version, frame: BytesMut) -> Result<Incoming, CodecError> {
    match version {
        Version::V4 => decode_v4(frame),
        Version::V5 => decode_v5(frame),
    }
}

fn malformed(error: impl std::fmt::Display) -> CodecError {
    CodecError::Malformed(error.to_string())
}

fn decode_v4(mut frame: BytesMut) -> Result<Incoming, CodecError> {
    Ok(
        match v4::Packet::read(&mut frame, MAX_PACKET_BYTES).map_err(malformed)? {
            v4::Packet::Connect(connect) => Incoming::Connect(Box::new(Connect {
                client_id: connect.client_id,
                clean: connect.clean_session,
                keep_alive: connect.keep_alive,
                receive_maximum: u16::MAX,
                max_packet_bytes: usize::MAX,
                takes_reasons: false,
                enhanced_authentication: false,
                will: connect.last_will.map(|will| Publish {
                    qos: QoS::from_v4(will.qos),
                    retain: will.retain,
                    pkid: 0,
                    topic: Bytes::from(will.topic),
                    topic_alias: None,
                    payload: will.message,
                    properties: None,
                }),
            })),
            v4::Packet::Publish(publish) => Incoming::Publish(Publish {
                qos: QoS::from_v4(publish.qos),
                retain: publish.retain,
                pkid: publish.pkid,
                topic: Bytes::from(publish.topic),
                topic_alias: None,
                payload: publish.payload,
                properties: None,
            }),
            v4::Packet::PubAck(ack) => Incoming::PubAck { pkid: ack.pkid },
            v4::Packet::Subscribe(subscribe) => Incoming::Subscribe {
                pkid: subscribe.pkid,
                filters: subscribe
                    .filters
                    .into_iter()
                    .map(|filter| Filter {
                        path: filter.path,
                        qos: QoS::from_v4(filter.qos),
                        no_local: false,
                        retain_as_published: false,
                        retained: RetainedHandling::Always,
                    })
                    .collect(),
                has_id: false,
            },
            v4::Packet::Unsubscribe(unsubscribe) => Incoming::Unsubscribe {
                pkid: unsubscribe.pkid,
                filters: unsubscribe.topics,
            },
            v4::Packet::PingReq => Incoming::PingReq,
            v4::Packet::Disconnect => Incoming::Disconnect { with_will: false },
            v4::Packet::PubRec(_) | v4::Packet::PubRel(_) | v4::Packet::PubComp(_) => {
                Incoming::Unexpected("a packet of QoS 2")
            }
            v4::Packet::ConnAck(_)
            | v4::Packet::SubAck(_)
            | v4::Packet::UnsubAck(_)
            | v4::Packet::PingResp => Incoming::Unexpected("a packet that only a broker sends"),
        },
    )
}

fn decode_v5(mut frame: BytesMut) -> Result<Incoming, CodecError> {
    match frame.first().map(|byte| byte >> 4) {
        // rumqttc does not read a DISCONNECT without properties or reason.
        Some(14) => {
            frame.advance(2);
            return Ok(Incoming::Disconnect {
                with_will: frame.first() == Some(&0x04),
            });
        }
        Some(15) => return Ok(Incoming::Unexpected("AUTH")),
        _ => {}
    }
    Ok(
        match v5::Packet::read(&mut frame, None).map_err(malformed)? {
            v5::Packet::Connect(connect, will, _) => {
                let properties = connect.properties.as_ref();
                Incoming::Connect(Box::new(Connect {
                    client_id: connect.client_id,
                    clean: connect.clean_start,
                    keep_alive: connect.keep_alive,
                    receive_maximum: properties
                        .and_then(|it| it.receive_maximum)
                        .unwrap_or(u16::MAX),
                    max_packet_bytes: properties
                        .and_then(|it| it.max_packet_size)
                        .map_or(usize::MAX, |size| size as usize),
                    takes_reasons: properties
                        .and_then(|it| it.request_problem_info)
                        .is_none_or(|it| it == 1),
                    enhanced_authentication: properties
                        .is_some_and(|it| it.authentication_method.is_some()),
                    will: will.map(|will| Publish {
                        qos: QoS::from_v5(will.qos),
                        retain: will.retain,
                        pkid: 0,
                        topic: will.topic,
                        topic_alias: None,
                        payload: will.message,
                        properties: Some(Box::new(will.properties.map_or_else(
                            Properties::default,
                            |it| Properties {
                                payload_format: it.payload_format_indicator,
                                message_expiry: it.message_expiry_interval,
                                content_type: it.content_type,
                                response_topic: it.response_topic,
                                correlation_data: it.correlation_data,
                                user: it.user_properties,
                            },
                        ))),
                    }),
                }))
            }
            v5::Packet::Publish(publish) => {
                let topic_alias = publish.properties.as_ref().and_then(|it| it.topic_alias);
                Incoming::Publish(Publish {
                    qos: QoS::from_v5(publish.qos),
                    retain: publish.retain,
                    pkid: publish.pkid,
                    topic: publish.topic,
                    topic_alias,
                    payload: publish.payload,
                    properties: Some(Box::new(publish.properties.map_or_else(
                        Properties::default,
                        |it| Properties {
                            payload_format: it.payload_format_indicator,
                            message_expiry: it.message_expiry_interval,
                            content_type: it.content_type,
                            response_topic: it.response_topic,
                            correlation_data: it.correlation_data,
                            user: it.user_properties,
                        },
                    ))),
                })
            }
            v5::Packet::PubAck(ack) => Incoming::PubAck { pkid: ack.pkid },
            v5::Packet::Subscribe(subscribe) => Incoming::Subscribe {
                pkid: subscribe.pkid,
                has_id: subscribe.properties.is_some_and(|it| it.id.is_some()),
                filters: subscribe
                    .filters
                    .into_iter()
                    .map(|filter| Filter {
                        path: filter.path,
                        qos: QoS::from_v5(filter.qos),
                        no_local: filter.nolocal,
                        retain_as_published: filter.preserve_retain,
                        retained: match filter.retain_forward_rule {
                            v5::RetainForwardRule::OnEverySubscribe => RetainedHandling::Always,
                            v5::RetainForwardRule::OnNewSubscribe => RetainedHandling::IfNew,
                            v5::RetainForwardRule::Never => RetainedHandling::Never,
                        },
                    })
                    .collect(),
            },
            v5::Packet::Unsubscribe(unsubscribe) => Incoming::Unsubscribe {
                pkid: unsubscribe.pkid,
                filters: unsubscribe.filters,
            },
            v5::Packet::PingReq(_) => Incoming::PingReq,
            v5::Packet::Disconnect(_) => Incoming::Disconnect { with_will: false },
            v5::Packet::PubRec(_) | v5::Packet::PubRel(_) | v5::Packet::PubComp(_) => {
                Incoming::Unexpected("a packet of QoS 2")
            }
            v5::Packet::Auth(_) => Incoming::Unexpected("AUTH"),
            v5::Packet::ConnAck(_)
            | v5::Packet::SubAck(_)
            | v5::Packet::UnsubAck(_)
            | v5::Packet::PingResp(_) => Incoming::Unexpected("a packet that only a broker sends"),
        },
    )
}

impl QoS {
    fn from_v4(qos: QoS4) -> QoS {
        match qos {
            QoS4::AtMostOnce => QoS::AtMostOnce,
            QoS4::AtLeastOnce => QoS::AtLeastOnce,
            QoS4::ExactlyOnce => QoS::ExactlyOnce,
        }
    }

    fn from_v5(qos: QoS5) -> QoS {
        match qos {
            QoS5::AtMostOnce => QoS::AtMostOnce,
            QoS5::AtLeastOnce => QoS::AtLeastOnce,
            QoS5::ExactlyOnce => QoS::ExactlyOnce,
        }
    }

    fn v4(self) -> QoS4 {
        match self {
            QoS::AtMostOnce => QoS4::AtMostOnce,
            QoS::AtLeastOnce | QoS::ExactlyOnce => QoS4::AtLeastOnce,
        }
    }

    fn v5(self) -> QoS5 {
        match self {
            QoS::AtMostOnce => QoS5::AtMostOnce,
            QoS::AtLeastOnce | QoS::ExactlyOnce => QoS5::AtLeastOnce,
        }
    }
}

/// Appends a packet. What a version has no packet for is left out: MQTT 3.1.1 cannot say why a
/// connection ends.
pub(super) fn encode(version: Version, packet: Outgoing, buffer: &mut BytesMut) {
    // Writing fails only for packets above 256 MB and for packet identifier 0, neither of which
    // is ever made here.
    let written = match version {
        Version::V4 => encode_v4(packet, buffer).map_err(|it| it.to_string()),
        Version::V5 => encode_v5(packet, buffer).map_err(|it| it.to_string()),
    };
    if let Err(error) = written {
        tracing::error!("cannot write a packet: {error}");
    }
}

fn encode_v4(packet: Outgoing, buffer: &mut BytesMut) -> Result<usize, mqttbytes::Error> {
    match packet {
        Outgoing::ConnAck { .. } => {
            v4::ConnAck::new(v4::ConnectReturnCode::Success, false).write(buffer)
        }
        Outgoing::Refused(refusal) => {
            let code = match refusal {
                Refusal::ClientId => v4::ConnectReturnCode::BadClientId,
                Refusal::Authentication | Refusal::NotAuthorized => {
                    v4::ConnectReturnCode::NotAuthorized
                }
            };
            v4::ConnAck::new(code, false).write(buffer)
        }
        Outgoing::PubAck { pkid, .. } => v4::PubAck::new(pkid).write(buffer),
        Outgoing::SubAck { pkid, results } => {
            let codes = results
                .into_iter()
                .map(|result| match result {
                    Ok(qos) => v4::SubscribeReasonCode::Success(qos.v4()),
                    Err(_) => v4::SubscribeReasonCode::Failure,
                })
                .collect();
            v4::SubAck::new(pkid, codes).write(buffer)
        }
        Outgoing::UnsubAck { pkid, .. } => v4::UnsubAck::new(pkid).write(buffer),
        Outgoing::PingResp => v4::PingResp.write(buffer),
        Outgoing::Disconnect(..) => Ok(0),
    }
}

fn encode_v5(
    packet: Outgoing,
    buffer: &mut BytesMut,
) -> Result<usize, rumqttc::v5::mqttbytes::Error> {
    match packet {
        Outgoing::ConnAck {
            assigned,
            keep_alive,
        } => v5::ConnAck {
            session_present: false,
            code: v5::ConnectReturnCode::Success,
            properties: Some(v5::ConnAckProperties {
                // Sessions end with their connection here.
                session_expiry_interval: Some(0),
                receive_max: Some(super::RECEIVE_MAXIMUM),
                max_qos: Some(1),
                retain_available: Some(1),
                max_packet_size: Some(MAX_PACKET_BYTES as u32),
                assigned_client_identifier: assigned,
                topic_alias_max: Some(super::TOPIC_ALIAS_MAXIMUM),
                reason_string: None,
                user_properties: Vec::new(),
                wildcard_subscription_available: Some(1),
                subscription_identifiers_available: Some(0),
                shared_subscription_available: Some(0),
                server_keep_alive: Some(keep_alive),
                response_information: None,
                server_reference: None,
                authentication_method: None,
                authentication_data: None,
            }),
        }
        .write(buffer),
        Outgoing::Refused(refusal) => v5::ConnAck {
            session_present: false,
            code: match refusal {
                Refusal::ClientId => v5::ConnectReturnCode::ClientIdentifierNotValid,
                Refusal::Authentication => v5::ConnectReturnCode::BadAuthenticationMethod,
                Refusal::NotAuthorized => v5::ConnectReturnCode::NotAuthorized,
            },
            properties: None,
        }
        .write(buffer),
        Outgoing::PubAck { pkid, reason } => {
            let properties = reason.map(|reason| v5::PubAckProperties {
                reason_string: Some(reason.to_owned()),
                user_properties: Vec::new(),
            });
            v5::PubAck::new(pkid, properties).write(buffer)
        }
        Outgoing::SubAck { pkid, results } => v5::SubAck {
            pkid,
            return_codes: results
                .into_iter()
                .map(|result| match result {
                    Ok(qos) => v5::SubscribeReasonCode::Success(qos.v5()),
                    Err(Reason::Quota) => v5::SubscribeReasonCode::QuotaExceeded,
                    Err(Reason::NotAuthorized) => v5::SubscribeReasonCode::NotAuthorized,
                    Err(Reason::SharedSubscriptions) => {
                        v5::SubscribeReasonCode::SharedSubscriptionsNotSupported
                    }
                    Err(_) => v5::SubscribeReasonCode::TopicFilterInvalid,
                })
                .collect(),
            properties: None,
        }
        .write(buffer),
        Outgoing::UnsubAck { pkid, existed } => v5::UnsubAck {
            pkid,
            reasons: existed
                .into_iter()
                .map(|existed| match existed {
                    true => v5::UnsubAckReason::Success,
                    false => v5::UnsubAckReason::NoSubscriptionExisted,
                })
                .collect(),
            properties: None,
        }
        .write(buffer),
        Outgoing::PingResp => v5::PingResp::write(buffer),
        Outgoing::Disconnect(reason, text) => v5::Disconnect {
            reason_code: reason.code(),
            // rumqttc writes a wrong length when there are no properties.
            properties: Some(v5::DisconnectProperties {
                session_expiry_interval: None,
                reason_string: Some(text),
                user_properties: Vec::new(),
                server_reference: None,
            }),
        }
        .write(buffer),
    }
}

impl Reason {
    fn code(self) -> v5::DisconnectReasonCode {
        use v5::DisconnectReasonCode as Code;
        match self {
            Reason::Malformed => Code::MalformedPacket,
            Reason::Protocol => Code::ProtocolError,
            Reason::NotAuthorized => Code::NotAuthorized,
            Reason::ShuttingDown => Code::ServerShuttingDown,
            Reason::KeepAlive => Code::KeepAliveTimeout,
            Reason::TakenOver => Code::SessionTakenOver,
            Reason::TopicFilter => Code::TopicFilterInvalid,
            Reason::TopicName => Code::TopicNameInvalid,
            Reason::TopicAlias => Code::TopicAliasInvalid,
            Reason::PacketTooLarge => Code::PacketTooLarge,
            Reason::Quota => Code::QuotaExceeded,
            Reason::QosNotSupported => Code::QoSNotSupported,
            Reason::SubscriptionIds => Code::SubscriptionIdentifiersNotSupported,
            Reason::SharedSubscriptions => Code::SharedSubscriptionNotSupported,
        }
    }
}

/// Appends a PUBLISH to a subscriber. Returns false, and appends nothing, when the packet is larger
/// than the client takes.
pub(super) fn encode_publish(
    version: Version,
    delivery: &super::broker::Delivery,
    pkid: u16,
    max_packet_bytes: usize,
    buffer: &mut BytesMut,
) -> bool {
    let message = &delivery.message;
    let start = buffer.len();
    let written = match version {
        Version::V4 => {
            let mut publish = v4::Publish::from_bytes(
                message.topic.clone(),
                delivery.qos.v4(),
                message.payload.clone(),
            );
            publish.retain = delivery.retain;
            publish.pkid = pkid;
            publish.write(buffer).map_err(|it| it.to_string())
        }
        Version::V5 => v5::Publish {
            dup: false,
            qos: delivery.qos.v5(),
            retain: delivery.retain,
            topic: Bytes::copy_from_slice(message.topic.as_bytes()),
            pkid,
            payload: message.payload.clone(),
            properties: message.properties.as_ref().map(|it| v5::PublishProperties {
                payload_format_indicator: it.payload_format,
                message_expiry_interval: it.message_expiry,
                topic_alias: None,
                response_topic: it.response_topic.clone(),
                correlation_data: it.correlation_data.clone(),
                user_properties: it.user.clone(),
                subscription_identifiers: Vec::new(),
                content_type: it.content_type.clone(),
            }),
        }
        .write(buffer)
        .map_err(|it| it.to_string()),
    };
    if written.is_ok() && buffer.len() - start <= max_packet_bytes {
        return true;
    }
    buffer.truncate(start);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_version(bytes: &[u8], expected: Result<Version, CodecError>) {
        assert_eq!(version(bytes), expected, "{bytes:?}");
    }

    #[test]
    fn protocol_version_is_read_from_the_connect() {
        check_version(b"\x10\x0c\0\x04MQTT\x04\x02\0\x0a\0\0", Ok(Version::V4));
        check_version(b"\x10\x0d\0\x04MQTT\x05\x02\0\x0a\0\0\0", Ok(Version::V5));
        check_version(
            b"\x10\x0e\0\x06MQIsdp\x03\x02\0\x0a\0\0",
            Err(CodecError::Version(3)),
        );
        check_version(b"\xc0\0", Err(CodecError::NotConnect));
        assert!(version(b"\x10\x01\0").is_err());
        assert!(version(b"GET / HTTP/1.1").is_err());
    }

    #[test]
    fn frames_wait_for_their_last_byte_and_keep_what_follows() {
        let mut buffer = BytesMut::from(&b"\x30\x05\0\x01a"[..]);
        assert_eq!(frame(&mut buffer), Ok(None));
        buffer.extend_from_slice(b"hi\xc0\0");
        assert_eq!(
            frame(&mut buffer),
            Ok(Some(BytesMut::from(&b"\x30\x05\0\x01ahi"[..])))
        );
        assert_eq!(frame(&mut buffer), Ok(Some(BytesMut::from(&b"\xc0\0"[..]))));
        assert_eq!(frame(&mut buffer), Ok(None));
    }

    #[test]
    fn frames_above_the_limit_are_refused_before_they_arrive() {
        let mut buffer = BytesMut::from(&b"\x30\xff\xff\xff\x7f"[..]);
        assert!(matches!(frame(&mut buffer), Err(CodecError::TooLarge(_))));
        let mut buffer = BytesMut::from(&b"\x30\xff\xff\xff\xff\x01"[..]);
        assert!(matches!(frame(&mut buffer), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn short_disconnects_of_version_5_are_read() {
        for (bytes, expected) in [
            (&b"\xe0\0"[..], false),
            (b"\xe0\x01\x04", true),
            (b"\xe0\x02\x04\0", true),
        ] {
            match decode(Version::V5, BytesMut::from(bytes)) {
                Ok(Incoming::Disconnect { with_will }) => assert_eq!(with_will, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn truncated_packets_are_malformed_and_never_panic() {
        for version in [Version::V4, Version::V5] {
            for first in 0u8..=255 {
                for rest in [
                    &b"\0"[..],
                    b"\x01\0",
                    b"\x02\0\x05",
                    b"\x03\0\x01a",
                    b"\x04\0\0\0\x01",
                ] {
                    let mut bytes = BytesMut::from(&[first][..]);
                    bytes.extend_from_slice(rest);
                    let _ = decode(version, bytes);
                }
            }
        }
    }
}
