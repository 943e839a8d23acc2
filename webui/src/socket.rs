//! One browser.
//!
//! What an idle one costs is its TCP socket, a small task and a version number: no buffer is kept.
//! Frames are written by whoever goes through the [`audience`]; the browser's own task
//! reads, and writes only what the kernel did not take at once.

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
#[derive(Clone, Copy, Debug)]
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

/// An end, and the close code that is to be said before it, if the other side still listens.
type Leave = (Ended, Option<u16>);

/// An upgraded connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The newest version that went out, or is going out.
    seen: u64,
    /// What the kernel has not taken yet. Until it has, nothing else is sent, and nothing is read.
    rest: Bytes,
    /// When the kernel last took something.
    taken: Instant,
    /// When the browser was last heard of.
    heard: Instant,
    pinged: Instant,
    /// The beginning of a frame; empty nearly always.
    incoming: Vec<u8>,
    leave: Option<Leave>,
    /// Its task.
    waker: Option<Waker>,
}

impl State {
    /// Makes the task end.
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
    /// `read` came in together with the handshake.
    pub(crate) fn new(stream: TcpStream, read: &[u8]) -> Arc<Self> {
        let options = socket2::SockRef::from(&stream);
        // Both are improvements, not conditions.
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

    /// Keeps the browser up to date until it leaves or is dismissed.
    pub(crate) async fn serve(self: Arc<Self>, hub: Arc<Hub>) -> Ended {
        {
            let (version, frame) = hub.full();
            hub.metrics.frames.increment();
            let mut state = self.state();
            state.seen = version;
            self.send(&mut state, &frame);
            self.take_incoming(&mut state);
        }
        let seat = audience::seat(&hub, &self);
        // What was published before it sat down.
        self.catch_up(&hub);
        let (ended, code) = poll_fn(|cx| self.poll(&hub, cx)).await;
        drop(seat);
        if let Some(code) = code {
            // Rare, and its room is needed only then.
            let goodbye = async {
                self.say(code).await?;
                match ended {
                    // It has said so itself and waits for nothing but the end.
                    Ended::Left => Ok(()),
                    _ => self.drain().await,
                }
            };
            let _ = Box::pin(timeout(GOODBYE, goodbye)).await;
        }
        ended
    }

    /// Sends a publication, unless the browser has it or is still busy with another.
    ///
    /// Nothing that others touch at the same time is written here, not even a counter: cores would wait
    /// for each other. Answers how many publications the frame stands for, if one was sent.
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

    /// Sends what is newest.
    fn catch_up(&self, hub: &Hub) {
        if let Some(publications) = self.offer(hub, &hub.newest()) {
            hub.metrics.frames.increment();
            hub.metrics.merged.add(publications - 1);
        }
    }

    /// Looks whether it is time for something.
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
            // A page cannot see pings, but it must notice a dead connection too: it gets a frame.
            self.send(&mut state, &wire::ping());
            if state.rest.is_empty() {
                let (version, frame) = hub.merged(state.seen);
                state.seen = version;
                self.send(&mut state, &frame);
            }
        }
    }

    /// Tells the browser to go elsewhere.
    pub(crate) fn dismiss(&self) {
        let mut state = self.state();
        // Within a frame nothing else can be said.
        let code = state.rest.is_empty().then_some(close::GOING_AWAY);
        state.leave(Ended::ShutDown, code);
    }

    /// The task's side.
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
            match wire::take(&mut state.incoming) {
                Ok(None) => break,
                Ok(Some(Incoming::Nothing)) => {}
                Ok(Some(Incoming::Ping(payload))) => self.send_after(state, &wire::pong(&payload)),
                Ok(Some(Incoming::Close(code))) => {
                    return state.leave(Ended::Left, Some(code.unwrap_or(close::NORMAL)));
                }
                Err(code) => return state.leave(Ended::Misbehaved, Some(code)),
            }
        }
        if state.incoming.is_empty() {
            state.incoming = Vec::new();
        }
    }

    /// Sends a control frame, behind what is on its way.
    fn send_after(&self, state: &mut State, frame: &Bytes) {
        if state.rest.is_empty() {
            self.send(state, frame);
        } else {
            // Incoming bytes are bounded by one read until the rest is out, and so is this.
            state.rest = [&state.rest[..], frame].concat().into();
        }
    }

    /// Sends what the kernel takes, and leaves the rest to the task.
    fn send(&self, state: &mut State, frame: &Bytes) {
        let written = self.write(state, frame);
        if written < frame.len() {
            state.taken = Instant::now();
            state.rest = frame.slice(written..);
            state.wake();
        }
    }

    /// Sends more of what is left.
    fn flush(&self, state: &mut State) {
        let mut rest = std::mem::take(&mut state.rest);
        let written = self.write(state, &rest);
        if written > 0 {
            state.taken = Instant::now();
        }
        rest.advance(written);
        state.rest = rest;
    }

    /// How much the kernel takes at once. A connection that broke takes all, and its task ends.
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

    /// Sends what is left and a close frame.
    async fn say(&self, code: u16) -> io::Result<()> {
        let rest = std::mem::take(&mut self.state().rest);
        for mut bytes in [rest, wire::close(code)] {
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

    /// Reads until the other side closes: closing with something unread would reset the connection
    /// and could take the close frame with it.
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
