//! The times of a window: once or recurring.

use jiff::{Timestamp, ToSpan as _};

use super::{weekly::WeeklySpan, zone::NamedTimeZone};

/// The times at which a window is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowSchedule(WindowRecurrence);

#[derive(Clone, Debug, PartialEq)]
enum WindowRecurrence {
    Once {
        from: Timestamp,
        until: Timestamp,
    },
    Again {
        spans: Vec<WeeklySpan>,
        zone: NamedTimeZone,
    },
}

/// The state of a window at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WindowState {
    /// The end, if it is in force.
    pub in_force_until: Option<Timestamp>,
    /// The next moment at which this may change; `None` if it never will.
    pub next_change: Option<Timestamp>,
}

impl WindowSchedule {
    /// Creates a window that lasts from one moment until just before another.
    ///
    /// Returns `None` if it would end before it begins.
    #[must_use]
    pub fn once(from: Timestamp, until: Timestamp) -> Option<Self> {
        (from < until).then_some(Self(WindowRecurrence::Once { from, until }))
    }

    /// Creates a window that recurs at these times in a zone; overlapping times are merged.
    #[must_use]
    pub fn again(spans: Vec<WeeklySpan>, zone: NamedTimeZone) -> Self {
        Self(WindowRecurrence::Again { spans, zone })
    }

    /// Returns the state at a moment.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> WindowState {
        match &self.0 {
            WindowRecurrence::Once { from, until } => WindowState {
                in_force_until: (*from <= now && now < *until).then_some(*until),
                next_change: [*from, *until].into_iter().find(|change| *change > now),
            },
            WindowRecurrence::Again { spans, zone } => again(spans, zone, now),
        }
    }

    /// Returns `true` if it will not be in force again.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        matches!(self.0, WindowRecurrence::Once { until, .. } if until <= now)
    }

    /// Describes the times, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.0 {
            WindowRecurrence::Once { from, until } => format!("{} to {}", utc(*from), utc(*until)),
            WindowRecurrence::Again { spans, zone } => {
                let spans: Vec<_> = spans.iter().map(ToString::to_string).collect();
                format!("{} ({})", spans.join(", "), zone.name())
            }
        }
    }
}

/// Formats a moment in UTC, with seconds unless the minute is full.
fn utc(at: Timestamp) -> String {
    let is_full = at.as_second() % 60 == 0;
    let format = match is_full {
        true => "%Y-%m-%d %H:%M UTC",
        false => "%Y-%m-%d %H:%M:%S UTC",
    };
    at.strftime(format).to_string()
}

fn again(spans: &[WeeklySpan], zone: &NamedTimeZone, now: Timestamp) -> WindowState {
    let mut stretches = around(spans, zone, now);
    stretches.sort_unstable();
    let mut until = None;
    for (begins, ends) in &stretches {
        let reached = until.unwrap_or(now);
        if *begins <= reached && *ends > reached {
            until = Some(*ends);
        }
    }
    // One that lasts all week never ends: it is evaluated again before the known occurrences run out.
    let begins = stretches.iter().map(|(begins, _)| *begins);
    WindowState {
        in_force_until: until,
        next_change: until.or_else(|| begins.filter(|begins| *begins > now).min()),
    }
}

/// Returns all occurrences that begin from the day before yesterday on, for two weeks and a day.
fn around(
    spans: &[WeeklySpan],
    zone: &NamedTimeZone,
    now: Timestamp,
) -> Vec<(Timestamp, Timestamp)> {
    let today = zone.clock(now).date();
    (-2..=AHEAD)
        .filter_map(|days| today.checked_add(days.days()).ok())
        .flat_map(|date| spans.iter().filter_map(move |span| span.on(date, zone)))
        .collect()
}

/// In days. A week contains each occurrence once, and one that a clock change skips is in the next week.
const AHEAD: i32 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn weekly(spans: &[&str], zone: &str) -> WindowSchedule {
        let spans = spans
            .iter()
            .map(|span| WeeklySpan::weekly(span).unwrap())
            .collect();
        WindowSchedule::again(spans, NamedTimeZone::named(zone).unwrap())
    }

    /// Returns the end of the window in force and the next change, as text.
    fn look(times: &WindowSchedule, now: &str) -> (Option<String>, Option<String>) {
        let found = times.at(at(now));
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        (text(found.in_force_until), text(found.next_change))
    }

    #[test]
    fn once_means_from_its_beginning_until_just_before_its_end() {
        let times =
            WindowSchedule::once(at("2026-01-02T00:00:00Z"), at("2026-01-03T00:00:00Z")).unwrap();
        for (now, in_force, next) in [
            (
                "2026-01-01T23:59:59.999Z",
                false,
                Some("2026-01-02T00:00:00Z"),
            ),
            ("2026-01-02T00:00:00Z", true, Some("2026-01-03T00:00:00Z")),
            (
                "2026-01-02T23:59:59.999Z",
                true,
                Some("2026-01-03T00:00:00Z"),
            ),
            ("2026-01-03T00:00:00Z", false, None),
        ] {
            let found = times.at(at(now));
            assert_eq!(found.in_force_until.is_some(), in_force, "{now}");
            assert_eq!(found.next_change, next.map(at), "{now}");
            assert_eq!(times.is_over(at(now)), next.is_none(), "{now}");
        }
        assert_eq!(
            WindowSchedule::once(at("2026-01-02T00:00:00Z"), at("2026-01-02T00:00:00Z")),
            None
        );
    }

    #[test]
    fn a_weekly_window_comes_on_its_days_and_goes_on_past_midnight() {
        let times = weekly(&["Sat 22:00-02:00"], "UTC");
        // 2026-11-21 is a Saturday.
        for (now, until, next) in [
            ("2026-11-21T21:59:59Z", None, "2026-11-21T22:00:00Z"),
            (
                "2026-11-21T22:00:00Z",
                Some("2026-11-22T02:00:00Z"),
                "2026-11-22T02:00:00Z",
            ),
            (
                "2026-11-22T01:59:59Z",
                Some("2026-11-22T02:00:00Z"),
                "2026-11-22T02:00:00Z",
            ),
            ("2026-11-22T02:00:00Z", None, "2026-11-28T22:00:00Z"),
        ] {
            let expected = (until.map(str::to_owned), Some(next.to_owned()));
            assert_eq!(look(&times, now), expected, "{now}");
        }
    }

    #[test]
    fn spans_that_meet_are_one_window() {
        let times = weekly(
            &["Fri 22:00-24:00", "Sat-Sun 00:00-24:00", "Mon 00:00-06:00"],
            "UTC",
        );
        let monday = Some("2026-11-23T06:00:00Z".to_owned());
        assert_eq!(look(&times, "2026-11-20T22:00:00Z").0, monday);
        assert_eq!(
            look(&times, "2026-11-22T12:00:00Z"),
            (monday.clone(), monday)
        );
        let (in_force, next) = look(&times, "2026-11-23T06:00:00Z");
        assert_eq!(
            (in_force, next.as_deref()),
            (None, Some("2026-11-27T22:00:00Z"))
        );
    }

    #[test]
    fn one_that_never_ends_is_always_in_force() {
        let times = weekly(&["Mon-Sun 00:00-24:00"], "Europe/Berlin");
        for now in [
            "2026-03-29T01:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-07-01T00:00:00Z",
        ] {
            let found = times.at(at(now));
            assert!(
                found.in_force_until.is_some_and(|until| until > at(now)),
                "{now}"
            );
        }
    }

    /// In Berlin the clocks go from 02:00 to 03:00 at 2026-03-29T01:00Z.
    #[test]
    fn what_the_clocks_skip_begins_when_they_are_moved_and_ends_as_if_they_had_not_been() {
        for (span, begins, ends) in [
            (
                "Sun 01:00-04:00",
                "2026-03-29T00:00:00Z",
                "2026-03-29T02:00:00Z",
            ),
            (
                "Sun 02:30-03:30",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z",
            ),
            (
                "Sun 02:00-03:30",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z",
            ),
            (
                "Sun 01:00-02:30",
                "2026-03-29T00:00:00Z",
                "2026-03-29T01:30:00Z",
            ),
            (
                "Sun 02:10-02:50",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:50:00Z",
            ),
        ] {
            let times = weekly(&[span], "Europe/Berlin");
            let before = look(&times, "2026-03-28T12:00:00Z");
            assert_eq!(before, (None, Some(begins.to_owned())), "{span}");
            assert_eq!(look(&times, begins).0.as_deref(), Some(ends), "{span}");
            assert_eq!(look(&times, ends).0, None, "{span}");
        }
    }

    /// In Berlin the clocks go from 03:00 back to 02:00 at 2026-10-25T01:00Z.
    #[test]
    fn what_the_clocks_show_twice_begins_at_the_first_and_ends_at_the_second() {
        for (span, begins, ends) in [
            (
                "Sun 02:30-02:45",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:45:00Z",
            ),
            (
                "Sun 02:00-04:00",
                "2026-10-25T00:00:00Z",
                "2026-10-25T03:00:00Z",
            ),
            (
                "Sun 01:00-03:00",
                "2026-10-24T23:00:00Z",
                "2026-10-25T02:00:00Z",
            ),
        ] {
            let times = weekly(&[span], "Europe/Berlin");
            let before = look(&times, "2026-10-24T12:00:00Z");
            assert_eq!(before, (None, Some(begins.to_owned())), "{span}");
            assert_eq!(look(&times, begins).0.as_deref(), Some(ends), "{span}");
        }
    }

    #[test]
    fn local_days_are_those_of_the_zone() {
        // Saturday begins in Auckland while it is Friday in UTC.
        let times = weekly(&["Sat 00:00-01:00"], "Pacific/Auckland");
        let found = look(&times, "2026-11-20T10:00:00Z");
        assert_eq!(found, (None, Some("2026-11-20T11:00:00Z".to_owned())));
    }

    #[test]
    fn times_are_described_as_an_operator_writes_them() {
        let once = |from, until| {
            WindowSchedule::once(at(from), at(until))
                .unwrap()
                .describe()
        };
        assert_eq!(
            once("2026-01-02T22:00:00Z", "2026-01-03T04:30:01Z"),
            "2026-01-02 22:00 UTC to 2026-01-03 04:30:01 UTC"
        );
        assert_eq!(
            weekly(&["Sat 22:00-02:00", "Mon-Fri 04:00-05:00"], "Europe/Berlin").describe(),
            "Sat 22:00-02:00, Mon-Fri 04:00-05:00 (Europe/Berlin)"
        );
    }
}
