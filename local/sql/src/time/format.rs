//! Formats times by a pattern of Joda-Time's `DateTimeFormat`.

use std::fmt::Write;

use jiff::{Timestamp, Zoned};

use super::{MONTHS, SHORT, WEEKDAYS, Zone, write_offset};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Format(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    /// A letter and its number of repetitions.
    Field(char, usize),
}

impl Format {
    /// `None` for an unknown letter, or a quote that is not closed.
    pub(crate) fn parse(pattern: &str) -> Option<Self> {
        /// Most repetitions of a letter.
        const WIDEST: usize = 64;
        let mut parts = Vec::new();
        let mut characters = pattern.chars().peekable();
        while let Some(character) = characters.next() {
            parts.push(match character {
                '\'' => Part::Text(super::parse::quoted(&mut characters)?),
                letter if letter.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while characters.next_if_eq(&letter).is_some() {
                        count += 1;
                    }
                    if !"GCYxwyeEDMdaKhHkmsSzZ".contains(letter) || count > WIDEST {
                        return None;
                    }
                    Part::Field(letter, count)
                }
                other => Part::Text(other.to_string()),
            });
        }
        Some(Self(parts))
    }

    pub(crate) fn write(&self, time: Timestamp, zone: &Zone) -> String {
        let zoned = time.to_zoned(zone.zone.clone());
        let mut out = String::new();
        for part in &self.0 {
            // Writing to a String does not fail.
            let _ = match part {
                Part::Text(text) => out.write_str(text),
                Part::Field(letter, count) => field(*letter, *count, &zoned, zone, &mut out),
            };
        }
        out
    }
}

fn field(
    letter: char,
    count: usize,
    zoned: &Zoned,
    zone: &Zone,
    out: &mut String,
) -> std::fmt::Result {
    let year = i64::from(zoned.year());
    let year_of_era = if year > 0 { year } else { 1 - year };
    let hour = i64::from(zoned.hour());
    let number = match letter {
        'C' => year_of_era / 100,
        'Y' if count == 2 => year_of_era % 100,
        'Y' => year_of_era,
        'y' if count == 2 => year.rem_euclid(100),
        'y' => year,
        'x' => {
            let week_year = i64::from(zoned.date().iso_week_date().year());
            if count == 2 {
                week_year.rem_euclid(100)
            } else {
                week_year
            }
        }
        'w' => i64::from(zoned.date().iso_week_date().week()),
        'e' => i64::from(zoned.weekday().to_monday_one_offset()),
        'D' => i64::from(zoned.day_of_year()),
        'M' if count < SHORT => i64::from(zoned.month()),
        'd' => i64::from(zoned.day()),
        'K' => hour % 12,
        'h' => (hour + 11) % 12 + 1,
        'H' => hour,
        'k' => (hour + 23) % 24 + 1,
        'm' => i64::from(zoned.minute()),
        's' => i64::from(zoned.second()),
        'S' => {
            let digits = format!("{:09}{:0<count$}", zoned.subsec_nanosecond(), "");
            return out.write_str(digits.get(..count).unwrap_or_default());
        }
        _ => return out.write_str(&text(letter, count, zoned, zone)),
    };
    if number < 0 {
        write!(out, "-{:0count$}", -number)
    } else {
        write!(out, "{number:0count$}")
    }
}

fn text(letter: char, count: usize, zoned: &Zoned, zone: &Zone) -> String {
    let named = |names: &[&str], index: usize| {
        let name = names.get(index).copied().unwrap_or_default();
        if count > SHORT {
            name
        } else {
            name.get(..SHORT).unwrap_or(name)
        }
        .to_owned()
    };
    match letter {
        'G' => if zoned.year() > 0 { "AD" } else { "BC" }.to_owned(),
        'M' => named(&MONTHS, zoned.month() as usize - 1),
        'E' => named(&WEEKDAYS, zoned.weekday().to_monday_zero_offset() as usize),
        'a' => if zoned.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        'Z' => match count {
            1 => write_offset(zoned.offset(), ""),
            2 => write_offset(zoned.offset(), ":"),
            _ => zone
                .name
                .clone()
                .or_else(|| zone.zone.iana_name().map(str::to_owned))
                .unwrap_or_default(),
        },
        _ => match &zone.name {
            Some(name) => name.clone(),
            None => {
                let info = zone.zone.to_offset_info(zoned.timestamp());
                let abbreviation = info.abbreviation();
                if abbreviation.starts_with(['+', '-']) {
                    write_offset(zoned.offset(), ":")
                } else {
                    abbreviation.to_owned()
                }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, milliseconds: i64, zone: &str, expected: &str) {
        let time = Timestamp::from_millisecond(milliseconds).unwrap();
        let format = Format::parse(pattern).unwrap();
        assert_eq!(
            format.write(time, &Zone::find(zone).unwrap()),
            expected,
            "{pattern}"
        );
    }

    #[test]
    fn patterns_of_joda_time_format_their_fields() {
        let time = 1_196_705_730_592; // Monday, 2007-12-03T18:15:30.592Z
        for (pattern, zone, expected) in [
            (
                "yyyy-MM-dd'T'HH:mm:ss.SSSZ",
                "UTC",
                "2007-12-03T18:15:30.592+0000",
            ),
            (
                "yyyy-MM-dd HH:mm:ss z",
                "America/Los_Angeles",
                "2007-12-03 10:15:30 PST",
            ),
            (
                "ZZ ZZZ",
                "America/Los_Angeles",
                "-08:00 America/Los_Angeles",
            ),
            ("EEE EEEE e", "UTC", "Mon Monday 1"),
            ("M MM MMM MMMM", "UTC", "12 12 Dec December"),
            ("yy YYYY CC G", "UTC", "07 2007 20 AD"),
            ("h hh K H k a", "UTC", "6 06 6 18 18 PM"),
            ("D DDD w xxxx", "UTC", "337 337 49 2007"),
            ("S SS SSSS", "UTC", "5 59 5920"),
            ("'o''clock' ''", "UTC", "o'clock '"),
            ("HH:mm z", "+05:30", "23:45 +05:30"),
            ("HH z", "UTC+1", "19 +01:00"),
            ("HH z", "Asia/Dubai", "22 +04:00"),
        ] {
            check(pattern, time, zone, expected);
        }
        check(
            "yyyy.MM.dd G 'at' HH:mm:ss z",
            100_000_000,
            "America/Belize",
            "1970.01.01 AD at 21:46:40 CST",
        );
        check("kk hh", 0, "UTC", "24 12");
    }

    #[test]
    fn unknown_letters_and_open_quotes_are_refused() {
        for pattern in ["yyyy'T", "b", "LLL", "QQ"] {
            assert!(Format::parse(pattern).is_none(), "{pattern}");
        }
        assert!(Zone::find("Mars/Olympus").is_none());
        assert!(Zone::find("+25:00").is_none());
    }
}
