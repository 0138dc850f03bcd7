//! Processes and their resource usage, as the kernel shows them in `/proc`.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

/// Returns the children of this process, such as its workers. It reads every process of the machine, so do not call it
/// during a measurement.
pub(crate) fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    processes()
        .filter(|(_, parent)| *parent == own)
        .map(|(pid, _)| pid)
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

/// Returns a process and all its descendants. It reads every process of the machine.
pub(crate) fn family_of(pid: u32) -> Vec<String> {
    let parents: Vec<_> = processes().collect();
    let mut family = vec![pid.to_string()];
    let mut at = 0;
    while let Some(parent) = family.get(at).cloned() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        family.extend(children.map(|(pid, _)| pid.clone()));
        at += 1;
    }
    family
}

/// The CPU time of each thread of some processes, to the nanosecond.
pub(crate) struct CpuReading(BTreeMap<PathBuf, Duration>);

impl CpuReading {
    /// Reads that of the threads that have not ended.
    pub(crate) fn of(pids: &[String]) -> Self {
        let threads = pids.iter().flat_map(|pid| threads_of(pid));
        let times = threads.filter_map(|thread| Some((thread.clone(), cpu_of_thread(thread)?)));
        Self(times.collect())
    }

    /// Returns the CPU time since an earlier reading, without that of threads that have ended meanwhile.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let spent = |(thread, now): (&PathBuf, &Duration)| {
            let before = earlier.0.get(thread).copied();
            now.saturating_sub(before.unwrap_or_default())
        };
        self.0.iter().map(spent).sum()
    }
}

/// Returns the CPU time of a process, with threads that have ended, to a hundredth of a second.
pub(crate) fn cpu_with_ended_threads(pid: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    // In user mode and in the kernel.
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Returns the resident memory of a process in bytes.
pub(crate) fn resident(pid: &str) -> f64 {
    memory(pid, &["Rss"])
}

/// Returns each process with its parent.
fn processes() -> impl Iterator<Item = (String, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may contain anything: the state and the parent.
        let (_, fields) = stat.rsplit_once(") ")?;
        let parent = fields.split(' ').nth(1)?.to_owned();
        Some((pid, parent))
    })
}

/// Returns the folder in `/proc` of each thread of a process.
pub(crate) fn threads_of(pid: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    threads.map(|thread| thread.path())
}

/// Returns the CPU time of a thread, or `None` if it has just ended.
pub(crate) fn cpu_of_thread(thread: PathBuf) -> Option<Duration> {
    let text = fs::read_to_string(thread.join("schedstat")).ok()?;
    let nanos = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}
