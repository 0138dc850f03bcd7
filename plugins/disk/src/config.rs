//! Keys of a disk platform's `config` table.

use std::path::PathBuf;

use conductor_net::Limits;
use conductor_plugin_api::{
    Failure,
    config::{Duration, Size},
    schemars,
};
use serde::Deserialize;

use crate::fill::UsageLimits;

/// Checks how full a filesystem is, in space and in inodes, and whether it is mounted and writable.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskConfig {
    /// Absolute path of a file or folder on the filesystem to check. With `*`, `?` or `**`: every mounted filesystem whose
    /// mount point matches; the worst one decides.
    #[cfg_attr(unix, schemars(regex(pattern = r"^/")))]
    #[schemars(example = &"/var/lib", example = &"/mnt/*")]
    pub(crate) path: PathBuf,

    /// Percent of space or inodes used above which the filesystem is degraded.
    #[serde(default = "default_degraded_above")]
    #[schemars(range(min = 0, max = 100))]
    pub(crate) degraded_above: f64,

    /// Percent of space or inodes used above which the filesystem is unhealthy; at least `degraded_above`.
    #[serde(default = "default_unhealthy_above")]
    #[schemars(range(min = 0, max = 100))]
    pub(crate) unhealthy_above: f64,

    /// Space that users other than root can still write.
    pub(crate) free: Option<Limits<Size>>,

    /// Mean time of a read or write of the block device since the previous check, from the second check on.
    pub(crate) io_latency: Option<Limits<Duration>>,

    /// Require that `path` is a mount point: unhealthy while its file system is not mounted, or while another device than at
    /// the first check is mounted. With wildcards, this applies to every file system that was mounted at an earlier check.
    #[serde(default)]
    pub(crate) mounted: bool,

    /// Device whose file system `path` must be on, as `findmnt` prints it under SOURCE (`/dev/sdb1`, `nas.example:/export`), or a
    /// link to it (`/dev/disk/by-label/data`): unhealthy while `path` is on another one.
    pub(crate) device: Option<String>,

    /// Require that the file system is writable: unhealthy while it is read-only, as ext4 is after an I/O error.
    #[serde(default)]
    pub(crate) writable: bool,
}

impl DiskConfig {
    /// Returns the wildcards of `path`, or the reason why they cannot be used; `None` if it is a plain path.
    pub(crate) fn pattern(&self) -> Option<Result<glob::Pattern, PatternError>> {
        let text = self.path.to_str()?;
        if !text.contains(['*', '?']) {
            return None;
        }
        // Brackets have no special meaning: `[` is a character like any other.
        let pattern = glob::Pattern::new(&text.replace('[', "[[]"));
        Some(pattern.map_err(|error| PatternError {
            text: text.to_owned(),
            rule: error.msg,
        }))
    }

    pub(crate) fn limits(&self) -> UsageLimits {
        UsageLimits {
            degraded_above: self.degraded_above,
            unhealthy_above: self.unhealthy_above,
            free: self.free,
            io_latency: self.io_latency,
            writable: self.writable,
        }
    }

    /// Refuses a config and reports every wrong key, not only the first.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        let mut faults = Vec::new();
        if self.path.as_os_str().is_empty() {
            faults.push(format!(
                "key `path`: the path is empty; write an absolute path, such as {EXAMPLE}"
            ));
        } else if !self.path.is_absolute() {
            faults.push(format!(
                "key `path`: {:?} is not absolute; write the path from the root, such as {EXAMPLE}",
                self.path
            ));
        } else if self.path.as_os_str().as_encoded_bytes().contains(&0) {
            faults.push(format!(
                "key `path`: {:?} contains a NUL, which no path can; remove it",
                self.path
            ));
        }
        match (self.pattern(), &self.device) {
            (Some(Err(fault)), _) => faults.push(fault.to_string()),
            (Some(Ok(_)), Some(device)) => faults.push(format!(
                "key `device`: {device:?} cannot be the device of every match of {:?}; name one path without wildcards",
                self.path
            )),
            _ => {}
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
        if let Some(limits) = &self.free {
            limits.validate("free", &mut faults);
        }
        if let Some(limits) = &self.io_latency {
            limits.validate("io_latency", &mut faults);
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Failure::config(faults.join("; ")))
        }
    }
}

/// A `path` with meaningless wildcards.
#[derive(Debug, thiserror::Error)]
#[error(
    "key `path`: {text:?} is not a usable pattern: {rule}; `**` must be a whole part of the path, as in \"/mnt/**\""
)]
pub(crate) struct PatternError {
    text: String,
    rule: &'static str,
}

/// An absolute path as it is written in a config.
const EXAMPLE: &str = match cfg!(windows) {
    true => r"'C:\ProgramData'",
    false => "\"/var/lib\"",
};

fn default_degraded_above() -> f64 {
    80.0
}

fn default_unhealthy_above() -> f64 {
    90.0
}
