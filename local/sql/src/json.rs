//! JSON parsing and writing that keep all digits: Ints and Decimals have 34, doubles 17.

use std::{borrow::Cow, fmt::Write};

use crate::{
    EvaluationError, SqlVersion,
    number::Number,
    value::{Array, Object, ObjectBuilder, Value},
};

/// Most levels of arrays and objects in a document; a deeper one is not JSON.
pub(crate) const MAX_DEPTH: u32 = 128;

/// Parses a document; `None` if it is not JSON.
pub(crate) fn read(bytes: &[u8], version: SqlVersion) -> Option<Value<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = Reader {
        text,
        at: 0,
        version,
    };
    let value = reader.value(0)?;
    reader.space();
    (reader.at == text.len()).then_some(value)
}

/// The elements of an array as they are written; `None` for another document.
pub(crate) fn elements(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = Reader {
        text,
        at: 0,
        version: SqlVersion::V20160323,
    };
    let mut elements = Vec::new();
    reader.space();
    reader.take(b'[')?;
    reader.space();
    if reader.take(b']').is_none() {
        loop {
            reader.space();
            let start = reader.at;
            reader.value(1)?;
            elements.push(bytes.get(start..reader.at)?);
            reader.space();
            if reader.take(b',').is_none() {
                reader.take(b']')?;
                break;
            }
        }
    }
    reader.space();
    (reader.at == text.len()).then_some(elements)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    version: SqlVersion,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Option<Value<'a>> {
        self.text.get(self.at..)?.starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    fn value(&mut self, depth: u32) -> Option<Value<'a>> {
        self.space();
        match self.peek()? {
            b'{' if depth < MAX_DEPTH => self.object(depth + 1),
            b'[' if depth < MAX_DEPTH => self.array(depth + 1),
            b'"' => self.string().map(Value::String),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn object(&mut self, depth: u32) -> Option<Value<'a>> {
        self.take(b'{')?;
        let mut object = ObjectBuilder::default();
        self.space();
        if self.take(b'}').is_some() {
            return Some(object.finish().into());
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            self.take(b':')?;
            object.insert(name, self.value(depth)?);
            self.space();
            if self.take(b',').is_none() {
                self.take(b'}')?;
                return Some(object.finish().into());
            }
        }
    }

    fn array(&mut self, depth: u32) -> Option<Value<'a>> {
        self.take(b'[')?;
        let mut array: Array<'a> = std::iter::empty().collect();
        self.space();
        if self.take(b']').is_some() {
            return Some(array.into());
        }
        loop {
            array.push(self.value(depth)?);
            self.space();
            if self.take(b',').is_none() {
                self.take(b']')?;
                return Some(array.into());
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// A number beyond Decimal is Undefined, so it is left out.
    fn number(&mut self) -> Option<Value<'a>> {
        let start = self.at;
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let number = Number::parse(self.text.get(start..self.at)?);
        Some(match self.version {
            SqlVersion::V20151008 => number.into(),
            SqlVersion::V20160323 => number.map(Number::whole_as_int).into(),
        })
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.take(b'"')?;
        let mut owned: Option<String> = None;
        loop {
            let start = self.at;
            while !matches!(self.peek()?, b'"' | b'\\' | 0..=0x1f) {
                self.at += 1;
            }
            let plain = self.text.get(start..self.at)?;
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(match owned {
                        None => Cow::Borrowed(plain),
                        Some(mut owned) => {
                            owned.push_str(plain);
                            Cow::Owned(owned)
                        }
                    });
                }
                b'\\' => {
                    self.at += 1;
                    let owned = owned.get_or_insert_default();
                    owned.push_str(plain);
                    owned.push(self.escape()?);
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hexadecimal()?;
                if (0xd800..0xdc00).contains(&first) && self.text.get(self.at..)?.starts_with("\\u")
                {
                    let before = self.at;
                    self.at += 2;
                    let second = self.hexadecimal()?;
                    if (0xdc00..0xe000).contains(&second) {
                        return char::from_u32(
                            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                        );
                    }
                    self.at = before;
                }
                // Half of a surrogate pair is not a character.
                char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return None,
        })
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

/// Largest JSON text that is written, in bytes: eight times the largest publish.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Writes compact JSON. Undefined is left out of arrays and objects, and is the empty text by itself ("Data
/// types").
///
/// # Errors
/// The text has more than `limit` bytes.
pub(crate) fn write(
    value: &Value<'_>,
    out: &mut String,
    limit: usize,
) -> Result<(), EvaluationError> {
    match value {
        Value::Undefined => {}
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(*number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(array) => {
            out.push('[');
            let mut first = true;
            for item in array.items().iter().filter(|item| !item.is_undefined()) {
                separate(&mut first, out);
                write(item, out, limit)?;
            }
            out.push(']');
        }
        Value::Object(object) => write_object(object, out, limit)?,
    }
    if out.len() > limit {
        Err(EvaluationError::TooLarge(limit))
    } else {
        Ok(())
    }
}

fn write_object(
    object: &Object<'_>,
    out: &mut String,
    limit: usize,
) -> Result<(), EvaluationError> {
    out.push('{');
    let mut first = true;
    for (name, value) in object
        .members()
        .iter()
        .filter(|(_, value)| !value.is_undefined())
    {
        separate(&mut first, out);
        write_string(name, out);
        out.push(':');
        write(value, out, limit)?;
    }
    out.push('}');
    Ok(())
}

fn separate(first: &mut bool, out: &mut String) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

fn write_number(number: Number, out: &mut String) {
    // Writing to a String does not fail.
    let _ = match number {
        Number::Int(int) => match i64::try_from(int) {
            Ok(small) => write!(out, "{small}"),
            Err(_) => write!(out, "{int}"),
        },
        Number::Decimal(decimal) => write!(out, "{decimal}"),
    };
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ') {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = special.chars();
        match characters.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(control) => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(text: &str, version: SqlVersion) -> Option<String> {
        let mut out = String::new();
        write(&read(text.as_bytes(), version)?, &mut out, MAX_BYTES).unwrap();
        Some(out)
    }

    #[test]
    fn documents_come_out_as_they_went_in() {
        for text in [
            "null",
            "true",
            "[]",
            "{}",
            "[1,[2.5,\"x\"],{\"a\":{}}]",
            "{\"b\":1,\"a\":\"\\\"\\\\\\n\\u0001é😀\"}",
            "[1234567890123456789012345678901234,0.1234567890123456789012345678901234,1E-10]",
        ] {
            assert_eq!(through(text, SqlVersion::V20160323).as_deref(), Some(text));
        }
    }

    #[test]
    fn whole_numbers_are_ints_in_the_second_version_only() {
        assert_eq!(
            through("[10.0,1e2,1.50]", SqlVersion::V20160323).as_deref(),
            Some("[10,100,1.50]")
        );
        assert_eq!(
            through("[10.0,1e2,1.50]", SqlVersion::V20151008).as_deref(),
            Some("[10.0,100,1.50]")
        );
    }

    #[test]
    fn escapes_are_understood() {
        let text = r#""\u00e9\ud83d\ude00\ud83dx\/\b\f\r\t""#;
        let expected = "\"é😀\u{fffd}x/\\u0008\\u000c\\r\\t\"";
        assert_eq!(
            through(text, SqlVersion::V20160323).as_deref(),
            Some(expected)
        );
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "abc",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "\"a",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "[1] 2",
            "nul",
            "NaN",
            "{\"a\" 1}",
        ] {
            assert!(through(text, SqlVersion::V20160323).is_none(), "{text}");
        }
        assert!(read(b"\"\xff\"", SqlVersion::V20160323).is_none());
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(through(&nested(MAX_DEPTH as usize), SqlVersion::V20160323).is_some());
        assert!(through(&nested(MAX_DEPTH as usize + 1), SqlVersion::V20160323).is_none());
        assert!(through(&"[".repeat(1_000_000), SqlVersion::V20160323).is_none());
    }

    #[test]
    fn elements_stand_as_they_are_written() {
        let elements = |text: &'static str| {
            Some(
                elements(text.as_bytes())?
                    .into_iter()
                    .map(|e| std::str::from_utf8(e).unwrap())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            elements(" [ 1.0 , {\"a\": 2},\"x\" ] "),
            Some(vec!["1.0", "{\"a\": 2}", "\"x\""])
        );
        assert_eq!(elements("[]"), Some(vec![]));
        assert_eq!(elements("{}"), None);
        assert_eq!(elements("[1,]"), None);
        assert_eq!(elements("[1]]"), None);
    }
}
