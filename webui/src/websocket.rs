//! The bytes of the WebSocket protocol, server side: RFC 6455, without extensions.
//!
//! Why not a library: a frame to ten thousand browsers is the same bytes for all of them, and a
//! library copies it into a buffer per connection, which then stays as large as the largest frame.
//! A server that sends whole text frames and reads small control frames needs little of the protocol.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// Incoming frames may hold this many bytes. The page sends none at all, other clients may greet.
pub(crate) const MAX_INCOMING: usize = 1024;

/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Close codes of RFC 6455, section 7.4.1.
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

/// What the server answers to `Sec-WebSocket-Key`.
pub(crate) fn accept(key: &[u8]) -> String {
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

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// Data, which means nothing here, or a pong.
    Nothing,
    /// To be answered with the same payload.
    Ping(Vec<u8>),
    /// The other side closes, maybe with a code.
    Close(Option<u16>),
}

/// Takes the first frame off the buffer; `None` until it is whole.
///
/// # Errors
/// The close code for what must not come.
pub(crate) fn take(buffer: &mut Vec<u8>) -> Result<Option<Incoming>, u16> {
    let &[first, second, ref rest @ ..] = buffer.as_slice() else {
        return Ok(None);
    };
    let opcode = first & 0x0F;
    let is_control = opcode & 0x8 != 0;
    let is_last = first & 0x80 != 0;
    // No extension was agreed on, and a client must mask.
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
        // Whatever the eight bytes say, it is too much.
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
    fn handshake_is_that_of_the_standard() {
        // The example of RFC 6455, section 1.3.
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn frames_are_taken_whole_whatever_the_pieces() {
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
    fn what_must_not_come_closes_with_its_code() {
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
}
