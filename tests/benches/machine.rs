//! Resource usage of this process and its children, as the kernel shows it in `/proc`.
//!
//! `getrusage` includes children only after they are reaped, and workers keep running: theirs is the sum over their
//! threads. Threads that end meanwhile are missing; those of plugins that do nothing live longer than a measurement.

use std::{fs, path::PathBuf, time::Duration};

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
        let of_children = || children.iter().flat_map(|pid| threads_of(pid));
        Self {
            own: own.try_into().unwrap(),
            children: of_children().filter_map(cpu_of_thread).sum(),
            sleeps: of_children()
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

/// Returns the children of this process, such as its workers. It reads every process of the machine, so do not call it
/// during a measurement.
pub(crate) fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // After the name, which may contain anything: the state and the parent.
            let parent = stat
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.split(' ').nth(1));
            parent == Some(own.as_str())
        })
        .collect()
}

/// Returns a process's memory in bytes: the sum of these lines of its `smaps_rollup`, such as `Pss`, which is its
/// private memory plus its share of shared memory.
pub(crate) fn memory(pid: &str, lines: &[&str]) -> f64 {
    // Workers are not readable to other processes of the same user.
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .expect("only root can read the memory of workers");
    let kilobytes = |line: &str| {
        let (name, size) = line.split_once(':')?;
        let size = size.trim().strip_suffix(" kB")?;
        lines.contains(&name).then(|| size.parse::<f64>().unwrap())
    };
    text.lines().filter_map(kilobytes).sum::<f64>() * 1024.0
}

fn threads_of(pid: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    threads.map(|thread| thread.path())
}

/// Returns `None` if it has just ended.
fn cpu_of_thread(thread: PathBuf) -> Option<Duration> {
    let text = fs::read_to_string(thread.join("schedstat")).ok()?;
    let nanos = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

fn sleeps_of_thread(thread: PathBuf) -> Option<u64> {
    let text = fs::read_to_string(thread.join("status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}
