//! One MQTT connection that publishes at QoS 1. The only module that knows the client library.

use std::io;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, StateError,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::address::Address;

/// How long the broker may say nothing: on connect, and with messages unconfirmed.
const PATIENCE: Duration = Duration::from_secs(10);

/// AWS IoT Core refuses payloads above 128 KB; how ours is refused is for the broker to say.
const MAX_PACKET_BYTES: usize = 8 * 1024 * 1024;

/// Unconfirmed messages that AWS IoT Core allows on one connection.
const IN_FLIGHT: u16 = 100;

/// A live connection. Its packets move in a task of their own.
pub(crate) struct Connection {
    client: AsyncClient,
    confirmed: watch::Receiver<u64>,
    /// Ends with why the connection ended; `Ok` after [`Connection::close`].
    driver: JoinHandle<anyhow::Result<()>>,
}

impl Connection {
    /// Connects and waits until the broker has agreed.
    pub(crate) async fn open(address: &Address) -> anyhow::Result<Connection> {
        let id = format!("xtask-{}", std::process::id());
        let mut options = MqttOptions::new(id, &address.host, address.port);
        options
            .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES)
            .set_inflight(IN_FLIGHT);
        let (client, mut event_loop) = AsyncClient::new(options, IN_FLIGHT.into());
        event_loop.network_options.set_tcp_nodelay(true);
        timeout(PATIENCE, agree(&mut event_loop))
            .await
            .unwrap_or(Err(ConnectionError::NetworkTimeout))
            .map_err(|error| unconnected(address, error))?;
        let (count, confirmed) = watch::channel(0);
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
            Ok(Err(rumqttc::ClientError::TryRequest(_) | rumqttc::ClientError::Request(_)))
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
        *self.confirmed.borrow()
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
    confirmed: watch::Sender<u64>,
    address: Address,
) -> anyhow::Result<()> {
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => confirmed.send_modify(|count| *count += 1),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return Ok(()),
            Ok(_) => {}
            Err(error) => bail!(
                "{address} closed the connection before everything was confirmed ({error}): a broker \
                 does so with a message that it refuses; its log says why"
            ),
        }
    }
}

fn unconnected(address: &Address, error: ConnectionError) -> anyhow::Error {
    match error {
        ConnectionError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => anyhow!(
            "nobody listens on {address}: start the pipeline with `cargo xtask local`, or name its \
             address by --local"
        ),
        ConnectionError::NetworkTimeout => anyhow!(
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
