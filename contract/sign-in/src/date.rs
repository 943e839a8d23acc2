//! Times of Signature Version 4, in UTC: `20261123T053000Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;

/// Formats a time of the years 1970 to 9999; an earlier one becomes 1970-01-01.
pub(crate) fn compact(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = civil(seconds / DAY);
    let rest = seconds % DAY;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Parses a time.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    if date.len() != 8 || time.len() != 6 {
        return None;
    }
    let number = |text: &str, from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(())?;
        digits.parse().ok()
    };
    let (year, month, day) = (
        number(date, 0, 4)?,
        number(date, 4, 6)?,
        number(date, 6, 8)?,
    );
    let (hour, minute, second) = (
        number(time, 0, 2)?,
        number(time, 2, 4)?,
        number(time, 4, 6)?,
    );
    let days = days(year, month, day)?;
    let at = UNIX_EPOCH + Duration::from_secs(days * DAY + hour * 3600 + minute * 60 + second);
    // A time that formats differently does not exist: the 30th of February, 25 o'clock.
    (compact(at) == text).then_some(at)
}

/// Year, month and day of a number of days since 1970-01-01.
///
/// Years begin in March here, so that the leap day is the last day of a year, and five months always have
/// 153 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + MARCH_OF_YEAR_0;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date, which need not exist.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let year_of_era = year % 400;
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (year / 400 * ERA + day_of_era).checked_sub(MARCH_OF_YEAR_0)
}

/// Days of 400 years, the period of the calendar.
const ERA: u64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01.
const MARCH_OF_YEAR_0: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_and_parsed() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_709_251_200, "20240301T000000Z"),
            (1_798_761_599, "20261231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(compact(at), text);
            assert_eq!(parse(text), Some(at), "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in 0..ERA {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), Some(day), "{year}-{month}-{date}");
        }
    }

    #[test]
    fn invalid_times_are_refused() {
        for text in [
            "",
            "20260230T000000Z",
            "20261301T000000Z",
            "20260001T000000Z",
            "20260100T000000Z",
            "20260101T250000Z",
            "2026010T0000000Z",
            "20260101T000000",
            "+0260101T000000Z",
            "00000101T000000Z",
            "２０26T000000Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
