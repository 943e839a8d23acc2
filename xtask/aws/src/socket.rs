//! The dashboard's WebSocket, as a browser without a page sees it.

use std::time::Duration;

use anyhow::{Context, bail};
use contract::http;
use contract::message::{Frame, Message};
use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_tungstenite::tungstenite::Message as Sent;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Pause between two attempts: the name of a new balancer takes its time to be known everywhere.
const PAUSE: Duration = Duration::from_secs(1);

/// An open connection that has got its first frame.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    url: String,
}

/// The WebSocket's address of a dashboard.
pub(crate) fn url(dashboard: &str) -> anyhow::Result<String> {
    let (scheme, rest) = dashboard
        .split_once("://")
        .with_context(|| format!("the dashboard's address `{dashboard}` has no scheme"))?;
    let scheme = match scheme {
        "http" => "ws",
        "https" => "wss",
        other => bail!("the dashboard's address begins with `{other}`, expected http or https"),
    };
    let rest = rest.trim_end_matches('/');
    Ok(format!("{scheme}://{rest}{}", http::SOCKET))
}

impl Socket {
    /// Connects and waits for the first frame; tries again until the deadline, because an
    /// environment that is said to be ready may still answer 502, and its name may not be known yet.
    pub(crate) async fn open(dashboard: &str, deadline: Instant) -> anyhow::Result<Socket> {
        let url = url(dashboard)?;
        loop {
            let error = match timeout_at(deadline, Socket::attempt(&url)).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(error)) => error,
                Err(_) => bail!("{url} does not answer"),
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    async fn attempt(url: &str) -> anyhow::Result<Socket> {
        let (stream, _) = connect_async(url)
            .await
            .with_context(|| format!("connect to {url}"))?;
        let mut socket = Socket {
            stream,
            url: url.to_owned(),
        };
        // The first frame shows that the web UI has reached the cache.
        socket.frame().await?;
        Ok(socket)
    }

    /// The next message of a device; other devices' pass by.
    pub(crate) async fn message_of(&mut self, device: &str) -> anyhow::Result<Message> {
        loop {
            let frame = self.frame().await?;
            let of_device = frame.devices.into_iter().find(|it| it.device == device);
            if let Some(found) = of_device {
                return Ok(found.latest);
            }
        }
    }

    async fn frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            let message = self.stream.next().await;
            let message = message.with_context(|| format!("{} closed the connection", self.url))?;
            match message.with_context(|| format!("read from {}", self.url))? {
                Sent::Text(text) => {
                    return serde_json::from_str(text.as_str())
                        .with_context(|| format!("{} sent something that is no frame", self.url));
                }
                // Heartbeats; the library answers them.
                Sent::Ping(_) | Sent::Pong(_) => {}
                other => bail!("{} sent {other:?} instead of a frame", self.url),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_beside_the_page_and_as_safe() -> anyhow::Result<()> {
        assert_eq!(url("http://a.example")?, "ws://a.example/ws");
        assert_eq!(url("https://a.example:8443/")?, "wss://a.example:8443/ws");
        let error = url("ftp://a.example").err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("`ftp`")));
        Ok(())
    }
}
