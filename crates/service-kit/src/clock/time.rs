//! A point of wall time. In: milliseconds, or what an operator types. Out: RFC 3339 in UTC. Leaves out time
//! zones other than UTC, leap seconds (as POSIX does), and every date crate.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The last representable moment: the end of the year 9999.
const MS_MAX: i64 = 253_402_300_799_999;
const MS_PER_DAY: i64 = 86_400_000;

/// Wall time: milliseconds since 1970-01-01T00:00:00Z, between then and the end of the year 9999.
/// Arithmetic stops at these ends. Shown as `2026-01-31T10:00:00.000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    ms: i64,
}

impl Time {
    /// From milliseconds since the epoch; what lies outside 1970–9999 becomes the nearer end.
    #[must_use]
    pub const fn from_ms(ms: i64) -> Self {
        let ms = if ms < 0 {
            0
        } else if ms > MS_MAX {
            MS_MAX
        } else {
            ms
        };
        Self { ms }
    }

    /// Milliseconds since the epoch, never negative.
    #[must_use]
    pub const fn as_ms(self) -> i64 {
        self.ms
    }

    /// How long after `earlier` this is; zero when it is not (the wall clock may have jumped back).
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.ms - earlier.ms).unwrap_or(0))
    }

    /// This moment moved back by `length`, at most to the epoch.
    #[must_use]
    pub fn minus(self, length: Duration) -> Self {
        Self::from_ms(self.ms.saturating_sub(millis(length)))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self::from_ms(self.ms.saturating_add(millis(rhs)))
    }
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.ms / MS_PER_DAY);
        let ms = self.ms % MS_PER_DAY;
        let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// Days in the 400 years after which the Gregorian calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 0000-03-01, where an era begins, to 1970-01-01.
const EPOCH_DAY: i64 = 719_468;

/// Year, month, day of the day that many days after 1970-01-01 (not before it).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAY;
    let (era, in_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // Years begin in March here, so that the leap day is a year's last.
    let year_in_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_in_era + year_in_era / 4 - year_in_era / 100);
    let march_month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_in_era + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil`]: days from 1970-01-01 to that date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_in_era) = (year.div_euclid(400), year.rem_euclid(400));
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let in_year = (153 * march_month + 2) / 5 + day - 1;
    era * DAYS_PER_ERA + year_in_era * 365 + year_in_era / 4 - year_in_era / 100 + in_year - EPOCH_DAY
}

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not a time; write 2026-01-31, 2026-01-31T10:00:00Z, @SECONDS since 1970, or an age such as 2h or 3d",
    crate::text::one_line(.text)
)]
pub struct TimeError {
    /// What was given, at most 64 characters of it.
    pub text: String,
}

/// A moment an operator names: absolute as [`Time::from_str`] reads it, or an age such as `2h` or `3d`
/// counted back from `now`.
///
/// # Errors
/// [`TimeError`] when it is neither.
pub fn since(text: &str, now: Time) -> Result<Time, TimeError> {
    match crate::config::parse_duration(text) {
        Ok(age) => Ok(now.minus(age)),
        Err(_) => text.parse(),
    }
}

impl FromStr for Time {
    type Err = TimeError;

    /// Reads `2026-01-31`, `2026-01-31T10:00:00Z` (also with a fraction, an offset such as `+02:00`, or a
    /// space for the `T`), and `@SECONDS`.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        absolute(text).ok_or_else(|| TimeError { text: text.chars().take(64).collect() })
    }
}

fn absolute(text: &str) -> Option<Time> {
    if let Some(seconds) = text.strip_prefix('@') {
        return within(digits(seconds)?.checked_mul(1000)?);
    }
    let date = text.get(..10)?;
    let midnight = parse_date(date)? * MS_PER_DAY;
    let rest = text.get(10..)?;
    if rest.is_empty() {
        return within(midnight);
    }
    within(midnight + parse_clock(rest.strip_prefix(['T', 't', ' '])?)?)
}

/// Refuses what lies outside 1970–9999 instead of moving it.
fn within(ms: i64) -> Option<Time> {
    (0..=MS_MAX).contains(&ms).then_some(Time { ms })
}

/// Days since the epoch of `YYYY-MM-DD`.
fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let year = fixed(parts.next()?, 4)?;
    let month = fixed(parts.next()?, 2)?;
    let day = fixed(parts.next()?, 2)?;
    let number = days(year, month, day);
    // A day that the calendar lacks (02-30, month 13) comes back as another one.
    (parts.next().is_none() && civil(number.max(0)) == (year, month, day)).then_some(number)
}

/// Milliseconds since midnight UTC of `HH:MM[:SS[.fff]]` and a zone; may be below zero or above a day.
fn parse_clock(text: &str) -> Option<i64> {
    let zone_at = text.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = text.split_at(zone_at);
    let mut parts = clock.split(':');
    let hour = fixed(parts.next()?, 2).filter(|h| *h < 24)?;
    let minute = fixed(parts.next()?, 2).filter(|m| *m < 60)?;
    let ms = match parts.next() {
        Some(seconds) => parse_seconds(seconds)?,
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    Some((hour * 60 + minute) * 60_000 + ms - parse_zone(zone)? * 60_000)
}

/// Milliseconds of `SS` or `SS.fff…`; digits past the third are dropped.
fn parse_seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole = fixed(whole, 2).filter(|s| *s < 60)?;
    digits(fraction)?;
    let three: String = fraction.chars().chain("00".chars()).take(3).collect();
    Some(whole * 1000 + digits(&three)?)
}

/// Minutes east of UTC of `Z` or `+HH:MM`.
fn parse_zone(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hour, minute) = text.get(1..)?.split_once(':')?;
    Some(sign * (fixed(hour, 2).filter(|h| *h < 24)? * 60 + fixed(minute, 2).filter(|m| *m < 60)?))
}

fn fixed(text: &str, length: usize) -> Option<i64> {
    (text.len() == length).then(|| digits(text)).flatten()
}

fn digits(text: &str) -> Option<i64> {
    let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Time>().unwrap().as_ms()
    }

    #[test]
    fn known_moments_are_shown_in_utc() {
        let shown = |ms| Time::from_ms(ms).to_string();
        assert_eq!(shown(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(shown(1_769_853_600_123), "2026-01-31T10:00:00.123Z");
        assert_eq!(shown(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(shown(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(shown(MS_MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_documented_form_is_read() {
        assert_eq!(ms("2026-01-31"), 1_769_817_600_000);
        assert_eq!(ms("2026-01-31T10:00:00Z"), 1_769_853_600_000);
        assert_eq!(ms("2026-01-31 10:00Z"), 1_769_853_600_000);
        assert_eq!(ms("2026-01-31T12:30:00+02:30"), 1_769_853_600_000);
        assert_eq!(ms("2026-01-31T05:00:00-05:00"), 1_769_853_600_000);
        assert_eq!(ms("2026-01-31T10:00:00.1239Z"), 1_769_853_600_123);
        assert_eq!(ms("2026-01-31T10:00:00.5Z"), 1_769_853_600_500);
        assert_eq!(ms("@1769853600"), 1_769_853_600_000);
        let now = Time::from_ms(1_769_853_600_000);
        assert_eq!(since("2h", now).unwrap(), Time::from_ms(1_769_846_400_000));
        assert_eq!(since("3d", now).unwrap().to_string(), "2026-01-28T10:00:00.000Z");
        assert_eq!(since("2026-01-31", now).unwrap().as_ms(), 1_769_817_600_000);
        assert_eq!(since("30000d", now).unwrap(), Time::from_ms(0));
    }

    #[test]
    fn anything_else_is_refused_with_the_forms() {
        for text in [
            "",
            "@",
            "@-1",
            "@99999999999999999",
            "yesterday",
            "2026-02-30",
            "2026-13-01",
            "2025-02-29",
            "2026-00-10",
            "2026-1-31",
            "1969-12-31",
            "2026-01-31T24:00:00Z",
            "2026-01-31T10:60:00Z",
            "2026-01-31T10:00:00",
            "2026-01-31T10:00:00.Z",
            "2026-01-31T10:00:00+0200",
            "2026-01-31x",
            "２０２６-01-31",
            "+2h",
            "2 h",
        ] {
            assert!(since(text, Time::from_ms(0)).is_err(), "{text:?} was read");
        }
        let text = "gestern\n".parse::<Time>().unwrap_err().to_string();
        assert!(text.starts_with("gestern\\n is not a time; write 2026-01-31, "), "{text}");
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let last = Time::from_ms(i64::MAX);
        assert_eq!(last + Duration::MAX, last);
        assert_eq!(Time::from_ms(-5), Time::from_ms(0));
        assert_eq!(Time::from_ms(5).minus(Duration::MAX), Time::from_ms(0));
        assert_eq!(Time::from_ms(5).since(Time::from_ms(9)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ms in 0..=MS_MAX) {
            let time = Time::from_ms(ms);
            prop_assert_eq!(time.to_string().parse::<Time>(), Ok(time));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9TZ:@.+-]{0,30}") {
            let _ = since(&text, Time::from_ms(1)); // only a panic would be wrong here
        }
    }
}
