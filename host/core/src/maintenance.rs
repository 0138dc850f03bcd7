//! Maintenance windows: times of planned work on platforms, during which no alert is needed.
//!
//! This module only judges: it reads no clock, the caller passes the time. A window in force is shown next to a
//! platform's health and does not change it; it can also pause the platform's checks.

use std::{collections::BTreeMap, sync::Arc};

use conductor_types::Checks;
use jiff::Timestamp;

pub use self::{
    times::{WindowSchedule, WindowState},
    weekly::{SpanError, WeeklySpan},
    zone::{NamedTimeZone, ZoneError, names as zone_names},
};
use crate::pattern::NamePattern;

mod times;
mod weekly;
mod zone;

/// A maintenance window.
#[derive(Clone, Debug, PartialEq)]
pub struct MaintenanceWindow {
    /// The window's name; unique among those of its origin.
    pub name: Arc<str>,
    /// The reason, for people.
    pub reason: Arc<str>,
    /// The effect on checks.
    pub checks: Checks,
    /// The platforms it applies to.
    pub scope: WindowScope,
    /// The times at which it is in force.
    pub times: WindowSchedule,
    /// The origin of the window.
    pub origin: WindowOrigin,
    /// The authenticated user who started it, if any.
    pub by: Option<Arc<str>>,
}

/// The origin of a window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WindowOrigin {
    /// Defined in the config.
    Config,
    /// Started by an operator while the host ran.
    Operator,
}

impl WindowOrigin {
    /// Returns its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Operator => "operator",
        }
    }
}

/// The platforms that a window applies to: those that match a name and have all of the labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowScope {
    /// The names; any name if empty.
    pub platforms: Vec<NamePattern>,
    /// Required labels and their values.
    pub labels: BTreeMap<String, String>,
}

impl WindowScope {
    /// Returns `true` if a platform is in the scope.
    #[must_use]
    pub fn has(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let named = self.platforms.is_empty() || self.platforms.iter().any(|p| p.matches(name));
        named && self.labels.iter().all(|(k, v)| labels.get(k) == Some(v))
    }
}

/// The window in force for a platform.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// The window's name.
    pub name: Arc<str>,
    /// The reason.
    pub reason: Arc<str>,
    /// The effect on checks.
    pub checks: Checks,
    /// The end, in seconds since 1970.
    pub until: f64,
    /// The authenticated user who started it, if any.
    pub by: Option<Arc<str>>,
}

/// The windows in force at one moment.
pub struct ActiveWindows<'a> {
    in_force: Vec<(&'a WindowScope, Arc<InForce>)>,
    /// The time at which this may change.
    pub next_change: Option<Timestamp>,
}

/// Evaluates all windows at once.
pub fn judge<'a>(
    windows: impl IntoIterator<Item = &'a MaintenanceWindow>,
    now: Timestamp,
) -> ActiveWindows<'a> {
    let mut in_force = Vec::new();
    let mut next_change: Option<Timestamp> = None;
    for window in windows {
        let found = window.times.at(now);
        if let Some(until) = found.in_force_until {
            let what = InForce {
                name: Arc::clone(&window.name),
                reason: Arc::clone(&window.reason),
                checks: window.checks,
                until: seconds(until),
                by: window.by.clone(),
            };
            in_force.push((&window.scope, Arc::new(what)));
        }
        next_change = [next_change, found.next_change].into_iter().flatten().min();
    }
    // The strongest window comes first: a pause, then the one that lasts longest.
    in_force.sort_by(|(_, a), (_, b)| {
        let weight = |found: &InForce| (found.checks, found.until);
        weight(b)
            .partial_cmp(&weight(a))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    ActiveWindows {
        in_force,
        next_change,
    }
}

impl ActiveWindows<'_> {
    /// Returns the window in force for a platform: of several, one that pauses checks, else the one that lasts longest.
    #[must_use]
    pub fn of(&self, platform: &str, labels: &BTreeMap<String, String>) -> Option<Arc<InForce>> {
        let mut found = self.in_force.iter();
        let (_, what) = found.find(|(scope, _)| scope.has(platform, labels))?;
        Some(Arc::clone(what))
    }
}

/// Returns the seconds since 1970.
#[must_use]
pub fn seconds(at: Timestamp) -> f64 {
    at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

/// Formats a moment in this machine's time zone, for people; with seconds unless the minute is full.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a moment that no calendar has is none at all"
)]
pub fn local_time(unix_seconds: f64) -> String {
    match Timestamp::from_second(unix_seconds as i64) {
        Ok(at) => {
            let shown = at.to_zoned_datetime(jiff::tz::TimeZone::system());
            let time = match shown.second() {
                0 => "%H:%M",
                _ => "%H:%M:%S",
            };
            shown
                .strftime(&format!("%a %Y-%m-%d {time} %Z"))
                .to_string()
        }
        Err(_) => "never".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn window(name: &str, platforms: &[&str], checks: Checks, until: &str) -> MaintenanceWindow {
        MaintenanceWindow {
            name: name.into(),
            reason: "why".into(),
            checks,
            scope: WindowScope {
                platforms: platforms.iter().map(|p| NamePattern::new(p)).collect(),
                labels: BTreeMap::new(),
            },
            times: WindowSchedule::once(at("2026-01-01T00:00:00Z"), at(until)).unwrap(),
            origin: WindowOrigin::Config,
            by: None,
        }
    }

    #[test]
    fn a_pause_comes_before_a_window_that_lasts_longer_and_the_longest_first_among_equals() {
        let windows = [
            window("long", &["*"], Checks::GoOn, "2026-01-09T00:00:00Z"),
            window("short", &["*"], Checks::GoOn, "2026-01-05T00:00:00Z"),
            window("pause", &["db*"], Checks::Pause, "2026-01-03T00:00:00Z"),
        ];
        let none = BTreeMap::new();
        let found = judge(&windows, at("2026-01-02T00:00:00Z"));
        assert_eq!(&*found.of("db1", &none).unwrap().name, "pause");
        assert_eq!(&*found.of("shop", &none).unwrap().name, "long");
        assert_eq!(found.next_change, Some(at("2026-01-03T00:00:00Z")));
        let found = judge(&windows, at("2026-01-03T00:00:00Z"));
        assert_eq!(&*found.of("db1", &none).unwrap().name, "long");
        let found = judge(&windows, at("2026-01-09T00:00:00Z"));
        assert_eq!((found.of("db1", &none), found.next_change), (None, None));
    }

    #[test]
    fn a_window_in_force_ends_at_its_time_in_seconds_since_1970() {
        let windows = [window("w", &["*"], Checks::GoOn, "2026-01-09T00:00:00.5Z")];
        let found = judge(&windows, at("2026-01-02T00:00:00Z"));
        let until = found.of("db1", &BTreeMap::new()).unwrap().until;
        assert_eq!(until.to_bits(), 1_767_916_800.5_f64.to_bits());
    }

    #[test]
    fn the_names_of_the_origins_are_those_of_the_api() {
        let names = [WindowOrigin::Config, WindowOrigin::Operator].map(WindowOrigin::name);
        assert_eq!(names, ["config", "operator"]);
    }

    #[test]
    fn a_moment_has_seconds_unless_the_minute_is_full() {
        let (full, odd) = (local_time(1_763_000_040.0), local_time(1_763_000_069.0));
        assert!(full.contains(":14 ") && !full.contains(":14:"), "{full}");
        assert!(odd.contains(":14:29 "), "{odd}");
    }

    #[test]
    fn a_scope_wants_one_of_the_names_and_all_of_the_labels() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            owned.collect()
        };
        let mut scope = WindowScope {
            platforms: vec![NamePattern::new("db-*"), NamePattern::new("shop")],
            labels: labels(&[("team", "a")]),
        };
        assert!(scope.has("shop", &labels(&[("team", "a"), ("city", "x")])));
        assert!(!scope.has("shop", &labels(&[("team", "b")])));
        assert!(!scope.has("other", &labels(&[("team", "a")])));
        scope.platforms.clear();
        assert!(scope.has("other", &labels(&[("team", "a")])));
        assert!(!scope.has("other", &labels(&[])));
    }
}
