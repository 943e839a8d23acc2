//! What one writes first: every message of the channel to every client, with axum's own WebSocket
//! and a broadcast channel between.
//!
//! It is a kind version: small writes are not held back, and the channel holds so much that no client
//! loses a message by being late.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use axum::serve::ListenerExt;
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, error::RecvError};

/// Messages that a client may be late.
const CAPACITY: usize = 1 << 16;

#[tokio::main]
pub(crate) async fn run(address: SocketAddr, redis: &str) -> anyhow::Result<()> {
    let mut channel = redis::Client::open(redis)?.get_async_pubsub().await?;
    channel.subscribe(contract::redis::CHANNEL).await?;
    let (sender, _) = broadcast::channel::<Utf8Bytes>(CAPACITY);
    let messages = sender.clone();
    tokio::spawn(async move {
        let mut channel = channel.into_on_message();
        while let Some(message) = channel.next().await {
            let text = String::from_utf8_lossy(message.get_payload_bytes());
            // An error says that there are no clients.
            let _ = messages.send(text.as_ref().into());
        }
    });
    let socket = get(async move |upgrade: WebSocketUpgrade| {
        let messages = sender.subscribe();
        upgrade.on_upgrade(|socket| serve(socket, messages))
    });
    let listener = TcpListener::bind(address).await.context("listen")?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, Router::new().route("/ws", socket)).await?;
    Ok(())
}

async fn serve(mut socket: WebSocket, mut messages: broadcast::Receiver<Utf8Bytes>) {
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Ok(text) => {
                    if socket.send(Message::Text(text)).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            incoming = socket.recv() => {
                if !matches!(incoming, Some(Ok(_))) {
                    return;
                }
            }
        }
    }
}
