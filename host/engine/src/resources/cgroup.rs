//! The limits of the host's control group, which may allow only a small part of the machine.
//!
//! Only Linux has them; elsewhere every result is "no limit". A limit on any level between the host's own group and the
//! top counts, so each level is measured and the fullest one is the result.
//!
//! `sysinfo` can read memory limits, but it counts the page cache as used memory; `memory` subtracts what is
//! reclaimable. Not read: CPU quotas of version 1 groups, which current distributions no longer ship.
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

mod memory;

/// The folders of this process's groups: one per level, its own first.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ProcessCgroups {
    unified: Vec<PathBuf>,
    /// Version 1 groups, if they limit memory.
    memory_v1: Vec<PathBuf>,
    /// The time of the last reading, and the CPU time of each unified level.
    last: Option<(Duration, Vec<Option<Duration>>)>,
}

impl ProcessCgroups {
    pub(super) fn of_this_process() -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        Self::find(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    fn find(groups: &str, mounts: &str) -> Self {
        let unified = |mount: &CgroupMount<'_>| mount.kind == "cgroup2";
        let memory = |mount: &CgroupMount<'_>| {
            mount.kind == "cgroup" && mount.options.split(',').any(|option| option == "memory")
        };
        Self {
            unified: levels(group_path(groups, ""), mounts, unified),
            memory_v1: levels(group_path(groups, "memory"), mounts, memory),
            last: None,
        }
    }

    /// Returns the folder with this group's own pressure files.
    pub(super) fn pressure_dir(&self) -> Option<&Path> {
        self.unified.first().map(PathBuf::as_path)
    }

    /// Returns the unreclaimable memory in use against the tightest limit, in percent, 0–100; `None` without a limit.
    pub(super) fn memory_percent(&self) -> Option<f64> {
        let v2 = self
            .unified
            .iter()
            .filter_map(|dir| memory::percent_v2(dir));
        let v1 = self
            .memory_v1
            .iter()
            .filter_map(|dir| memory::percent_v1(dir));
        v2.chain(v1).reduce(f64::max)
    }

    /// Returns the CPU time used since the last call against the tightest quota, in percent, 0–100.
    ///
    /// `None` without a quota, and on the first call.
    pub(super) fn cpu_percent(&mut self, now: Duration) -> Option<f64> {
        let used: Vec<_> = self.unified.iter().map(|dir| cpu_time(dir)).collect();
        let (then, before) = self.last.replace((now, used.clone()))?;
        let elapsed = now.checked_sub(then).filter(|time| !time.is_zero())?;

        let levels = self.unified.iter().zip(before.into_iter().zip(used));
        let percents = levels.filter_map(|(dir, (before, used))| {
            let cores = cpu_quota(&fs::read_to_string(dir.join("cpu.max")).ok()?)?;
            let used = used?.checked_sub(before?)?.as_secs_f64();
            Some((used / (elapsed.as_secs_f64() * cores) * 100.0).clamp(0.0, 100.0))
        });
        percents.reduce(f64::max)
    }

    /// Returns the number of cores that the tightest quota allows; `None` without a quota.
    pub(super) fn cores(&self) -> Option<f64> {
        let quotas = self.unified.iter().filter_map(|dir| {
            let quota = fs::read_to_string(dir.join("cpu.max")).ok()?;
            cpu_quota(&quota)
        });
        quotas.reduce(f64::min)
    }
}

struct CgroupMount<'a> {
    /// The group at the mount point: not the topmost one inside most containers.
    root: &'a Path,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> CgroupMount<'a> {
    /// Parses one line of `/proc/self/mountinfo`; see proc_pid_mountinfo(5).
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut filesystem = filesystem.split(' ');
        Some(Self {
            root: Path::new(mount.next()?),
            point: PathBuf::from(mount.next()?.replace("\\040", " ")),
            kind: filesystem.next()?,
            options: filesystem.nth(1)?,
        })
    }
}

/// Returns the path of this process's group in the hierarchy of `controller`; the unified one has the empty name.
fn group_path<'a>(groups: &'a str, controller: &str) -> Option<&'a Path> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let named = fields.next()?.split(',').any(|name| name == controller);
        fields.next().filter(|_| named).map(Path::new)
    })
}

fn levels(
    group: Option<&Path>,
    mounts: &str,
    wanted: impl Fn(&CgroupMount<'_>) -> bool,
) -> Vec<PathBuf> {
    let mut mounts = mounts.lines().filter_map(CgroupMount::parse).filter(wanted);
    let found = mounts.find_map(|mount| {
        let below = group?.strip_prefix(mount.root).ok()?;
        let levels = below.ancestors().map(|level| mount.point.join(level));
        Some(levels.collect())
    });
    found.unwrap_or_default()
}

fn cpu_time(dir: &Path) -> Option<Duration> {
    let stat = fs::read_to_string(dir.join("cpu.stat")).ok()?;
    value(&stat, "usage_usec").map(Duration::from_micros)
}

/// Returns the number of CPUs that `cpu.max` allows: "50000 100000" is half a CPU, "max 100000" no quota.
fn cpu_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u32, u32) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

/// Reads the number in a file; `None` also for "max", which means no limit.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn value(stat: &str, key: &str) -> Option<u64> {
    let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                          32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn paths(levels: &[&str]) -> Vec<PathBuf> {
        levels.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn every_level_up_to_the_mount_is_found() {
        let found = ProcessCgroups::find("0::/system.slice/conductor.service\n", V2);
        let expected = [
            "/sys/fs/cgroup/system.slice/conductor.service",
            "/sys/fs/cgroup/system.slice",
            "/sys/fs/cgroup/",
        ];
        assert_eq!(found.unified, paths(&expected));
        assert_eq!(found.memory_v1, paths(&[]));
    }

    #[test]
    fn a_hybrid_machine_limits_memory_by_version_1() {
        let found = ProcessCgroups::find("4:memory:/a b\n1:cpu:/\n0::/\n", HYBRID);
        let expected = ["/sys/fs/cgroup/memory/a b", "/sys/fs/cgroup/memory/"];
        assert_eq!(found.memory_v1, paths(&expected));
        assert_eq!(found.unified, paths(&["/sys/fs/cgroup/unified/"]));
    }

    #[test]
    fn a_container_sees_its_group_at_the_mount_point() {
        let mounts = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let found = ProcessCgroups::find("0::/docker/abc\n", mounts);
        assert_eq!(found.unified, paths(&["/sys/fs/cgroup/"]));
    }

    #[test]
    fn a_mount_point_may_have_a_space_in_it() {
        let mounts = "30 23 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n";
        let found = ProcessCgroups::find("0::/\n", mounts);
        assert_eq!(found.unified, paths(&["/my groups/"]));
    }

    #[test]
    fn garbage_finds_no_group_and_no_limit() {
        for (groups, mounts) in [
            ("", ""),
            ("0::/a", ""),
            ("", V2),
            ("nonsense\n:::\n0", "x - y\n - \n1 2 3 4 - cgroup2\n"),
            ("0::/elsewhere", "1 2 3 /here /mnt - cgroup2 x rw"),
        ] {
            let mut cgroup = ProcessCgroups::find(groups, mounts);
            assert_eq!(cgroup, ProcessCgroups::default(), "{groups:?} {mounts:?}");
            assert_eq!(cgroup.memory_percent(), None);
            assert_eq!(cgroup.cpu_percent(Duration::ZERO), None);
            assert_eq!(cgroup.cpu_percent(Duration::from_secs(1)), None);
        }
    }

    struct Fake(tempfile::TempDir, ProcessCgroups);

    /// A group "a/b" under a mounted top, made of plain files.
    fn fake() -> Fake {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("a/b")).expect("made");
        let levels: Vec<_> = ["a/b", "a", ""]
            .iter()
            .map(|level| dir.path().join(level))
            .collect();
        let cgroup = ProcessCgroups {
            unified: levels,
            ..ProcessCgroups::default()
        };
        Fake(dir, cgroup)
    }

    impl Fake {
        fn write(&self, file: &str, text: &str) {
            fs::write(self.0.path().join(file), text).expect("written");
        }
    }

    #[test]
    fn the_tightest_level_of_memory_counts() {
        let fake = fake();
        assert_eq!(fake.1.memory_percent(), None, "no files, no limit");
        fake.write("a/b/memory.max", "max\n");
        fake.write("a/b/memory.current", "50\n");
        assert_eq!(fake.1.memory_percent(), None, "no limit");
        fake.write("a/memory.max", "200\n");
        fake.write("a/memory.current", "150\n");
        assert_eq!(fake.1.memory_percent(), Some(75.0), "the parent's limit");
        fake.write("a/memory.stat", "active_file 100\n");
        assert_eq!(fake.1.memory_percent(), Some(25.0), "the parent's cache");
        fake.write("a/b/memory.max", "100\n");
        assert_eq!(fake.1.memory_percent(), Some(50.0), "its own limit");
    }

    #[test]
    fn cpu_is_measured_against_the_tightest_quota() {
        let mut fake = fake();
        fake.write("a/b/cpu.max", "50000 100000\n");
        fake.write("a/b/cpu.stat", "usage_usec 1000000\nuser_usec 1\n");
        fake.write("a/cpu.max", "max 100000\n");
        fake.write("a/cpu.stat", "usage_usec 0\n");
        assert_eq!(fake.1.cpu_percent(Duration::from_secs(10)), None, "first");

        fake.write("a/b/cpu.stat", "usage_usec 2000000\n");
        fake.write("a/cpu.stat", "usage_usec 4000000\n");
        let now = Duration::from_secs(14);
        assert_eq!(
            fake.1.cpu_percent(now),
            Some(50.0),
            "1 s used in 4 s of half a CPU; the parent has no quota"
        );
        assert_eq!(fake.1.cpu_percent(now), None, "no time has gone by");

        fake.write("a/b/cpu.stat", "usage_usec 9000000\n");
        let burst = fake.1.cpu_percent(Duration::from_secs(15));
        assert_eq!(burst, Some(100.0), "a burst is not more than all of it");
    }

    #[test]
    fn a_quota_is_read_or_is_none() {
        assert_eq!(cpu_quota("150000 100000\n"), Some(1.5));
        for none in ["max 100000", "", "1", "0 100000", "1 0", "-1 1", "a b"] {
            assert_eq!(cpu_quota(none), None, "{none:?}");
        }
    }
}
