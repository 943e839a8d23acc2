//! The server's side of the WebSocket protocol, RFC 6455 without extensions: handshake, frames, masks and
//! close codes. Only this module knows them.
//!
//! Why not a library: a frame to ten thousand browsers is the same bytes for each of them. A library
//! copies it into a buffer per connection, which then stays as large as the largest frame. A server that
//! sends whole text frames and reads small control frames needs little of the protocol.
//! The tests compare it with a library, tungstenite, on the same bytes.

use axum::http::{HeaderMap, HeaderName, Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// Largest payload of an incoming frame, in bytes. The page sends no data; other clients may.
pub(crate) const MAX_INCOMING: usize = 1024;

/// Section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Close codes, section 7.4.1.
pub(crate) mod close {
    pub(crate) const NORMAL: u16 = 1000;
    pub(crate) const GOING_AWAY: u16 = 1001;
    pub(crate) const PROTOCOL_ERROR: u16 = 1002;
    pub(crate) const TOO_BIG: u16 = 1009;
}

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The `Sec-WebSocket-Accept` of a handshake; `None` if the request is not a handshake of version 13
/// (section 4.2.1).
pub(crate) fn accept(method: &Method, headers: &HeaderMap) -> Option<String> {
    let has = |name: HeaderName, token: &str| {
        let values = headers.get_all(name);
        let mut tokens = values
            .iter()
            .flat_map(|value| value.to_str().unwrap_or_default().split(','));
        tokens.any(|other| other.trim().eq_ignore_ascii_case(token))
    };
    let is_handshake = method == Method::GET
        && has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|_| is_handshake)?;
    Some(accept_key(key.as_bytes()))
}

/// Section 1.3.
fn accept_key(key: &[u8]) -> String {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    STANDARD.encode(context.finish())
}

/// A text frame.
pub(crate) fn text(text: &str) -> Bytes {
    frame(TEXT, text.as_bytes())
}

/// A ping without payload.
pub(crate) fn ping() -> Bytes {
    Bytes::from_static(&[0x80 | PING, 0])
}

/// The answer to a ping.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    frame(PONG, payload)
}

/// A close frame.
pub(crate) fn close(code: u16) -> Bytes {
    frame(CLOSE, &code.to_be_bytes())
}

fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..65536 => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame.into()
}

/// An incoming frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// Data, which the server ignores, or a pong.
    Nothing,
    /// Requires a pong with this payload.
    Ping(Vec<u8>),
    /// The client closes, with its code if it sent one.
    Close(Option<u16>),
}

/// Removes the first frame from the buffer; `None` if it is not complete.
///
/// # Errors
/// The close code for a frame that violates the protocol or is too large.
pub(crate) fn take(buffer: &mut Vec<u8>) -> Result<Option<Incoming>, u16> {
    let &[first, second, ref rest @ ..] = buffer.as_slice() else {
        return Ok(None);
    };
    let opcode = first & 0x0F;
    let is_control = opcode & 0x8 != 0;
    let is_last = first & 0x80 != 0;
    // No extension is negotiated, and a client must mask.
    if first & 0x70 != 0 || second & 0x80 == 0 {
        return Err(close::PROTOCOL_ERROR);
    }
    if !matches!(opcode, 0..=2 | CLOSE | PING | PONG) {
        return Err(close::PROTOCOL_ERROR);
    }
    let (length, header) = match second & 0x7F {
        126 => match *rest {
            [a, b, ..] => (usize::from(u16::from_be_bytes([a, b])), 4),
            _ => return Ok(None),
        },
        // Whatever the eight bytes are, the length is above the limit, or should have been shorter.
        127 => {
            return Err(if is_control {
                close::PROTOCOL_ERROR
            } else {
                close::TOO_BIG
            });
        }
        length => (usize::from(length), 2),
    };
    if is_control && (length > 125 || !is_last) {
        return Err(close::PROTOCOL_ERROR);
    }
    if length > MAX_INCOMING {
        return Err(close::TOO_BIG);
    }
    let end = header + 4 + length;
    if buffer.len() < end {
        return Ok(None);
    }
    let mask = &buffer[header..header + 4];
    let payload = buffer[header + 4..end].iter().zip(mask.iter().cycle());
    let payload: Vec<u8> = payload.map(|(byte, mask)| byte ^ mask).collect();
    buffer.drain(..end);
    Ok(Some(match opcode {
        PING => Incoming::Ping(payload),
        CLOSE => match payload[..] {
            [] => Incoming::Close(None),
            [a, b, ..] => Incoming::Close(Some(u16::from_be_bytes([a, b]))),
            _ => return Err(close::PROTOCOL_ERROR),
        },
        _ => Incoming::Nothing,
    }))
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
    use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = frame(first & 0x0F, payload).to_vec();
        frame[0] = first;
        frame[1] |= 0x80;
        let header = frame.len() - payload.len();
        let mask = [1, 2, 3, 4];
        for (index, byte) in frame[header..].iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
        frame.splice(header..header, mask);
        frame
    }

    #[test]
    fn the_handshake_is_that_of_the_standard() {
        // The example of section 1.3.
        assert_eq!(
            accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn frames_are_complete_whatever_pieces_they_arrive_in() {
        let mut sent = masked(0x81, &[b'x'; 300]);
        sent.extend(masked(0x89, b"you there?"));
        sent.extend(masked(0x88, &1000_u16.to_be_bytes()));
        let mut buffer = Vec::new();
        let mut got = Vec::new();
        for byte in sent {
            buffer.push(byte);
            got.extend(take(&mut buffer).unwrap());
        }
        let ping = Incoming::Ping(b"you there?".to_vec());
        assert_eq!(got, [Incoming::Nothing, ping, Incoming::Close(Some(1000))]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_violation_closes_with_its_code() {
        for (what, bytes, code) in [
            ("unmasked", vec![0x81, 0x01, b'x'], 1002),
            ("compressed", vec![0xC1, 0x80], 1002),
            ("unknown opcode", vec![0x83, 0x80], 1002),
            ("fragmented ping", vec![0x09, 0x80], 1002),
            ("long ping", masked(0x89, &[0; 126]), 1002),
            ("one byte of a code", masked(0x88, &[3]), 1002),
            (
                "above the bound",
                masked(0x81, &[0; MAX_INCOMING + 1]),
                1009,
            ),
            ("far above the bound", vec![0x82, 0xFF], 1009),
        ] {
            let mut bytes = bytes;
            assert_eq!(take(&mut bytes), Err(code), "{what}");
        }
        assert_eq!(
            take(&mut masked(0x81, &[0; MAX_INCOMING])),
            Ok(Some(Incoming::Nothing))
        );
    }

    #[test]
    fn lengths_have_three_forms() {
        assert_eq!(frame(TEXT, &[0; 125])[..2], [0x81, 125]);
        assert_eq!(frame(TEXT, &[0; 126])[..4], [0x81, 126, 0, 126]);
        assert_eq!(
            frame(TEXT, &[0; 65536])[..10],
            [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    /// The other end of a connection: bytes to read, then nothing.
    struct Bytes<'a>(&'a [u8]);

    impl io::Read for Bytes<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match io::Read::read(&mut self.0, buffer)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                length => Ok(length),
            }
        }
    }

    impl io::Write for Bytes<'_> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tungstenite(role: Role, bytes: &[u8]) -> WebSocket<Bytes<'_>> {
        let config = WebSocketConfig::default()
            .read_buffer_size(1 << 16)
            .max_frame_size((role == Role::Server).then_some(MAX_INCOMING))
            .max_message_size((role == Role::Server).then_some(MAX_INCOMING));
        WebSocket::from_raw_socket(Bytes(bytes), role, Some(config))
    }

    #[test]
    fn tungstenite_reads_what_is_sent() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let sent = "ü".repeat(length / 2) + &"x".repeat(length % 2);
            let bytes = [
                text(&sent),
                ping(),
                pong(&sent.as_bytes()[..length.min(125)]),
                close(close::GOING_AWAY),
            ]
            .concat();
            let mut client = tungstenite(Role::Client, &bytes);
            assert_eq!(client.read().unwrap(), Message::Text(sent.clone().into()));
            assert_eq!(client.read().unwrap(), Message::Ping(Vec::new().into()));
            let payload = sent.as_bytes()[..length.min(125)].to_vec();
            assert_eq!(client.read().unwrap(), Message::Pong(payload.into()));
            let Message::Close(Some(frame)) = client.read().unwrap() else {
                panic!("not closed with a code");
            };
            assert_eq!(u16::from(frame.code), 1001);
        }
        assert_eq!(
            accept_key(b"c2Vuc29ycw=="),
            derive_accept_key(b"c2Vuc29ycw==")
        );
    }

    /// All first two bytes of a frame, with a payload as long as they say.
    #[test]
    fn tungstenite_judges_every_header_alike() {
        let mut accepted = 0;
        for [first, second] in (0..=u16::MAX).map(u16::to_be_bytes) {
            let payload: &[u8] = match second & 0x7F {
                126 => &[&300_u16.to_be_bytes()[..], &[b'x'; 4 + 300]].concat(),
                127 => &[&70_000_u64.to_be_bytes()[..], &[b'x'; 4 + 70_000]].concat(),
                length => &vec![b'x'; 4 + usize::from(length)],
            };
            let bytes = [&[first, second], payload].concat();
            let ours = take(&mut bytes.clone());
            let theirs = tungstenite(Role::Server, &bytes).read();
            let is_fragment = first & 0x80 == 0 || first & 0x0F == 0;
            match (&ours, &theirs) {
                (Ok(Some(Incoming::Ping(payload))), Ok(Message::Ping(theirs))) => {
                    assert_eq!(payload, theirs);
                }
                (Ok(Some(Incoming::Close(None))), Ok(Message::Close(None))) => {}
                // The same payload masks itself to zeros: code 0 is none that may be sent.
                (Ok(Some(Incoming::Close(Some(0)))), Err(_) | Ok(Message::Close(_))) => {}
                (
                    Ok(Some(Incoming::Nothing)),
                    Ok(Message::Text(_) | Message::Binary(_) | Message::Pong(_)),
                ) => {}
                // Data is ignored, so fragments need not be joined.
                (Ok(Some(Incoming::Nothing)), Err(_)) if is_fragment => {}
                (Err(close::PROTOCOL_ERROR), Err(Error::Protocol(_))) => {}
                (Err(close::TOO_BIG), Err(Error::Capacity(_))) => {}
                // A frame can be wrong in two ways, and a long one is refused by its length.
                (Err(_), Err(Error::Protocol(_) | Error::Capacity(_))) => {}
                _ => panic!("{first:#04x} {second:#04x}: {ours:?}, tungstenite: {theirs:?}"),
            }
            accepted += usize::from(ours.is_ok());
        }
        assert!(accepted > 1000, "{accepted}");
    }

    #[test]
    fn what_tungstenite_sends_is_read() {
        /// Bytes that were written.
        struct Written(Vec<u8>);

        impl io::Read for Written {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }

        impl io::Write for Written {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                io::Write::write(&mut self.0, bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let mut client = WebSocket::from_raw_socket(Written(Vec::new()), Role::Client, None);
        for length in [0, 1, 125, 126, MAX_INCOMING] {
            client
                .send(Message::Text("x".repeat(length).into()))
                .unwrap();
        }
        client.send(Message::Ping(b"payload"[..].into())).unwrap();
        client.close(None).unwrap();
        let mut bytes = std::mem::take(&mut client.get_mut().0);
        let mut read = Vec::new();
        while let Some(incoming) = take(&mut bytes).unwrap() {
            read.push(incoming);
        }
        let (data, control) = read.split_at(5);
        assert!(data.iter().all(|frame| *frame == Incoming::Nothing));
        assert_eq!(
            control,
            [Incoming::Ping(b"payload".to_vec()), Incoming::Close(None)]
        );
        assert!(bytes.is_empty());
    }
}
