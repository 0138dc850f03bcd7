//! A control group for a worker and everything it starts: shared limits, and one way to kill them all.
//!
//! Groups are created under the host's own group in the version-2 hierarchy, even if version 1 has the controllers: a
//! group can still kill everything in it, including processes that left their process group. Limits need controllers,
//! which the kernel gives to children only if the parent itself contains no process. So if the host's group was
//! delegated to it (systemd's `Delegate=yes`, or a group owned by the host's user), the host moves into its own child
//! group, `conductor.host`. Otherwise it leaves the machine's groups unchanged.

mod tree;

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
};
use tree::CgroupBase;

use super::WorkerLimits;

/// A group of processes with limits; dropping it kills every process in it.
#[derive(Debug)]
pub struct WorkerCgroup {
    path: PathBuf,
    enforces: bool,
}

impl WorkerCgroup {
    /// Creates a group whose readable name contains `name`: letters, digits and `-`.
    ///
    /// Returns `None` if the host may not create groups; the first attempt logs the reason at debug level. Limits
    /// without a controller are skipped, also with a debug line. The first call in a process removes the groups of
    /// killed hosts.
    #[must_use]
    pub fn new(name: &str, limits: &WorkerLimits) -> Option<Self> {
        let base = base()?;
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.path.join(tree::name_of_group(&base.owner, name, nth));
        if let Err(error) = fs::create_dir(&path) {
            tracing::debug!("no control group for {name}: {}: {error}", path.display());
            return None;
        }
        let enforces = limit(&path, limits);
        Some(Self { path, enforces })
    }

    /// Returns `true` if the kernel enforces the limits of memory and processes on the group.
    #[must_use]
    pub fn enforces_limits(&self) -> bool {
        self.enforces
    }

    /// Opens the group's folder, to start a process inside the group.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(open(&self.path, flags, Mode::empty())?)
    }

    /// Moves a process with all its threads into the group; processes it starts later are in it too.
    ///
    /// # Errors
    /// When the process is gone, or the kernel refuses.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// Kills everything in the group.
    ///
    /// # Errors
    /// When the group is gone, or the kernel refuses.
    pub fn kill(&self) -> io::Result<()> {
        kill(&self.path)
    }

    /// The group's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the seconds of CPU time used by the worker's group, including processes that have exited; `None` if it has
/// no group of this host.
pub fn cpu_seconds_of(worker: u32) -> Option<f64> {
    let base = base()?;
    let groups = fs::read_to_string(format!("/proc/{worker}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let name = Path::new(path).file_name()?;
    if !tree::is_of(&base.owner, name.to_str()?) {
        return None;
    }
    let usage = fs::read_to_string(base.path.join(name).join("cpu.stat")).ok()?;
    let mut lines = usage.lines();
    let micros = lines.find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(Duration::from_micros(micros.trim().parse().ok()?).as_secs_f64())
}

impl Drop for WorkerCgroup {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::debug!(
                "{} stays until the next start: {error}",
                self.path.display()
            );
        }
    }
}

/// Returns the group in which this process creates its groups; found once.
fn base() -> Option<&'static CgroupBase> {
    static BASE: OnceLock<Option<CgroupBase>> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let found = CgroupBase::find().and_then(|base| {
            base.remove_dead();
            base.hand_down_controllers()?;
            Ok(base)
        });
        found
            .inspect_err(|why| tracing::debug!("no control groups for workers: {why}"))
            .ok()
    });
    base.as_ref()
}

/// Sets the limits that the group's controllers accept; returns `true` if those of memory and processes are among them.
fn limit(group: &Path, limits: &WorkerLimits) -> bool {
    let mut enforces = true;
    let cpu = u64::from(limits.cpu_percent) * CPU_PERIOD / 100;
    for (file, value) in [
        ("memory.max", limits.memory.to_string()),
        // A worker over its limit is killed as a whole instead of being swapped out.
        ("memory.swap.max", "0".to_owned()),
        ("memory.oom.group", "1".to_owned()),
        ("pids.max", limits.processes.to_string()),
        ("cpu.max", format!("{cpu} {CPU_PERIOD}")),
    ] {
        if let Err(error) = fs::write(group.join(file), value) {
            tracing::debug!("{}: no {file}: {error}", group.display());
            enforces &= !matches!(file, "memory.max" | "pids.max");
        }
    }
    enforces
}

fn kill(group: &Path) -> io::Result<()> {
    match fs::write(group.join("cgroup.kill"), "1") {
        // Before Linux 5.14 each process has to be killed, until no new one appears.
        Err(error) if error.kind() == ErrorKind::NotFound && group.exists() => kill_each(group),
        result => result,
    }
}

fn kill_each(group: &Path) -> io::Result<()> {
    for _ in 0..MOST_ROUNDS {
        let processes = fs::read_to_string(group.join("cgroup.procs"))?;
        let mut pids = processes.lines().filter_map(|line| line.parse().ok());
        let Some(first) = pids.next() else {
            return Ok(());
        };
        for pid in std::iter::once(first).chain(pids).filter_map(Pid::from_raw) {
            // A process that has already exited is fine.
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(BETWEEN_TRIES);
    }
    Err(io::Error::other("new processes came faster than they went"))
}

/// Kills everything in a group and removes it once it is empty.
fn remove(group: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && tries < MOST_ROUNDS => {
                tries += 1;
                kill(group)?;
                thread::sleep(BETWEEN_TRIES);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            result => return result,
        }
    }
}

/// Microseconds; the usual period.
const CPU_PERIOD: u64 = 100_000;

/// A killed process leaves its group within a few of these, unless blocked on a disk.
const BETWEEN_TRIES: Duration = Duration::from_millis(2);
const MOST_ROUNDS: u32 = 100;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Returns `None` unless the machine lets this process create groups.
    fn group(name: &str) -> Option<WorkerCgroup> {
        WorkerCgroup::new(name, &WorkerLimits::default())
    }

    fn patiently(mut done: impl FnMut() -> bool) {
        for _ in 0..2000 {
            if done() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it did not come to pass");
    }

    #[test]
    fn all_that_a_process_started_ends_with_its_group() {
        let Some(group) = group("ends") else { return };
        let path = group.path().to_owned();
        let other = self::group("ends").expect("a second of the same name");
        assert_ne!(other.path(), path);
        let mut shell = Command::new("sh")
            .args(["-c", "read go; setsid sleep 1000 & setsid sleep 1000"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        group.add(shell.id()).unwrap();
        drop(shell.stdin.take());
        let inside = || fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        patiently(|| inside().lines().count() >= 2);
        group.kill().unwrap();
        shell.wait().unwrap();
        patiently(|| inside().is_empty());
        drop(group);
        assert!(!path.exists());
        assert!(other.path().exists());
    }

    #[test]
    fn a_group_that_is_dropped_while_something_runs_ends_it() {
        let Some(group) = group("dropped") else {
            return;
        };
        let path = group.path().to_owned();
        let mut sleep = Command::new("sleep").arg("1000").spawn().unwrap();
        group.add(sleep.id()).unwrap();
        drop(group);
        assert!(!path.exists());
        assert!(!sleep.wait().unwrap().success());
    }

    /// Uses a folder of plain files: few machines give a test real controllers.
    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let limits = WorkerLimits {
            memory: 1 << 20,
            processes: 7,
            cpu_percent: 250,
            ..WorkerLimits::default()
        };
        assert!(limit(dir.path(), &limits));
        for (file, value) in [
            ("memory.max", "1048576"),
            ("memory.oom.group", "1"),
            ("pids.max", "7"),
            ("cpu.max", "250000 100000"),
        ] {
            let written = fs::read_to_string(dir.path().join(file)).unwrap();
            assert_eq!(written, value, "{file}");
        }
        // As where the controller is missing: the file cannot be written.
        fs::remove_file(dir.path().join("memory.max")).unwrap();
        fs::create_dir(dir.path().join("memory.max")).unwrap();
        assert!(!limit(dir.path(), &limits));
    }

    #[test]
    fn a_process_that_is_gone_cannot_be_added() {
        let Some(group) = group("gone") else { return };
        let mut sleep = Command::new("true").spawn().unwrap();
        sleep.wait().unwrap();
        assert!(group.add(sleep.id()).is_err());
    }
}
