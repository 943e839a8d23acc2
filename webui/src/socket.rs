//! One browser.
//!
//! What an idle one costs is its TCP socket, this task and a version number: no buffer is kept.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use contract::timing::HEARTBEAT;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::hub::{Hub, Publication};
use crate::wire::{self, Incoming, close};

/// A browser that takes no byte for this long while some are waiting is dropped.
pub(crate) const STALLED: Duration = Duration::from_secs(20);

/// A browser that has not been heard of for this long, though pinged, is dropped.
const SILENT: Duration = Duration::from_secs(HEARTBEAT.as_secs() * 5 / 2);

/// Time for the other side to answer a close.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the kernel may hold for a browser. What is in there is not conflated any more: the less it
/// is, the newer is what a slow browser gets.
pub(crate) const SEND_BUFFER: usize = 128 * 1024;

/// Why a socket ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By the browser, or with its connection.
    Left,
    /// It did what must not be done.
    Misbehaved,
    /// See [`STALLED`].
    Stalled,
    /// See [`SILENT`].
    Silent,
    /// The server shuts down.
    ShutDown,
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Left
    }
}

/// An upgraded connection.
pub(crate) struct Socket {
    stream: TcpStream,
    /// The beginning of a frame; empty nearly always.
    incoming: Vec<u8>,
}

impl Socket {
    /// `read` came in together with the handshake.
    pub(crate) fn new(stream: TcpStream, read: &[u8]) -> Self {
        let options = socket2::SockRef::from(&stream);
        // Both are improvements, not conditions.
        let _ = options.set_tcp_nodelay(true);
        let _ = options.set_send_buffer_size(SEND_BUFFER);
        Self {
            stream,
            incoming: read.to_vec(),
        }
    }

    /// Keeps the browser up to date until it leaves or `shutdown`.
    pub(crate) async fn serve(mut self, hub: Arc<Hub>, shutdown: CancellationToken) -> Ended {
        let ended = match self.follow(&hub, &shutdown).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        };
        if matches!(ended, Ended::ShutDown) {
            let goodbye = timeout(GOODBYE, self.say_goodbye());
            let _ = goodbye.await;
        }
        ended
    }

    async fn follow(
        &mut self,
        hub: &Hub,
        shutdown: &CancellationToken,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut newest = hub.subscribe();
        let (mut seen, frame) = hub.full();
        self.send_unless(frame, shutdown).await?;
        hub.metrics.frames.increment();
        let mut heard = Instant::now();
        let mut ping = heard + HEARTBEAT;
        self.handle_incoming(shutdown).await?;
        loop {
            if let Some((version, frame)) = next(hub, &mut newest, seen) {
                hub.metrics.frames.increment();
                hub.metrics.merged.add(version - seen - 1);
                seen = version;
                self.send_unless(frame, shutdown).await?;
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(Ended::ShutDown),
                readable = self.stream.readable() => {
                    readable?;
                    if self.read()? {
                        heard = Instant::now();
                        self.handle_incoming(shutdown).await?;
                    }
                }
                changed = newest.changed() => changed.map_err(|_| Ended::ShutDown)?,
                () = sleep_until(ping) => {
                    if heard.elapsed() > SILENT {
                        return Err(Ended::Silent);
                    }
                    ping = Instant::now() + HEARTBEAT;
                    self.send_unless(wire::ping(), shutdown).await?;
                    // A page cannot see pings, but it must notice a dead connection too.
                    let (version, frame) = hub.merged(seen);
                    seen = version;
                    self.send_unless(frame, shutdown).await?;
                }
            }
        }
    }

    /// Whether something came; the end of the stream is an end.
    fn read(&mut self) -> Result<bool, Ended> {
        let mut bytes = [0; 512];
        match self.stream.try_read(&mut bytes) {
            Ok(0) => Err(Ended::Left),
            Ok(length) => {
                self.incoming.extend_from_slice(&bytes[..length]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn handle_incoming(&mut self, shutdown: &CancellationToken) -> Result<(), Ended> {
        loop {
            match wire::take(&mut self.incoming) {
                Ok(None) => break,
                Ok(Some(Incoming::Nothing)) => {}
                Ok(Some(Incoming::Ping(payload))) => {
                    self.send_unless(wire::pong(&payload), shutdown).await?;
                }
                Ok(Some(Incoming::Close(code))) => {
                    self.send(wire::close(code.unwrap_or(close::NORMAL)))
                        .await?;
                    return Err(Ended::Left);
                }
                Err(code) => {
                    self.send(wire::close(code)).await?;
                    let _ = timeout(GOODBYE, self.drain()).await;
                    return Err(Ended::Misbehaved);
                }
            }
        }
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        Ok(())
    }

    async fn send_unless(
        &mut self,
        frame: Bytes,
        shutdown: &CancellationToken,
    ) -> Result<(), Ended> {
        // Nearly always the kernel takes it at once.
        let mut rest = frame;
        if self.try_send(&mut rest)? {
            return Ok(());
        }
        tokio::select! {
            sent = self.send(rest) => sent,
            // Half a frame is out: nothing can be said any more.
            () = shutdown.cancelled() => Err(Ended::Left),
        }
    }

    async fn send(&mut self, mut frame: Bytes) -> Result<(), Ended> {
        while !self.try_send(&mut frame)? {
            timeout(STALLED, self.stream.writable())
                .await
                .map_err(|_| Ended::Stalled)??;
        }
        Ok(())
    }

    /// Whether all of it went out.
    fn try_send(&mut self, frame: &mut Bytes) -> Result<bool, Ended> {
        while !frame.is_empty() {
            match self.stream.try_write(frame) {
                Ok(written) => frame.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    async fn say_goodbye(&mut self) -> Result<(), Ended> {
        self.send(wire::close(close::GOING_AWAY)).await?;
        self.drain().await
    }

    /// Reads until the other side closes: closing with something unread would reset the connection
    /// and could take the close frame with it.
    async fn drain(&mut self) -> Result<(), Ended> {
        loop {
            self.stream.readable().await?;
            self.read()?;
            self.incoming.clear();
        }
    }
}

/// What somebody who has seen a version is to get next, with the version that it leads to.
fn next(hub: &Hub, newest: &mut watch::Receiver<Publication>, seen: u64) -> Option<(u64, Bytes)> {
    let publication = newest.borrow_and_update();
    if publication.version <= seen {
        return None;
    }
    if publication.base.is_none_or(|base| base == seen) {
        return Some((publication.version, publication.frame.clone()));
    }
    drop(publication);
    Some(hub.merged(seen))
}
