//! Leftovers of a host that has ended: processes, and private copies of libraries.

use std::{
    collections::BTreeSet,
    env::consts::DLL_EXTENSION,
    fs,
    path::{Path, PathBuf},
};

use super::processes;

/// The characteristics of one host's leftovers.
pub(super) struct HostLeftovers {
    folder: PathBuf,
    host: u32,
    /// The argument of the `sleep` processes its plugins start.
    sleep: String,
    /// Its descendants at the last snapshot, with the start time of each.
    known: BTreeSet<(u32, u64)>,
}

impl HostLeftovers {
    /// Returns those of a host with this folder; its plugins' orphans sleep for `mark` milliseconds.
    pub(super) fn of(folder: &Path, host: u32, mark: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            host,
            sleep: format!("{}.{:03}", mark / 1000, mark % 1000),
            known: BTreeSet::new(),
        }
    }

    /// Records the host's descendants, while it is alive.
    pub(super) fn record_descendants(&mut self) {
        let all = processes::list();
        let mut family = BTreeSet::from([self.host]);
        loop {
            let before = family.len();
            let children = all.iter().filter(|p| family.contains(&p.parent));
            let children: Vec<_> = children.map(|p| p.pid).collect();
            family.extend(children);
            if family.len() == before {
                break;
            }
        }
        let descendants = all
            .iter()
            .filter(|p| p.pid != self.host && family.contains(&p.pid));
        self.known.extend(descendants.map(|p| (p.pid, p.started)));
    }

    /// Returns the host's live processes, without itself.
    ///
    /// They descend from it, map a file in its folder, name the folder in their arguments, or sleep for the time of its
    /// plugins' orphans.
    pub(super) fn alive(&self) -> Vec<u32> {
        let ours = |process: &processes::ProcessEntry| {
            process.pid != self.host
                && (self.known.contains(&(process.pid, process.started))
                    || self.is_recognised(process.pid))
        };
        let alive = processes::list().into_iter().filter(|p| !p.is_dead);
        alive.filter(ours).map(|p| p.pid).collect()
    }

    fn is_recognised(&self, pid: u32) -> bool {
        let folder = self.folder.as_os_str().as_encoded_bytes();
        processes::mentions(pid, folder, &self.sleep)
    }

    /// Kills the leftovers.
    pub(super) fn kill(&self) {
        for pid in self.alive() {
            // It may have ended by itself.
            let _ = processes::kill(pid);
        }
    }
}

/// Counts the libraries below a folder.
pub(super) fn libraries_in(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let count = |entry: fs::DirEntry| {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => libraries_in(&path),
            _ => usize::from(path.extension().is_some_and(|it| it == DLL_EXTENSION)),
        }
    };
    entries.flatten().map(count).sum()
}

/// Returns the lowest closed descriptor of a process: with that as its limit, it can open nothing.
///
/// # Errors
/// If this user may not list the descriptors of the process.
#[cfg(target_os = "linux")]
pub(super) fn first_free_descriptor(pid: u32) -> std::io::Result<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let open: BTreeSet<u64> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    Ok((0..).find(|n| !open.contains(n)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::process::{Child, Command};

    use super::*;

    /// A stand-in for a host, whose plugin has left a `sleep` behind.
    #[cfg(unix)]
    fn host(sleep: &str) -> Child {
        let script = format!("sleep {sleep} & wait");
        Command::new("sh").args(["-c", &script]).spawn().unwrap()
    }

    #[cfg(unix)]
    fn until(what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..3_000 {
            if done() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("waited in vain for {what}");
    }

    #[cfg(unix)]
    #[test]
    fn a_child_that_outlives_its_host_is_known_by_its_descent_and_killed() {
        let mut host = host("1234");
        let mut left = HostLeftovers::of(Path::new("/nowhere/at-all"), host.id(), 300_001);
        until("the child", || {
            left.record_descendants();
            left.alive().len() == 1
        });
        host.kill().unwrap();
        host.wait().unwrap();
        assert_eq!(left.alive().len(), 1);
        left.kill();
        until("its end", || left.alive().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_child_whose_descent_nobody_noted_is_known_by_how_long_it_sleeps() {
        let mut host = host("300.002");
        let of = |mark| HostLeftovers::of(Path::new("/nowhere/at-all"), host.id(), mark);
        let (ours, of_another) = (of(300_002), of(300_003));
        until("the child", || ours.alive().len() == 1);
        assert_eq!(of_another.alive().len(), 0);
        host.kill().unwrap();
        host.wait().unwrap();
        ours.kill();
        until("its end", || ours.alive().is_empty());
    }

    #[test]
    fn libraries_are_counted_wherever_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("libraries/run");
        fs::create_dir_all(&deep).unwrap();
        for name in ["a", "b"] {
            fs::write(deep.join(name).with_extension(DLL_EXTENSION), "").unwrap();
        }
        fs::write(deep.join("lock"), "").unwrap();
        assert_eq!(libraries_in(folder.path()), 2);
    }
}
