//! Many WebSocket clients on one thread, each no more than a TCP socket and a few numbers.
//!
//! Of a frame only the sequence number at its beginning is looked at; the rest is counted and dropped.
//! So thousands of clients leave most of a small machine to the server.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::histogram::Histogram;

/// The example of RFC 6455, section 1.3. Nobody here checks the answer to it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Every message of every server in the bench begins so; the number follows.
pub(crate) const PREFIX: &str = r#"{"epoch":"bench","seq":"#;

/// Bytes of a payload that are looked at: the prefix and the longest number.
const LOOK: usize = PREFIX.len() + 20;

const WAKER: Token = Token(usize::MAX);

/// Remembers when every update was published, in nanoseconds since the bench began.
#[derive(Debug)]
pub(crate) struct Times {
    began: Instant,
    /// A ring; far more updates than are ever on their way.
    published: Vec<AtomicU64>,
}

impl Times {
    pub(crate) fn new() -> Arc<Self> {
        let published = (0..1 << 18).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self {
            began: Instant::now(),
            published,
        })
    }

    fn slot(&self, seq: u64) -> &AtomicU64 {
        &self.published[seq as usize % self.published.len()]
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Notes that an update is published now.
    pub(crate) fn publish(&self, seq: u64) {
        self.slot(seq).store(self.now(), Relaxed);
    }

    fn since(&self, seq: u64, now: u64) -> u64 {
        now.saturating_sub(self.slot(seq).load(Relaxed))
    }
}

/// What a measurement found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// For every frame at every client: how long ago the newest update in it was published.
    pub(crate) state: Histogram,
    /// For every update at every client: how long after its publication a frame held it, or a newer
    /// one in its stead.
    pub(crate) update: Histogram,
    /// Frames with data.
    pub(crate) frames: u64,
    /// Bytes of them, headers included.
    pub(crate) bytes: u64,
    /// Clients that hold the last update.
    pub(crate) reached: usize,
    /// From the last update's publication to its arrival at the last of these clients.
    pub(crate) settled: Duration,
}

enum Order {
    /// Begin a new tally: updates after the first number, up to the second.
    Measure(u64, u64),
    /// Give the tally so far.
    Tell(mpsc::Sender<Tally>),
    End,
}

/// The clients.
pub(crate) struct Crowd {
    waker: Arc<Waker>,
    orders: mpsc::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Connects them all.
    pub(crate) fn connect(
        address: SocketAddr,
        number: usize,
        times: &Arc<Times>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut clients = Vec::with_capacity(number);
        for index in 0..number {
            let stream = handshake(StdStream::connect(address)?, address)?;
            let mut client = Client::new(stream)?;
            let token = Token(index);
            poll.registry()
                .register(&mut client.stream, token, Interest::READABLE)?;
            clients.push(client);
        }
        let (orders, received) = mpsc::channel();
        let times = Arc::clone(times);
        let thread = std::thread::spawn(move || {
            if let Err(error) = run(poll, clients, &received, &times) {
                eprintln!("the clients ended: {error}");
            }
        });
        Ok(Self {
            waker,
            orders,
            thread: Some(thread),
        })
    }

    fn order(&self, order: Order) {
        // Whoever ended early has said why.
        let _ = self.orders.send(order);
        let _ = self.waker.wake();
    }

    /// Counts from here on, for updates after `after` up to `last`.
    pub(crate) fn measure(&self, after: u64, last: u64) {
        self.order(Order::Measure(after, last));
    }

    /// What was counted so far.
    pub(crate) fn tally(&self) -> Option<Tally> {
        let (sender, receiver) = mpsc::channel();
        self.order(Order::Tell(sender));
        receiver.recv().ok()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.order(Order::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks for the upgrade and reads the answer's head, and nothing after it.
pub(crate) fn handshake(mut stream: StdStream, address: SocketAddr) -> io::Result<StdStream> {
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::with_capacity(1024);
    let mut seen = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let length = stream.peek(&mut seen)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Up to the end of the head, if it is there; else all, the end may be split.
        let before = head.len();
        head.extend_from_slice(&seen[..length]);
        let end = head.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        head.truncate(end.map_or(head.len(), |end| end + 4));
        stream.read_exact(&mut seen[..head.len() - before])?;
    }
    if head.starts_with(b"HTTP/1.1 101 ") {
        Ok(stream)
    } else {
        let status = String::from_utf8_lossy(&head);
        let status = status.lines().next().unwrap_or_default().to_owned();
        Err(io::Error::other(format!(
            "the server answered {status:?}, expected 101"
        )))
    }
}

fn run(
    mut poll: Poll,
    mut clients: Vec<Client>,
    orders: &mpsc::Receiver<Order>,
    times: &Times,
) -> io::Result<()> {
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 256 * 1024];
    let mut tally = Tally::default();
    let (mut after, mut last) = (u64::MAX, u64::MAX);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            let Some(client) = clients.get_mut(event.token().0) else {
                while let Ok(order) = orders.try_recv() {
                    match order {
                        Order::Measure(from, to) => {
                            (after, last) = (from, to);
                            tally = Tally::default();
                        }
                        Order::Tell(sender) => {
                            let _ = sender.send(tally.clone());
                        }
                        Order::End => return Ok(()),
                    }
                }
                continue;
            };
            client.read(&mut buffer, |seen, seq, bytes| {
                let now = times.now();
                tally.frames += 1;
                tally.bytes += bytes;
                if seq > after && after != u64::MAX {
                    tally.state.add(times.since(seq, now));
                    for update in seen.max(after) + 1..=seq {
                        tally.update.add(times.since(update, now));
                    }
                    if seen < last && seq >= last {
                        tally.reached += 1;
                        let settled = Duration::from_nanos(times.since(last, now));
                        tally.settled = tally.settled.max(settled);
                    }
                }
            })?;
        }
    }
}

struct Client {
    stream: TcpStream,
    /// The newest update that it holds.
    seen: u64,
    frame: FrameReader,
}

impl Client {
    fn new(stream: StdStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            seen: 0,
            frame: FrameReader::default(),
        })
    }

    /// Reads what is there; `got` takes what was seen before, a frame's number, and its bytes.
    fn read(&mut self, buffer: &mut [u8], mut got: impl FnMut(u64, u64, u64)) -> io::Result<()> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut pinged = false;
            let seen = &mut self.seen;
            self.frame.take(&buffer[..length], |frame| match frame {
                Frame::Ping => pinged = true,
                Frame::Data { seq, bytes } => {
                    if let Some(seq) = seq.filter(|seq| *seq > *seen) {
                        got(*seen, seq, bytes);
                        *seen = seq;
                    }
                }
            });
            if pinged {
                // A pong, masked with nothing.
                self.stream.write_all(&[0x8A, 0x80, 0, 0, 0, 0])?;
            }
            // With an edge-triggered poll a short read is the end of what was there.
            if length < buffer.len() {
                return Ok(());
            }
        }
    }
}

enum Frame {
    Ping,
    Data { seq: Option<u64>, bytes: u64 },
}

/// Finds frames in a stream of bytes.
struct FrameReader {
    /// Beginning of the frame: its header and what of the payload is looked at.
    head: [u8; 10 + LOOK],
    length: usize,
    /// Bytes of the frame that are still to come, and the frame.
    rest: u64,
    frame: Option<Frame>,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self {
            head: [0; 10 + LOOK],
            length: 0,
            rest: 0,
            frame: None,
        }
    }
}

impl FrameReader {
    fn take(&mut self, mut bytes: &[u8], mut whole: impl FnMut(Frame)) {
        loop {
            if self.frame.is_none() {
                let (header, payload) = self.expected();
                let wanted = header + (payload as usize).min(LOOK);
                let taken = (wanted - self.length).min(bytes.len());
                self.head[self.length..self.length + taken].copy_from_slice(&bytes[..taken]);
                self.length += taken;
                bytes = &bytes[taken..];
                if self.length < wanted {
                    return;
                }
                // The header may have told that it is longer.
                if self.expected() != (header, payload) {
                    continue;
                }
                let look = &self.head[header..wanted];
                self.rest = payload - look.len() as u64;
                self.frame = Some(match self.head[0] & 0x0F {
                    0x9 => Frame::Ping,
                    _ => Frame::Data {
                        seq: sequence(look),
                        bytes: payload + header as u64,
                    },
                });
            }
            let skipped = self.rest.min(bytes.len() as u64);
            self.rest -= skipped;
            bytes = &bytes[skipped as usize..];
            if self.rest > 0 {
                return;
            }
            self.length = 0;
            if let Some(frame) = self.frame.take() {
                whole(frame);
            }
        }
    }

    /// Bytes of the header and of the payload, as far as can be told; at least the former grows.
    fn expected(&self) -> (usize, u64) {
        if self.length < 2 {
            return (2, 0);
        }
        match self.head[1] & 0x7F {
            126 if self.length < 4 => (4, 0),
            127 if self.length < 10 => (10, 0),
            126 => (4, u16::from_be_bytes([self.head[2], self.head[3]]).into()),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.head[2..10]);
                (10, u64::from_be_bytes(length))
            }
            length => (2, length.into()),
        }
    }
}

fn sequence(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(PREFIX.as_bytes())?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}
