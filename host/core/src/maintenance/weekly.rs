//! Times of a week or a day, as operators write them: `Sat 02:00-04:00`, `Mon-Fri 22:00-06:00`, `02:00-04:00`.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};

use super::zone::NamedTimeZone;

/// A period on certain days. If its end is not after its beginning, it lasts into the next day.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WeeklySpan {
    /// For each weekday from Monday on: `true` if it begins on it.
    days: [bool; 7],
    /// In minutes since midnight.
    from: u16,
    /// Up to 24:00.
    until: u16,
}

/// The error in a span.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpanError {
    /// Only one of the two was given.
    #[error("it lacks a day or a time")]
    Incomplete,
    /// One time instead of two.
    #[error("{0:?} lacks the `-` between two times")]
    OneTime(String),
    /// A begin at the end of a day.
    #[error("it begins at 24:00: write 00:00, of the day after")]
    BeginsAtMidnight,
    /// The same begin and end.
    #[error("it ends when it begins: for all day, write 00:00-24:00")]
    Empty,
    /// A text other than `H:MM` or `HH:MM`, up to 24:00.
    #[error("{0:?} is not a time of day")]
    Time(String),
    /// A text other than the name of a day.
    #[error("{0:?} is not a day of the week: write {days}", days = DAYS.join(", "))]
    Day(String),
}

impl WeeklySpan {
    /// Parses `02:00-04:00`, which means every day.
    ///
    /// # Errors
    /// If it is not of that form.
    pub fn daily(text: &str) -> Result<Self, SpanError> {
        let (from, until) = times(text.trim())?;
        Ok(Self {
            days: [true; 7],
            from,
            until,
        })
    }

    /// Parses `Sat 02:00-04:00` or `Mon-Fri 22:00-06:00`.
    ///
    /// # Errors
    /// If it is not of that form.
    pub fn weekly(text: &str) -> Result<Self, SpanError> {
        let (days, times_text) = text
            .trim()
            .split_once(char::is_whitespace)
            .ok_or(SpanError::Incomplete)?;
        let (first, last) = days.split_once('-').unwrap_or((days, days));
        let (first, last) = (day(first)?, day(last)?);
        let mut of_week = [false; 7];
        let mut at = first;
        loop {
            of_week[at] = true;
            if at == last {
                break;
            }
            at = (at + 1) % 7;
        }
        let (from, until) = times(times_text.trim())?;
        Ok(Self {
            days: of_week,
            from,
            until,
        })
    }

    /// Returns the begin and end on this day, if any; `None` if a clock change skips all of it.
    pub(super) fn on(
        &self,
        date: Date,
        zone: &NamedTimeZone,
    ) -> Option<(jiff::Timestamp, jiff::Timestamp)> {
        let weekday = usize::try_from(date.weekday().to_monday_zero_offset()).ok()?;
        if !self.days[weekday] {
            return None;
        }
        let last_day = if self.until <= self.from {
            date.tomorrow().ok()?
        } else {
            date
        };
        let begins = zone.begins(shown(date, self.from)?)?;
        let ends = zone.ends(shown(last_day, self.until)?)?;
        (begins < ends).then_some((begins, ends))
    }
}

impl fmt::Display for WeeklySpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let on = |at: usize| self.days[at % 7];
            let first = (0..7).find(|at| on(*at) && !on(at + 6)).unwrap_or(0);
            let many = (0..7).take_while(|more| on(first + more)).count();
            f.write_str(DAYS[first])?;
            if many > 1 {
                write!(f, "-{}", DAYS[(first + many - 1) % 7])?;
            }
            f.write_str(" ")?;
        }
        let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, "{}-{}", clock(self.from), clock(self.until))
    }
}

/// Returns the local time this many minutes after midnight; 24:00 is the next midnight.
fn shown(date: Date, minutes: u16) -> Option<DateTime> {
    if minutes == MINUTES_PER_DAY {
        return Some(date.tomorrow().ok()?.to_datetime(Time::midnight()));
    }
    let hour = i8::try_from(minutes / 60).ok()?;
    let minute = i8::try_from(minutes % 60).ok()?;
    Some(date.to_datetime(Time::new(hour, minute, 0, 0).ok()?))
}

fn times(text: &str) -> Result<(u16, u16), SpanError> {
    let (from, until) = text
        .split_once('-')
        .ok_or_else(|| SpanError::OneTime(text.to_owned()))?;
    let (from, until) = (clock(from.trim())?, clock(until.trim())?);
    if from == MINUTES_PER_DAY {
        return Err(SpanError::BeginsAtMidnight);
    }
    if from == until {
        return Err(SpanError::Empty);
    }
    Ok((from, until))
}

fn clock(text: &str) -> Result<u16, SpanError> {
    let wrong = || SpanError::Time(text.to_owned());
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !(1..=2).contains(&hour.len()) || minute.len() != 2 || !digits(hour) || !digits(minute) {
        return Err(wrong());
    }
    let hour: u16 = hour.parse().map_err(|_| wrong())?;
    let minute: u16 = minute.parse().map_err(|_| wrong())?;
    let minutes = hour * 60 + minute;
    if minute >= 60 || minutes > MINUTES_PER_DAY {
        return Err(wrong());
    }
    Ok(minutes)
}

/// Returns the day of the week, from Monday on, by its first three letters or its full name.
fn day(text: &str) -> Result<usize, SpanError> {
    let written = text.to_ascii_lowercase();
    let found = NAMES
        .iter()
        .position(|name| *name == written || (written.len() == 3 && name.starts_with(&written)));
    found.ok_or_else(|| SpanError::Day(text.to_owned()))
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

const NAMES: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

const MINUTES_PER_DAY: u16 = 24 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown_alike() {
        for text in [
            "Sat 02:00-04:00",
            "Mon-Fri 22:00-06:00",
            "Fri-Mon 00:00-24:00",
            "Sun 23:59-00:01",
        ] {
            assert_eq!(WeeklySpan::weekly(text).unwrap().to_string(), text);
        }
        assert_eq!(
            WeeklySpan::weekly("saturday 2:00 - 4:00")
                .unwrap()
                .to_string(),
            "Sat 02:00-04:00"
        );
        assert_eq!(
            WeeklySpan::daily("02:00-04:00").unwrap().to_string(),
            "02:00-04:00"
        );
    }

    #[test]
    fn what_is_no_span_is_refused_with_what_is_wrong() {
        for (text, why) in [
            ("Sat", "lacks a day or a time"),
            ("Sta 02:00-04:00", "not a day"),
            ("S 02:00-04:00", "not a day"),
            ("Sat 02:00", "lacks the `-`"),
            ("Sat 02:00-04:60", "not a time"),
            ("Sat 02:00-24:01", "not a time"),
            ("Sat 24:00-04:00", "begins at 24:00"),
            ("Sat 02:00-02:00", "ends when it begins"),
            ("Sat +2:00-04:00", "not a time"),
            ("Sat 2-4", "not a time"),
            ("Sat 002:00-04:00", "not a time"),
            ("Sat 2:5-04:00", "not a time"),
        ] {
            let error = WeeklySpan::weekly(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    /// In Berlin the clocks go from 02:00 to 03:00 on this day.
    #[test]
    fn a_span_that_a_clock_change_skips_as_a_whole_is_none() {
        let berlin = NamedTimeZone::named("Europe/Berlin").unwrap();
        let day = Date::constant(2026, 3, 29);
        let on = |span: &str| WeeklySpan::daily(span).unwrap().on(day, &berlin);
        assert_eq!(on("02:00-03:00"), None);
        assert!(on("02:00-03:01").is_some());
    }
}
