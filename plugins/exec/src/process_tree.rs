//! The processes that a command has started, and their end.
//!
//! On Linux they are known by their ancestors, and by a variable of their environment, which processes whose parent has
//! ended still have. A process group would not do: the sandbox of a worker allows none besides the worker's own. On
//! other systems it is the process group.

use std::{
    collections::BTreeSet,
    io,
    process::Child,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal};

/// The processes of one command.
#[derive(Debug)]
pub(crate) struct ProcessTree {
    number: u64,
    root: Option<Pid>,
    /// `true` if the root was waited for: its PID may belong to another process.
    has_root_ended: bool,
}

/// Reasons why processes could not be ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndError {
    #[error(
        "this kernel lets no plugin end the programs it runs; use Linux 5.9 or later, or see the host's log for what its sandbox lacks: {0}"
    )]
    NotPermitted(rustix::io::Errno),
    #[error(
        "some were left after {MOST_ROUNDS} rounds: they start faster than they are killed, or wait for a disk"
    )]
    TooMany,
    #[error("/proc cannot be read: {0}")]
    NoProc(#[from] io::Error),
}

impl ProcessTree {
    /// Returns the tree of a command that is about to start, with name and value of the variable that marks it.
    pub(crate) fn new() -> (&'static str, String, Self) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        running(|running| running.insert(number));
        let tree = Self {
            number,
            root: None,
            has_root_ended: false,
        };
        (MARK, format!("{}{number}", mark_prefix()), tree)
    }

    /// Adds the process that was started.
    pub(crate) fn of(mut self, child: &Child) -> Self {
        self.root = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        self
    }

    /// Records that the command was waited for.
    pub(crate) fn root_ended(&mut self) {
        self.has_root_ended = true;
    }

    /// Kills the processes; returns their number.
    ///
    /// # Errors
    /// When a process could not be killed.
    pub(crate) fn end(&self) -> Result<usize, EndError> {
        match self.root {
            Some(root) => end_all(root, self.has_root_ended, self.number),
            None => Ok(0),
        }
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        running(|running| running.remove(&self.number));
        UNSWEPT.fetch_add(1, Ordering::Relaxed);
    }
}

/// Number of commands that have ended since the last look for leftovers.
static UNSWEPT: AtomicU64 = AtomicU64::new(0);

/// Numbers of the commands that have not ended.
fn running<T>(change: impl FnOnce(&mut BTreeSet<u64>) -> T) -> T {
    static RUNNING: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());
    change(&mut RUNNING.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Kills processes that commands of this process have left in the background, once for many commands: this reads the
/// state of every process of the machine.
pub(crate) fn end_leftovers_sometimes() {
    if UNSWEPT.load(Ordering::Relaxed) >= COMMANDS_PER_SWEEP {
        end_leftovers();
    }
}

/// Kills processes that commands of this process have left in the background, unless no command has ended since the last
/// time. One that has left its parent and cleared its environment stays until the worker ends.
pub(crate) fn end_leftovers() {
    if UNSWEPT.swap(0, Ordering::Relaxed) > 0 {
        end_all_leftovers();
    }
}

fn mark_prefix() -> String {
    format!("{}.", std::process::id())
}

/// Kills until a look finds nothing left.
fn end_repeatedly(mut find: impl FnMut() -> io::Result<Vec<Pid>>) -> Result<usize, EndError> {
    let mut ended = BTreeSet::new();
    for _ in 0..MOST_ROUNDS {
        let found = find()?;
        if found.is_empty() {
            return Ok(ended.len());
        }
        for process in found {
            match rustix::process::kill_process(process, Signal::KILL) {
                Ok(()) => drop(ended.insert(process.as_raw_nonzero())),
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(EndError::NotPermitted(error)),
            }
        }
        thread::sleep(BETWEEN_ROUNDS);
    }
    Err(EndError::TooMany)
}

#[cfg(target_os = "linux")]
pub(crate) use self::linux::prepare;
#[cfg(target_os = "linux")]
use self::linux::{end_all, end_all_leftovers};
#[cfg(not(target_os = "linux"))]
pub(crate) use self::other::prepare;
#[cfg(not(target_os = "linux"))]
use self::other::{end_all, end_all_leftovers};

#[cfg(target_os = "linux")]
mod linux {
    //! Looks through `/proc`.

    use std::{fs, io, process::Command};

    use rustix::process::Pid;

    use super::{EndError, MARK, end_repeatedly, mark_prefix, running};

    /// Nothing to prepare: the mark is in the environment.
    pub(crate) fn prepare(_: &mut Command) {}

    pub(super) fn end_all(root: Pid, has_root_ended: bool, number: u64) -> Result<usize, EndError> {
        let mark = format!("{MARK}={}{number}", mark_prefix());
        end_repeatedly(|| {
            let all = processes()?;
            let mut found = Vec::new();
            if !has_root_ended {
                found.push(root.as_raw_nonzero().get());
            }
            let mut nth = 0;
            while nth < found.len() {
                let parent = found[nth];
                found.extend(
                    all.iter()
                        .filter(|one| one.parent == parent)
                        .map(|one| one.pid),
                );
                nth += 1;
            }
            let is_of = |one: &&ProcessEntry| {
                !one.is_dead && (found.contains(&one.pid) || one.marks().any(|text| text == mark))
            };
            Ok(all
                .iter()
                .filter(is_of)
                .filter_map(|one| Pid::from_raw(one.pid))
                .collect())
        })
    }

    pub(super) fn end_all_leftovers() {
        let prefix = format!("{MARK}={}", mark_prefix());
        let _ = end_repeatedly(|| {
            let is_left = |one: &ProcessEntry| {
                !one.is_dead
                    && one.marks().any(|text| {
                        let number = text.strip_prefix(&prefix).and_then(|n| n.parse().ok());
                        number.is_some_and(|n| running(|running| !running.contains(&n)))
                    })
            };
            let all = processes()?;
            Ok(all
                .iter()
                .filter(|one| is_left(one))
                .filter_map(|one| Pid::from_raw(one.pid))
                .collect())
        });
    }

    struct ProcessEntry {
        pid: i32,
        parent: i32,
        is_dead: bool,
    }

    impl ProcessEntry {
        /// Returns the variables of its environment; none for a process of another user.
        fn marks(&self) -> impl Iterator<Item = String> {
            let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
            let variables: Vec<_> = environment
                .split(|&byte| byte == 0)
                .map(|text| String::from_utf8_lossy(text).into_owned())
                .collect();
            variables.into_iter()
        }
    }

    /// Returns all processes of the machine.
    fn processes() -> io::Result<Vec<ProcessEntry>> {
        let entries = fs::read_dir("/proc")?.filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name may contain spaces and parentheses; after it come the state and the parent.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let is_dead = matches!(fields.next()?, "Z" | "X" | "x");
            let parent = fields.next()?.parse().ok()?;
            Some(ProcessEntry {
                pid,
                parent,
                is_dead,
            })
        });
        Ok(entries.collect())
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    //! Uses process groups.

    use std::{os::unix::process::CommandExt as _, process::Command};

    use rustix::process::{Pid, Signal, kill_process_group};

    use super::EndError;

    /// Makes the command the leader of a process group.
    pub(crate) fn prepare(command: &mut Command) {
        command.process_group(0);
    }

    pub(super) fn end_all(root: Pid, _: bool, _: u64) -> Result<usize, EndError> {
        match kill_process_group(root, Signal::KILL) {
            Ok(()) => Ok(1),
            Err(rustix::io::Errno::SRCH) => Ok(0),
            Err(error) => Err(EndError::NotPermitted(error)),
        }
    }

    /// Nothing: background processes cannot be found there.
    pub(super) fn end_all_leftovers() {}
}

/// The variable that marks the processes of a command.
const MARK: &str = "CONDUCTOR_EXEC";
/// A worker has 256 processes and threads, unless the config says otherwise.
const COMMANDS_PER_SWEEP: u64 = 32;
/// A killed process is gone within a few of these, unless blocked on a disk.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(1);
const MOST_ROUNDS: u32 = 50;
