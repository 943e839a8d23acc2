//! Parses times by a pattern of Java's `DateTimeFormatter`, resolved in its style SMART.

use std::{iter::Peekable, str::Chars};

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::{Offset, TimeZone},
};

use super::{MONTHS, SHORT, WEEKDAYS, Zone, read_offset};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Parse(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Number {
        field: Field,
        fewest: usize,
        most: usize,
    },
    /// Decimals of a second.
    Fraction(usize),
    /// Full or short names.
    Month {
        full: bool,
    },
    Weekday {
        full: bool,
    },
    Era {
        full: bool,
    },
    Half,
    Zone,
    Offset {
        zulu: bool,
        colon: bool,
        minutes: Minutes,
    },
    Optional(Vec<Part>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Minutes {
    Optional,
    Required,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Year,
    YearOfEra,
    /// The last two digits of a year from 2000 on.
    ShortYear,
    Month,
    Day,
    DayOfYear,
    Hour,
    /// Hour, 1 to 24.
    ClockHour,
    /// Hour of a half day, 0 to 11.
    HalfHour,
    /// Hour of a half day, 1 to 12.
    HalfClockHour,
    Minute,
    Second,
    Nano,
    MilliOfDay,
    NanoOfDay,
}

const FIELDS: usize = 15;

/// Quoted text up to its closing quote; two quotes are one.
pub(super) fn quoted(characters: &mut Peekable<Chars<'_>>) -> Option<String> {
    if characters.next_if_eq(&'\'').is_some() {
        return Some("'".into());
    }
    let mut text = String::new();
    loop {
        match characters.next()? {
            '\'' if characters.next_if_eq(&'\'').is_none() => return Some(text),
            character => text.push(character),
        }
    }
}

impl Parse {
    /// `None` if it is invalid, or has fields that are not supported.
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        /// Most levels of optional parts.
        const DEEPEST: usize = 8;
        let mut levels = vec![Vec::new()];
        let mut characters = pattern.chars().peekable();
        while let Some(character) = characters.next() {
            let part = match character {
                '\'' => Part::Text(quoted(&mut characters)?),
                '[' => {
                    levels.push(Vec::new());
                    if levels.len() > DEEPEST {
                        return None;
                    }
                    continue;
                }
                ']' if levels.len() > 1 => Part::Optional(levels.pop()?),
                ']' | '{' | '}' | '#' => return None,
                letter if letter.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while characters.next_if_eq(&letter).is_some() {
                        count += 1;
                    }
                    field(letter, count)?
                }
                other => Part::Text(other.to_string()),
            };
            levels.last_mut()?.push(part);
        }
        // Open optional parts end with the pattern.
        while levels.len() > 1 {
            let inner = levels.pop()?;
            levels.last_mut()?.push(Part::Optional(inner));
        }
        levels.pop().map(Self)
    }

    pub(crate) fn read(&self, text: &str) -> Option<Timestamp> {
        let mut found = Found::default();
        let rest = found.read(&self.0, text)?;
        if !rest.is_empty() {
            return None;
        }
        found.resolve()
    }
}

fn field(letter: char, count: usize) -> Option<Part> {
    /// Most digits of a number without a width.
    const FREE: usize = 19;
    let number = |field| {
        let (fewest, most) = match count {
            1 => (1, FREE),
            _ => (count, count),
        };
        (count <= FREE).then_some(Part::Number {
            field,
            fewest,
            most,
        })
    };
    let up_to = |most: usize, field| if count <= most { number(field) } else { None };
    match (letter, count) {
        ('u' | 'y', 2) => Some(Part::Number {
            field: Field::ShortYear,
            fewest: 2,
            most: 2,
        }),
        ('u' | 'y', 1..=FREE) => {
            let field = if letter == 'u' {
                Field::Year
            } else {
                Field::YearOfEra
            };
            Some(Part::Number {
                field,
                fewest: count,
                most: FREE,
            })
        }
        ('M' | 'L', 1 | 2) => number(Field::Month),
        ('M' | 'L', 3 | 4) => Some(Part::Month {
            full: count > SHORT,
        }),
        ('E', 1..=4) => Some(Part::Weekday {
            full: count > SHORT,
        }),
        ('G', 1..=4) => Some(Part::Era {
            full: count > SHORT,
        }),
        ('a', 1) => Some(Part::Half),
        ('d', _) => up_to(2, Field::Day),
        ('D', 1 | 3) => number(Field::DayOfYear),
        ('D', 2) => Some(Part::Number {
            field: Field::DayOfYear,
            fewest: 2,
            most: 3,
        }),
        ('H', _) => up_to(2, Field::Hour),
        ('k', _) => up_to(2, Field::ClockHour),
        ('K', _) => up_to(2, Field::HalfHour),
        ('h', _) => up_to(2, Field::HalfClockHour),
        ('m', _) => up_to(2, Field::Minute),
        ('s', _) => up_to(2, Field::Second),
        ('S', 1..=9) => Some(Part::Fraction(count)),
        ('n', _) => number(Field::Nano),
        ('A', _) => number(Field::MilliOfDay),
        ('N', _) => number(Field::NanoOfDay),
        ('V', 2) | ('z', 1..=4) | ('O', 1 | 4) | ('Z', 4) => Some(Part::Zone),
        ('X' | 'x', 1..=5) => Some(Part::Offset {
            zulu: letter == 'X',
            colon: matches!(count, 3 | 5),
            minutes: if count == 1 {
                Minutes::Optional
            } else {
                Minutes::Required
            },
        }),
        ('Z', 1..=3) => Some(Part::Offset {
            zulu: false,
            colon: false,
            minutes: Minutes::Required,
        }),
        ('Z', 5) => Some(Part::Offset {
            zulu: true,
            colon: true,
            minutes: Minutes::Required,
        }),
        _ => None,
    }
}

/// Parsed fields.
#[derive(Clone, Default)]
struct Found {
    numbers: [Option<i64>; FIELDS],
    weekday: Option<i64>,
    is_bc: Option<bool>,
    is_afternoon: Option<bool>,
    offset: Option<Offset>,
    zone: Option<Zone>,
}

/// Number of leading digits.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

impl Found {
    fn get(&self, field: Field) -> Option<i64> {
        self.numbers.get(field as usize).copied().flatten()
    }

    /// Sets a field, which must not contradict an earlier value.
    fn set(&mut self, field: Field, number: i64) -> Option<()> {
        let slot = self.numbers.get_mut(field as usize)?;
        if slot.is_some_and(|known| known != number) {
            return None;
        }
        *slot = Some(number);
        Some(())
    }

    /// Parses the parts; returns the rest of the text.
    fn read<'t>(&mut self, parts: &[Part], mut text: &'t str) -> Option<&'t str> {
        for (at, part) in parts.iter().enumerate() {
            text = match part {
                Part::Text(expected) => text.strip_prefix(expected.as_str())?,
                Part::Number {
                    field,
                    fewest,
                    most,
                } => {
                    // Digits of the adjacent numbers of fixed width that follow.
                    let reserved: usize = parts
                        .get(at + 1..)?
                        .iter()
                        .map_while(|next| match next {
                            Part::Number { fewest, most, .. } if fewest == most => Some(*most),
                            Part::Fraction(width) => Some(*width),
                            _ => None,
                        })
                        .sum();
                    self.number(*field, *fewest, *most, reserved, text)?
                }
                Part::Fraction(width) => {
                    let number: i64 = text
                        .get(..*width)
                        .filter(|it| digits(it) == *width)?
                        .parse()
                        .ok()?;
                    self.set(Field::Nano, number * 10_i64.pow(9 - *width as u32))?;
                    text.get(*width..)?
                }
                Part::Month { full } => {
                    let (month, rest) = name(&MONTHS, *full, text)?;
                    self.set(Field::Month, month + 1)?;
                    rest
                }
                Part::Weekday { full } => {
                    let (weekday, rest) = name(&WEEKDAYS, *full, text)?;
                    self.weekday = Some(weekday);
                    rest
                }
                Part::Era { full } => {
                    let names = if *full {
                        ["Anno Domini", "Before Christ"]
                    } else {
                        ["AD", "BC"]
                    };
                    let (era, rest) = name(&names, true, text)?;
                    self.is_bc = Some(era == 1);
                    rest
                }
                Part::Half => {
                    let (half, rest) = name(&["AM", "PM"], true, text)?;
                    self.is_afternoon = Some(half == 1);
                    rest
                }
                Part::Zone => {
                    let (zone, rest) = zone(text)?;
                    self.zone = Some(zone);
                    rest
                }
                Part::Offset {
                    zulu,
                    colon,
                    minutes,
                } => {
                    let (offset, rest) = offset(text, *zulu, *colon, *minutes)?;
                    self.offset = Some(offset);
                    rest
                }
                Part::Optional(inner) => {
                    let mut attempt = self.clone();
                    match attempt.read(inner, text) {
                        Some(rest) => {
                            *self = attempt;
                            rest
                        }
                        None => text,
                    }
                }
            };
        }
        Some(text)
    }

    fn number<'t>(
        &mut self,
        field: Field,
        fewest: usize,
        most: usize,
        reserved: usize,
        text: &'t str,
    ) -> Option<&'t str> {
        let unsigned = if fewest == most {
            text
        } else {
            text.strip_prefix(['-', '+']).unwrap_or(text)
        };
        let available = digits(unsigned);
        let width = if fewest == most {
            most
        } else {
            available.saturating_sub(reserved).clamp(fewest, most)
        };
        if available < width {
            return None;
        }
        let number: i64 = unsigned.get(..width)?.parse().ok()?;
        let number = if unsigned.len() < text.len() && text.starts_with('-') {
            -number
        } else {
            number
        };
        match field {
            Field::ShortYear => self.set(Field::YearOfEra, 2000 + number)?,
            _ => self.set(field, number)?,
        }
        unsigned.get(width..)
    }

    fn date(&self) -> Option<Date> {
        let year = match (self.get(Field::Year), self.get(Field::YearOfEra)) {
            (Some(year), _) => year,
            (None, Some(year)) if self.is_bc == Some(true) => 1 - year,
            (None, Some(year)) => year,
            (None, None) => return None,
        };
        let first = Date::new(i16::try_from(year).ok()?, 1, 1).ok()?;
        let date = match (
            self.get(Field::Month),
            self.get(Field::Day),
            self.get(Field::DayOfYear),
        ) {
            (Some(month), Some(day), _) => {
                let month = Date::new(first.year(), i8::try_from(month).ok()?, 1).ok()?;
                if !(1..=31).contains(&day) {
                    return None;
                }
                // The 31st of a shorter month becomes its last day.
                let day = i8::try_from(day).ok()?.min(month.days_in_month());
                Date::new(month.year(), month.month(), day).ok()?
            }
            (_, _, Some(day)) => {
                if day < 1 || day > i64::from(first.days_in_year()) {
                    return None;
                }
                first
                    .checked_add(jiff::Span::new().try_days(day - 1).ok()?)
                    .ok()?
            }
            _ => return None,
        };
        let fits = self
            .weekday
            .is_none_or(|weekday| weekday == i64::from(date.weekday().to_monday_zero_offset()));
        fits.then_some(date)
    }

    /// Nanoseconds of the day; a whole day for 24:00; midnight without a field.
    fn time(&self) -> Option<i64> {
        const SECOND: i64 = 1_000_000_000;
        const DAY: i64 = 86_400 * SECOND;
        let within = |field, bounds: std::ops::RangeInclusive<i64>| match self.get(field) {
            Some(number) if !bounds.contains(&number) => Err(()),
            number => Ok(number),
        };
        let day = |nanos: Option<i64>, unit: i64| {
            nanos.map(|count| count.checked_mul(unit).filter(|n| (0..DAY).contains(n)))
        };
        if let Some(nanos) = day(self.get(Field::NanoOfDay), 1)
            .or_else(|| day(self.get(Field::MilliOfDay), 1_000_000))
        {
            return nanos;
        }
        let half = self
            .is_afternoon
            .map(|afternoon| if afternoon { 12 } else { 0 });
        let (hour, clock) = (
            within(Field::Hour, 0..=24).ok()?,
            within(Field::ClockHour, 1..=24).ok()?,
        );
        let (twelve, twelve_clock) = (
            within(Field::HalfHour, 0..=11).ok()?,
            within(Field::HalfClockHour, 1..=12).ok()?,
        );
        let hour = hour.or(clock.map(|hour| hour % 24)).or(twelve
            .or(twelve_clock.map(|hour| hour % 12))
            .zip(half)
            .map(|(hour, half)| hour + half));
        let (minute, second) = (
            within(Field::Minute, 0..=59).ok()?,
            within(Field::Second, 0..=59).ok()?,
        );
        let nano = within(Field::Nano, 0..=999_999_999).ok()?;
        let Some(hour) = hour else {
            // Minutes without an hour, or an hour of a half day without AM or PM, are invalid.
            let none = minute
                .or(second)
                .or(nano)
                .or(twelve)
                .or(twelve_clock)
                .is_none();
            return none.then_some(0);
        };
        if (second.is_some() && minute.is_none()) || (nano.is_some() && second.is_none()) {
            return None;
        }
        let seconds = (hour * 60 + minute.unwrap_or(0)) * 60 + second.unwrap_or(0);
        let nanos = seconds * SECOND + nano.unwrap_or(0);
        (nanos <= DAY).then_some(nanos)
    }

    fn resolve(&self) -> Option<Timestamp> {
        let nanos = self.time()?;
        let midnight = DateTime::from_parts(self.date()?, jiff::civil::Time::midnight());
        let local = midnight
            .checked_add(jiff::Span::new().try_nanoseconds(nanos).ok()?)
            .ok()?;
        let zone = match (&self.offset, &self.zone) {
            (Some(offset), _) => TimeZone::fixed(*offset),
            (None, Some(zone)) => zone.zone.clone(),
            (None, None) => TimeZone::UTC,
        };
        zone.to_ambiguous_timestamp(local).compatible().ok()
    }
}

/// Index of the name at the start of the text.
fn name<'t>(names: &[&str], full: bool, text: &'t str) -> Option<(i64, &'t str)> {
    names.iter().zip(0..).find_map(|(name, index)| {
        let name = if full { name } else { name.get(..SHORT)? };
        Some((index, text.strip_prefix(name)?))
    })
}

/// The longest zone name at the start of the text.
fn zone(text: &str) -> Option<(Zone, &str)> {
    /// Longer than any name in the database.
    const LONGEST: usize = 40;
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"/_+-:".contains(byte);
    let longest = text.bytes().take(LONGEST).take_while(fits).count();
    (1..=longest).rev().find_map(|length| {
        let (name, rest) = text.split_at_checked(length)?;
        Some((
            abbreviation(name)
                .and_then(Zone::find)
                .or_else(|| Zone::find(name))?,
            rest,
        ))
    })
}

/// The region of an English abbreviation in Java.
fn abbreviation(name: &str) -> Option<&'static str> {
    Some(match name {
        "PST" | "PDT" => "America/Los_Angeles",
        "MST" | "MDT" => "America/Denver",
        "CST" | "CDT" => "America/Chicago",
        "EST" | "EDT" => "America/New_York",
        "AKST" | "AKDT" => "America/Anchorage",
        "HST" => "Pacific/Honolulu",
        "BST" => "Europe/London",
        "WET" | "WEST" => "Europe/Lisbon",
        "CET" | "CEST" => "Europe/Paris",
        "EET" | "EEST" => "Europe/Bucharest",
        "MSK" => "Europe/Moscow",
        "IST" => "Asia/Kolkata",
        "JST" => "Asia/Tokyo",
        "AEST" | "AEDT" => "Australia/Sydney",
        _ => return None,
    })
}

fn offset(text: &str, zulu: bool, colon: bool, minutes: Minutes) -> Option<(Offset, &str)> {
    if zulu && let Some(rest) = text.strip_prefix('Z') {
        return Some((Offset::UTC, rest));
    }
    let long = if colon { 6 } else { 5 };
    let attempts: &[usize] = if minutes == Minutes::Optional {
        &[long, 3]
    } else {
        &[long]
    };
    attempts.iter().find_map(|&length| {
        let (part, rest) = text.split_at_checked(length)?;
        if part.contains(':') != (colon && length == long) {
            return None;
        }
        Some((read_offset(part)?, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, pattern: &str) -> Option<i64> {
        Parse::new(pattern)?
            .read(text)
            .map(Timestamp::as_millisecond)
    }

    #[test]
    fn the_examples_of_the_page_are_parsed() {
        for (text, pattern, expected) in [
            (
                "2020-04-03 09:45:18 UTC+01:00",
                "yyyy-MM-dd HH:mm:ss VV",
                1_585_903_518_000,
            ),
            ("18 December 2015", "dd MMMM yyyy", 1_450_396_800_000),
            (
                "2007-12-03 10:15:30.592 America/Los_Angeles",
                "yyyy-MM-dd HH:mm:ss.SSS z",
                1_196_705_730_592,
            ),
        ] {
            assert_eq!(read(text, pattern), Some(expected), "{text}");
        }
    }

    #[test]
    fn fields_are_parsed_as_in_java() {
        let day = 86_400_000;
        for (text, pattern, expected) in [
            ("19700102", "yyyyMMdd", Some(day)),
            ("1970-1-2", "yyyy-M-d", Some(day)),
            ("1970-01-2", "yyyy-MM-dd", None),
            ("70-01-02", "yyyy-MM-dd", None),
            ("01/02/00", "MM/dd/yy", Some(10958 * day)),
            ("Fri, 2 Jan 1970", "EEE, d MMM yyyy", Some(day)),
            ("Mon, 2 Jan 1970", "EEE, d MMM yyyy", None),
            ("2 jan 1970", "d MMM yyyy", None),
            ("1970-002", "yyyy-DDD", Some(day)),
            ("1970-01-01T12:00 AM", "yyyy-MM-dd'T'hh:mm a", Some(0)),
            ("1970-01-01T12:00 PM", "yyyy-MM-dd'T'hh:mm a", Some(day / 2)),
            ("1970-01-01T12:00", "yyyy-MM-dd'T'hh:mm", None),
            ("1970-01-01T24:00", "yyyy-MM-dd'T'HH:mm", Some(day)),
            ("1970-01-01T24:01", "yyyy-MM-dd'T'HH:mm", None),
            (
                "1970-01-01T00:00:00.5",
                "yyyy-MM-dd'T'HH:mm:ss.S",
                Some(500),
            ),
            ("1970-01-01T01:00+01", "yyyy-MM-dd'T'HH:mmX", Some(0)),
            ("1970-01-01T01:00+0100", "yyyy-MM-dd'T'HH:mmX", Some(0)),
            ("1970-01-01T01:00+01:00", "yyyy-MM-dd'T'HH:mmXXX", Some(0)),
            ("1970-01-01T00:00Z", "yyyy-MM-dd'T'HH:mmXXX", Some(0)),
            ("1970-01-01T00:00Z", "yyyy-MM-dd'T'HH:mmxxx", None),
            ("1970-01-01T01:00+0100", "yyyy-MM-dd'T'HH:mmZ", Some(0)),
            ("1970-01-01 00:00 PST", "yyyy-MM-dd HH:mm z", Some(day / 3)),
            ("1970-01-01", "yyyy-MM-dd['T'HH:mm]", Some(0)),
            ("1970-01-01T01:00", "yyyy-MM-dd['T'HH:mm]", Some(3_600_000)),
            ("1970-02-31", "yyyy-MM-dd", Some((31 + 27) * day)),
            ("1970-02-32", "yyyy-MM-dd", None),
            ("1970-13-01", "yyyy-MM-dd", None),
            ("1970-01", "yyyy-MM", None),
            ("10:00", "HH:mm", None),
            ("1970-01-01 ", "yyyy-MM-dd", None),
            ("nope", "yyyy-MM-dd", None),
        ] {
            assert_eq!(read(text, pattern), expected, "{text} by {pattern}");
        }
    }

    #[test]
    fn unsupported_patterns_are_refused() {
        for pattern in ["YYYY-'W'ww", "yyyy'", "]", "{", "bb", "VVV", "aa", "ppH"] {
            assert!(Parse::new(pattern).is_none(), "{pattern}");
        }
        assert!(Parse::new(&"[".repeat(1000)).is_none());
    }
}
