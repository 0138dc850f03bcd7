//! Monitors the resources of a running worker: ends one that far exceeds its limits.
//!
//! The kernel's own limits have gaps if the host has no cgroup: memory that was written and made read-only, page
//! tables, threads, and the usage of programs that a worker runs. The thread that waits for a worker checks it from its
//! start on, also while it loads its library.

use std::time::Duration;

use conductor_sandbox::{SandboxPolicy, WorkerLimits, holdings};

/// Monitors the resources of one worker and of the programs it runs. Public for the tests of attempts it must stop.
#[derive(Debug)]
pub struct ResourceWatch {
    pid: u32,
    limits: WorkerLimits,
    runs: bool,
    reads: bool,
    next: Duration,
    looks: u32,
    /// `true` if the kernel enforces the limits of memory and processes.
    is_relaxed: bool,
    /// Time since which it has exceeded its memory limit.
    over_since: Option<Duration>,
}

impl ResourceWatch {
    /// Creates a watch for the worker `pid`, if this OS reports a process's resources.
    #[must_use]
    pub fn new(pid: u32, policy: &SandboxPolicy, now: Duration) -> Option<Self> {
        cfg!(target_os = "linux").then(|| Self {
            pid,
            limits: policy.limits,
            runs: !policy.capabilities.run.is_empty(),
            reads: !policy.capabilities.read.is_empty(),
            next: now + PERIOD,
            looks: 0,
            is_relaxed: false,
            over_since: None,
        })
    }

    /// Checks rarely: the kernel enforces the limits of memory and processes, which change quickly.
    pub fn relax(&mut self) {
        self.is_relaxed = true;
    }

    /// Returns the time of the next check.
    #[must_use]
    pub fn due(&self) -> Duration {
        self.next
    }

    /// Checks, if it is time; returns the reason for ending the worker.
    pub fn look(&mut self, now: Duration) -> Option<String> {
        if now < self.next {
            return None;
        }
        self.next = match self.is_relaxed {
            true => now + PERIOD * RARE,
            false => now + PERIOD,
        };
        self.looks = self.looks.wrapping_add(1);
        let members = match self.runs {
            true => holdings::group(self.pid),
            false => vec![self.pid],
        };
        let mut held = holdings::of(&members);
        if held.memory > self.limits.memory && members.len() > 1 {
            held.memory = holdings::memory_without_sharing(&members);
        }
        if let Some(what) = self.judge(held, now) {
            return Some(what);
        }
        // The rest is more expensive to check, and grows more slowly.
        if !self.is_relaxed && !self.looks.is_multiple_of(RARE) {
            return None;
        }
        let open = holdings::descriptors(&members);
        let most_watches = u64::from(self.limits.open_files) * WATCHES_PER_FILE;
        let most_sockets = u64::from(self.limits.open_files);
        if open.sockets > most_sockets {
            return Some(exceeded(open.sockets, "sockets", most_sockets));
        }
        if open.watches > most_watches {
            return Some(exceeded(
                open.watches,
                "watches of descriptors",
                most_watches,
            ));
        }
        let locks = match self.reads {
            true => holdings::locks(&members),
            false => 0,
        };
        (locks > MOST_LOCKS).then(|| exceeded(locks, "locks on files", MOST_LOCKS))
    }

    fn judge(&mut self, held: holdings::HeldResources, now: Duration) -> Option<String> {
        let limits = &self.limits;
        if held.threads > u64::from(limits.processes) + u64::from(limits.processes) / TOLERANCE {
            let most = limits.processes.into();
            return Some(exceeded(held.threads, "threads and processes", most));
        }
        if held.memory <= limits.memory {
            self.over_since = None;
            return None;
        }
        let since = *self.over_since.get_or_insert(now);
        let far = held.memory > limits.memory.saturating_add(limits.memory / TOLERANCE);
        // A worker slightly above gets a successor that takes over without a gap, if that starts in time.
        (far || now.saturating_sub(since) > PATIENCE).then(|| {
            format!(
                "held {} MiB of memory; its limit is {} MiB",
                held.memory >> 20,
                limits.memory >> 20
            )
        })
    }
}

fn exceeded(count: u64, what: &str, limit: u64) -> String {
    format!("held {count} {what}; its limit is {limit}")
}

/// Interval of checks: a process can fill about 500 MiB in it.
const PERIOD: Duration = Duration::from_millis(250);
/// Every so many checks the rest is checked, too.
const RARE: u32 = 4;
/// Maximum time a worker may exceed its memory limit by less than the tolerance.
const PATIENCE: Duration = Duration::from_secs(10);
/// A quarter above a limit is far above.
const TOLERANCE: u64 = 4;
/// The kernel has space for some hundred thousand watches per user on a small machine.
const WATCHES_PER_FILE: u64 = 16;
/// The kernel does not limit their number.
const MOST_LOCKS: u64 = 1024;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn watch(memory: u64) -> ResourceWatch {
        let mut policy = SandboxPolicy::default();
        policy.limits.memory = memory;
        let watch = ResourceWatch::new(std::process::id(), &policy, Duration::ZERO);
        watch.expect("this OS tells what a process holds")
    }

    fn held(memory: u64) -> holdings::HeldResources {
        holdings::HeldResources { memory, threads: 1 }
    }

    #[test]
    fn far_above_the_limit_is_the_end_at_once_and_a_little_above_after_a_while() {
        let mut watch = watch(100 << 20);
        let second = Duration::from_secs;
        assert_eq!(watch.judge(held(100 << 20), second(1)), None);
        assert_eq!(watch.judge(held(110 << 20), second(2)), None);
        assert_eq!(watch.judge(held(90 << 20), second(8)), None);
        assert_eq!(watch.judge(held(110 << 20), second(9)), None, "back since");
        assert!(watch.judge(held(110 << 20), second(20)).is_some());
        let said = watch.judge(held(126 << 20), second(20));
        let expected = "held 126 MiB of memory; its limit is 100 MiB";
        assert_eq!(said.as_deref(), Some(expected));
    }

    #[test]
    fn this_process_is_judged_by_what_it_holds_when_it_is_time() {
        let mut watch = watch(1 << 20);
        assert_eq!(watch.look(Duration::from_millis(100)), None);
        let said = watch.look(Duration::from_secs(1));
        assert!(said.is_some_and(|said| said.contains("of memory")));
        assert_eq!(watch.due(), Duration::from_secs(1) + PERIOD);
    }

    #[test]
    fn a_worker_whose_limits_the_kernel_enforces_is_checked_rarely() {
        let mut watch = watch(u64::MAX);
        watch.relax();
        let second = Duration::from_secs(1);
        assert_eq!(watch.look(second), None);
        assert_eq!(watch.due(), second + PERIOD * RARE);
    }
}
