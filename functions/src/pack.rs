//! MessagePack, as much of it as the script's arguments need: a list of numbers and texts.
//!
//! <https://github.com/msgpack/msgpack/blob/master/spec.md>; Redis reads it with its `cmsgpack`.
//! One argument for ten thousand devices, because ninety thousand small ones cost both sides more.

/// Writes a list.
#[derive(Debug)]
pub struct Packer {
    /// What was written.
    pub bytes: Vec<u8>,
}

impl Packer {
    /// A list of so many values, which are to follow; `room` is about their bytes.
    pub fn list(values: usize, room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room);
        bytes.push(0xdd);
        bytes.extend_from_slice(&(values as u32).to_be_bytes());
        Self { bytes }
    }

    /// A whole number below 2^32.
    pub fn number(&mut self, number: usize) {
        if number < 0x80 {
            self.bytes.push(number as u8);
        } else {
            self.bytes.push(0xce);
            self.bytes.extend_from_slice(&(number as u32).to_be_bytes());
        }
    }

    /// A text, or bytes: Lua makes no difference.
    pub fn text(&mut self, text: &[u8]) {
        if text.len() < 0x20 {
            self.bytes.push(0xa0 | text.len() as u8);
            self.bytes.extend_from_slice(text);
        } else {
            self.written(|bytes| bytes.extend_from_slice(text));
        }
    }

    /// A text that `write` appends.
    pub fn written(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.push(0xdb);
        let start = self.bytes.len() + 4;
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start - 4..start].copy_from_slice(&length.to_be_bytes());
    }
}
