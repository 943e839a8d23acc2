//! The least that can write a frame to many sockets: an epoll loop that copies what the dashboard
//! server sends to one client to all of its own, and knows nothing of their meaning.
//!
//! A client that cannot take a frame at once misses frames until it has taken the rest of that one.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::clients::handshake;

/// The answer to the clients' one and only key, see RFC 6455, section 1.3.
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const LISTENER: Token = Token(usize::MAX);
const SOURCE: Token = Token(usize::MAX - 1);

struct Client {
    stream: TcpStream,
    is_open: bool,
    /// Bytes of the last frame that have not gone out.
    rest: Vec<u8>,
}

pub(crate) fn run(address: SocketAddr, source: SocketAddr) -> anyhow::Result<()> {
    let source = handshake(std::net::TcpStream::connect(source)?, source)?;
    source.set_nonblocking(true)?;
    let mut source = TcpStream::from_std(source);
    let mut listener = TcpListener::bind(address)?;
    let mut poll = Poll::new()?;
    let registry = poll.registry().try_clone()?;
    registry.register(&mut source, SOURCE, Interest::READABLE)?;
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients: Vec<Client> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    let mut frames = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => {
                    while let Some((mut stream, _)) = ready(listener.accept())? {
                        let _ = stream.set_nodelay(true);
                        let both = Interest::READABLE | Interest::WRITABLE;
                        registry.register(&mut stream, Token(clients.len()), both)?;
                        clients.push(Client {
                            stream,
                            is_open: false,
                            rest: Vec::new(),
                        });
                    }
                }
                SOURCE => {
                    while let Some(length) = ready(source.read(&mut buffer))? {
                        anyhow::ensure!(length > 0, "the source ended");
                        frames.extend_from_slice(&buffer[..length]);
                    }
                    let whole = whole(&frames);
                    if whole > 0 {
                        for client in clients.iter_mut().filter(|client| client.is_open) {
                            client.send(&frames[..whole]);
                        }
                        frames.drain(..whole);
                    }
                }
                Token(index) => clients[index].handle(&mut buffer),
            }
        }
    }
}

fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes of the frames that are complete.
fn whole(bytes: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let rest = &bytes[end..];
        let length = match *rest {
            [_, 126, a, b, ..] => 4 + usize::from(u16::from_be_bytes([a, b])),
            [_, 127, a, b, c, d, e, f, g, h, ..] => {
                10 + u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize
            }
            [_, length @ 0..126, ..] => 2 + usize::from(length),
            _ => return end,
        };
        if rest.len() < length {
            return end;
        }
        end += length;
    }
}

impl Client {
    fn handle(&mut self, buffer: &mut [u8]) {
        while let Ok(Some(length)) = ready(self.stream.read(buffer)) {
            if length == 0 {
                self.is_open = false;
                return;
            }
            if !self.is_open {
                self.is_open = true;
                let _ = self.stream.write_all(ANSWER);
            }
        }
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.send(&rest);
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if !self.rest.is_empty() {
            return;
        }
        match ready(self.stream.write(bytes)) {
            Ok(written) => self.rest = bytes[written.unwrap_or(0)..].to_vec(),
            Err(_) => self.is_open = false,
        }
    }
}
