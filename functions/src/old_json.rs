//! JSON read in one go, for events of one known form.
//!
//! What is of no interest is passed over by looking for its quotes and brackets only, and text is lent
//! where it stands. An event is two thirds fields of no interest, so this is several times as fast as
//! reading everything by the letter; in exchange, what is wrong inside of such a field goes unnoticed.

use std::borrow::Cow;

use memchr::{memchr2, memchr3};
use thiserror::Error;

/// The text is not what was expected.
#[derive(Debug, Error)]
#[error("{what} at byte {at} of the event")]
pub struct Malformed {
    what: String,
    at: usize,
}

/// Where a text is read.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the start of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// How many bytes were read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// What was read between two places, see [`at`](Self::at).
    ///
    /// # Panics
    /// When there is no such text.
    pub fn between(&self, start: usize, end: usize) -> &'a str {
        &self.text[start..end]
    }

    /// What was read since this place.
    ///
    /// # Panics
    /// When there is no such text.
    pub fn since(&self, start: usize) -> &'a str {
        self.between(start, self.at)
    }

    /// Passes over this text; `None` where there is another.
    pub fn pass(&mut self, text: &str) -> Option<()> {
        self.text[self.at..]
            .starts_with(text)
            .then(|| self.at += text.len())
    }

    /// Reads the characters of a string up to its closing quote, where an opening one was passed over;
    /// `None` if there are escapes among them, or no end.
    pub fn characters(&mut self) -> Option<&'a str> {
        let inside = &self.text[self.at..];
        let length = memchr2(b'"', b'\\', inside.as_bytes())?;
        if inside.as_bytes()[length] != b'"' {
            return None;
        }
        self.at += length;
        Some(&inside[..length])
    }

    /// An error at this place.
    pub fn malformed(&self, what: &str) -> Malformed {
        Malformed {
            what: what.to_owned(),
            at: self.at,
        }
    }

    fn expected(&self, what: &str) -> Malformed {
        let rest = self.text.get(self.at..).unwrap_or_default();
        match rest.chars().next() {
            Some(found) => self.malformed(&format!("expected {what}, got {found:?}")),
            None => self.malformed(&format!("expected {what}, got the end")),
        }
    }

    /// The next byte that is no white space; zero at the end, which is no JSON anywhere.
    pub fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(byte) => return *byte,
                None => return 0,
            }
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    /// Reads an object: `member` gets each name, and has to read its value.
    ///
    /// # Errors
    /// When there is no object, or `member` fails.
    pub fn object(
        &mut self,
        what: &str,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.take(b'{') {
            return Err(self.expected(what));
        }
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.string()?;
            if !self.take(b':') {
                return Err(self.expected("a colon"));
            }
            member(self, &name)?;
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.expected("a comma or the object's end"));
            }
        }
    }

    /// Reads a list: `item` has to read each item.
    ///
    /// # Errors
    /// When there is no list, or `item` fails.
    pub fn list(
        &mut self,
        what: &str,
        mut item: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.take(b'[') {
            return Err(self.expected(what));
        }
        if self.take(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.expected("a comma or the list's end"));
            }
        }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// When there is none, or an escape in it is none of JSON's.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        if self.peek() != b'"' {
            return Err(self.expected("a string"));
        }
        let start = self.at;
        self.at += 1;
        if let Some(characters) = self.characters() {
            self.at += 1;
            return Ok(Cow::Borrowed(characters));
        }
        self.at = start;
        self.skip_string()?;
        serde_json::from_str(&self.text[start..self.at])
            .map(Cow::Owned)
            .map_err(|error| self.malformed(&format!("a string that cannot be read: {error}")))
    }

    /// Reads a number.
    ///
    /// # Errors
    /// When there is none.
    pub fn number(&mut self) -> Result<f64, Malformed> {
        self.peek();
        let rest = &self.text[self.at..];
        let length = rest
            .bytes()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
            .count();
        match rest[..length].parse() {
            Ok(number) => {
                self.at += length;
                Ok(number)
            }
            Err(_) => Err(self.expected("a number")),
        }
    }

    /// Passes over a value, whatever it is.
    ///
    /// # Errors
    /// When there is none, or it does not end.
    pub fn skip(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            b'"' => self.skip_string(),
            b'{' | b'[' => self.skip_nested(),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                let rest = &self.text.as_bytes()[self.at..];
                self.at += memchr3(b',', b'}', b']', rest).unwrap_or(rest.len());
                Ok(())
            }
            _ => Err(self.expected("a value")),
        }
    }

    /// At an opening quote.
    fn skip_string(&mut self) -> Result<(), Malformed> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(length) = memchr2(b'"', b'\\', &bytes[self.at..]) {
            self.at += length + 1;
            if bytes[self.at - 1] == b'"' {
                return Ok(());
            }
            // Whatever is escaped, it is no quote; at the end there is nothing more.
            self.at = bytes.len().min(self.at + 1);
        }
        self.at = bytes.len();
        Err(self.expected("a string's end"))
    }

    /// At an opening bracket. Counts brackets of both kinds alike, so nesting costs no stack.
    fn skip_nested(&mut self) -> Result<(), Malformed> {
        let bytes = self.text.as_bytes();
        let mut depth = 0_usize;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(self.expected("a closing bracket"))
    }

    /// Makes sure that nothing follows.
    ///
    /// # Errors
    /// When something does.
    pub fn end(&mut self) -> Result<(), Malformed> {
        self.peek();
        if self.at < self.text.len() {
            return Err(self.expected("the end"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_json_is_passed_over_to_its_end(value in value(), pretty in any::<bool>()) {
            let text = match pretty {
                true => serde_json::to_string_pretty(&value).unwrap(),
                false => value.to_string(),
            };
            let mut json = Reader::new(&text);
            json.skip().unwrap();
            json.end().unwrap();
        }

        #[test]
        fn every_string_is_read_as_it_was_written(string in any::<String>()) {
            let text = Value::from(string.clone()).to_string();
            let mut json = Reader::new(&text);
            prop_assert_eq!(json.string().unwrap(), string);
            json.end().unwrap();
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), json in r#"[\[\]{}":,\\ntf0-9eé ]{0,40}"#) {
            for text in [text, json] {
                for start in (0..text.len()).filter(|start| text.is_char_boundary(*start)) {
                    let text = &text[start..];
                    let _ = Reader::new(text).skip();
                    let _ = Reader::new(text).string();
                    let _ = Reader::new(text).number();
                    let _ = crate::old_event::each_record(text, drop);
                }
            }
        }
    }

    #[test]
    fn values_of_every_kind_are_passed_over() {
        for value in [
            "1",
            "-1.5e+7",
            "true",
            "null",
            r#""""#,
            r#""a\"b\\""#,
            "[]",
            "{}",
            r#"[[1,{"a":"]}"}],"\"]"]"#,
            &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        ] {
            let text = format!(" {value} ,");
            let mut json = Reader::new(&text);
            json.skip().unwrap();
            assert!(json.take(b','), "{value:.40}");
            json.end().unwrap();
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error_at_each_byte() {
        let text = r#"{"a":[1,"\u00e9\"",{"b":null}],"c":"\\","d":2.5}"#;
        let read = |text: &str| {
            let mut json = Reader::new(text);
            json.object("an object", |json, name| match name {
                "c" => json.string().map(drop),
                "d" => json.number().map(drop),
                _ => json.skip(),
            })
        };
        read(text).unwrap();
        for end in 0..text.len() {
            let error = read(&text[..end]).unwrap_err().to_string();
            assert!(error.contains("of the event"), "{end}: {error}");
        }
    }

    #[test]
    fn strings_are_lent_unless_they_hold_escapes() {
        let text = r#" "plain" "\u00fc\n" "\x" "#;
        let mut json = Reader::new(text);
        assert!(matches!(json.string().unwrap(), Cow::Borrowed("plain")));
        assert_eq!(json.string().unwrap(), "ü\n");
        let error = json.string().unwrap_err().to_string();
        assert!(error.contains("invalid escape"), "{error}");
    }

    #[test]
    fn errors_say_what_was_got() {
        let mut json = Reader::new(" 7");
        let error = json.string().unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected a string, got '7' at byte 1 of the event"
        );
    }
}
