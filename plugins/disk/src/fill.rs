//! The fill of a file system, and its verdict: measuring is separate from judging.

use std::{fmt, io, path::Path};

use conductor_net::{Limits, show_size};
use conductor_plugin_api::{
    Status,
    config::{Duration, Size},
};

use crate::mounts::MountEntry;

/// Space and inodes of a file system, as it reports them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FileSystemUsage {
    /// In bytes.
    pub(crate) space: UnitCounts,
    pub(crate) inodes: UnitCounts,
    /// `true` if it accepts no writes; `None` if that is unknown.
    pub(crate) read_only: Option<bool>,
}

/// Units of one kind, as the file system reports them; of those `free`, some may be reserved for root.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnitCounts {
    pub(crate) size: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
}

/// The limits of a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsageLimits {
    /// Percent of space or inodes used.
    pub(crate) degraded_above: f64,
    pub(crate) unhealthy_above: f64,
    pub(crate) free: Option<Limits<Size>>,
    pub(crate) io_latency: Option<Limits<Duration>>,
    /// True if it must not be read-only.
    pub(crate) writable: bool,
}

impl FileSystemUsage {
    /// Queries the file system that `path` is on; `mount` is its entry in the table of mounts.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path, mount: Option<&MountEntry>) -> io::Result<Self> {
        use rustix::fs::StatVfsMountFlags;
        let found = rustix::fs::statvfs(path)?;
        // Set for a file system that accepts no writes, and also for one that is only mounted so in this process's
        // view.
        let seems_read_only = found.f_flag.contains(StatVfsMountFlags::RDONLY);
        let inodes = UnitCounts {
            size: found.f_files,
            free: found.f_ffree,
            available: found.f_favail,
        };
        let makes_inodes_as_needed = inodes.free == 0 && mount.is_some_and(MountEntry::is_remote);
        Ok(Self {
            space: UnitCounts {
                size: found.f_blocks.saturating_mul(found.f_frsize),
                free: found.f_bfree.saturating_mul(found.f_frsize),
                available: found.f_bavail.saturating_mul(found.f_frsize),
            },
            inodes: if makes_inodes_as_needed {
                UnitCounts::default()
            } else {
                inodes
            },
            read_only: match mount {
                Some(mount) => Some(mount.read_only),
                None => (!seems_read_only).then_some(false),
            },
        })
    }

    /// Queries the volume that `path` is on: a drive, a mounted volume or a network share.
    #[cfg(windows)]
    pub(crate) fn of(path: &Path, _: Option<&MountEntry>) -> io::Result<Self> {
        let volume = fs4::statvfs(path)?;
        Ok(Self {
            space: UnitCounts {
                size: volume.total_space(),
                free: volume.free_space(),
                available: volume.available_space(),
            },
            inodes: UnitCounts::default(),
            read_only: None,
        })
    }

    /// Returns the higher of the percentages of space and inodes used.
    pub(crate) fn worst_percent(&self) -> f64 {
        let space = self.space.used_percent().unwrap_or(0.0);
        space.max(self.inodes.used_percent().unwrap_or(0.0))
    }

    /// Compares the fill with the limits; the text has the fill and the limit it exceeds.
    pub(crate) fn judge(&self, limits: &UsageLimits) -> (Status, String) {
        let worst = self.worst_percent();
        let (mut status, exceeded) = if worst > limits.unhealthy_above {
            (Status::Unhealthy, Some(limits.unhealthy_above))
        } else if worst > limits.degraded_above {
            (Status::Degraded, Some(limits.degraded_above))
        } else {
            (Status::Healthy, None)
        };
        let mut text = self.to_string();
        if let Some(limit) = exceeded {
            text.push_str(&format!(" (limit {limit} %)"));
        }
        let free = Size::from_bytes(self.space.available());
        if let Some(limits) = &limits.free
            && let Some((found, name, limit)) = limits.exceeded(free)
        {
            status = worse(status, found);
            text.push_str(&format!(" (`free.{name}` is {limit})"));
        }
        if self.read_only == Some(true) {
            text.push_str("; read-only");
            if limits.writable {
                status = Status::Unhealthy;
                text.push_str(", must be writable");
            }
        }
        (status, text)
    }
}

/// For people: "94.9 % used, 25.0 GiB of 500.0 GiB free; 10.0 % of the inodes used".
impl fmt::Display for FileSystemUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, size) = (
            show_size(self.space.available()),
            show_size(self.space.size),
        );
        match self.space.used_percent() {
            Some(used) => write!(f, "{used:.1} % used, {free} of {size} free")?,
            None => write!(f, "used space unknown, size {size}")?,
        }
        match self.inodes.used_percent() {
            Some(used) => write!(f, "; {used:.1} % of the inodes used"),
            None => Ok(()),
        }
    }
}

impl UnitCounts {
    /// Returns the units that users other than root can use.
    pub(crate) fn available(self) -> u64 {
        // If root has used its reserve, some systems report a negative number.
        i64::try_from(self.available).map_or(0, |_| self.available.min(self.free))
    }

    /// Returns the percentage used as `df` counts: used / (used + available).
    ///
    /// `None` if the file system does not know: it reports no total, a negative one, or more free than that. Those that
    /// create inodes as needed report 0 of 0, or -1 (2^64 - 1).
    pub(crate) fn used_percent(self) -> Option<f64> {
        let is_negative = i64::try_from(self.size).is_err();
        if self.size == 0 || is_negative || self.free > self.size {
            return None;
        }
        let (used, available) = (self.size - self.free, self.available());
        #[expect(clippy::cast_precision_loss, reason = "percent, not accounts")]
        let (used, available) = (used as f64, available as f64);
        if used + available > 0.0 {
            Some(100.0 * used / (used + available))
        } else {
            Some(100.0)
        }
    }
}

#[cfg(unix)]
impl MountEntry {
    /// Returns `true` if a server or a program implements the file system: 0 free inodes then means "unknown", as
    /// ceph-fuse reports them, since such a file system only knows the number of files.
    fn is_remote(&self) -> bool {
        [
            "fuse",
            "ceph",
            "nfs",
            "9p",
            "cifs",
            "smb3",
            "virtiofs",
            "glusterfs",
            "lustre",
        ]
        .iter()
        .any(|kind| self.kind.starts_with(kind))
    }
}

/// Returns the worse of two states.
pub(crate) fn worse(a: Status, b: Status) -> Status {
    if rank(a) < rank(b) { b } else { a }
}

/// Orders states from healthy to unhealthy.
pub(crate) fn rank(status: Status) -> u8 {
    match status {
        Status::Healthy => 0,
        Status::Degraded => 1,
        _ => 2,
    }
}
