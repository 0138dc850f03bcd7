//! The `disk` probe: how full a file system is, in space and in inodes, and whether it is mounted and writable.
//!
//! ```toml
//! [platform.backups]
//! plugin = "disk"
//! config = { path = "/var/backups", degraded_above = 70, unhealthy_above = 85 }
//!
//! [platform.data]
//! plugin = "disk"
//! config = { path = "/mnt/*", mounted = true, writable = true }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `path` | | absolute path of a file or folder on the file system to watch; with `*`, `?` or `**`, every file system whose mount point matches |
//! | `degraded_above` | 80 | percent used above which the file system is degraded |
//! | `unhealthy_above` | 90 | percent used above which it is unhealthy |
//! | `mounted` | false | `path` must be a mount point; with wildcards, no file system seen before may be missing |
//! | `writable` | false | the file system must not be read-only |
//!
//! Both limits hold for space and for inodes, and the worse of the two decides. A limit of 100 is never exceeded. A
//! file system that makes inodes as it needs them (btrfs, vfat, CephFS) is judged by its space alone: 0 of 0 inodes, more
//! free than there are, and on network and FUSE file systems 0 free mean that the number is unknown.
//!
//! Space is counted as `df` does: what is reserved for root is neither used nor free, so that a file system is 100 % used
//! when only root can write to it.
//!
//! With wildcards, one platform stands for all matching file systems, and the worst of them decides. `*` and `?` match
//! within one part of a path, `**` any number of parts: `"/**"` is every file system. File systems without space of
//! their own (`/proc`), and images that are full by nature (squashfs, iso9660), are left out; one that is mounted several
//! times counts once per mount point.
//!
//! # Unmounted and read-only
//! The folder below a mount is still there when the mount is gone, and its file system is usually the root's: the figures
//! of the wrong disk. Once the probe has seen `path` on a mounted file system, it is unhealthy while that mount is missing;
//! with `mounted = true` it is from the first check on. Whether a file system is read-only is the file system's own state
//! (the superblock's), as after an error with `errors=remount-ro`; a read-only view of it, as systemd's `ProtectSystem`
//! makes for a service, does not count.
//!
//! | measurement | meaning |
//! |---|---|
//! | `size_bytes` | size of the file system; with wildcards, here and in the next rows, of the worst one |
//! | `free_bytes` | bytes that users other than root can still write |
//! | `used_percent` | used space, 0–100; absent where the file system does not know |
//! | `inodes_used_percent` | used inodes, 0–100; absent where the file system has no fixed number of them |
//! | `read_only` | 1 if the file system takes no writes, else 0; with wildcards, how many take none |
//! | `file_systems` | with wildcards: how many match |
//! | `used_percent_<mount point>` | with wildcards: used space of each of the first 20, with `_` for what is no letter or digit |
//!
//! It is a *failure*, not an unhealthy report, when the fill could not be found out: the path does not exist or may not
//! be reached, it is on a file system without space of its own such as `/proc`, or nothing matches the wildcards. A network
//! file system whose server is gone holds the call up; the host counts that as a timeout. Unix only: elsewhere each check
//! is a failure that says so.

mod config;
mod fill;
mod mounts;
mod report;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin, tracing};

use crate::{
    config::Config,
    fill::Fill,
    mounts::{Mount, MountTable},
    report::FileSystem,
};

export_plugin! { id: "disk", probe: Disk, name: "Disk" }

struct Disk {
    config: Config,
    /// Of a `path` with wildcards.
    pattern: Option<glob::Pattern>,
    /// Mount points of earlier checks: of `path`, or those that matched.
    seen: BTreeSet<PathBuf>,
    /// The last table of mounts that could be read.
    last_table: Option<MountTable>,
}

impl Probe for Disk {
    type Config = Config;

    fn create(config: Config, _: &Context<'_>) -> Result<Self, Failure> {
        config.validate()?;
        Ok(Self {
            pattern: config.pattern().transpose().map_err(Failure::config)?,
            config,
            seen: BTreeSet::new(),
            last_table: None,
        })
    }

    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        let table = self.table()?;
        match self.pattern.take() {
            None => self.check_path(&table),
            Some(pattern) => {
                let result = self.check_matching(&pattern, &table);
                self.pattern = Some(pattern);
                result
            }
        }
    }
}

impl Disk {
    /// Reads the table of mounts; returns the last one while the process has no descriptor left to read it with.
    fn table(&mut self) -> Result<MountTable, Failure> {
        match (MountTable::read(), &self.last_table) {
            (Ok(table), _) => {
                self.last_table = Some(table.clone());
                Ok(table)
            }
            (Err(error), Some(last)) if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => {
                Ok(last.clone())
            }
            (Err(error), _) => Err(Failure::new(format!(
                "cannot read /proc/self/mountinfo ({error}); mount /proc for the host"
            ))),
        }
    }

    fn check_path(&mut self, table: &MountTable) -> Result<Report, Failure> {
        let path = &self.config.path;
        if self.config.mounted && !is_mount_point(path, table) {
            return Ok(report::unmounted(&format!(
                "{} is not a mount point: its file system is not mounted",
                path.display()
            )));
        }
        let mount = table.of(path);
        let gone = self.seen.first().filter(|before| {
            let is_above = |mount: &Mount| before.starts_with(&mount.point);
            !table.has(before) && mount.is_none_or(is_above)
        });
        if let Some(before) = gone {
            let (path, before) = (path.display(), before.display());
            return Ok(report::unmounted(&match mount {
                Some(mount) => format!(
                    "the file system mounted at {before} is gone: {path} is now on the one at {}",
                    mount.point.display()
                ),
                None => format!("the file system mounted at {before} is gone, and {path} with it"),
            }));
        }
        let file_system = look(path, mount).map_err(Failure::new)?;
        self.seen = mount.map(|mount| mount.point.clone()).into_iter().collect();
        Ok(file_system.report(&self.config.limits()))
    }

    fn check_matching(
        &mut self,
        pattern: &glob::Pattern,
        table: &MountTable,
    ) -> Result<Report, Failure> {
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for mount in table.matching(pattern) {
            match look(&mount.point, Some(mount)) {
                Ok(file_system) => found.push(file_system),
                // Not one that can be filled.
                Err(_) if is_empty(&mount.point) => {}
                Err(why) => unknown.push(why),
            }
        }
        let here: BTreeSet<_> = found.iter().map(|one| one.point.clone()).collect();
        let missing: Vec<_> = self.seen.difference(&here).cloned().collect();
        let missing: Vec<_> = missing
            .into_iter()
            .filter(|point| !table.has(point))
            .collect();
        if !self.config.mounted {
            for point in &missing {
                tracing::warn!("{} is not mounted any more", point.display());
                self.seen.remove(point);
            }
        }
        self.seen.extend(here);
        if self.config.mounted && !missing.is_empty() {
            let names: Vec<_> = missing
                .iter()
                .map(|point| point.display().to_string())
                .collect();
            return Ok(report::unmounted(&format!(
                "not mounted any more: {}",
                names.join(", ")
            )));
        }
        if found.is_empty() && unknown.is_empty() {
            let why = format!(
                "no mounted file system matches {}",
                self.config.path.display()
            );
            return match self.config.mounted {
                true => Ok(report::unmounted(&why)),
                false => Err(Failure::new(why)),
            };
        }
        report::of_all(&found, &unknown, &self.config.limits())
    }
}

/// Errors of a machine and of a process that have as many open files as they can have.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Asks the file system that `path` is on.
fn look(path: &Path, mount: Option<&Mount>) -> Result<FileSystem, String> {
    let fill = Fill::of(path, mount)
        .map_err(|error| format!("cannot ask the file system of {path:?}: {error}"))?;
    if fill.space.size == 0 {
        return Err(format!(
            "{path:?} is on a file system without space of its own; name a path on a disk"
        ));
    }
    if fill.space.used_percent().is_none() && fill.inodes.used_percent().is_none() {
        return Err(format!(
            "the file system of {path:?} reports more free space than its size: its fill is unknown"
        ));
    }
    Ok(FileSystem {
        point: mount.map_or(path, |mount| &mount.point).to_owned(),
        fill,
    })
}

/// Whether the file system at `path` answers, and has no space of its own.
fn is_empty(path: &Path) -> bool {
    Fill::of(path, None).is_ok_and(|fill| fill.space.size == 0)
}

/// Also where the table of mounts is not to be had: a mount point is on another device than its parent.
fn is_mount_point(path: &Path, table: &MountTable) -> bool {
    let Ok(path) = std::fs::canonicalize(path) else {
        return false;
    };
    table.has(&path) || (!cfg!(target_os = "linux") && is_on_another_device(&path).unwrap_or(false))
}

#[cfg(unix)]
fn is_on_another_device(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let Some(parent) = path.parent() else {
        return Ok(true);
    };
    Ok(std::fs::metadata(path)?.dev() != std::fs::metadata(parent)?.dev())
}

#[cfg(not(unix))]
fn is_on_another_device(path: &Path) -> io::Result<bool> {
    Ok(path.parent().is_none())
}
