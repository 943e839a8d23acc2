//! One client's connection: the receiving half, in order, one message at a time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::broker::{Broker, Seat, Subscription};
use super::codec::{
    self, CodecError, Connect, Filter, Incoming, Outgoing, QoS, Reason, Refusal, RetainedHandling,
    Version,
};
use super::device::{Device, Devices};
use super::topic::{self, TopicProblem};
use super::writer::{Command, Writer};
use crate::iot::Publish;
use crate::status::now_ms;

/// A client that has not sent its CONNECT by then is cut off.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What was asked to be sent is given this long when a connection ends.
const LINGER: Duration = Duration::from_secs(1);
/// Smallest maximum packet size of a client that gets Reason Strings: ours are shorter than this.
const SMALLEST_FOR_REASONS: usize = 128;
/// Commands to the sending half that may wait; the receiving half waits when there are more.
const COMMANDS: usize = 256;
/// Free room in the read buffer before each read.
const READ_BYTES: usize = 16 * 1024;

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client said goodbye.
    Goodbye { with_will: bool },
    /// The client is gone without a goodbye.
    Gone,
    /// Another connection took the client ID, or the broker stops.
    Cancelled,
    /// The client did what AWS ends a connection for.
    Violation(Reason, String),
}

impl End {
    fn topic(problem: &TopicProblem) -> End {
        End::Violation(Reason::TopicName, problem.to_string())
    }
}

/// Serves a connection without TLS to its end; everybody may do everything on it.
pub(super) async fn run(
    socket: TcpStream,
    peer: SocketAddr,
    broker: Arc<Broker>,
    stopping: CancellationToken,
) {
    without_delay(&socket, peer);
    let (read_half, write_half) = socket.into_split();
    talk(read_half, write_half, peer, None, broker, stopping).await;
}

/// Serves a connection with TLS to its end; the device's certificate says who it is.
pub(super) async fn run_tls(
    socket: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    devices: Arc<Devices>,
    broker: Arc<Broker>,
    stopping: CancellationToken,
) {
    without_delay(&socket, peer);
    let shaken = tokio::select! {
        () = stopping.cancelled() => return,
        shaken = timeout(CONNECT_TIMEOUT, acceptor.accept(socket)) => shaken,
    };
    let refuse = |why: String| {
        broker.status().clients_refused.increment();
        tracing::warn!(%peer, "connection refused: {why}");
    };
    let socket = match shaken {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return refuse(format!("TLS: {error}")),
        Err(_) => return refuse(format!("no TLS handshake within {CONNECT_TIMEOUT:?}")),
    };
    let certificate = socket.get_ref().1.peer_certificates();
    let thing = certificate.and_then(|it| devices.thing_of(it.first()?));
    let Some(thing) = thing else {
        return refuse("the certificate is of no registered device".to_owned());
    };
    let (read_half, write_half) = tokio::io::split(socket);
    let identity = Some((devices, thing));
    talk(read_half, write_half, peer, identity, broker, stopping).await;
}

/// A PUBACK must not wait for more bytes to go with it.
fn without_delay(socket: &TcpStream, peer: SocketAddr) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, "cannot set TCP_NODELAY: {error}");
    }
}

/// `identity`: the registered devices, and the thing that this one's certificate is attached to.
async fn talk<R, W>(
    read_half: R,
    mut write_half: W,
    peer: SocketAddr,
    identity: Option<(Arc<Devices>, String)>,
    broker: Arc<Broker>,
    stopping: CancellationToken,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let mut reader = Reader {
        socket: read_half,
        buffer: BytesMut::new(),
        version: Version::V4,
    };
    let first = tokio::select! {
        () = stopping.cancelled() => return,
        first = timeout(CONNECT_TIMEOUT, reader.connect()) => first,
    };
    let connect = match first {
        Ok(Ok(connect)) => connect,
        Ok(Err(error)) => {
            if let Some(error) = error {
                broker.status().clients_refused.increment();
                tracing::warn!(%peer, "connection refused: {error}");
            }
            return;
        }
        Err(_) => {
            broker.status().clients_refused.increment();
            tracing::warn!(%peer, "connection refused: no CONNECT within {CONNECT_TIMEOUT:?}");
            return;
        }
    };
    let version = reader.version;
    let accepted = accept(&connect, version).and_then(|(client_id, assigned)| {
        let device = identity.map(|(devices, thing)| Device::new(devices, thing, &client_id));
        if let Some(device) = &device {
            may_connect(device, &client_id, &connect)?;
        }
        Ok((client_id, assigned, device.map(Arc::new)))
    });
    let (client_id, assigned, device) = match accepted {
        Ok(accepted) => accepted,
        Err((refusal, why)) => {
            broker.status().clients_refused.increment();
            tracing::warn!(%peer, "connection refused: {why}");
            let mut answer = BytesMut::new();
            codec::encode(version, Outgoing::Refused(refusal), &mut answer);
            let _ = timeout(LINGER, async {
                tokio::io::AsyncWriteExt::write_all_buf(&mut write_half, &mut answer).await
            })
            .await;
            return;
        }
    };
    let keep_alive = keep_alive(connect.keep_alive);
    let (seat, deliveries) = broker.enter(&client_id, device.clone(), &stopping);
    let (commands, receiver) = mpsc::channel(COMMANDS);
    let writer = Writer::new(
        write_half,
        version,
        connect.max_packet_bytes,
        connect.receive_maximum,
    );
    let mut writing = tokio::spawn(writer.run(receiver, deliveries));
    tracing::debug!(%peer, client_id, ?version, "connected");

    let mut connection = Connection {
        client_id: client_id.as_str().into(),
        source_ip: peer.ip().to_string().into(),
        broker: Arc::clone(&broker),
        seat,
        device,
        commands,
        aliases: HashMap::new(),
        version,
        takes_reasons: connect.takes_reasons && connect.max_packet_bytes >= SMALLEST_FOR_REASONS,
    };
    let end = match connection
        .send(Outgoing::ConnAck {
            assigned,
            keep_alive,
        })
        .await
    {
        Ok(()) => connection.serve(&mut reader, keep_alive).await,
        Err(end) => end,
    };

    let farewell = match &end {
        End::Goodbye { .. } | End::Gone => None,
        End::Cancelled if stopping.is_cancelled() => {
            Some((Reason::ShuttingDown, "local is stopping".to_owned()))
        }
        End::Cancelled => Some((
            Reason::TakenOver,
            "another connection uses the client ID".to_owned(),
        )),
        End::Violation(reason, why) => {
            broker.status().clients_refused.increment();
            tracing::warn!(%peer, client_id, "connection closed: {why}");
            Some((*reason, why.clone()))
        }
    };
    if let Some((reason, why)) = farewell {
        let _ = connection
            .commands
            .try_send(Command::Send(Outgoing::Disconnect(reason, why)));
    }
    let Connection { commands, seat, .. } = connection;
    let number = seat.number;
    drop((commands, seat));
    if timeout(LINGER, &mut writing).await.is_err() {
        writing.abort();
    }
    tracing::debug!(%peer, client_id, ?end, "disconnected");
    let with_will = !matches!(end, End::Goodbye { with_will: false }) && !stopping.is_cancelled();
    if let (true, Some(will)) = (with_will, connect.will) {
        let publish = Publish {
            topic: String::from_utf8_lossy(&will.topic).into_owned(),
            payload: will.payload,
            received: now_ms(),
            client_id: client_id.into(),
            source_ip: peer.ip().to_string().into(),
            properties: will.properties,
        };
        broker.publish(publish, will.qos, will.retain, number).await;
    }
}

/// The client ID to use, and the one to tell the client if the broker chose it.
fn accept(
    connect: &Connect,
    version: Version,
) -> Result<(String, Option<String>), (Refusal, String)> {
    if connect.enhanced_authentication {
        let why = "enhanced authentication is not supported by AWS IoT".to_owned();
        return Err((Refusal::Authentication, why));
    }
    // AWS IoT Core quotas: client ID of 128 bytes.
    if connect.client_id.len() > 128 {
        let why = format!(
            "client ID of {} bytes is longer than 128",
            connect.client_id.len()
        );
        return Err((Refusal::ClientId, why));
    }
    if let Some(will) = &connect.will {
        topic::check(&will.topic)
            .map_err(|problem| (Refusal::Authentication, format!("last will: {problem}")))?;
        if will.qos == QoS::ExactlyOnce {
            return Err((Refusal::Authentication, "last will of QoS 2".to_owned()));
        }
        if will.payload.len() > super::MAX_PAYLOAD_BYTES {
            let why = format!("last will of {} bytes", will.payload.len());
            return Err((Refusal::Authentication, why));
        }
    }
    if !connect.client_id.is_empty() {
        return Ok((connect.client_id.clone(), None));
    }
    if version == Version::V4 && !connect.clean {
        let why = "a client without ID must ask for a clean session".to_owned();
        return Err((Refusal::ClientId, why));
    }
    let assigned = format!("$GEN/{}", Uuid::new_v4());
    Ok((
        assigned.clone(),
        (version == Version::V5).then_some(assigned),
    ))
}

/// Whether a device may connect, with the last will that it leaves.
fn may_connect(
    device: &Device,
    client_id: &str,
    connect: &Connect,
) -> Result<(), (Refusal, String)> {
    let denied = |why: String| (Refusal::NotAuthorized, why);
    device
        .may("iot:Connect", format!("client/{client_id}"))
        .map_err(denied)?;
    if let Some(will) = &connect.will {
        let topic = String::from_utf8_lossy(&will.topic);
        may_publish(device, &topic, will.retain).map_err(denied)?;
    }
    Ok(())
}

fn may_publish(device: &Device, topic: &str, retain: bool) -> Result<(), String> {
    device.may("iot:Publish", format!("topic/{topic}"))?;
    match retain {
        true => device.may("iot:RetainPublish", format!("topic/{topic}")),
        false => Ok(()),
    }
}

/// The keep-alive in seconds that holds: AWS's range is 30 to 1200, and 0 means 1200.
fn keep_alive(asked: u16) -> u16 {
    match asked {
        0 => 1200,
        asked => asked.clamp(30, 1200),
    }
}

struct Reader<R> {
    socket: R,
    buffer: BytesMut,
    version: Version,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// The first packet. No error when the client just went away.
    async fn connect(&mut self) -> Result<Box<Connect>, Option<CodecError>> {
        loop {
            // Whoever does not speak MQTT is told apart by its first byte, not by a timeout.
            if self.buffer.first().is_some_and(|byte| byte >> 4 != 1) {
                return Err(Some(CodecError::NotConnect));
            }
            if let Some(frame) = codec::frame(&mut self.buffer)? {
                self.version = codec::version(&frame)?;
                return match codec::decode(self.version, frame)? {
                    Incoming::Connect(connect) => Ok(connect),
                    _ => Err(Some(CodecError::NotConnect)),
                };
            }
            if !matches!(self.fill().await, Ok(1..)) {
                return Err(None);
            }
        }
    }

    async fn fill(&mut self) -> std::io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        self.socket.read_buf(&mut self.buffer).await
    }
}

struct Connection {
    client_id: Arc<str>,
    source_ip: Arc<str>,
    broker: Arc<Broker>,
    seat: Seat,
    /// None: a client without TLS.
    device: Option<Arc<Device>>,
    commands: mpsc::Sender<Command>,
    aliases: HashMap<u16, Bytes>,
    version: Version,
    /// Whether a PUBACK may carry a Reason String.
    takes_reasons: bool,
}

impl Connection {
    async fn serve<R>(&mut self, reader: &mut Reader<R>, keep_alive: u16) -> End
    where
        R: AsyncRead + Unpin,
    {
        let patience = Duration::from_secs(u64::from(keep_alive)) * 3 / 2;
        loop {
            loop {
                let frame = match codec::frame(&mut reader.buffer) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(error) => return violation(&error),
                };
                let packet = match codec::decode(self.version, frame) {
                    Ok(packet) => packet,
                    Err(error) => return violation(&error),
                };
                if let Err(end) = self.handle(packet).await {
                    return end;
                }
                if self.seat.cancel.is_cancelled() {
                    return End::Cancelled;
                }
            }
            let read = tokio::select! {
                biased;
                () = self.seat.cancel.cancelled() => return End::Cancelled,
                // The sending half only stops early when the client is gone.
                () = self.commands.closed() => return End::Gone,
                read = timeout(patience, reader.fill()) => read,
            };
            match read {
                Ok(Ok(1..)) => {}
                Ok(_) => return End::Gone,
                Err(_) => {
                    let why = format!("nothing received for {patience:?}");
                    return End::Violation(Reason::KeepAlive, why);
                }
            }
        }
    }

    async fn handle(&mut self, packet: Incoming) -> Result<(), End> {
        match packet {
            Incoming::Publish(publish) => self.publish(publish).await,
            Incoming::PubAck { pkid } => self.command(Command::Acknowledged(pkid)).await,
            Incoming::Subscribe {
                pkid,
                filters,
                has_id,
            } => self.subscribe(pkid, filters, has_id).await,
            Incoming::Unsubscribe { pkid, filters } => {
                let existed = filters
                    .iter()
                    .map(|filter| self.seat.unsubscribe(filter))
                    .collect();
                self.send(Outgoing::UnsubAck { pkid, existed }).await
            }
            Incoming::PingReq => self.send(Outgoing::PingResp).await,
            Incoming::Disconnect { with_will } => Err(End::Goodbye { with_will }),
            Incoming::Connect(_) => Err(End::Violation(
                Reason::Protocol,
                "a second CONNECT".to_owned(),
            )),
            Incoming::Unexpected(what) => Err(End::Violation(
                Reason::Protocol,
                format!("unexpected packet: {what}"),
            )),
        }
    }

    async fn publish(&mut self, packet: codec::Publish) -> Result<(), End> {
        if packet.qos == QoS::ExactlyOnce {
            let why = "QoS 2 is not supported by AWS IoT".to_owned();
            return Err(End::Violation(Reason::QosNotSupported, why));
        }
        let topic = self.topic(&packet)?;
        let topic = topic::check(&topic)
            .map_err(|problem| End::topic(&problem))?
            .to_owned();
        if let Some(device) = &self.device
            && let Err(denied) = may_publish(device, &topic, packet.retain)
        {
            self.broker.status().denials.increment();
            return Err(End::Violation(Reason::NotAuthorized, denied));
        }
        let size = packet.payload.len();
        if size > super::MAX_PAYLOAD_BYTES {
            let why = format!(
                "payload of {size} bytes on {topic:?} is larger than {} (PAYLOAD_LIMIT_EXCEEDED)",
                super::MAX_PAYLOAD_BYTES
            );
            return Err(End::Violation(Reason::PacketTooLarge, why));
        }
        let publish = Publish {
            topic,
            payload: packet.payload,
            received: now_ms(),
            client_id: Arc::clone(&self.client_id),
            source_ip: Arc::clone(&self.source_ip),
            properties: packet.properties,
        };
        let taken = self
            .broker
            .publish(publish, packet.qos, packet.retain, self.seat.number)
            .await;
        let pkid = packet.pkid;
        let reason = (!taken && self.takes_reasons).then_some(contract::topic::NO_RULE);
        match packet.qos {
            QoS::AtMostOnce => Ok(()),
            _ => self.send(Outgoing::PubAck { pkid, reason }).await,
        }
    }

    /// The packet's topic, its alias resolved.
    fn topic(&mut self, packet: &codec::Publish) -> Result<Bytes, End> {
        let Some(alias) = packet.topic_alias else {
            return Ok(packet.topic.clone());
        };
        let bad = |why: String| End::Violation(Reason::TopicAlias, why);
        if !(1..=super::TOPIC_ALIAS_MAXIMUM).contains(&alias) {
            let most = super::TOPIC_ALIAS_MAXIMUM;
            return Err(bad(format!(
                "topic alias {alias} is not between 1 and {most}"
            )));
        }
        if packet.topic.is_empty() {
            return self
                .aliases
                .get(&alias)
                .cloned()
                .ok_or_else(|| bad(format!("topic alias {alias} was never given a topic")));
        }
        // A copy, so that the alias does not keep the read buffer.
        self.aliases
            .insert(alias, Bytes::copy_from_slice(&packet.topic));
        Ok(packet.topic.clone())
    }

    async fn subscribe(
        &mut self,
        pkid: u16,
        filters: Vec<Filter>,
        has_id: bool,
    ) -> Result<(), End> {
        if has_id {
            let why = "subscription identifiers are not supported by AWS IoT".to_owned();
            return Err(End::Violation(Reason::SubscriptionIds, why));
        }
        if filters.len() > super::MAX_FILTERS {
            let why = format!(
                "SUBSCRIBE with {} topic filters, more than {}",
                filters.len(),
                super::MAX_FILTERS
            );
            return Err(End::Violation(Reason::Quota, why));
        }
        if filters.iter().any(|filter| filter.qos == QoS::ExactlyOnce) {
            let why = "QoS 2 is not supported by AWS IoT".to_owned();
            return Err(End::Violation(Reason::QosNotSupported, why));
        }
        let mut results = Vec::with_capacity(filters.len());
        let mut retained = Vec::new();
        for filter in filters {
            let parsed = match topic::check_filter(&filter.path) {
                Ok(parsed) => parsed,
                Err(problem) => {
                    tracing::warn!(client_id = %self.client_id, "subscription refused: {problem}");
                    results.push(Err(match problem {
                        TopicProblem::Shared(_) => Reason::SharedSubscriptions,
                        _ => Reason::TopicFilter,
                    }));
                    continue;
                }
            };
            if let Some(device) = &self.device {
                let filter = format!("topicfilter/{}", parsed.as_str());
                if let Err(denied) = device.may("iot:Subscribe", filter) {
                    self.broker.status().denials.increment();
                    tracing::warn!(client_id = %self.client_id, "subscription refused: {denied}");
                    results.push(Err(Reason::NotAuthorized));
                    continue;
                }
            }
            let new = self.seat.subscribe(Subscription {
                filter: parsed.clone(),
                qos: filter.qos,
                no_local: filter.no_local,
                retain_as_published: filter.retain_as_published,
            });
            let Some(new) = new else {
                results.push(Err(Reason::Quota));
                continue;
            };
            results.push(Ok(filter.qos));
            if filter.retained == RetainedHandling::Always
                || (filter.retained == RetainedHandling::IfNew && new)
            {
                retained.extend(self.seat.retained(&parsed, filter.qos));
            }
        }
        self.send(Outgoing::SubAck { pkid, results }).await?;
        for delivery in retained {
            self.command(Command::Deliver(delivery)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, packet: Outgoing) -> Result<(), End> {
        self.command(Command::Send(packet)).await
    }

    async fn command(&mut self, command: Command) -> Result<(), End> {
        tokio::select! {
            biased;
            sent = self.commands.send(command) => sent.map_err(|_| End::Gone),
            // A client that reads nothing must not hold up the end of its connection.
            () = self.seat.cancel.cancelled() => Err(End::Cancelled),
        }
    }
}

fn violation(error: &CodecError) -> End {
    let reason = match error {
        CodecError::TooLarge(_) => Reason::PacketTooLarge,
        CodecError::NotConnect | CodecError::Version(_) => Reason::Protocol,
        CodecError::Malformed(_) => Reason::Malformed,
    };
    End::Violation(reason, error.to_string())
}
