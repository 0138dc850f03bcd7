//! Keys of a disk platform's `config` table.

use std::path::PathBuf;

use conductor_plugin_api::{Failure, schemars};
use serde::Deserialize;

/// Checks how full a filesystem is, in space and in inodes.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Absolute path of a file or folder on the filesystem to watch.
    #[cfg_attr(unix, schemars(regex(pattern = r"^/")))]
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
    /// Refuses a config with every key that is wrong, not only the first.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        let mut faults = Vec::new();
        if self.path.as_os_str().is_empty() {
            faults.push(
                "key `path`: the path is empty; write an absolute path, such as \"/var/lib\""
                    .to_owned(),
            );
        } else if !self.path.is_absolute() {
            faults.push(format!(
                "key `path`: {:?} is not absolute; write the path from the root, such as \"/var/lib\"",
                self.path
            ));
        } else if self.path.as_os_str().as_encoded_bytes().contains(&0) {
            faults.push(format!(
                "key `path`: {:?} contains a NUL, which no path can; remove it",
                self.path
            ));
        }
        let limits = [
            ("degraded_above", self.degraded_above),
            ("unhealthy_above", self.unhealthy_above),
        ];
        for (key, percent) in limits {
            if !(0.0..=100.0).contains(&percent) {
                faults.push(format!(
                    "key `{key}`: {percent} is not a percentage; choose from 0 to 100"
                ));
            }
        }
        if self.degraded_above > self.unhealthy_above {
            faults.push(format!(
                "keys `degraded_above` ({}) and `unhealthy_above` ({}) are in the wrong order: \
                 lower the first or raise the second",
                self.degraded_above, self.unhealthy_above
            ));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Failure::config(faults.join("; ")))
        }
    }
}

fn default_degraded_above() -> f64 {
    80.0
}

fn default_unhealthy_above() -> f64 {
    90.0
}
