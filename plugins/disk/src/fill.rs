//! How full a filesystem is, and what that means: measured apart from judged.

use std::path::Path;

use conductor_plugin_api::{Failure, Report, Status};

/// What a filesystem says about itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fill {
    /// In bytes.
    pub(crate) space: Room,
    pub(crate) inodes: Room,
}

/// Units of one kind, as the filesystem reports them; of those `free`, some may be kept for root.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    pub(crate) size: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
}

impl Fill {
    /// Asks the filesystem that `path` lies on.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        let found = rustix::fs::statvfs(path).map_err(|error| {
            Failure::new(format!("cannot ask the filesystem of {path:?}: {error}"))
        })?;
        let fill = Self {
            space: Room {
                size: found.f_blocks.saturating_mul(found.f_frsize),
                free: found.f_bfree.saturating_mul(found.f_frsize),
                available: found.f_bavail.saturating_mul(found.f_frsize),
            },
            inodes: Room {
                size: found.f_files,
                free: found.f_ffree,
                available: found.f_favail,
            },
        };
        if fill.space.size == 0 {
            return Err(Failure::new(format!(
                "{path:?} lies on a filesystem without space of its own; name a path on a disk"
            )));
        }
        Ok(fill)
    }

    #[cfg(not(unix))]
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        Err(Failure::new(format!(
            "cannot ask the filesystem of {path:?}: the disk plugin does not know this operating system"
        )))
    }

    /// Holds the fill against the two limits, both in percent.
    pub(crate) fn judge(self, degraded_above: f64, unhealthy_above: f64) -> Report {
        let space = self.space.used_percent().unwrap_or(0.0);
        let inodes = self.inodes.used_percent();
        let worst = space.max(inodes.unwrap_or(0.0));
        let (status, passed) = if worst > unhealthy_above {
            (Status::Unhealthy, Some(unhealthy_above))
        } else if worst > degraded_above {
            (Status::Degraded, Some(degraded_above))
        } else {
            (Status::Healthy, None)
        };

        let mut message = format!(
            "{space:.1} % used, {} of {} free",
            Bytes(self.space.available()),
            Bytes(self.space.size)
        );
        if let Some(inodes) = inodes {
            message.push_str(&format!("; {inodes:.1} % of the inodes used"));
        }
        if let Some(limit) = passed {
            message.push_str(&format!(" (limit {limit} %)"));
        }

        #[expect(
            clippy::cast_precision_loss,
            reason = "a measurement is a float; exact up to 8 PiB"
        )]
        let report = Report::new(status, message)
            .measure("size_bytes", self.space.size as f64)
            .measure("free_bytes", self.space.available() as f64)
            .measure("used_percent", space);
        match inodes {
            Some(inodes) => report.measure("inodes_used_percent", inodes),
            None => report,
        }
    }
}

impl Room {
    /// What users other than root can have.
    fn available(self) -> u64 {
        // Where root has written into its reserve, some systems report a negative number.
        i64::try_from(self.available).map_or(0, |_| self.available.min(self.free))
    }

    /// As `df` counts: used / (used + available). `None` where there is nothing to fill.
    fn used_percent(self) -> Option<f64> {
        let used = self.size.saturating_sub(self.free);
        let available = self.available();
        #[expect(clippy::cast_precision_loss, reason = "percent, not accounts")]
        let (used, available) = (used as f64, available as f64);
        (self.size > 0).then(|| {
            if used + available > 0.0 {
                100.0 * used / (used + available)
            } else {
                100.0
            }
        })
    }
}

/// A number of bytes for people.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let mut value = self.0 as f64;
        let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        // From this value on, one decimal rounds up to the next unit.
        while value >= 1023.95 {
            let Some(next) = units.next() else { break };
            (value, unit) = (value / 1024.0, next);
        }
        if unit == "B" {
            write!(f, "{value} B")
        } else {
            write!(f, "{value:.1} {unit}")
        }
    }
}
