//! Snapshots of a host with many platforms, sorted by platform.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use conductor_core::clock::Clock;
use serde_json::Value;

use super::super::snapshot::{self, SnapshotError};

/// The status of each platform and plugin.
pub(super) struct StatusSnapshot {
    /// The time of the request, by the drill's clock, and in seconds since 1970.
    pub(super) at: Duration,
    pub(super) wall: f64,
    pub(super) platforms: HashMap<String, PlatformStatus>,
    workers: HashMap<String, u32>,
}

/// A platform's lattice and its last check, in seconds, the first three since 1970.
pub(super) struct PlatformStatus {
    pub(super) next: f64,
    /// The start of its last check.
    pub(super) started: Option<f64>,
    pub(super) interval: f64,
    pub(super) timeout: f64,
    pub(super) message: String,
}

/// The counts in the metrics.
pub(super) struct MetricsSnapshot {
    pub(super) platforms: HashMap<String, PlatformCounts>,
    restarts: HashMap<(String, String), u64>,
    pub(super) reload_is_successful: bool,
}

/// The counts of a platform.
#[derive(Default)]
pub(super) struct PlatformCounts {
    statuses: HashMap<String, u64>,
    skips: HashMap<String, u64>,
    failures: HashMap<String, u64>,
}

impl StatusSnapshot {
    pub(super) fn take(address: SocketAddr, clock: Clock) -> Result<Self, SnapshotError> {
        let at = clock.now();
        let wall = clock.unix_seconds(at);
        let status = snapshot::status(address)?;
        let named = |list: &str, key: &str| {
            let all = status[list].as_array().into_iter().flatten();
            let pairs = all.filter_map(|one| Some((one[key].as_str()?.to_owned(), one.clone())));
            pairs.collect::<Vec<(String, Value)>>()
        };
        let platforms = named("platforms", "name").into_iter();
        let workers = named("plugins", "id").into_iter();
        Ok(Self {
            at,
            wall,
            platforms: platforms
                .filter_map(|(name, value)| Some((name, PlatformStatus::read(&value)?)))
                .collect(),
            workers: workers
                .filter_map(|(id, value)| Some((id, value["pid"].as_u64()?.try_into().ok()?)))
                .collect(),
        })
    }

    #[cfg(test)]
    pub(super) fn of_one(name: &str, platform: PlatformStatus, wall: f64) -> Self {
        Self {
            at: Duration::ZERO,
            wall,
            platforms: HashMap::from([(name.to_owned(), platform)]),
            workers: HashMap::new(),
        }
    }

    /// Returns the process of a plugin.
    pub(super) fn worker(&self, plugin: &str) -> Option<u32> {
        self.workers.get(plugin).copied()
    }
}

impl PlatformStatus {
    fn read(platform: &Value) -> Option<Self> {
        let number = |key: &str| platform[key].as_f64();
        Some(Self {
            next: number("next_check")?,
            started: number("last_check")
                .zip(number("last_duration"))
                .map(|(end, took)| end - took),
            interval: number("interval")?,
            timeout: number("timeout")?,
            message: platform["message"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Returns the delay between its slot and the start of the last check, in seconds: slots are whole intervals before
    /// the next one.
    pub(super) fn lateness(&self) -> Option<f64> {
        let late = (self.started? - self.next).rem_euclid(self.interval);
        // Because of rounding, a start may appear to be just before its slot.
        Some(if self.interval - late < ROUNDING {
            0.0
        } else {
            late
        })
    }
}

impl MetricsSnapshot {
    pub(super) fn take(address: SocketAddr) -> Result<Self, SnapshotError> {
        let mut counts = Self {
            platforms: HashMap::new(),
            restarts: HashMap::new(),
            reload_is_successful: false,
        };
        for (series, value) in snapshot::metrics(address)? {
            counts.take_in(&series, value);
        }
        Ok(counts)
    }

    fn take_in(&mut self, series: &str, value: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter is a whole number, and not negative"
        )]
        let count = value as u64;
        let (metric, labels) = series.split_once('{').unwrap_or((series, ""));
        let mut add = |key: &str, of: fn(&mut PlatformCounts) -> &mut HashMap<String, u64>| {
            let platform = label(labels, "platform").zip(label(labels, key));
            if let Some((platform, key)) = platform {
                let platform = self.platforms.entry(platform.to_owned()).or_default();
                *of(platform).entry(key.to_owned()).or_default() += count;
            }
        };
        match metric {
            "health_check_total" => add("status", |c| &mut c.statuses),
            "conductor_checks_skipped_total" => add("reason", |c| &mut c.skips),
            "plugin_failure_total" => add("error_type", |c| &mut c.failures),
            "conductor_worker_restarts_total" => {
                if let Some((plugin, reason)) = label(labels, "plugin").zip(label(labels, "reason"))
                {
                    let key = (plugin.to_owned(), reason.to_owned());
                    *self.restarts.entry(key).or_default() += count;
                }
            }
            "conductor_config_last_reload_successful" => self.reload_is_successful = count == 1,
            _ => {}
        }
    }

    #[cfg(test)]
    pub(super) fn of_one(name: &str, healthy: u64) -> Self {
        let count = PlatformCounts {
            statuses: HashMap::from([("healthy".to_owned(), healthy)]),
            ..PlatformCounts::default()
        };
        Self {
            platforms: HashMap::from([(name.to_owned(), count)]),
            restarts: HashMap::new(),
            reload_is_successful: true,
        }
    }

    /// Returns the new generations of a plugin for one reason.
    pub(super) fn restarts_of(&self, plugin: &str, reason: &str) -> u64 {
        let key = (plugin.to_owned(), reason.to_owned());
        self.restarts.get(&key).copied().unwrap_or_default()
    }

    /// Returns the new generations of all plugins for one reason.
    pub(super) fn restarts(&self, reason: &str) -> u64 {
        let of_reason = self.restarts.iter().filter(|((_, r), _)| r == reason);
        of_reason.map(|(_, count)| count).sum()
    }
}

impl PlatformCounts {
    /// Returns the number of due checks, whatever their outcome.
    pub(super) fn due(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.all_skipped()
    }

    pub(super) fn ended(&self, status: &str) -> u64 {
        self.statuses.get(status).copied().unwrap_or_default()
    }

    pub(super) fn all_ended(&self) -> u64 {
        self.statuses.values().sum()
    }

    pub(super) fn skipped(&self, reason: &str) -> u64 {
        self.skips.get(reason).copied().unwrap_or_default()
    }

    pub(super) fn all_skipped(&self) -> u64 {
        self.skips.values().sum()
    }

    pub(super) fn failed(&self, types: &[&str]) -> u64 {
        let of_type = |name: &&str| self.failures.get(*name).copied().unwrap_or_default();
        types.iter().map(of_type).sum()
    }
}

/// Returns the value of a label; none of the labels used here needs escaping.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.trim_end_matches('}').split(',').find_map(|label| {
        let value = label.strip_prefix(name)?.strip_prefix("=\"")?;
        value.strip_suffix('"')
    })
}

/// The rounding error of times in the status, in seconds.
const ROUNDING: f64 = 0.002;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_told_from_one_whose_name_ends_like_it() {
        let labels = "of_platform=\"b\",platform=\"a\",status=\"healthy\"}";
        assert_eq!(label(labels, "platform"), Some("a"));
        assert_eq!(label(labels, "status"), Some("healthy"));
        assert_eq!(label(labels, "plugin"), None);
    }
}
