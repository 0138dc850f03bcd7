//! The location of the host's groups, their owners, and the cleanup after dead hosts.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process,
};

/// The reason why this process cannot create groups.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroupError {
    #[error("{file}: {source}")]
    Unreadable {
        file: &'static str,
        source: io::Error,
    },
    #[error("there is no cgroup2 mount")]
    NoMount,
    #[error("the host cannot move to {}: {source}", .group.display())]
    NotMoved { group: PathBuf, source: io::Error },
}

/// The group in which this process creates its groups.
#[derive(Debug)]
pub(super) struct CgroupBase {
    pub(super) path: PathBuf,
    /// Part of the name of each group of this process.
    pub(super) owner: ProcessIdentity,
}

/// A process, identified even after its PID has been reused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ProcessIdentity {
    pid: u32,
    /// In ticks since boot.
    started: u64,
    /// The PID namespace in which it has this PID: containers may share the group tree, each with a process 1.
    namespace: u64,
}

impl CgroupBase {
    /// Finds this process's own group in the version-2 hierarchy.
    pub(super) fn find() -> Result<Self, GroupError> {
        let unreadable = |file| move |source| GroupError::Unreadable { file, source };
        let read = |file| fs::read_to_string(file).map_err(unreadable(file));
        let (groups, mounts) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
        let path = own_group(&groups, &mounts).ok_or(GroupError::NoMount)?;
        let owner = ProcessIdentity::of(process::id())
            .ok_or(io::ErrorKind::InvalidData.into())
            .map_err(unreadable("/proc/self"))?;
        Ok(Self { path, owner })
    }

    /// Kills and removes the groups of hosts that were killed. Hosts in other PID namespaces cannot be probed from
    /// here, so their groups are left to hosts of those namespaces.
    pub(super) fn remove_dead(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(owner) = name.to_str().and_then(owner_of_group) else {
                continue;
            };
            if owner.namespace != self.owner.namespace
                || ProcessIdentity::of(owner.pid) == Some(owner)
            {
                continue;
            }
            if let Err(error) = super::remove(&entry.path()) {
                tracing::debug!("{} of a dead host stays: {error}", entry.path().display());
            }
        }
    }

    /// Enables limits for child groups, if the host may.
    pub(super) fn hand_down_controllers(&self) -> Result<(), GroupError> {
        let words = |file: &str| fs::read_to_string(self.path.join(file)).unwrap_or_default();
        let (there, handed) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
        let lacking: Vec<&str> = CONTROLLERS
            .into_iter()
            .filter(|name| there.split_whitespace().any(|word| word == *name))
            .filter(|name| handed.split_whitespace().all(|word| word != *name))
            .collect();
        if lacking.is_empty() || !self.is_ours() {
            return Ok(());
        }
        let host = self.path.join(HOST);
        let moved = fs::create_dir(&host)
            .or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            })
            .and_then(|()| fs::write(host.join("cgroup.procs"), process::id().to_string()));
        moved.map_err(|source| GroupError::NotMoved {
            group: host,
            source,
        })?;
        for name in lacking {
            let control = self.path.join("cgroup.subtree_control");
            if let Err(error) = fs::write(control, format!("+{name}")) {
                tracing::debug!("workers get no {name} limits of their group: {error}");
            }
        }
        Ok(())
    }

    /// Returns `true` if the group was delegated to the host: marked so, or owned by the host's user.
    fn is_ours(&self) -> bool {
        let mut mark = [0; 1];
        if rustix::fs::getxattr(&self.path, DELEGATED, &mut mark).is_ok() && mark == *b"1" {
            return true;
        }
        let user = rustix::process::geteuid();
        let owner = fs::metadata(&self.path).map(|folder| folder.uid());
        !user.is_root() && owner.is_ok_and(|owner| owner == user.as_raw())
    }
}

impl ProcessIdentity {
    /// Returns the process with this PID in this process's PID namespace, if it exists.
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program name is in parentheses and may contain anything; the start time is the 20th word after it.
        let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
        Some(Self {
            pid,
            started: started.parse().ok()?,
            namespace: fs::metadata("/proc/self/ns/pid").ok()?.ino(),
        })
    }
}

pub(super) fn name_of_group(owner: &ProcessIdentity, name: &str, nth: u64) -> String {
    let ProcessIdentity {
        pid,
        started,
        namespace,
    } = owner;
    format!("{PREFIX}.{pid}.{started}.{namespace}.{name}.{nth}")
}

/// Returns `true` if a group of this name was created by `owner` for a worker.
pub(super) fn is_of(owner: &ProcessIdentity, name: &str) -> bool {
    owner_of_group(name).as_ref() == Some(owner)
}

fn owner_of_group(name: &str) -> Option<ProcessIdentity> {
    let mut words = name.strip_prefix(PREFIX)?.strip_prefix('.')?.split('.');
    Some(ProcessIdentity {
        pid: words.next()?.parse().ok()?,
        started: words.next()?.parse().ok()?,
        namespace: words.next()?.parse().ok()?,
    })
}

/// Returns the folder of this process's group, or of its parent if the group is `conductor.host`.
fn own_group(groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, point) = mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(3);
        let (root, point) = (words.next()?, words.next()?);
        let is_cgroup2 = filesystem.split(' ').next()? == "cgroup2";
        is_cgroup2.then(|| (root, point.replace("\\040", " ")))
    })?;
    let below = Path::new(group).strip_prefix(root).ok()?;
    let below = match below.file_name() {
        Some(name) if name == HOST => below.parent()?,
        _ => below,
    };
    Some(Path::new(&point).join(below))
}

/// The name of the host's own child group.
const HOST: &str = "conductor.host";
/// The prefix of worker groups' names; the host's own group does not match it.
const PREFIX: &str = "conductor.worker";
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// systemd's mark on a delegated group.
const DELEGATED: &str = "user.delegate";

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                          41 31 0:38 /a /sys/fs/cg\\0402 rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_also_beside_version_1() {
        let own = |groups: &str| own_group(groups, MOUNTS);
        let found = own("4:memory:/x\n0::/a/system.slice/conductor.service\n");
        assert_eq!(
            found.as_deref(),
            Some(Path::new("/sys/fs/cg 2/system.slice/conductor.service"))
        );
        assert_eq!(own("0::/a/b/conductor.host"), own("0::/a/b"));
        for nothing in ["", "4:memory:/x", "0::/elsewhere"] {
            assert_eq!(own(nothing), None, "{nothing:?}");
        }
        assert_eq!(own_group("0::/", ""), None);
    }

    #[test]
    fn a_group_says_whose_it_is() {
        let own = ProcessIdentity::of(process::id()).unwrap();
        let name = name_of_group(&own, "http", 7);
        assert_eq!(owner_of_group(&name), Some(own));
        for foreign in [
            "conductor.host",
            "conductor.worker.1",
            "conductor.worker.1.2.http.0",
            "system.slice",
        ] {
            assert_eq!(owner_of_group(foreign), None, "{foreign}");
        }
        assert_eq!(ProcessIdentity::of(u32::MAX), None);
    }

    #[test]
    fn what_a_dead_host_left_is_removed_and_what_a_live_one_has_stays() {
        let dir = tempfile::tempdir().unwrap();
        let own = ProcessIdentity::of(process::id()).unwrap();
        let another_with_our_number = ProcessIdentity {
            started: own.started + 1,
            ..own
        };
        let another_in_a_container = ProcessIdentity {
            namespace: own.namespace + 1,
            ..another_with_our_number
        };
        let at = |owner: &ProcessIdentity| dir.path().join(name_of_group(owner, "x", 0));
        let base = CgroupBase {
            path: dir.path().to_owned(),
            owner: own,
        };
        let alive = at(&base.owner);
        let dead = at(&another_with_our_number);
        let unknown = at(&another_in_a_container);
        let foreign = dir.path().join("system.slice");
        for folder in [&alive, &dead, &unknown, &foreign] {
            fs::create_dir(folder).unwrap();
        }
        base.remove_dead();
        assert!(alive.exists() && unknown.exists() && foreign.exists());
        assert!(!dead.exists());
    }

    /// Uses a folder of plain files: few machines give a test real controllers.
    #[test]
    fn the_host_makes_room_for_controllers_only_in_a_group_that_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("cgroup.controllers"), "cpuset memory pids\n").unwrap();
        fs::write(at("cgroup.subtree_control"), "memory\n").unwrap();
        let base = CgroupBase {
            path: dir.path().to_owned(),
            owner: ProcessIdentity::of(process::id()).unwrap(),
        };
        let control = || fs::read_to_string(at("cgroup.subtree_control")).unwrap();
        if rustix::process::geteuid().is_root() {
            base.hand_down_controllers().unwrap();
            assert!(!at(HOST).exists(), "root owns groups that are systemd's");
            let flags = rustix::fs::XattrFlags::empty();
            if rustix::fs::setxattr(dir.path(), DELEGATED, b"1", flags).is_err() {
                return;
            }
        }
        base.hand_down_controllers().unwrap();
        let moved = fs::read_to_string(at(HOST).join("cgroup.procs")).unwrap();
        assert_eq!(moved, process::id().to_string());
        assert_eq!(control(), "+pids");
        fs::write(at("cgroup.subtree_control"), "memory pids\n").unwrap();
        base.hand_down_controllers().unwrap();
        assert_eq!(control(), "memory pids\n", "nothing is lacking any more");
    }
}
