//! Prefix expressions ("Understand custom prefixes for Amazon S3 objects").
//!
//! Of Java's `DateTimeFormatter` these letters are known: `y u M L d D H k K h m s S n a E V Z X x`, quoted text, and
//! everything that is no letter. Others are refused at start.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use anyhow::{Context, bail};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// What follows a prefix without expressions.
const DEFAULT: &str = "yyyy/MM/dd/HH/";
/// Characters of a property at most.
const MAX_PROPERTY: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct Prefix {
    parts: Vec<Part>,
    zone: TimeZone,
    has_expression: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A letter, so many times.
    Time(char, usize),
    RandomString,
    ErrorOutputType,
}

impl Prefix {
    /// Parses `Prefix`.
    pub(super) fn parse(text: Option<&str>, zone: &str) -> anyhow::Result<Prefix> {
        let mut prefix = Prefix::parse_any(text.unwrap_or_default(), zone)?;
        if prefix.parts.contains(&Part::ErrorOutputType) {
            bail!("!{{firehose:error-output-type}} is for ErrorOutputPrefix only");
        }
        if !prefix.has_expression {
            prefix.parts.extend(time_parts(DEFAULT)?);
        }
        Ok(prefix)
    }

    /// Parses `ErrorOutputPrefix`.
    pub(super) fn parse_error(text: &str, zone: &str) -> anyhow::Result<Prefix> {
        let prefix = Prefix::parse_any(text, zone)?;
        if prefix.has_expression && !prefix.parts.contains(&Part::ErrorOutputType) {
            bail!(
                "{text:?} contains an expression, so it must contain !{{firehose:error-output-type}} too"
            );
        }
        Ok(prefix)
    }

    fn parse_any(text: &str, zone: &str) -> anyhow::Result<Prefix> {
        if text.chars().count() > MAX_PROPERTY {
            bail!("has more than {MAX_PROPERTY} characters");
        }
        let zone = TimeZone::get(zone)
            .with_context(|| format!("CustomTimeZone {zone:?} is no time zone"))?;
        let mut parts = Vec::new();
        let mut rest = text;
        let mut has_expression = false;
        while let Some((before, after)) = rest.split_once("!{") {
            parts.push(Part::Text(before.to_owned()));
            let (expression, after) = after
                .split_once('}')
                .with_context(|| format!("an expression of {text:?} has no end, expected `}}`"))?;
            match expression.split_once(':') {
                Some(("timestamp", pattern)) => parts.extend(time_parts(pattern)?),
                Some(("firehose", "random-string")) => parts.push(Part::RandomString),
                Some(("firehose", "error-output-type")) => parts.push(Part::ErrorOutputType),
                Some(("partitionKeyFromQuery" | "partitionKeyFromLambda", _)) => {
                    bail!("!{{{expression}}} needs dynamic partitioning, which is not emulated")
                }
                _ => bail!(
                    "!{{{expression}}} is no expression; expected timestamp:…, firehose:random-string or firehose:error-output-type"
                ),
            }
            has_expression = true;
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Prefix {
            parts,
            zone,
            has_expression,
        })
    }

    pub(super) fn has_expression(&self) -> bool {
        self.has_expression
    }

    /// The prefix of an object whose oldest record arrived then, in milliseconds since the Unix epoch.
    pub(super) fn evaluate(&self, oldest: u64) -> String {
        let time = timestamp(oldest).to_zoned(self.zone.clone());
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Time(letter, count) => text.push_str(&field(&time, *letter, *count)),
                Part::RandomString => text.push_str(&random_string()),
                // Only of error prefixes, and nothing here fails in processing.
                Part::ErrorOutputType => text.push_str("processing-failed"),
            }
        }
        text
    }
}

/// Milliseconds since the Unix epoch as a time.
pub(super) fn timestamp(ms: u64) -> Timestamp {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn time_parts(pattern: &str) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(first) = characters.next() {
        if first == '\'' {
            parts
                .push(Part::Text(quoted(&mut characters).with_context(|| {
                    format!("a quote of {pattern:?} has no end")
                })?));
        } else if first.is_ascii_alphabetic() {
            let mut count = 1;
            while characters.next_if_eq(&first).is_some() {
                count += 1;
            }
            if !is_known(first, count) {
                bail!(
                    "`{}` in the pattern {pattern:?} is not emulated",
                    String::from(first).repeat(count)
                );
            }
            parts.push(Part::Time(first, count));
        } else if matches!(first, '{' | '}' | '#' | '[' | ']') {
            bail!("`{first}` in the pattern {pattern:?} must be quoted");
        } else {
            parts.push(Part::Text(first.to_string()));
        }
    }
    Ok(parts)
}

/// The text up to the closing quote; two quotes stand for one.
fn quoted(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    if characters.next_if_eq(&'\'').is_some() {
        return Some("'".to_owned());
    }
    let mut text = String::new();
    loop {
        match characters.next()? {
            '\'' if characters.next_if_eq(&'\'').is_none() => return Some(text),
            character => text.push(character),
        }
    }
}

fn is_known(letter: char, count: usize) -> bool {
    match letter {
        'y' | 'u' => count <= 9,
        'M' | 'L' | 'E' => count <= 4,
        'd' | 'H' | 'k' | 'K' | 'h' | 'm' | 's' | 'V' => {
            count <= 2 && (letter != 'V' || count == 2)
        }
        'D' => count <= 3,
        'S' | 'n' => count <= 9,
        'a' => count == 1,
        'Z' | 'X' | 'x' => count <= 3,
        _ => false,
    }
}

fn field(time: &Zoned, letter: char, count: usize) -> String {
    let padded = |number: i64| format!("{number:0count$}");
    let hour = i64::from(time.hour());
    match letter {
        'y' | 'u' if count == 2 => format!("{:02}", time.year() % 100),
        'y' | 'u' => padded(time.year().into()),
        'M' | 'L' | 'E' if count >= 3 || letter == 'E' => {
            let full = count == 4;
            let format = match (letter, full) {
                ('E', true) => "%A",
                ('E', false) => "%a",
                (_, true) => "%B",
                (_, false) => "%b",
            };
            time.strftime(format).to_string()
        }
        'M' | 'L' => padded(time.month().into()),
        'd' => padded(time.day().into()),
        'D' => padded(time.day_of_year().into()),
        'H' => padded(hour),
        'k' => padded(if hour == 0 { 24 } else { hour }),
        'K' => padded(hour % 12),
        'h' => padded(if hour % 12 == 0 { 12 } else { hour % 12 }),
        'm' => padded(time.minute().into()),
        's' => padded(time.second().into()),
        'S' => format!("{:09}", time.subsec_nanosecond())
            .chars()
            .take(count)
            .collect(),
        'n' => padded(time.subsec_nanosecond().into()),
        'a' => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
        'V' => time.time_zone().iana_name().unwrap_or("UTC").to_owned(),
        _ => offset(time.offset().seconds(), letter, count),
    }
}

fn offset(seconds: i32, letter: char, count: usize) -> String {
    if letter == 'X' && seconds == 0 {
        return "Z".to_owned();
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    match (letter, count) {
        ('X' | 'x', 1) if minutes == 0 => format!("{sign}{hours:02}"),
        ('X' | 'x', 3) => format!("{sign}{hours:02}:{minutes:02}"),
        _ => format!("{sign}{hours:02}{minutes:02}"),
    }
}

/// Eleven letters and digits, fresh each time.
fn random_string() -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // Each state is keyed anew from the system's randomness.
    let mut bits = RandomState::new().build_hasher().finish();
    (0..11)
        .map(|_| {
            let index = bits % ALPHABET.len() as u64;
            bits /= ALPHABET.len() as u64;
            usize::try_from(index)
                .ok()
                .and_then(|index| ALPHABET.get(index))
                .map_or('A', |&byte| char::from(byte))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23T02:03:04.567Z, a Monday.
    const TIME: u64 = 1_795_399_384_567;

    #[test]
    fn prefixes_are_evaluated_as_java_would() {
        for (prefix, zone, expected) in [
            (None, "UTC", "2026/11/23/02/"),
            (Some("legacy"), "UTC", "legacy2026/11/23/02/"),
            (Some("raw/"), "UTC", "raw/2026/11/23/02/"),
            (
                Some("raw/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/"),
                "UTC",
                "raw/dt=2026-11-23/hour=02/",
            ),
            (
                Some("!{timestamp:yyyy/MM/dd/HH}/"),
                "America/New_York",
                "2026/11/22/21/",
            ),
            (
                Some("!{timestamp:'year='yyyy'/it''s'/}"),
                "UTC",
                "year=2026/it's/",
            ),
            (
                Some("!{timestamp:yy-M-d-D-H-k-K-h-m-s-S-SSS-a}"),
                "UTC",
                "26-11-23-327-2-2-2-2-3-4-5-567-AM",
            ),
            (
                Some("!{timestamp:MMM MMMM E EEEE}"),
                "UTC",
                "Nov November Mon Monday",
            ),
            (
                Some("!{timestamp:VV Z X XXX xx}"),
                "Asia/Kolkata",
                "Asia/Kolkata +0530 +0530 +05:30 +0530",
            ),
            (Some("!{timestamp:X}"), "UTC", "Z"),
        ] {
            let prefix = Prefix::parse(prefix, zone).unwrap();
            assert_eq!(prefix.evaluate(TIME), expected);
        }
    }

    #[test]
    fn random_strings_are_fresh_and_nothing_is_appended_to_them() {
        let prefix = Prefix::parse(Some("a/!{firehose:random-string}/"), "UTC").unwrap();
        let (one, two) = (prefix.evaluate(TIME), prefix.evaluate(TIME));
        assert_eq!(one.len(), "a/".len() + 11 + 1);
        assert_ne!(one, two);
    }

    #[test]
    fn mistakes_are_named() {
        for (prefix, expected) in [
            ("!{timestamp:yyyy", "has no end"),
            ("!{timestamp:'yyyy}", "quote"),
            ("!{timestamp:qq}", "`qq`"),
            ("!{firehose:error-output-type}/", "ErrorOutputPrefix only"),
            ("!{partitionKeyFromQuery:a}/", "dynamic partitioning"),
            ("!{other}", "no expression"),
        ] {
            let error = Prefix::parse(Some(prefix), "UTC").unwrap_err();
            assert!(
                format!("{error:#}").contains(expected),
                "{prefix}: {error:#}"
            );
        }
        assert!(Prefix::parse(None, "Mars/Olympus").is_err());
        assert!(Prefix::parse_error("e/!{timestamp:yyyy}/", "UTC").is_err());
        assert!(Prefix::parse_error("e/", "UTC").is_ok());
        assert!(
            Prefix::parse_error("e/!{firehose:error-output-type}/!{timestamp:yyyy}/", "UTC")
                .is_ok()
        );
    }
}
