//! What the dashboard says: by HTTP and over the WebSocket.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use contract::http;
use contract::message::{DeviceFrame, Encoding, Frame, Message};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::PATIENCE;

/// Gets a path; the answer's status and body.
///
/// # Errors
///
/// No answer in time, or none that is HTTP.
pub async fn get(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        // HTTP/1.0: the answer ends with the connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.context("no answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("expected HTTP")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.context("expected a status")?, body.to_owned()))
}

/// The full state.
///
/// # Errors
///
/// No answer, or none that is a full frame.
pub async fn state(address: &str) -> anyhow::Result<Frame> {
    let (status, body) = get(address, http::STATE).await?;
    ensure!(status == 200, "{} answers {status}: {body}", http::STATE);
    let frame: Frame = serde_json::from_str(&body).with_context(|| format!("read {body}"))?;
    ensure!(frame.full, "{} answers part of the state", http::STATE);
    Ok(frame)
}

/// A browser's view: the frames of one WebSocket put together.
#[derive(Debug)]
pub struct View {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The newest frame's count.
    pub count: u64,
    /// Number of the newest state.
    pub seq: u64,
    /// Latest message of all.
    pub latest: Option<Message>,
    /// Every device's newest state.
    pub devices: BTreeMap<String, DeviceFrame>,
}

impl View {
    /// Connects and takes the first frame, which must be a full one.
    ///
    /// # Errors
    ///
    /// No connection, or another first frame.
    pub async fn open(address: &str) -> anyhow::Result<View> {
        let url = format!("ws://{address}{}", http::SOCKET);
        let (socket, _) = timeout(PATIENCE, tokio_tungstenite::connect_async(&url))
            .await
            .with_context(|| format!("{url} does not answer"))?
            .with_context(|| format!("connect to {url}"))?;
        let mut view = View {
            socket,
            count: 0,
            seq: 0,
            latest: None,
            devices: BTreeMap::new(),
        };
        ensure!(view.next().await?, "the first frame is not a full one");
        Ok(view)
    }

    /// Waits until exactly `count` messages are counted.
    ///
    /// # Errors
    ///
    /// More are counted, or fewer after a long time.
    pub async fn wait_for_count(&mut self, count: u64) -> anyhow::Result<()> {
        let reached = async {
            while self.count < count {
                self.next().await?;
            }
            anyhow::Ok(())
        };
        let reached = timeout(PATIENCE, reached).await;
        reached.with_context(|| format!("{} of {count} are counted", self.count))??;
        ensure!(
            self.count == count,
            "{} are counted, expected {count}",
            self.count
        );
        Ok(())
    }

    /// Waits until the latest message of a device is this JSON.
    ///
    /// # Errors
    ///
    /// It does not come.
    pub async fn wait_for_payload(&mut self, device: &str, json: &str) -> anyhow::Result<()> {
        let there = |view: &View| {
            let device = view.devices.get(device);
            device.is_some_and(|it| it.latest.payload.get() == json)
        };
        let shown = async {
            while !there(self) {
                self.next().await?;
            }
            anyhow::Ok(())
        };
        let shown = timeout(PATIENCE, shown).await;
        shown.with_context(|| format!("{device} never shows {json}"))?
    }

    /// Takes the next frame; whether it was a full one.
    async fn next(&mut self) -> anyhow::Result<bool> {
        loop {
            let message = self
                .socket
                .next()
                .await
                .context("the WebSocket was closed")??;
            let tungstenite::Message::Text(text) = message else {
                continue;
            };
            let frame: Frame =
                serde_json::from_str(&text).with_context(|| format!("read {text}"))?;
            if frame.full {
                self.devices.clear();
            } else {
                ensure!(
                    frame.seq >= self.seq,
                    "state {} comes after {}",
                    frame.seq,
                    self.seq
                );
            }
            self.count = frame.count;
            self.seq = frame.seq;
            self.latest = frame.latest;
            for device in frame.removed {
                self.devices.remove(&device);
            }
            for device in frame.devices {
                self.devices.insert(device.device.clone(), device);
            }
            return Ok(frame.full);
        }
    }
}

/// The device's own bytes; JSON as it is written in the frame.
///
/// # Errors
///
/// The payload is not what its encoding says.
pub fn payload(message: &Message) -> anyhow::Result<Vec<u8>> {
    let text = || serde_json::from_str::<String>(message.payload.get());
    Ok(match message.encoding {
        Encoding::Json => message.payload.get().as_bytes().to_vec(),
        Encoding::Text => text()?.into_bytes(),
        Encoding::Base64 => BASE64_STANDARD.decode(text()?)?,
    })
}
