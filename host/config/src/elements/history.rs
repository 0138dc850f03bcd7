//! `[history]`: how long the past of platforms is kept, and how much of it.

use std::time::Duration;

use conductor_plugin_api::config::Size;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    check::TableValidator,
    duration::{self, given},
};

/// Retention of the past of platforms, by age and size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryConfig {
    /// `false` for a host that keeps no history.
    pub enabled: bool,
    /// Size of the file above which the oldest is removed, in bytes: 16 MiB to 1 TiB.
    pub max_size: u64,
    /// Age of the oldest rollup of five minutes: 2 hours to 10 years.
    pub five_minutes: Duration,
    /// Age of the oldest rollup of an hour, at least that of five minutes.
    pub hours: Duration,
    /// Age of the oldest rollup of a day and of the oldest change of state, at least that of an hour.
    pub days: Duration,
}

/// `[history]`, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "History",
    description = "Retention of the past of platforms, by age and size. Changes take effect at the next restart."
)]
pub(crate) struct RawHistoryConfig {
    /// Keep the changes of state and the durations of checks in `history.sqlite` of the state folder.
    #[schemars(with = "bool", extend("default" = true))]
    #[serde(default)]
    enabled: Option<bool>,
    /// Size of the file above which the oldest is removed, from 16MiB to 1TiB.
    #[schemars(with = "Size", extend("default" = "1GiB"))]
    #[serde(default)]
    max_size: Option<Size>,
    /// Age up to which durations are kept by five minutes, at least 2h.
    #[schemars(with = "duration::RawDuration", extend("default" = "7d"))]
    #[serde(default)]
    five_minutes: Option<duration::RawDuration>,
    /// Age up to which durations are kept by hours; at least `five_minutes`.
    #[schemars(with = "duration::RawDuration", extend("default" = "90d"))]
    #[serde(default)]
    hours: Option<duration::RawDuration>,
    /// Age up to which durations are kept by days, and each change of state, at most ten years; at least `hours`.
    #[schemars(with = "duration::RawDuration", extend("default" = "730d"))]
    #[serde(default)]
    days: Option<duration::RawDuration>,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_size: 1 << 30,
            five_minutes: Duration::from_hours(7 * 24),
            hours: Duration::from_hours(90 * 24),
            days: Duration::from_hours(730 * 24),
        }
    }
}

impl RawHistoryConfig {
    pub(super) fn resolve(self, check: &mut TableValidator<'_>) -> HistoryConfig {
        let default = HistoryConfig::default();
        let five_minutes = given(self.five_minutes).unwrap_or(default.five_minutes);
        let hours = given(self.hours).unwrap_or(default.hours.max(five_minutes));
        let history = HistoryConfig {
            enabled: self.enabled.unwrap_or(default.enabled),
            max_size: self.max_size.map_or(default.max_size, Size::bytes),
            five_minutes,
            hours,
            days: given(self.days).unwrap_or(default.days.max(hours)),
        };
        history.check(check);
        history
    }
}

impl HistoryConfig {
    fn check(&self, check: &mut TableValidator<'_>) {
        if !(LEAST_SIZE..=MOST_SIZE).contains(&self.max_size) {
            let [size, least, most] = [self.max_size, LEAST_SIZE, MOST_SIZE].map(Size::from_bytes);
            let message = format!("{} is {size}", check.name("max_size"));
            check.refuse(
                "max_size",
                message,
                format!("choose from {least} to {most}"),
            );
        }
        for (key, age) in [
            ("five_minutes", self.five_minutes),
            ("hours", self.hours),
            ("days", self.days),
        ] {
            check.duration(key, age, SHORTEST_AGE, LONGEST_AGE);
        }
        check.at_most("five_minutes", self.five_minutes, "hours", self.hours);
        check.at_most("hours", self.hours, "days", self.days);
    }
}

/// With less there is no room for an hour of many platforms.
const LEAST_SIZE: u64 = 16 << 20;
const MOST_SIZE: u64 = 1 << 40;

/// The rollups of an hour are computed from those of five minutes after it has ended.
const SHORTEST_AGE: Duration = Duration::from_hours(2);
const LONGEST_AGE: Duration = Duration::from_hours(10 * 365 * 24);
