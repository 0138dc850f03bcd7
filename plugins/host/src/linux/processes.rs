//! The processes that a config selects, from `/proc/PID`.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use conductor_net::TimeLimit;
use procfs_core::{FromRead as _, ProcError, process::Stat};
use regex::bytes::Regex;
use rustix::time::{ClockId, clock_gettime};

/// The condition that selects processes.
#[derive(Debug)]
pub(crate) struct ProcessSelector {
    pub(crate) name: Option<String>,
    pub(crate) command: Option<Regex>,
}

/// The selected processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ProcessGroup {
    pub(crate) running: u64,
    pub(crate) sleeping: u64,
    /// Waiting for a disk or a file server, not interruptible.
    pub(crate) blocked: u64,
    pub(crate) stopped: u64,
    pub(crate) zombies: u64,
    /// Resident memory in bytes; shared memory counts once for each process.
    pub(crate) memory: u64,
    pub(crate) threads: u64,
    /// Ages of the living ones.
    pub(crate) ages: Option<ProcessAges>,
}

/// Time since processes were started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ProcessAges {
    pub(crate) oldest: Duration,
    pub(crate) youngest: Duration,
}

/// The reason why the processes are unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "cannot see the processes of other users: /proc is mounted with `hidepid`; add the host's user to the group of its \
         option `gid`"
    )]
    Hidden,
    #[error(
        "only {seen} processes could be read within the time of the check; give it more `timeout`"
    )]
    TooSlow { seen: usize },
}

/// Reads all processes and returns what those selected have in common.
pub(crate) fn scan(
    proc: &Path,
    selector: &ProcessSelector,
    limit: &TimeLimit<'_>,
) -> Result<ProcessGroup, ScanError> {
    let unreadable = |path: &Path, source| ScanError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut group = ProcessGroup::default();
    let own = std::process::id();
    let now = time_since_start();
    let entries = fs::read_dir(proc).map_err(|source| unreadable(proc, source))?;
    let mut seen = 0;
    let mut sees_first = false;
    for entry in entries {
        let entry = entry.map_err(|source| unreadable(proc, source))?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if limit.left().is_zero() {
            return Err(ScanError::TooSlow { seen });
        }
        seen += 1;
        let folder = entry.path();
        match read_process(&folder, selector) {
            Ok(found) => {
                sees_first |= pid == 1;
                if let Some(stat) = found.filter(|_| pid != own) {
                    group.add(&stat, now);
                }
            }
            Err(error) if is_gone(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ScanError::Hidden);
            }
            Err(source) => return Err(unreadable(&folder, source)),
        }
    }
    // Every PID namespace has a first process; a `hidepid` of 2 hides it.
    if !sees_first {
        return Err(ScanError::Hidden);
    }
    Ok(group)
}

/// Returns the process if it is selected.
fn read_process(folder: &Path, selector: &ProcessSelector) -> io::Result<Option<Stat>> {
    let stat = Stat::from_read(File::open(folder.join("stat"))?).map_err(|error| match error {
        ProcError::Io(error, _) => error,
        error => io::Error::other(error),
    })?;
    if let Some(name) = &selector.name {
        let kept = name.as_bytes().get(..MAX_COMM).unwrap_or(name.as_bytes());
        if stat.comm.as_bytes() != kept {
            return Ok(None);
        }
        // The kernel keeps 15 bytes of a name; the command line has the rest.
        if name.len() > MAX_COMM && !stat.is_zombie() {
            let line = command_line(folder)?;
            let program = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            let base = program.rsplit(|byte| *byte == b'/').next();
            let base = base.map(|base| base.strip_suffix(b":").unwrap_or(base));
            if base != Some(name.as_bytes()) {
                return Ok(None);
            }
        }
    }
    if let Some(pattern) = &selector.command
        && !pattern.is_match(&command_line(folder)?)
    {
        return Ok(None);
    }
    Ok(Some(stat))
}

/// Reads the program and its arguments with a space between each; empty for a zombie or a thread of the kernel.
fn command_line(folder: &Path) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    File::open(folder.join("cmdline"))?
        .take(MAX_COMMAND_LINE)
        .read_to_end(&mut line)?;
    while line.last() == Some(&0) {
        line.pop();
    }
    for byte in &mut line {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    Ok(line)
}

/// Returns true if the process has ended since its folder was listed.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Returns the time since the machine was started, which the start of processes is counted from.
fn time_since_start() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

trait StatExt {
    fn is_zombie(&self) -> bool;
}

impl StatExt for Stat {
    fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

impl ProcessGroup {
    fn add(&mut self, stat: &Stat, now: Duration) {
        match stat.state {
            'R' => self.running += 1,
            'D' => self.blocked += 1,
            'T' | 't' => self.stopped += 1,
            'Z' | 'X' | 'x' => {
                self.zombies += 1;
                return;
            }
            // Idle threads of the kernel, and the states of old kernels, sleep too.
            _ => self.sleeping += 1,
        }
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        self.memory += stat.rss.saturating_mul(page);
        self.threads += u64::try_from(stat.num_threads).unwrap_or_default();
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let started = Duration::from_millis(stat.starttime.saturating_mul(1000) / ticks_per_second);
        let age = now.saturating_sub(started);
        let ages = self.ages.get_or_insert(ProcessAges {
            oldest: age,
            youngest: age,
        });
        ages.oldest = ages.oldest.max(age);
        ages.youngest = ages.youngest.min(age);
    }

    /// Returns the number of processes without zombies.
    pub(crate) fn living(&self) -> u64 {
        self.running + self.sleeping + self.blocked + self.stopped
    }

    /// Returns the number of processes in each state.
    pub(crate) fn states(&self) -> [(&'static str, u64); 5] {
        [
            ("running", self.running),
            ("sleeping", self.sleeping),
            ("blocked", self.blocked),
            ("stopped", self.stopped),
            ("zombie", self.zombies),
        ]
    }
}

/// Bytes that the kernel keeps of the name of a process.
const MAX_COMM: usize = 15;
/// Bytes of a command line that are read.
const MAX_COMMAND_LINE: u64 = 128 * 1024;
