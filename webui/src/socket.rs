//! The WebSocket of one browser.
//!
//! An idle one costs a TCP socket, a small task and a version number, but no buffer.
//! The tasks of [`audience`] write frames; the browser's own task reads, and writes only the rest that the
//! kernel did not accept at once.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use contract::timing::HEARTBEAT;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::audience;
use crate::hub::{Hub, Publication};
use crate::websocket::{self, Incoming, close};

/// Time after which a browser that accepts no bytes is dropped.
pub(crate) const STALLED: Duration = Duration::from_secs(20);

/// Time after which a browser that does not answer pings is dropped.
const SILENT: Duration = Duration::from_secs(HEARTBEAT.as_secs() * 5 / 2);

/// Time for the browser to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The kernel's send buffer per browser, in bytes. Frames in it cannot be merged any more, so a small one
/// gives slow browsers newer frames.
pub(crate) const SEND_BUFFER: usize = 128 * 1024;

/// Why a socket ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// The browser closed it, or the connection failed.
    Left,
    /// The browser violated the protocol.
    Violation,
    /// See [`STALLED`].
    Stalled,
    /// See [`SILENT`].
    Silent,
    /// The server is shutting down.
    ShutDown,
}

/// Reason of an end, and the close code to send before it, if any.
type Leave = (Ended, Option<u16>);

/// An upgraded connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The newest version sent, or being sent.
    seen: u64,
    /// Bytes that the kernel has not accepted. Until it has, nothing else is sent or read.
    rest: Bytes,
    /// Time of the last write that the kernel accepted.
    taken: Instant,
    /// Time of the last received bytes.
    heard: Instant,
    pinged: Instant,
    /// Start of an incomplete frame; usually empty.
    incoming: Vec<u8>,
    leave: Option<Leave>,
    /// Wakes the browser's task.
    waker: Option<Waker>,
}

impl State {
    /// Ends the task.
    fn leave(&mut self, ended: Ended, code: Option<u16>) {
        self.leave.get_or_insert((ended, code));
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Socket {
    /// `read` are the bytes received together with the handshake.
    pub(crate) fn new(stream: TcpStream, read: &[u8]) -> Arc<Self> {
        let options = socket2::SockRef::from(&stream);
        // Works without either option.
        let _ = options.set_tcp_nodelay(true);
        let _ = options.set_send_buffer_size(SEND_BUFFER);
        let now = Instant::now();
        Arc::new(Self {
            stream,
            state: Mutex::new(State {
                seen: 0,
                rest: Bytes::new(),
                taken: now,
                heard: now,
                pinged: now,
                incoming: read.to_vec(),
                leave: None,
                waker: None,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends updates until the browser leaves or is dismissed.
    pub(crate) async fn serve(self: Arc<Self>, hub: Arc<Hub>) -> Ended {
        {
            let (version, frame) = hub.full();
            hub.metrics.frames.increment();
            let mut state = self.state();
            state.seen = version;
            self.send(&mut state, &frame);
            self.take_incoming(&mut state);
        }
        let membership = audience::join(&hub, &self);
        // Sends what was published before it joined.
        self.catch_up(&hub);
        let (ended, code) = poll_fn(|cx| self.poll(&hub, cx)).await;
        drop(membership);
        if let Some(code) = code {
            // Boxed because it is rare: the task stays small.
            let closing = async {
                self.send_close(code).await?;
                match ended {
                    // The browser closed and waits only for the end.
                    Ended::Left => Ok(()),
                    _ => self.drain().await,
                }
            };
            let _ = Box::pin(timeout(CLOSE_TIMEOUT, closing)).await;
        }
        ended
    }

    /// Sends a publication, unless the browser has it or is still receiving another. Returns the number of
    /// publications merged in the frame, if one was sent.
    ///
    /// Writes nothing that other cores write, not even a counter, so that they do not wait for each other.
    pub(crate) fn offer(&self, hub: &Hub, publication: &Publication) -> Option<u64> {
        let mut state = self.state();
        let seen = state.seen;
        if !state.rest.is_empty() || state.leave.is_some() || publication.version <= seen {
            return None;
        }
        let merged;
        let (version, frame) = if publication.base.is_none_or(|base| base == seen) {
            (publication.version, &publication.frame)
        } else {
            merged = hub.merged(seen);
            (merged.0, &merged.1)
        };
        state.seen = version;
        self.send(&mut state, frame);
        Some(version - seen)
    }

    /// Sends the newest publication.
    fn catch_up(&self, hub: &Hub) {
        if let Some(publications) = self.offer(hub, &hub.newest()) {
            hub.metrics.frames.increment();
            hub.metrics.merged.add(publications - 1);
        }
    }

    /// Sends a ping if one is due, and drops the browser after a timeout.
    pub(crate) fn tick(&self, hub: &Hub, now: Instant) {
        let mut state = self.state();
        if !state.rest.is_empty() {
            if now.duration_since(state.taken) > STALLED {
                state.leave(Ended::Stalled, None);
            }
        } else if now.duration_since(state.pinged) >= HEARTBEAT && state.leave.is_none() {
            if now.duration_since(state.heard) > SILENT {
                return state.leave(Ended::Silent, None);
            }
            state.pinged = now;
            // A page cannot see pings, and needs a frame to detect a dead connection.
            self.send(&mut state, &websocket::ping());
            if state.rest.is_empty() {
                let (version, frame) = hub.merged(state.seen);
                state.seen = version;
                self.send(&mut state, &frame);
            }
        }
    }

    /// Closes the socket with code 1001, going away.
    pub(crate) fn dismiss(&self) {
        let mut state = self.state();
        // A close frame cannot be sent in the middle of another frame.
        let code = state.rest.is_empty().then_some(close::GOING_AWAY);
        state.leave(Ended::ShutDown, code);
    }

    /// Polls for the browser's task.
    fn poll(&self, hub: &Hub, cx: &mut Context<'_>) -> Poll<Leave> {
        loop {
            let mut state = self.state();
            if let Some(leave) = state.leave {
                return Poll::Ready(leave);
            }
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            if !state.rest.is_empty() {
                if let Err(error) = ready!(self.stream.poll_write_ready(cx)) {
                    return Poll::Ready(left(error));
                }
                self.flush(&mut state);
                drop(state);
                self.catch_up(hub);
                continue;
            }
            if let Err(error) = ready!(self.stream.poll_read_ready(cx)) {
                return Poll::Ready(left(error));
            }
            let mut bytes = [0; 512];
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return Poll::Ready((Ended::Left, None)),
                Ok(length) => {
                    state.heard = Instant::now();
                    state.incoming.extend_from_slice(&bytes[..length]);
                    self.take_incoming(&mut state);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(left(error)),
            }
        }
    }

    fn take_incoming(&self, state: &mut State) {
        loop {
            match websocket::take(&mut state.incoming) {
                Ok(None) => break,
                Ok(Some(Incoming::Nothing)) => {}
                Ok(Some(Incoming::Ping(payload))) => {
                    self.send_after(state, &websocket::pong(&payload))
                }
                Ok(Some(Incoming::Close(code))) => {
                    return state.leave(Ended::Left, Some(code.unwrap_or(close::NORMAL)));
                }
                Err(code) => return state.leave(Ended::Violation, Some(code)),
            }
        }
        if state.incoming.is_empty() {
            state.incoming = Vec::new();
        }
    }

    /// Sends a control frame after the rest.
    fn send_after(&self, state: &mut State, frame: &Bytes) {
        if state.rest.is_empty() {
            self.send(state, frame);
        } else {
            // Bounded: nothing more is read until the rest is written.
            state.rest = [&state.rest[..], frame].concat().into();
        }
    }

    /// Writes what the kernel accepts, and leaves the rest to the task.
    fn send(&self, state: &mut State, frame: &Bytes) {
        let written = self.write(state, frame);
        if written < frame.len() {
            state.taken = Instant::now();
            state.rest = frame.slice(written..);
            state.wake();
        }
    }

    /// Writes more of the rest.
    fn flush(&self, state: &mut State) {
        let mut rest = std::mem::take(&mut state.rest);
        let written = self.write(state, &rest);
        if written > 0 {
            state.taken = Instant::now();
        }
        rest.advance(written);
        state.rest = rest;
    }

    /// Writes without blocking. Returns the bytes that the kernel accepted; on a broken connection it returns
    /// all, and the task ends.
    fn write(&self, state: &mut State, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.try_write(&bytes[written..]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    state.leave(Ended::Left, None);
                    return bytes.len();
                }
            }
        }
        written
    }

    /// Sends the rest and a close frame.
    async fn send_close(&self, code: u16) -> io::Result<()> {
        let rest = std::mem::take(&mut self.state().rest);
        for mut bytes in [rest, websocket::close(code)] {
            while !bytes.is_empty() {
                self.stream.writable().await?;
                match self.stream.try_write(&bytes) {
                    Ok(written) => bytes.advance(written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Reads until the browser closes: closing a connection with unread bytes resets it, and the close frame
    /// could be lost.
    async fn drain(&self) -> io::Result<()> {
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut [0; 512]) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }
}

fn left(_: io::Error) -> Leave {
    (Ended::Left, None)
}
