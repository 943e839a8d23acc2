//! IoT Core's message broker: MQTT 3.1.1 and MQTT 5 on one port, QoS 0 and 1.
//!
//! The first packet says which version a client speaks. A PUBLISH of QoS 1 is acknowledged after the
//! rules have accepted the message, so whoever publishes faster than the rules can take is held
//! back by its own connection; messages of one connection keep their order into the stream.
//! What AWS ends a connection for ends it here: QoS 2, a payload above 128 KB, a topic above
//! 256 bytes or seven slashes, a topic that begins with `$` (Basic Ingest excepted), more than eight
//! filters in a SUBSCRIBE. (AWS IoT Core Developer Guide, "MQTT"; AWS General Reference, "AWS IoT
//! Core endpoints and quotas".)
//!
//! # Differs from AWS
//! - Without TLS everybody may do everything. With TLS ([`serve_tls`]) a device signs in with its
//!   certificate, and the template's IoT policies say what it may do; all of them are attached to every
//!   certificate.
//! - A session ends with its connection: a client that asks for a persistent one is told that there
//!   is none, and gets no messages for the time when it was away.
//! - Retained messages are forgotten when the run ends.
//! - No shared subscriptions, no device shadows, no jobs, no lifecycle events.
//! - A message that no enabled rule takes is confirmed to MQTT 5 clients with a Reason String that says
//!   so ([`contract::topic::NO_RULE`]), unless they want none (Request Problem Information 0).
//! - A subscriber that reads too slowly loses messages after 1,024 waiting ones; they are counted.
//! - Connections are not limited to 100 publishes a second, and client IDs to one CONNECT a second.
//! - `#` does not match the parent level, as AWS documents it and MQTT does not.

mod broker;
mod codec;
mod connection;
pub mod device;
mod topic;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use broker::Broker;
use device::Devices;

/// Bytes of a payload at most.
pub const MAX_PAYLOAD_BYTES: usize = 128 * 1024;
/// Topic filters in one SUBSCRIBE at most.
pub const MAX_FILTERS: usize = 8;
/// Subscriptions of one connection at most.
pub const MAX_SUBSCRIPTIONS: usize = 50;
/// Unacknowledged messages of QoS 1 in either direction at most.
pub const RECEIVE_MAXIMUM: u16 = 100;
/// Topic aliases that a client may use at most.
pub const TOPIC_ALIAS_MAXIMUM: u16 = 8;

/// Serves clients without TLS until `stopping` is cancelled. Returns when every connection has finished
/// the message that it was at.
pub async fn serve(listener: TcpListener, broker: Arc<Broker>, stopping: CancellationToken) {
    let stop = stopping.clone();
    let connection =
        |socket, peer| connection::run(socket, peer, Arc::clone(&broker), stop.clone());
    accept(listener, stopping, connection).await;
}

/// Serves devices with certificates until `stopping` is cancelled, as [`serve`] does.
pub async fn serve_tls(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    devices: Arc<Devices>,
    broker: Arc<Broker>,
    stopping: CancellationToken,
) {
    let stop = stopping.clone();
    let connection = |socket, peer| {
        let (acceptor, devices) = (acceptor.clone(), Arc::clone(&devices));
        connection::run_tls(
            socket,
            peer,
            acceptor,
            devices,
            Arc::clone(&broker),
            stop.clone(),
        )
    };
    accept(listener, stopping, connection).await;
}

async fn accept<F>(
    listener: TcpListener,
    stopping: CancellationToken,
    connection: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                connections.spawn(connection(socket, peer));
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                // Out of file descriptors: give connections time to end.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}
