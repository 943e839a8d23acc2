//! Regular expressions, in linear time.
//!
//! # Differs from AWS
//! AWS uses Java's regular expressions. Look-around, back references, possessive quantifiers and atomic groups cannot
//! be matched in linear time: a literal pattern with one of them is a compile error, a pattern from a message is
//! Undefined.
//!
//! `$` and `\Z` match at the end only, in Java also before a last line end. `(?i)` folds all of Unicode, in Java ASCII.
//! `\G`, `\X`, `\c` and Java's own properties (`\p{javaLowerCase}`) are not supported: Undefined.

use std::borrow::Cow;

use regex::{Captures, Regex, RegexBuilder};

use super::{
    Call, Function, Prepare, Run,
    text::{argument, string},
};
use crate::{EvaluationError, evaluation::Evaluation, json::MAX_BYTES, value::Value};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("regexp_matches", 2, 2, MATCHES).preparing(Prepare::Pattern),
    Function::new("regexp_replace", 3, 3, REPLACE).preparing(Prepare::Pattern),
    Function::new("regexp_substr", 2, 2, SUBSTR).preparing(Prepare::Pattern),
];

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// `None` if it is invalid.
    fn compile(pattern: &str) -> Option<Self> {
        /// Most bytes of a compiled pattern.
        const SIZE: usize = 1 << 20;
        // Java does not have this notation of a named group.
        if pattern.contains("(?P<") {
            return None;
        }
        RegexBuilder::new(&java(&unquoted(pattern)))
            .size_limit(SIZE)
            .dfa_size_limit(SIZE)
            .build()
            .ok()
            .map(Self)
    }

    /// Compiles a literal. The inner `None` means that it is invalid, so the function is Undefined.
    ///
    /// # Errors
    /// Java supports it, this crate does not.
    pub(super) fn prepare(pattern: &str) -> Result<Option<Self>, String> {
        match java_only(&unquoted(pattern)) {
            Some(name) => Err(format!(
                "the regular expression has {name}, which AWS supports and this crate does not"
            )),
            None => Ok(Self::compile(pattern)),
        }
    }
}

/// Escapes the characters between `\Q` and `\E` or the end.
fn unquoted(pattern: &str) -> Cow<'_, str> {
    if !pattern.contains(r"\Q") {
        return Cow::Borrowed(pattern);
    }
    let mut text = String::with_capacity(pattern.len() * 2);
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (literal, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            text.push_str(&regex::escape(literal));
            rest = after;
            continue;
        }
        // An escaped backslash does not start an escape.
        let escaped = rest.strip_prefix('\\').and_then(|rest| rest.chars().next());
        let length = character.len_utf8() + escaped.map_or(0, char::len_utf8);
        let (taken, after) = rest.split_at(length);
        text.push_str(taken);
        rest = after;
    }
    Cow::Owned(text)
}

/// Translates Java's classes, which are ASCII, and Java's `.`, which excludes more than `\n`.
fn java(pattern: &str) -> String {
    /// Line ends of Java; `\r\n` is two of them.
    const NOT_LINE_END: &str = r"[^\n\r\x{85}\x{2028}\x{2029}]";
    /// Horizontal white space.
    const HORIZONTAL: &str = r" \t\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}";
    /// Vertical white space.
    const VERTICAL: &str = r"\n\x0B\f\r\x{85}\x{2028}\x{2029}";
    // With `(?s)`, the engine decides for which part of the pattern `.` matches everything.
    let has_dot_all = pattern.match_indices("(?").any(|(at, _)| {
        let flags = pattern.get(at + 2..).unwrap_or_default();
        flags
            .chars()
            .take_while(char::is_ascii_alphabetic)
            .any(|flag| flag == 's')
    });
    let mut text = String::with_capacity(pattern.len());
    let mut class = 0_u32;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('d') => text.push_str("[0-9]"),
                Some('D') => text.push_str("[^0-9]"),
                Some('w') => text.push_str("[0-9A-Za-z_]"),
                Some('W') => text.push_str("[^0-9A-Za-z_]"),
                Some('s') => text.push_str(r"[ \t\n\x0B\f\r]"),
                Some('S') => text.push_str(r"[^ \t\n\x0B\f\r]"),
                Some('h') => text.push_str(&format!("[{HORIZONTAL}]")),
                Some('H') => text.push_str(&format!("[^{HORIZONTAL}]")),
                Some('v') => text.push_str(&format!("[{VERTICAL}]")),
                Some('V') => text.push_str(&format!("[^{VERTICAL}]")),
                Some('R') if class == 0 => {
                    text.push_str(&format!(r"(?:\r\n|[{VERTICAL}])"));
                }
                Some('e') => text.push_str(r"\x1B"),
                escaped => {
                    text.push('\\');
                    text.extend(escaped);
                }
            },
            '.' if class == 0 && !has_dot_all => text.push_str(NOT_LINE_END),
            other => {
                match other {
                    '[' => class += 1,
                    ']' => class = class.saturating_sub(1),
                    _ => {}
                }
                text.push(other);
            }
        }
    }
    text
}

/// Finds a construct that Java supports and a linear-time engine cannot, outside of escapes and classes.
fn java_only(pattern: &str) -> Option<&'static str> {
    const GROUPS: &[(&str, &str)] = &[
        ("(?=", "a look-ahead"),
        ("(?!", "a look-ahead"),
        ("(?<=", "a look-behind"),
        ("(?<!", "a look-behind"),
        ("(?>", "an atomic group"),
    ];
    let mut class = 0_u32;
    let mut quantified = false;
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        if character == '\\' {
            let escaped = rest.get(1..).and_then(|rest| rest.chars().next());
            if class == 0 && matches!(escaped, Some('1'..='9' | 'k')) {
                return Some("a back reference");
            }
            rest = rest.get(1 + escaped.map_or(0, char::len_utf8)..)?;
            quantified = false;
            continue;
        }
        match character {
            '[' => class += 1,
            ']' => class = class.saturating_sub(1),
            _ if class > 0 => {}
            '(' => {
                if let Some((_, name)) = GROUPS
                    .iter()
                    .find(|(beginning, _)| rest.starts_with(beginning))
                {
                    return Some(name);
                }
            }
            '+' if quantified => return Some("a possessive quantifier"),
            _ => {}
        }
        // After a group's `(`, a `?` is not a quantifier.
        quantified = class == 0 && matches!(character, '*' | '+' | '?' | '}');
        let skipped = if class == 0 && rest.starts_with("(?") {
            2
        } else {
            character.len_utf8()
        };
        rest = rest.get(skipped..)?;
    }
    None
}

/// A replacement in Java's notation: `$1`, `${name}`, and `\` before a plain character.
#[derive(Clone, Debug)]
pub(crate) struct Replacement(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    /// Digits after `$`: the longest number of an existing group is used.
    Group(String),
    Name(String),
}

impl Replacement {
    /// `None` if it is invalid.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' => plain.push(characters.next()?),
                '$' => {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    if characters.next_if_eq(&'{').is_some() {
                        let name: String =
                            std::iter::from_fn(|| characters.next_if(char::is_ascii_alphanumeric))
                                .collect();
                        characters.next_if_eq(&'}')?;
                        parts.push(Part::Name(name));
                    } else {
                        let digits: String =
                            std::iter::from_fn(|| characters.next_if(char::is_ascii_digit))
                                .collect();
                        if digits.is_empty() {
                            return None;
                        }
                        parts.push(Part::Group(digits));
                    }
                }
                other => plain.push(other),
            }
        }
        parts.push(Part::Text(plain));
        Some(Self(parts))
    }

    /// `None` if the pattern does not have its group.
    fn append(&self, captures: &Captures<'_>, out: &mut String) -> Option<()> {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(name) => {
                    out.push_str(captures.name(name).map_or("", |group| group.as_str()))
                }
                Part::Group(digits) => {
                    let fits = |length: &usize| {
                        digits
                            .get(..*length)?
                            .parse()
                            .ok()
                            .filter(|group: &usize| *group < captures.len())
                    };
                    // `$12` with one group is the first group and a 2.
                    let length = (1..=digits.len())
                        .take_while(|length| fits(length).is_some())
                        .last()?;
                    let group = captures.get(fits(&length)?);
                    out.push_str(group.map_or("", |group| group.as_str()));
                    out.push_str(digits.get(length..)?);
                }
            }
        }
        Some(())
    }

    fn names_known_groups(&self, regex: &Regex) -> bool {
        let known = |name: &str| regex.capture_names().flatten().any(|known| known == name);
        let groups = regex.captures_len();
        self.0.iter().all(|part| match part {
            Part::Text(_) => true,
            Part::Name(name) => known(name),
            Part::Group(digits) => digits
                .get(..1)
                .and_then(|digit| digit.parse().ok())
                .is_some_and(|group: usize| group < groups),
        })
    }
}

/// The compiled pattern, or the argument compiled now.
fn pattern<'c>(
    evaluation: &Evaluation<'_>,
    call: &'c Call,
    values: &[Value<'_>],
) -> Result<Option<Cow<'c, Pattern>>, EvaluationError> {
    /// Steps of compiling a pattern.
    const COMPILING: u64 = 2_000;
    if let Some(prepared) = &call.pattern {
        return Ok(prepared.as_ref().map(Cow::Borrowed));
    }
    let Some(text) = argument(evaluation, values, 1)? else {
        return Ok(None);
    };
    evaluation.spend(COMPILING)?;
    Ok(Pattern::compile(&text).map(Cow::Owned))
}

const MATCHES: Run = |evaluation, call, values| {
    let found = argument(evaluation, values, 0)?.zip(pattern(evaluation, call, values)?);
    Ok(found
        .map(|(text, pattern)| pattern.0.is_match(&text))
        .into())
};

/// The first match, or Undefined.
const SUBSTR: Run = |evaluation, call, values| {
    let Some((text, pattern)) =
        argument(evaluation, values, 0)?.zip(pattern(evaluation, call, values)?)
    else {
        return Ok(Value::Undefined);
    };
    match pattern.0.find(&text) {
        Some(found) => string(evaluation, found.as_str().to_owned()),
        None => Ok(Value::Undefined),
    }
};

const REPLACE: Run = |evaluation, call, values| {
    let Some((text, pattern)) =
        argument(evaluation, values, 0)?.zip(pattern(evaluation, call, values)?)
    else {
        return Ok(Value::Undefined);
    };
    let replacement = match &call.replacement {
        Some(prepared) => prepared.as_ref().map(Cow::Borrowed),
        None => argument(evaluation, values, 2)?
            .and_then(|text| Replacement::parse(&text))
            .map(Cow::Owned),
    };
    let Some(replacement) =
        replacement.filter(|replacement| replacement.names_known_groups(&pattern.0))
    else {
        return Ok(Value::Undefined);
    };
    let mut out = String::new();
    let mut end = 0;
    let mut next = Some(0);
    // As in Java, an empty match may directly follow another match.
    while let Some(captures) = next.and_then(|at| pattern.0.captures_at(&text, at)) {
        evaluation.spend(1)?;
        let Some(found) = captures.get(0) else {
            break;
        };
        next = if found.is_empty() {
            let skipped = text.get(found.end()..).and_then(|rest| rest.chars().next());
            skipped.map(|skipped| found.end() + skipped.len_utf8())
        } else {
            Some(found.end())
        };
        out.push_str(text.get(end..found.start()).unwrap_or_default());
        if replacement.append(&captures, &mut out).is_none() {
            return Ok(Value::Undefined);
        }
        end = found.end();
        if out.len() > MAX_BYTES {
            return Err(EvaluationError::TooLarge(MAX_BYTES));
        }
    }
    out.push_str(text.get(end..).unwrap_or_default());
    string(evaluation, out)
};
