//! Splits text into tokens, one at a time, because the text after a template's expression is not SQL.

use std::{borrow::Cow, fmt};

use crate::Error;

/// A token and its position in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Token<'t> {
    pub(crate) kind: Kind<'t>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind<'t> {
    /// Keyword, name of a member or of a function.
    Word(&'t str),
    /// Name without its `@`.
    Variable(&'t str),
    Number(&'t str),
    /// A string literal without its quotes.
    Text(Cow<'t, str>),
    /// Punctuation or an operator.
    Symbol(&'static str),
    End,
}

impl fmt::Display for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Number(text) => write!(f, "`{text}`"),
            Self::Symbol(text) => write!(f, "`{text}`"),
            Self::Variable(name) => write!(f, "`@{name}`"),
            Self::Text(_) => f.write_str("a string"),
            Self::End => f.write_str("the end"),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

/// Symbols, longer ones first. AWS's page on SELECT prints the minus as a dash.
const SYMBOLS: &[(&str, &str)] = &[
    ("<>", "<>"),
    ("<=", "<="),
    (">=", ">="),
    ("<", "<"),
    (">", ">"),
    ("=", "="),
    ("+", "+"),
    ("-", "-"),
    ("–", "-"),
    ("−", "-"),
    ("*", "*"),
    ("/", "/"),
    ("%", "%"),
    ("(", "("),
    (")", ")"),
    ("[", "["),
    ("]", "]"),
    ("{", "{"),
    ("}", "}"),
    (",", ","),
    (".", "."),
    (":", ":"),
];

impl<'t> Lexer<'t> {
    pub(crate) fn new(text: &'t str, at: usize) -> Self {
        Self { text, at }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Takes characters while they match, and returns them.
    fn take(&mut self, fits: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    pub(crate) fn next(&mut self) -> Result<Token<'t>, Error> {
        self.take(char::is_whitespace);
        let start = self.at;
        let rest = self.rest();
        let kind = match rest.chars().next() {
            None => Kind::End,
            Some(quote @ ('\'' | '"')) => self.string(quote)?,
            Some('@') => {
                self.at += 1;
                Kind::Variable(self.take(is_name))
            }
            Some(first) if first.is_ascii_digit() => self.number()?,
            Some(first) if is_name(first) => Kind::Word(self.take(is_name)),
            Some(_) => self.symbol()?,
        };
        Ok(Token {
            kind,
            start,
            end: self.at,
        })
    }

    fn number(&mut self) -> Result<Kind<'t>, Error> {
        let start = self.at;
        self.take(|c| c.is_ascii_digit());
        if self
            .rest()
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        {
            self.at += 1;
            self.take(|c| c.is_ascii_digit());
        }
        if let Some(exponent) = self.rest().strip_prefix(['e', 'E']) {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.starts_with(|c: char| c.is_ascii_digit()) {
                self.at += 1 + exponent.len() - digits.len();
                self.take(|c| c.is_ascii_digit());
            }
        }
        if self.rest().starts_with(is_name) {
            return Err(Error::at(
                self.text,
                start,
                "a name must not begin with a digit; to read such a member write get(object, 'name')",
            ));
        }
        Ok(Kind::Number(
            self.text.get(start..self.at).unwrap_or_default(),
        ))
    }

    /// A quote in the text is doubled, as in ANSI SQL. A backslash is a plain character, so that regular
    /// expressions do not need to double it.
    fn string(&mut self, quote: char) -> Result<Kind<'t>, Error> {
        let start = self.at;
        self.at += 1;
        let mut text = Cow::Borrowed("");
        loop {
            let part = self.take(|c| c != quote);
            match &mut text {
                Cow::Borrowed("") => text = Cow::Borrowed(part),
                text => text.to_mut().push_str(part),
            }
            if self.rest().is_empty() {
                return Err(Error::at(
                    self.text,
                    start,
                    format!("string is not closed: expected another {quote}"),
                ));
            }
            self.at += 1;
            if !self.rest().starts_with(quote) {
                return Ok(Kind::Text(text));
            }
            text.to_mut().push(quote);
            self.at += 1;
        }
    }

    fn symbol(&mut self) -> Result<Kind<'t>, Error> {
        let rest = self.rest();
        let hint = if rest.starts_with("/*") {
            "IoT SQL has no comments"
        } else if rest.starts_with("!=") {
            "`!=` is not an operator of IoT SQL: write `<>`"
        } else if rest.starts_with("==") {
            "`==` is not an operator of IoT SQL: write `=`"
        } else if rest.starts_with("||") {
            "`||` is not an operator of IoT SQL: write `+` or concat()"
        } else if rest.starts_with("&&") {
            "`&&` is not an operator of IoT SQL: write AND"
        } else if rest.starts_with(';') {
            "a statement of IoT SQL does not end with `;`"
        } else {
            ""
        };
        if !hint.is_empty() {
            return Err(Error::at(self.text, self.at, hint));
        }
        match SYMBOLS.iter().find(|(text, _)| rest.starts_with(text)) {
            Some((text, symbol)) => {
                self.at += text.len();
                Ok(Kind::Symbol(symbol))
            }
            None => {
                let character = rest.chars().next().unwrap_or_default();
                Err(Error::at(
                    self.text,
                    self.at,
                    format!("unexpected character {character:?}"),
                ))
            }
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
