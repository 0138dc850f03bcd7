//! A host's resources: descriptors, threads, processes, private copies and memory.

use std::{collections::BTreeMap, fmt, fs};

use serde::Serialize;

use super::super::{host_under_test::HostUnderTest, leftovers::libraries_in};

/// A host's resources at one moment.
#[derive(Clone, Debug, Serialize)]
pub(super) struct HostResources {
    pub(super) descriptors: usize,
    /// The number of threads by name.
    pub(super) threads: BTreeMap<String, usize>,
    /// Its descendants, and other processes with its name in their arguments or mappings.
    pub(super) processes: usize,
    pub(super) private_copies: usize,
    pub(super) memory_kib: u64,
}

impl HostResources {
    /// Returns those of a running host.
    pub(super) fn of(host: &mut HostUnderTest) -> Self {
        let pid = host.host_pid();
        host.leftovers.record_descendants();
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        Self {
            descriptors: open.map_or(0, Iterator::count),
            threads: threads(pid),
            processes: host.leftovers.alive().len(),
            private_copies: libraries_in(&host.state()),
            memory_kib: memory(pid),
        }
    }

    /// Returns a description of the growth since `before`, without memory; `None` if there is none.
    pub(super) fn more_than(&self, before: &Self) -> Option<String> {
        let counts = [
            ("descriptors", self.descriptors, before.descriptors),
            ("processes", self.processes, before.processes),
            ("private copies", self.private_copies, before.private_copies),
        ];
        let mut more: Vec<_> = counts
            .iter()
            .filter(|(_, now, before)| now > before)
            .map(|(what, now, before)| format!("{now} {what} instead of {before}"))
            .collect();
        for (name, now) in &self.threads {
            let before = before.threads.get(name).copied().unwrap_or_default();
            if *now > before {
                more.push(format!("{now} threads named {name:?} instead of {before}"));
            }
        }
        (!more.is_empty()).then(|| more.join(", "))
    }
}

impl fmt::Display for HostResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} descriptors, {} threads, {} processes, {} private copies",
            self.descriptors,
            self.threads.values().sum::<usize>(),
            self.processes,
            self.private_copies
        )
    }
}

/// Returns the resident memory of a process, in KiB.
pub(super) fn memory(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// Counts the threads of a process by name.
///
/// Skips those that tokio keeps for a while after a request or a reload: snapshots create some.
fn threads(pid: u32) -> BTreeMap<String, usize> {
    let mut threads = BTreeMap::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        // A thread that has just ended has no name.
        if let Ok(name) = fs::read_to_string(task.path().join("comm")) {
            if name.trim_end() == "tokio-rt-worker" {
                continue;
            }
            *threads.entry(name.trim_end().to_owned()).or_default() += 1;
        }
    }
    threads
}

/// Returns a number from the process's status file; 0 if the process is gone.
fn status(pid: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_more_of_is_said_and_what_there_is_less_of_is_not() {
        let threads = |many| BTreeMap::from([("worker".to_owned(), many)]);
        let before = HostResources {
            descriptors: 20,
            threads: threads(30),
            processes: 4,
            private_copies: 4,
            memory_kib: 1000,
        };
        let same = HostResources {
            memory_kib: 2000,
            descriptors: 19,
            ..before.clone()
        };
        assert_eq!(same.more_than(&before), None);
        for more in [
            HostResources {
                descriptors: 21,
                ..before.clone()
            },
            HostResources {
                threads: threads(31),
                ..before.clone()
            },
            HostResources {
                processes: 5,
                ..before.clone()
            },
            HostResources {
                private_copies: 5,
                ..before.clone()
            },
        ] {
            assert!(more.more_than(&before).unwrap().contains("instead of"));
        }
    }
}
