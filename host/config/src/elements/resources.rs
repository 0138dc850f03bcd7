//! `[resources]`: the thresholds at which the machine counts as short of CPU, memory or disk.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    check::TableValidator,
    duration::{self, LONGEST, given},
    host::HostConfig,
};

/// The thresholds at which the machine counts as short of resources, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResourcesConfig {
    /// Degraded above this usage, 2–100.
    pub degraded_above: f64,
    /// Back to normal below this usage; at least 1 and below `degraded_above`.
    pub recover_below: f64,
    /// Critical above this memory usage, from `degraded_above` to 100.
    pub critical_above: f64,
    /// Period between two measurements, 200 ms to a year.
    pub interval: Duration,
}

/// `[resources]`, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Resources",
    description = "Thresholds at which the machine counts as short of CPU, memory or disk."
)]
pub(crate) struct RawResourcesConfig {
    /// The host enters degraded mode when CPU or memory usage is above this, in percent.
    #[schemars(with = "f64", range(min = 2, max = 100), extend("default" = 80))]
    #[serde(default)]
    degraded_above: Option<f64>,
    /// The host returns to normal when usage is below this, in percent.
    #[schemars(with = "f64", range(min = 1, max = 100), extend("default" = 70))]
    #[serde(default)]
    recover_below: Option<f64>,
    /// The host enters critical mode as soon as memory usage is above this, in percent.
    #[schemars(with = "f64", range(min = 2, max = 100), extend("default" = 92))]
    #[serde(default)]
    critical_above: Option<f64>,
    /// Period between two measurements, at least 200ms. Without it: `host.interval`.
    #[schemars(with = "duration::RawDuration")]
    #[serde(default)]
    interval: Option<duration::RawDuration>,
}

impl Default for ResourcesConfig {
    fn default() -> Self {
        Self {
            degraded_above: 80.0,
            recover_below: 70.0,
            critical_above: 92.0,
            interval: HostConfig::default().interval,
        }
    }
}

impl RawResourcesConfig {
    pub(super) fn resolve(
        self,
        host: &HostConfig,
        check: &mut TableValidator<'_>,
    ) -> ResourcesConfig {
        let default = ResourcesConfig::default();
        let resources = self.filled(&default, host);
        resources.check(check);
        resources
    }

    /// Adjusts defaults to the given values: the gap between the levels shrinks before they swap order.
    fn filled(self, default: &ResourcesConfig, host: &HostConfig) -> ResourcesConfig {
        let gap = default.degraded_above - default.recover_below;
        let degraded_above = self.degraded_above.unwrap_or_else(|| {
            let limit = self.critical_above.unwrap_or(default.degraded_above);
            default.degraded_above.min(limit)
        });
        let below = (degraded_above - gap).max(1.0);
        ResourcesConfig {
            degraded_above,
            recover_below: self
                .recover_below
                .unwrap_or(default.recover_below.min(below)),
            critical_above: self
                .critical_above
                .unwrap_or(default.critical_above.max(degraded_above)),
            interval: given(self.interval).unwrap_or(host.interval.max(SHORTEST_INTERVAL)),
        }
    }
}

impl ResourcesConfig {
    fn check(&self, check: &mut TableValidator<'_>) {
        check.duration("interval", self.interval, SHORTEST_INTERVAL, LONGEST);
        if self.recover_below >= self.degraded_above {
            let message = format!(
                "{} is {}, but must be below degraded_above, which is {}",
                check.name("recover_below"),
                self.recover_below,
                self.degraded_above
            );
            check.refuse(
                "recover_below",
                message,
                "leave a gap of a few percent, so that the mode does not flap",
            );
        }
        if self.critical_above < self.degraded_above {
            let message = format!(
                "{} is {}, below degraded_above, which is {}",
                check.name("critical_above"),
                self.critical_above,
                self.degraded_above
            );
            check.refuse(
                "critical_above",
                message,
                "raise it, or lower degraded_above",
            );
        }
    }
}

/// Two CPU readings less than 200 ms apart return the same value.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
