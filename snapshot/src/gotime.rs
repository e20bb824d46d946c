//! Times as Go's `time` package keeps and prints them, where bytes depend on it: RFC 3339 with nanoseconds, as the v2 store has
//! them in JSON.

use std::cmp::Ordering;

const NANOSECONDS: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;
/// Seconds from Go's zero time, the first of January of the year 1, to 1970.
const ZERO_SECONDS: i64 = -62_135_596_800;

/// A day of the proleptic Gregorian calendar: year, month, day of the month. `days` are counted from 1970-01-01.
#[must_use]
pub fn civil(days: i64) -> (i64, i64, i64) {
    // Days since 0000-03-01 in eras of 400 years, years that begin in March: leap days then come last.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// The number of days from 1970-01-01 to this one: what [`civil`] takes.
#[must_use]
pub fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// An instant, and the time zone in which it was written.
///
/// Two are equal when they print alike; [`Time::instant`] compares the instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970, UTC.
    seconds: i64,
    /// Nanoseconds of the second, below 1,000,000,000.
    nanoseconds: u32,
    /// How far the zone is ahead of UTC.
    offset_minutes: i16,
}

impl Time {
    /// Go's zero time, which the v2 store takes for "never".
    pub const ZERO: Self = Self { seconds: ZERO_SECONDS, nanoseconds: 0, offset_minutes: 0 };

    /// A time in nanoseconds since 1970, in UTC.
    #[must_use]
    pub fn of_unix_nanoseconds(nanoseconds: i64) -> Self {
        let part = u32::try_from(nanoseconds.rem_euclid(NANOSECONDS)).unwrap_or_default();
        Self { seconds: nanoseconds.div_euclid(NANOSECONDS), nanoseconds: part, offset_minutes: 0 }
    }

    /// Seconds since 1970 and nanoseconds of the second: what instants are compared by.
    #[must_use]
    pub const fn instant(&self) -> (i64, u32) {
        (self.seconds, self.nanoseconds)
    }

    /// Whether this is Go's zero time, in whatever zone.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.seconds == ZERO_SECONDS && self.nanoseconds == 0
    }

    /// The same instant in UTC.
    #[must_use]
    pub const fn utc(self) -> Self {
        Self { offset_minutes: 0, ..self }
    }

    /// Which of two instants is earlier.
    #[must_use]
    pub fn cmp_instant(&self, other: &Self) -> Ordering {
        self.instant().cmp(&other.instant())
    }

    /// Reads `2006-01-02T15:04:05.999999999Z` or the same with `+07:00` in the place of the `Z`, as Go's JSON decoder does;
    /// digits beyond nanoseconds are dropped. `None` for anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| -> Option<i64> {
            let digits = text.get(range)?;
            digits.iter().try_fold(0i64, |sum, digit| {
                digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
            })
        };
        let is = |at: usize, byte: u8| (text.get(at) == Some(&byte)).then_some(());
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        is(4, b'-').and(is(7, b'-')).and(is(10, b'T')).and(is(13, b':')).and(is(16, b':'))?;
        let days = days_of(year, month, day);
        let is_day = (1..=12).contains(&month) && day >= 1 && civil(days) == (year, month, day);
        if !is_day || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut at = 19;
        let mut nanoseconds = 0u32;
        if is(at, b'.').is_some() {
            at += 1;
            let digits = text.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            for place in 0..9 {
                let digit = if place < digits { number(at + place..at + place + 1)? } else { 0 };
                nanoseconds = nanoseconds * 10 + u32::try_from(digit).ok()?;
            }
            at += digits;
        }
        let offset_minutes = match text.get(at..)? {
            [b'Z'] => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
                if hours > 24 || minutes > 60 {
                    return None;
                }
                let offset = i16::try_from(hours * 60 + minutes).ok()?;
                if *sign == b'-' { -offset } else { offset }
            }
            _ => return None,
        };
        let local = days * DAY_SECONDS + hour * 3_600 + minute * 60 + second;
        Some(Self { seconds: local - i64::from(offset_minutes) * 60, nanoseconds, offset_minutes })
    }
}

impl std::fmt::Display for Time {
    /// As Go's `RFC3339Nano`: no zeros at the end of the fraction.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let local = self.seconds + i64::from(self.offset_minutes) * 60;
        let (year, month, day) = civil(local.div_euclid(DAY_SECONDS));
        let second = local.rem_euclid(DAY_SECONDS);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanoseconds > 0 {
            let digits = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        if self.offset_minutes == 0 {
            return f.write_str("Z");
        }
        let (sign, offset) =
            if self.offset_minutes < 0 { ('-', -self.offset_minutes) } else { ('+', self.offset_minutes) };
        write!(f, "{sign}{:02}:{:02}", offset / 60, offset % 60)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_they_were_written() {
        for text in [
            "0001-01-01T00:00:00Z",
            "2016-02-29T00:00:00Z",
            "2015-11-05T21:47:20.12Z",
            "2026-11-22T03:57:58.123456789+05:30",
            "1969-12-31T23:59:59.000000001-08:00",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(Time::parse(text.as_bytes()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn instants_are_the_same_in_every_zone() {
        let (one, other) = (
            Time::parse(b"2026-11-22T03:00:00Z").unwrap(),
            Time::parse(b"2026-11-22T08:30:00+05:30").unwrap(),
        );
        assert_eq!(one.instant(), other.instant());
        assert_eq!(other.utc(), one);
        assert_eq!(one.instant().0, 1_795_316_400);
        assert!(Time::parse(b"0001-01-01T00:00:00Z").unwrap().is_zero());
        assert_eq!(Time::parse(b"0001-01-01T00:00:00Z").unwrap(), Time::ZERO);
        assert_eq!(Time::of_unix_nanoseconds(-1).to_string(), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00Z ",
        ] {
            assert_eq!(Time::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_hundred_years_is_found_again() {
        for days in -200_000..200_000 {
            let (year, month, day) = civil(days);
            assert_eq!(days_of(year, month, day), days);
        }
    }
}
