//! A broker with rules on a free port, and clients for it.

#![allow(dead_code, reason = "each test program uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use local::iot::{RuleConfig, RuleEngine};
use local::mqtt;
use local::status::Status;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, v5};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running broker.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) status: Arc<Status>,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
}

impl Broker {
    /// A broker without rules.
    pub(crate) async fn start() -> Broker {
        Broker::with_rules(Vec::new()).await
    }

    /// A broker with rules.
    pub(crate) async fn with_rules(rules: Vec<RuleConfig>) -> Broker {
        let status = Status::new();
        let rules = RuleEngine::new(rules, "000000000000", Arc::clone(&status)).unwrap();
        let broker = mqtt::Broker::new(rules, Arc::clone(&status));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let serving = tokio::spawn(mqtt::serve(listener, broker, stopping.clone()));
        Broker {
            address,
            status,
            stopping,
            serving,
        }
    }

    /// Stops it and waits until it has.
    pub(crate) async fn stop(self) {
        self.stopping.cancel();
        timeout(PATIENCE, self.serving)
            .await
            .expect("the broker stops")
            .unwrap();
    }
}

/// Options for a client of MQTT 3.1.1.
pub(crate) fn options(broker: &Broker, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, "127.0.0.1", broker.address.port());
    options.set_keep_alive(Duration::from_secs(30));
    options.set_max_packet_size(1 << 20, 1 << 20);
    options
}

/// A client of MQTT 3.1.1.
pub(crate) fn client(broker: &Broker, id: &str) -> (AsyncClient, EventLoop) {
    AsyncClient::new(options(broker, id), 100)
}

/// A client of MQTT 5.
pub(crate) fn client_v5(broker: &Broker, id: &str) -> (v5::AsyncClient, v5::EventLoop) {
    let mut options = v5::MqttOptions::new(id, "127.0.0.1", broker.address.port());
    options.set_keep_alive(Duration::from_secs(30));
    v5::AsyncClient::new(options, 100)
}

/// Connects a client of MQTT 3.1.1.
pub(crate) async fn connect(broker: &Broker, id: &str) -> (AsyncClient, EventLoop) {
    let (client, mut events) = client(broker, id);
    until(&mut events, |it| {
        matches!(it, Event::Incoming(Packet::ConnAck(_)))
    })
    .await;
    (client, events)
}

/// The next event.
pub(crate) async fn next(events: &mut EventLoop) -> Event {
    timeout(PATIENCE, events.poll())
        .await
        .expect("an event comes")
        .unwrap()
}

/// Polls until an event is as wanted.
pub(crate) async fn until(events: &mut EventLoop, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = next(events).await;
        if wanted(&event) {
            return event;
        }
    }
}

/// Polls until a packet is as wanted.
pub(crate) async fn until_v5(
    events: &mut v5::EventLoop,
    wanted: impl Fn(&v5::mqttbytes::v5::Packet) -> bool,
) -> v5::mqttbytes::v5::Packet {
    let search = async {
        loop {
            if let v5::Event::Incoming(packet) = events.poll().await.unwrap()
                && wanted(&packet)
            {
                return packet;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("the packet comes")
}

/// Polls until the broker ends the connection; says why it did.
pub(crate) async fn disconnected(
    events: &mut v5::EventLoop,
) -> v5::mqttbytes::v5::DisconnectReasonCode {
    let search = async {
        loop {
            match events.poll().await {
                Ok(_) => {}
                Err(v5::ConnectionError::MqttState(v5::StateError::ServerDisconnect {
                    reason_code,
                    ..
                })) => return reason_code,
                Err(error) => panic!("expected a DISCONNECT, got {error}"),
            }
        }
    };
    timeout(PATIENCE, search)
        .await
        .expect("the broker ends the connection")
}

/// The next message that a client of MQTT 3.1.1 gets.
pub(crate) async fn next_publish(events: &mut EventLoop) -> Publish {
    loop {
        if let Event::Incoming(Packet::Publish(publish)) = next(events).await {
            return publish;
        }
    }
}

/// Publishes a message at QoS 1 over a connection of its own, and waits until it is acknowledged.
pub(crate) async fn publish(broker: &Broker, topic: &str, payload: impl Into<Vec<u8>>) {
    publish_as(broker, "publisher", topic, payload, false).await;
}

/// The same under a client ID, and retained or not.
pub(crate) async fn publish_as(
    broker: &Broker,
    id: &str,
    topic: &str,
    payload: impl Into<Vec<u8>>,
    retain: bool,
) {
    let (client, mut events) = connect(broker, id).await;
    client
        .publish(topic, QoS::AtLeastOnce, retain, payload)
        .await
        .unwrap();
    until(&mut events, |it| {
        matches!(it, Event::Incoming(Packet::PubAck(_)))
    })
    .await;
    client.disconnect().await.unwrap();
    while events.poll().await.is_ok() {}
}
