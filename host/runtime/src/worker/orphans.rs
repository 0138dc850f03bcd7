//! Processes that plugins started and left behind: adopted, reaped when they exit, and killed with their worker.
//!
//! An orphan goes to the nearest ancestor that adopts. As PID 1 of a container the host is that ancestor, and must
//! reap: otherwise orphans stay zombies until no process can be started any more. The host requests that role
//! everywhere (`PR_SET_CHILD_SUBREAPER`), because otherwise a daemon that a worker left in a separate session is out of
//! reach without a control group. Each descendant of a worker carries the worker's mark in its environment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{
        Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, set_child_subreaper, waitid,
    },
};

use super::children::{MARK, RunningWorkers, WorkerMark};

/// Records that a plugin was loaded into this process, and may start and wait for processes itself: from now on, an
/// exited process that was never seen alive as an orphan is only reaped after its parent has had time to wait for it.
pub fn plugins_share_this_process() {
    HAS_PLUGINS.store(true, Ordering::Relaxed);
}

static HAS_PLUGINS: AtomicBool = AtomicBool::new(false);

/// Adopts and reaps the orphans of this process's workers until dropped, and then kills the rest.
#[derive(Debug)]
pub struct OrphanReaper {
    /// Closed to end the thread.
    stop: Option<UnixStream>,
    thread: Option<thread::JoinHandle<()>>,
}

impl OrphanReaper {
    /// Starts the reaper thread.
    ///
    /// # Errors
    /// When the thread or its socket cannot be created.
    pub fn start() -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let (ended, child_ended) = UnixStream::pair()?;
        child_ended.set_nonblocking(true)?;
        // This also resets an ignored SIGCHLD inherited by the host: the kernel would then reap workers itself, and
        // their exit status would be lost.
        signal_hook::low_level::pipe::register(libc::SIGCHLD, ended)?;
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            tracing::debug!("processes that plugins leave behind go to init: {error}");
        }
        let thread = thread::Builder::new()
            .name("orphans".to_owned())
            .spawn(move || tend_until_stopped(&stopped, child_ended, Clock::start()))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for OrphanReaper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tend_until_stopped(stopped: &UnixStream, mut child_ended: UnixStream, clock: Clock) {
    let mut adopted = AdoptedProcesses::default();
    let mut quiet_turns = 0;
    loop {
        let mut awaited = [
            PollFd::new(stopped, PollFlags::IN),
            PollFd::new(&child_ended, PollFlags::IN),
        ];
        // Also without a signal: what a worker leaves behind is adopted without one, and is only known to be left once
        // the worker has been reaped.
        let period = match quiet_turns >= QUIET_TURNS && adopted.is_empty() {
            true => QUIET_PERIOD,
            false => PERIOD,
        };
        let happened = poll(&mut awaited, Timespec::try_from(period).ok().as_ref());
        let is_over = !awaited[0].revents().is_empty();
        while matches!(child_ended.read(&mut [0; 64]), Ok(1..)) {}
        adopted.tend(clock.now());
        if is_over {
            break;
        }
        if happened == Ok(0) {
            quiet_turns += 1;
            continue;
        }
        quiet_turns = 0;
        // A plugin that leaves hundreds a second behind must not keep this thread busy.
        thread::sleep(PAUSE);
    }
    // Those killed a moment ago, and the orphans they leave in turn.
    for _ in 0..LAST_LOOKS {
        if adopted.tend(clock.now()) == 0 {
            break;
        }
        thread::sleep(PAUSE);
    }
}

/// The adopted processes, as last seen.
#[derive(Debug, Default)]
struct AdoptedProcesses {
    /// Those seen alive with a worker's mark.
    known: BTreeSet<u32>,
    /// Those being killed.
    told: BTreeSet<u32>,
    /// Exit times of processes that may be an in-process plugin's own.
    ended: BTreeMap<u32, Duration>,
}

impl AdoptedProcesses {
    /// Returns `true` if no adopted process is alive or waits to be reaped.
    fn is_empty(&self) -> bool {
        self.known.is_empty() && self.told.is_empty() && self.ended.is_empty()
    }

    /// Reaps exited processes, and kills those whose worker is gone; returns the number of the latter.
    fn tend(&mut self, now: Duration) -> usize {
        let children = children_of_this_process();
        self.known.retain(|pid| children.contains(pid));
        self.told.retain(|pid| children.contains(pid));
        self.ended.retain(|pid, _| children.contains(pid));
        let mut left = 0;
        for pid in children {
            let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
                continue;
            };
            // Held, so that the PID cannot be reused for a new worker meanwhile.
            let workers = RunningWorkers::lock();
            if workers.has(pid) {
                continue;
            }
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(process), look) {
                Ok(Some(_)) => {
                    if self.may_reap(pid, now) {
                        let reap = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                        let _ = waitid(WaitId::Pid(process), reap);
                    }
                }
                Ok(None) => left += usize::from(self.end_if_left(pid, process, &workers)),
                Err(_) => {}
            }
        }
        left
    }

    fn may_reap(&mut self, pid: u32, now: Duration) -> bool {
        let may_be_waited_for = HAS_PLUGINS.load(Ordering::Relaxed) && !self.known.contains(&pid);
        let since = *self.ended.entry(pid).or_insert(now);
        !may_be_waited_for || now.saturating_sub(since) >= GRACE
    }

    fn end_if_left(&mut self, pid: u32, process: Pid, workers: &RunningWorkers) -> bool {
        let Some((plugin, is_left)) = origin(pid, workers) else {
            return false;
        };
        self.known.insert(pid);
        if is_left {
            if self.told.insert(pid) {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                tracing::info!(
                    plugin,
                    "ending process {pid} ({}), which a worker of the plugin left behind",
                    name.trim().escape_debug()
                );
            }
            let _ = kill_process(process, Signal::KILL);
        }
        is_left
    }
}

/// Returns the plugin whose worker this process descends from, and `true` if that worker has ended.
fn origin(pid: u32, workers: &RunningWorkers) -> Option<(String, bool)> {
    if let Some(mark) = mark_of(pid) {
        let is_left = !workers.has_mark(&mark);
        return Some((mark.plugin, is_left));
    }
    // A fork of a worker that never executed another program: its environment is closed to other processes.
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = command.split(|byte| *byte == 0);
    if words.next() != Some(b"conductor") || words.next() != Some(b"worker") {
        return None;
    }
    let plugin = str::from_utf8(words.next()?).ok()?;
    Some((plugin.to_owned(), !workers.has_plugin(plugin)))
}

fn mark_of(pid: u32) -> Option<WorkerMark> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| {
        let (name, value) = str::from_utf8(variable).ok()?.split_once('=')?;
        (name == MARK).then_some(value)
    })?;
    WorkerMark::parse(value)
}

/// Returns the children of every thread: a child belongs to the thread that started it, or to any if it was adopted.
fn children_of_this_process() -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for thread in fs::read_dir("/proc/self/task").into_iter().flatten() {
        let Ok(thread) = thread else { continue };
        match fs::read_to_string(thread.path().join("children")) {
            Ok(listed) => found.extend(listed.split(' ').filter_map(|pid| pid.parse::<u32>().ok())),
            // The thread has exited, or the kernel has no such lists.
            Err(_) if thread.path().exists() => return children_by_parent(),
            Err(_) => {}
        }
    }
    found
}

/// Returns the same from the table of all processes, for kernels that list no children.
fn children_by_parent() -> BTreeSet<u32> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(own)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain any characters.
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Interval of checks without a signal, while there are orphans and for a while after a child has exited.
const PERIOD: Duration = Duration::from_secs(1);
/// Number of such checks until the host counts as quiet.
const QUIET_TURNS: u32 = 5;
/// Interval of checks of a quiet host: each reads a file per thread.
const QUIET_PERIOD: Duration = Duration::from_secs(10);
/// Minimum time between two checks.
const PAUSE: Duration = Duration::from_millis(20);
/// Maximum time an exited process waits for its parent, if that may be a plugin in this process.
const GRACE: Duration = Duration::from_secs(10);
/// Number of checks at the end, until all orphans are gone.
const LAST_LOOKS: usize = 50;

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn children_are_found_with_and_without_the_kernels_lists() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(children_of_this_process().contains(&child.id()));
        assert!(children_by_parent().contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children_by_parent().contains(&child.id()));
    }

    #[test]
    fn a_process_is_known_by_the_mark_in_its_environment() {
        let mut child = Command::new("sleep")
            .arg("600")
            .env(MARK, "http.7")
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        // The parent returns shortly before the new program's environment is visible.
        let mark = (0..1000).find_map(|_| {
            thread::sleep(Duration::from_millis(5));
            mark_of(child.id())
        });
        let found = origin(child.id(), &RunningWorkers::default());
        let own = origin(std::process::id(), &RunningWorkers::default());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(mark, WorkerMark::parse("http.7"));
        assert_eq!(found, Some(("http".to_owned(), true)));
        assert_eq!(own, None, "not a worker's");
    }

    /// An in-process plugin that waits for its own program must get its exit status.
    #[test]
    fn an_ended_process_of_unknown_origin_is_left_to_its_parent_for_a_while() {
        let mut adopted = AdoptedProcesses::default();
        let at = Duration::from_secs;
        HAS_PLUGINS.store(false, Ordering::Relaxed);
        assert!(adopted.may_reap(7, at(1)));
        HAS_PLUGINS.store(true, Ordering::Relaxed);
        assert!(!adopted.may_reap(8, at(1)));
        assert!(!adopted.may_reap(8, at(10)));
        assert!(adopted.may_reap(8, at(11)));
        adopted.known.insert(9);
        assert!(adopted.may_reap(9, at(1)), "seen alive as an orphan");
        HAS_PLUGINS.store(false, Ordering::Relaxed);
    }
}
