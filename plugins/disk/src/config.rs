//! What stands in a disk platform's `config` table.

use std::path::PathBuf;

use conductor_plugin_api::{Failure, schemars};
use serde::Deserialize;

/// Watches how full a filesystem is, in space and in inodes.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Absolute path of a file or folder on the filesystem to watch.
    #[schemars(example = &"/var/lib")]
    pub(crate) path: PathBuf,

    /// Percent of space or inodes used above which the filesystem is degraded.
    #[serde(default = "default_degraded_above")]
    #[schemars(range(min = 0, max = 100))]
    pub(crate) degraded_above: f64,

    /// Percent of space or inodes used above which the filesystem is unhealthy; at least `degraded_above`.
    #[serde(default = "default_unhealthy_above")]
    #[schemars(range(min = 0, max = 100))]
    pub(crate) unhealthy_above: f64,
}

impl Config {
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        if !self.path.is_absolute() {
            return Err(Failure::config(format!(
                "key `path`: {:?} is relative, and to which folder is not fixed; write the absolute path",
                self.path
            )));
        }
        for (key, percent) in [
            ("degraded_above", self.degraded_above),
            ("unhealthy_above", self.unhealthy_above),
        ] {
            if !(0.0..=100.0).contains(&percent) {
                return Err(Failure::config(format!(
                    "key `{key}`: {percent} is not between 0 and 100 percent"
                )));
            }
        }
        if self.degraded_above > self.unhealthy_above {
            return Err(Failure::config(format!(
                "keys `degraded_above` ({}) and `unhealthy_above` ({}) are in the wrong order; \
                 the first must not be above the second",
                self.degraded_above, self.unhealthy_above
            )));
        }
        Ok(())
    }
}

fn default_degraded_above() -> f64 {
    80.0
}

fn default_unhealthy_above() -> f64 {
    90.0
}
