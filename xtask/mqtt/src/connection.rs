//! One MQTT connection that publishes at QoS 1. The only module that knows the client library.
//!
//! It speaks MQTT 5, whose acknowledgements say when no topic rule takes a message.

use std::io;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, PubAckReason};
use rumqttc::v5::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, MqttOptions, StateError,
};
use rumqttc::{NetworkOptions, Outgoing};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use local_flags::address::Address;

/// How long the broker may say nothing: on connect, and with messages unconfirmed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Unconfirmed messages that AWS IoT Core allows on one connection.
const IN_FLIGHT: u16 = 100;

/// Messages that the broker has confirmed.
#[derive(Clone, Copy, Debug, Default)]
struct Confirmed {
    all: u64,
    /// Those that no topic rule takes.
    unmatched: u64,
}

/// A live connection. Its packets move in a task of their own.
pub(crate) struct Connection {
    client: AsyncClient,
    confirmed: watch::Receiver<Confirmed>,
    /// Ends with why the connection ended; `Ok` after [`Connection::close`].
    driver: JoinHandle<anyhow::Result<()>>,
}

impl Connection {
    /// Connects and waits until the broker has agreed.
    pub(crate) async fn open(address: &Address) -> anyhow::Result<Connection> {
        let id = format!("xtask-{}", std::process::id());
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        let mut options = MqttOptions::new(id, &address.host, address.port);
        options
            .set_outgoing_inflight_upper_limit(IN_FLIGHT)
            .set_network_options(network);
        let (client, mut event_loop) = AsyncClient::new(options, IN_FLIGHT.into());
        timeout(PATIENCE, agree(&mut event_loop))
            .await
            .unwrap_or_else(|elapsed| Err(elapsed.into()))
            .map_err(|error| unconnected(address, error))?;
        let (count, confirmed) = watch::channel(Confirmed::default());
        let driver = tokio::spawn(drive(event_loop, count, address.clone()));
        Ok(Connection {
            client,
            confirmed,
            driver,
        })
    }

    /// Hands a message over to be sent; waits while too many are unconfirmed.
    pub(crate) async fn publish(&mut self, topic: &str, payload: Vec<u8>) -> anyhow::Result<()> {
        let sent = self.client.publish(topic, QoS::AtLeastOnce, false, payload);
        match timeout(PATIENCE, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(ClientError::TryRequest(_) | ClientError::Request(_)))
                if rumqttc::valid_topic(topic) =>
            {
                Err(self.cause().await)
            }
            Ok(Err(_)) => bail!(
                "got the topic `{topic}`, expected one without `+` and `#`: a message goes to one topic"
            ),
            Err(_) => Err(silent()),
        }
    }

    /// Messages that the broker has confirmed.
    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed.borrow().all
    }

    /// Confirmed messages of which the broker says that no topic rule takes them.
    pub(crate) fn unmatched(&self) -> u64 {
        self.confirmed.borrow().unmatched
    }

    /// Waits until `count` messages are confirmed.
    pub(crate) async fn wait_confirmed(&mut self, count: u64) -> anyhow::Result<()> {
        while self.confirmed() < count {
            match timeout(PATIENCE, self.confirmed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.cause().await),
                Err(_) => return Err(silent()),
            }
        }
        Ok(())
    }

    /// Says goodbye and waits until that is sent.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.client.disconnect().await.context("disconnect")?;
        self.driver.await.context("close the connection")?
    }

    /// Why the connection ended.
    async fn cause(&mut self) -> anyhow::Error {
        match (&mut self.driver).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => anyhow!("the connection is closed"),
            Err(error) => anyhow!(error),
        }
    }
}

async fn agree(event_loop: &mut EventLoop) -> Result<(), ConnectionError> {
    loop {
        if let Event::Incoming(Packet::ConnAck(_)) = event_loop.poll().await? {
            return Ok(());
        }
    }
}

/// Moves packets until the connection ends. The library would connect again by itself; here an end
/// is reported, since nobody would learn otherwise why messages were refused.
async fn drive(
    mut event_loop: EventLoop,
    confirmed: watch::Sender<Confirmed>,
    address: Address,
) -> anyhow::Result<()> {
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Packet::PubAck(ack))) => confirmed.send_modify(|confirmed| {
                confirmed.all += 1;
                confirmed.unmatched += u64::from(is_unmatched(&ack));
            }),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return Ok(()),
            Ok(_) => {}
            Err(ConnectionError::MqttState(StateError::OutgoingPacketTooLarge {
                pkt_size,
                max,
            })) => bail!(
                "message too large: its packet has {pkt_size} bytes, and {address} takes at most {max}"
            ),
            Err(error) => bail!(
                "{address} closed the connection before everything was confirmed ({error}): a broker \
                 does so with a message that it refuses; its log says why"
            ),
        }
    }
}

/// Whether the local run says that no rule takes the message; other brokers know subscribers only.
fn is_unmatched(ack: &PubAck) -> bool {
    let reason = ack.properties.as_ref();
    let reason = reason.and_then(|it| it.reason_string.as_deref());
    reason == Some(contract::topic::NO_RULE) || ack.reason == PubAckReason::NoMatchingSubscribers
}

fn unconnected(address: &Address, error: ConnectionError) -> anyhow::Error {
    match error {
        ConnectionError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => anyhow!(
            "nobody listens on {address}: start the pipeline with `cargo xtask local`, or name its \
             address by --local"
        ),
        ConnectionError::Timeout(_) => anyhow!(
            "{address} does not answer as an MQTT broker within {} s: is the address that of \
             `cargo xtask local`?",
            PATIENCE.as_secs()
        ),
        ConnectionError::ConnectionRefused(code) => {
            anyhow!("{address} refuses the connection: {code:?}")
        }
        ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => {
            anyhow!(error).context(format!("connect to {address}"))
        }
        error => anyhow!(
            "{address} does not speak MQTT ({error}): is the address that of `cargo xtask local`?"
        ),
    }
}

fn silent() -> anyhow::Error {
    anyhow!(
        "the broker has confirmed nothing for {} s: look at what `cargo xtask local` says",
        PATIENCE.as_secs()
    )
}
