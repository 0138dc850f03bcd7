//! The `disk` probe: how full a filesystem is, in space and in inodes.
//!
//! ```toml
//! [platform.backups]
//! plugin = "disk"
//! config = { path = "/var/backups", degraded_above = 70, unhealthy_above = 85 }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `path` | | absolute path of a file or folder on the filesystem to watch |
//! | `degraded_above` | 80 | percent used above which the filesystem is degraded |
//! | `unhealthy_above` | 90 | percent used above which it is unhealthy |
//!
//! Both limits hold for space and for inodes, and the worse of the two decides. A limit of 100 is never passed. A
//! filesystem that makes inodes as it needs them (btrfs, vfat) is judged by its space alone.
//!
//! Space is counted as `df` does: what is kept for root is neither used nor free, so that a filesystem is 100 % used
//! when nobody but root can write to it.
//!
//! | measurement | meaning |
//! |---|---|
//! | `size_bytes` | size of the filesystem |
//! | `free_bytes` | what users other than root can still write |
//! | `used_percent` | used space, 0–100 |
//! | `inodes_used_percent` | used inodes, 0–100; absent where the filesystem has no fixed number of them |
//!
//! It is a *failure*, not an unhealthy report, when the fill could not be found out: the path does not exist or may not
//! be reached, or it lies on a filesystem without space of its own such as `/proc`. A network filesystem whose server
//! is gone holds the call up; the host counts that as a timeout. Unix only: elsewhere each check is a failure that says
//! so.

mod config;
mod fill;
#[cfg(test)]
mod tests;

use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin};

use crate::{config::Config, fill::Fill};

export_plugin! { id: "disk", probe: Disk, name: "Disk" }

struct Disk {
    config: Config,
}

impl Probe for Disk {
    type Config = Config;

    fn create(config: Config, _: &Context<'_>) -> Result<Self, Failure> {
        config.validate()?;
        Ok(Self { config })
    }

    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        let fill = Fill::of(&self.config.path)?;
        Ok(fill.judge(self.config.degraded_above, self.config.unhealthy_above))
    }
}
