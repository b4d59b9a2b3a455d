//! Times of schedules. In: five fields in the manner of cron, or a name like `@daily`. Out: whether a minute is one of
//! them. All times are UTC; a time that never comes is refused. Knows no clock.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::fault::cut;
use super::text::NotThat;

/// Minutes at which something happens, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    source: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Is a day of the month said, and a day of the week? Then either is enough.
    either_day: bool,
}

/// A minute of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minute {
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 1 to 31.
    pub day: u8,
    /// 1 to 12.
    pub month: u8,
    /// 0 to 6, from Sunday.
    pub weekday: u8,
}

struct Field {
    what: &'static str,
    from: u32,
    to: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { what: "minute", from: 0, to: 59, names: &[] },
    Field { what: "hour", from: 0, to: 23, names: &[] },
    Field { what: "day of the month", from: 1, to: 31, names: &[] },
    Field { what: "month", from: 1, to: 12, names: &MONTHS },
    // Sunday is 0 and 7.
    Field { what: "day of the week", from: 0, to: 7, names: &WEEKDAYS },
];
const NAMED: [(&str, &str); 5] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];
/// Days of each month, in leap years.
const DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Cron {
    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Is this minute one of them?
    #[must_use]
    pub fn is_at(&self, now: Minute) -> bool {
        let has = |set: u64, value: u8| set & (1_u64 << (value & 63)) != 0;
        let day = has(self.days, now.day);
        let weekday = has(self.weekdays, now.weekday);
        has(self.minutes, now.minute)
            && has(self.hours, now.hour)
            && has(self.months, now.month)
            && if self.either_day { day || weekday } else { day && weekday }
    }

    fn comes(&self) -> bool {
        let days_of = |month: usize| (1..=DAYS[month]).fold(0_u64, |days, day| days | (1 << day));
        let months = (0..DAYS.len()).filter(|month| self.months & (1 << (month + 1)) != 0);
        self.either_day || months.into_iter().any(|month| self.days & days_of(month) != 0)
    }
}

impl FromStr for Cron {
    type Err = NotThat;

    fn from_str(text: &str) -> Result<Self, NotThat> {
        let named = NAMED.iter().find(|(name, _)| *name == text);
        let written = named.map_or(text, |(_, fields)| *fields);
        let parts: Vec<&str> = written.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            let remedy = "write minute, hour, day of the month, month and day of the week, as in \"30 3 * * 1-5\", \
                          or @hourly, @daily, @weekly, @monthly or @yearly";
            return Err(NotThat::new(format!("{} has not five fields", cut(text)), remedy));
        };
        let weekdays = FIELDS[4].read(weekday)?;
        let cron = Self {
            source: text.to_owned(),
            minutes: FIELDS[0].read(minute)?,
            hours: FIELDS[1].read(hour)?,
            days: FIELDS[2].read(day)?,
            months: FIELDS[3].read(month)?,
            weekdays: (weekdays | (weekdays >> 7)) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        match cron.comes() {
            true => Ok(cron),
            false => Err(NotThat::new("none of these months has such a day", "choose another day or month")),
        }
    }
}

impl Field {
    /// The numbers that a field means, as bits.
    fn read(&self, text: &str) -> Result<u64, NotThat> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part).ok_or_else(|| self.wrong(part))?))
    }

    fn part(&self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            None => (part, 1),
            Some((range, step)) => (range, number(step).filter(|step| (1..=self.to).contains(step))?),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.from, self.to),
            None if part.contains('/') => return None,
            None => (self.value(range)?, self.value(range)?),
            Some((from, to)) => (self.value(from)?, self.value(to)?),
        };
        let numbers = (from..=to).step_by(usize::try_from(step).ok()?);
        Some(numbers.fold(0, |set, number| set | (1_u64 << number))).filter(|set| *set != 0)
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match named {
            Some(place) => u32::try_from(place).ok()? + self.from,
            None => number(text)?,
        };
        (self.from..=self.to).contains(&value).then_some(value)
    }

    fn wrong(&self, part: &str) -> NotThat {
        let Self { what, from, to, .. } = self;
        NotThat::new(
            format!("{} is no {what}", cut(part)),
            format!("write {from} to {to}, a range as {from}-{to}, *, or steps as */2"),
        )
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
