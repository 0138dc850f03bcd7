//! Resource usage of this process and its children.
//!
//! `getrusage` includes children only after they are reaped, and workers keep running: theirs is the sum over their
//! threads.

use std::{fs, path::PathBuf, time::Duration};

use crate::machine::{cpu_of_thread, threads_of};

/// The usage up to a moment.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    /// CPU time of this process.
    pub(crate) own: Duration,
    /// CPU time of its children.
    pub(crate) children: Duration,
    /// The number of times their threads fell asleep; each time, they had to be woken.
    pub(crate) sleeps: u64,
}

impl Used {
    /// Returns the usage of this process and these children up to now.
    pub(crate) fn with(children: &[String]) -> Self {
        let own = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let of_children = children.iter().flat_map(|pid| threads_of(pid));
        Self {
            own: own.try_into().unwrap(),
            children: children
                .iter()
                .flat_map(|pid| threads_of(pid))
                .filter_map(cpu_of_thread)
                .sum(),
            sleeps: of_children
                .chain(threads_of("self"))
                .filter_map(sleeps_of_thread)
                .sum(),
        }
    }

    /// Returns the usage since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            own: self.own.saturating_sub(earlier.own),
            children: self.children.saturating_sub(earlier.children),
            sleeps: self.sleeps.saturating_sub(earlier.sleeps),
        }
    }

    /// Returns the CPU time of all of them.
    pub(crate) fn cpu(self) -> Duration {
        self.own + self.children
    }
}

fn sleeps_of_thread(thread: PathBuf) -> Option<u64> {
    let text = fs::read_to_string(thread.join("status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}
