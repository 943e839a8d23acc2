//! `parse_time` and `time_to_epoch`, with the time zones of a bundled database.
//!
//! AWS uses two libraries: Joda-Time formats, and Java's `DateTimeFormatter` parses.
//!
//! # Differs from AWS
//! Names are English. A zone without an abbreviation is formatted as its offset, and `zzzz` as the abbreviation,
//! because the database has no long names. Week-based fields (`Y`, `w`, `W`, `e`, `c`), quarters, narrow texts and
//! padding are not parsed: such a pattern gives Undefined.

mod format;
mod parse;

use std::borrow::Cow;

use jiff::{
    Timestamp,
    tz::{Offset, TimeZone, TimeZoneDatabase},
};

use crate::{
    conversion,
    function::{self, Function},
    value::Value,
};
pub(crate) use format::Format;
pub(crate) use parse::Parse;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
/// Length of a short name of a month or weekday.
const SHORT: usize = 3;

pub(crate) const FUNCTIONS: &[Function] = &[
    function::formatting("parse_time", 2, 3, |evaluation, call, values| {
        let format = match call.format() {
            Some(prepared) => prepared.map(Cow::Borrowed),
            None => conversion::text(values.first().unwrap_or(&Value::Undefined))?
                .and_then(|pattern| Format::parse(&pattern))
                .map(Cow::Owned),
        };
        let zone = match (call.zone(), values.get(2)) {
            (Some(prepared), _) => prepared.map(Cow::Borrowed),
            (None, None) => Some(Cow::Owned(Zone::utc())),
            (None, Some(name)) => conversion::text(name)?
                .and_then(|name| Zone::find(&name))
                .map(Cow::Owned),
        };
        let time = values
            .get(1)
            .and_then(conversion::index)
            .and_then(|ms| Timestamp::from_millisecond(ms).ok());
        evaluation.spend(4)?;
        let (Some(format), Some(zone), Some(time)) = (format, zone, time) else {
            return Ok(Value::Undefined);
        };
        Ok(Value::String(format.write(time, &zone).into()))
    }),
    function::parsing("time_to_epoch", 2, 2, |evaluation, call, values| {
        let parse = match call.parse() {
            Some(prepared) => prepared.map(Cow::Borrowed),
            None => conversion::text(values.get(1).unwrap_or(&Value::Undefined))?
                .and_then(|pattern| Parse::new(&pattern))
                .map(Cow::Owned),
        };
        let text = conversion::text(values.first().unwrap_or(&Value::Undefined))?;
        evaluation.spend(4)?;
        let time = parse.zip(text).and_then(|(parse, text)| parse.read(&text));
        Ok(time.map_or(Value::Undefined, |time| Value::int(time.as_millisecond())))
    }),
];

/// A time zone: a region, or a fixed offset.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    zone: TimeZone,
    /// Name of a fixed offset.
    name: Option<String>,
}

impl Zone {
    fn utc() -> Self {
        Self {
            zone: TimeZone::UTC,
            name: Some("UTC".into()),
        }
    }

    fn fixed(offset: Offset) -> Self {
        if offset == Offset::UTC {
            return Self::utc();
        }
        Self {
            zone: TimeZone::fixed(offset),
            name: Some(write_offset(offset, ":")),
        }
    }

    /// Parses `UTC`, `+01:00`, `UTC+1`, `Europe/Berlin`; `None` if it is unknown.
    pub(crate) fn find(name: &str) -> Option<Self> {
        /// Longest accepted name; the longest in the database has 32 letters.
        const LONGEST: usize = 64;
        if matches!(name, "UTC" | "GMT" | "UT" | "Z") {
            return Some(Self {
                name: Some(if name == "Z" {
                    "UTC".into()
                } else {
                    name.into()
                }),
                ..Self::utc()
            });
        }
        let offset = ["UTC", "GMT", "UT"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name);
        if offset.starts_with(['+', '-']) {
            return read_offset(offset).map(Self::fixed);
        }
        if name.len() > LONGEST {
            return None;
        }
        let zone = TimeZoneDatabase::bundled().get(name).ok()?;
        Some(Self { zone, name: None })
    }
}

/// Formats hours, minutes and, unless zero, seconds.
fn write_offset(offset: Offset, separator: &str) -> String {
    let seconds = offset.seconds();
    let (sign, all) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
    let text = format!("{sign}{:02}{separator}{:02}", all / 3600, all / 60 % 60);
    if all % 60 == 0 {
        text
    } else {
        format!("{text}{separator}{:02}", all % 60)
    }
}

/// Parses `+1`, `+01`, `+0130`, `+01:30`, `+01:30:15`.
fn read_offset(text: &str) -> Option<Offset> {
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['+', '-'])?;
    let parts: Vec<&str> = if digits.contains(':') {
        digits.split(':').collect()
    } else {
        match digits.len() {
            1 | 2 => vec![digits],
            4 => vec![digits.get(..2)?, digits.get(2..)?],
            6 => vec![digits.get(..2)?, digits.get(2..4)?, digits.get(4..)?],
            _ => return None,
        }
    };
    let mut numbers = [0; 3];
    for (at, part) in parts.iter().enumerate() {
        let length = if at == 0 { 1..=2 } else { 2..=2 };
        if !length.contains(&part.len()) || !part.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        *numbers.get_mut(at)? = part.parse().ok()?;
    }
    let [hours, minutes, seconds]: [i32; 3] = numbers;
    if hours > 18 || minutes > 59 || seconds > 59 {
        return None;
    }
    let all = hours * 3600 + minutes * 60 + seconds;
    Offset::from_seconds(if negative { -all } else { all }).ok()
}
