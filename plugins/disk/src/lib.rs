//! The `disk` probe: the fill of a file system, in space and in inodes, its mount state (mounted and writable), and the
//! latency of its device.
//!
//! ```toml
//! [platform.backups]
//! plugin = "disk"
//! config = { path = "/var/backups", degraded_above = 70, unhealthy_above = 85 }
//!
//! [platform.data]
//! plugin = "disk"
//! config = { path = "/mnt/*", mounted = true, writable = true }
//!
//! [platform.archive]
//! plugin = "disk"
//! config = { path = "/srv/archive", device = "/dev/disk/by-label/archive" }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `path` | | absolute path of a file or folder on the file system to watch; with `*`, `?` or `**`, every file system whose mount point matches |
//! | `degraded_above` | 80 | percent used above which the file system is degraded |
//! | `unhealthy_above` | 90 | percent used above which it is unhealthy |
//! | `free` | | limits of the space that users other than root can still write |
//! | `io_latency` | | limits of the mean time of a read or write of the block device since the previous check |
//! | `mounted` | false | `path` must be a mount point, of the same device as before; with wildcards, no file system seen before may be missing |
//! | `device` | | device whose file system `path` must be on, or a link to it |
//! | `writable` | false | the file system must not be read-only |
//!
//! Both limits hold for space and for inodes, and the worse of the two decides. A limit of 100 is never exceeded. A
//! file system that creates inodes as needed (btrfs, vfat, CephFS) is judged by its space alone: 0 of 0 inodes, more
//! free than exist, and on network and FUSE file systems 0 free mean that the number is unknown.
//!
//! Space is counted as in `df`: space reserved for root is neither used nor free, so a file system is 100 % used when
//! only root can write to it.
//!
//! With wildcards, one platform covers all matching file systems, and the worst of them decides. `*` and `?` match
//! within one part of a path, `**` any number of parts: `"/**"` is every file system. File systems without their own
//! space (`/proc`), and images that are always full (squashfs, iso9660), are skipped; one that is mounted several times
//! counts once per mount point.
//!
//! # Unmounted and read-only
//! The folder below a mount still exists when the mount is gone, and its file system is usually the root's: the figures
//! of the wrong disk. Once the probe has seen `path` on a mounted file system, it is unhealthy while that mount is
//! missing; with `mounted = true` it is from the first check on. Read-only means the file system's own state (the
//! superblock's), as after an error with `errors=remount-ro`; a read-only view of it, as systemd's `ProtectSystem`
//! creates for a service, does not count.
//!
//! # Another device
//! With `mounted = true`, the probe is unhealthy while another device than at its first check is mounted at the same
//! path, or a block device has another file system: the figures would be those of another disk. It stores nothing
//! beyond the host's life; `device` names the expected device in the config, so that a wrong disk is also found after a
//! restart. After a deliberate replacement, set or change `device` and reload: a changed config makes the probe start
//! from the beginning. Without either key, the log has a warning.
//!
//! # Dead mounts
//! A network file system whose server is gone blocks every call on it. The probe makes its calls on a helper thread and
//! is unhealthy if one does not return in time. With wildcards, the report names the dead mount and has the figures of
//! the others. The helper thread is kept until the file system responds, at most one for each mount.
//!
//! | measurement | meaning |
//! |---|---|
//! | `size_bytes` | size of the file system; with wildcards, here and in the next rows, of the worst one |
//! | `free_bytes` | bytes that users other than root can still write |
//! | `used_percent` | used space, 0–100; absent if the file system does not know |
//! | `inodes_used_percent` | used inodes, 0–100; absent if the file system has no fixed number of them |
//! | `io_latency_seconds` | with limits for `io_latency`: mean time of a read or write of the block device since the previous check; absent if there was none |
//! | `read_only` | 1 if the file system accepts no writes, else 0; with wildcards, the number of those |
//! | `file_systems` | with wildcards: the number of matches |
//! | `used_percent_<mount point>` | with wildcards: used space of each of the first 20, with `_` for other characters than letters and digits |
//!
//! The check is a *failure*, not an unhealthy report, if the fill is unknown: the path does not exist or is not
//! accessible, it is on a file system without its own space such as `/proc`, or nothing matches the wildcards. Unix
//! only: elsewhere each check is a failure with that message.

mod config;
mod examination;
mod examiner;
mod fill;
mod io;
mod mounts;
mod report;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin, tracing};

use crate::{
    config::DiskConfig,
    examination::{ExamineError, PathExamination},
    examiner::PathExaminer,
    io::{IoError, IoLatencies},
    mounts::{FileSystemDevice, MountEntry, MountTable},
    report::MountProblem,
};

export_plugin! { id: "disk", probe: DiskProbe, name: "Disk" }

struct DiskProbe {
    config: DiskConfig,
    /// The pattern of a `path` with wildcards.
    pattern: Option<glob::Pattern>,
    examiner: PathExaminer,
    /// Mount points of earlier checks (the one of `path`, or those that matched) and their devices.
    seen: BTreeMap<PathBuf, FileSystemDevice>,
    io: IoLatencies,
    /// The last table of mounts that could be read.
    last_table: Option<Arc<MountTable>>,
}

impl Probe for DiskProbe {
    type Config = DiskConfig;

    fn create(config: DiskConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.validate()?;
        let pattern = config.pattern().transpose();
        Ok(Self {
            pattern: pattern.map_err(|error| Failure::config(error.to_string()))?,
            config,
            examiner: PathExaminer::default(),
            seen: BTreeMap::new(),
            io: IoLatencies::default(),
            last_table: None,
        })
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let table = self.table()?;
        if self.config.io_latency.is_some() {
            self.io.sample();
        }
        let remaining = || context.remaining();
        match self.pattern.take() {
            None => self.check_path(&table, &remaining),
            Some(pattern) => {
                let result = self.check_matching(&pattern, &table, &remaining);
                self.pattern = Some(pattern);
                result
            }
        }
    }
}

impl DiskProbe {
    /// Reads the table of mounts; returns the last one while the process has no free file descriptor to read it with.
    fn table(&mut self) -> Result<Arc<MountTable>, Failure> {
        match (MountTable::read(), &self.last_table) {
            (Ok(table), _) => Ok(Arc::clone(self.last_table.insert(Arc::new(table)))),
            (Err(error), Some(last)) if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => {
                Ok(Arc::clone(last))
            }
            (Err(error), _) => Err(Failure::new(format!(
                "cannot read /proc/self/mountinfo ({error}); mount /proc for the host"
            ))),
        }
    }

    fn check_path(
        &mut self,
        table: &Arc<MountTable>,
        remaining: &dyn Fn() -> Duration,
    ) -> Result<Report, Failure> {
        let paths = [self.config.path.clone()];
        let mut examined = self.examiner.examine(&paths, table, remaining);
        let Some(examination) = examined.pop().flatten() else {
            return Ok(report::unmeasured(&MountProblem::Silent(paths.into())));
        };
        let mount = examination.mount.as_ref();
        if let Some(problem) = self.problem(&examination, table) {
            return Ok(report::unmeasured(&problem));
        }
        let mut file_system = examination
            .file_system
            .map_err(|error| Failure::new(error.to_string()))?;
        file_system.io_latency = self
            .io
            .of(mount)
            .or_else(|error| self.unless_limited(error))?;
        let now = mount.map(|mount| (mount.point.clone(), mount.device.clone()));
        self.seen = now.into_iter().collect();
        Ok(file_system.report(&self.config.limits()))
    }

    /// Passes an unknown latency over where it has no limits.
    fn unless_limited(&self, error: IoError) -> Result<Option<Duration>, Failure> {
        match self.config.io_latency {
            Some(_) => Err(Failure::new(format!("cannot judge `io_latency`: {error}"))),
            None => Ok(None),
        }
    }

    /// Returns the reason why the figures of `path` are not those of the expected file system.
    fn problem(&self, examination: &PathExamination, table: &MountTable) -> Option<MountProblem> {
        let path = &self.config.path;
        let mount = examination.mount.as_ref();
        if self.config.mounted && !examination.is_mount_point {
            return Some(MountProblem::NoMountPoint(path.clone()));
        }
        let before = self.seen.first_key_value();
        let is_above = |mount: &MountEntry, before: &PathBuf| before.starts_with(&mount.point);
        if let Some((before, _)) = before
            && !table.has(before)
            && mount.is_none_or(|mount| is_above(mount, before))
        {
            return Some(MountProblem::Gone {
                path: path.clone(),
                before: before.clone(),
                now: mount.map(|mount| mount.point.clone()),
            });
        }
        let mount = mount?;
        if let Some(expected) = &self.config.device {
            let is_other = !mount.device.is_named(expected);
            return is_other.then(|| MountProblem::other_device(mount, expected));
        }
        let expected = self.seen.get(&mount.point)?;
        self.is_unexpected(mount, expected)
            .then(|| MountProblem::other_device(mount, expected))
    }

    /// Returns true if another device than at an earlier check is a problem; otherwise logs a warning about it.
    fn is_unexpected(&self, mount: &MountEntry, expected: &FileSystemDevice) -> bool {
        let is_other = !mount.device.is_same(expected);
        if is_other && !self.config.mounted {
            tracing::warn!(
                "another device is mounted at {}: {}, before: {expected}",
                mount.point.display(),
                mount.device
            );
        }
        is_other && self.config.mounted
    }

    fn check_matching(
        &mut self,
        pattern: &glob::Pattern,
        table: &Arc<MountTable>,
        remaining: &dyn Fn() -> Duration,
    ) -> Result<Report, Failure> {
        let mounts = table.matching(pattern);
        let points: Vec<_> = mounts.iter().map(|mount| mount.point.clone()).collect();
        let examined = self.examiner.examine(&points, table, remaining);
        let (mut found, mut unknown, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        let (mut here, mut problems) = (BTreeMap::new(), Vec::new());
        for (mount, examination) in mounts.into_iter().zip(examined) {
            let Some(examination) = examination else {
                silent.push(mount.point.clone());
                continue;
            };
            let visible = examination.mount.unwrap_or_else(|| mount.clone());
            if visible.id != mount.id {
                continue;
            }
            let mount = visible;
            match examination.file_system {
                Ok(mut file_system) => {
                    // Several may be without a block device.
                    file_system.io_latency = self.io.of(Some(&mount)).unwrap_or_default();
                    found.push(file_system);
                }
                // It has no space to fill.
                Err(ExamineError::NoSpace(_)) => continue,
                Err(error) => {
                    unknown.push(error);
                    continue;
                }
            }
            match self.seen.get(&mount.point) {
                Some(expected) if self.is_unexpected(&mount, expected) => {
                    problems.push(MountProblem::other_device(&mount, expected));
                }
                _ => drop(here.insert(mount.point, mount.device)),
            }
        }
        let missing: Vec<_> = self.seen.keys().filter(|at| !table.has(at)).collect();
        let missing: Vec<_> = missing.into_iter().cloned().collect();
        if self.config.mounted && !missing.is_empty() {
            problems.insert(0, MountProblem::Missing(missing));
        } else {
            for point in &missing {
                tracing::warn!("{} is no longer mounted", point.display());
                self.seen.remove(point);
            }
        }
        self.seen.extend(here);
        if !problems.is_empty() {
            return Ok(report::unmeasured(&MountProblem::Several(problems)));
        }
        if found.is_empty() && unknown.is_empty() && silent.is_empty() {
            let nothing = MountProblem::NoMatch(self.config.path.clone());
            return match self.config.mounted {
                true => Ok(report::unmeasured(&nothing)),
                false => Err(Failure::new(nothing.to_string())),
            };
        }
        report::of_all(&found, &unknown, silent, &self.config.limits())
    }
}

/// Errors of a machine and of a process at their limit of open files.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
