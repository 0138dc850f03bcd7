//! The workers that this process has started and not yet reaped, to distinguish them from adopted processes.
//!
//! A process that adopts orphans, like PID 1, has to reap them by PID: waiting for "any child" would take a worker's
//! exit status away from the thread that waits for it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::Pid;

/// The environment variable that marks all descendants of a worker.
pub(super) const MARK: &str = "CONDUCTOR_WORKER";

/// The mark of one worker's descendants: the plugin and a number, for example `http.3`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct WorkerMark {
    pub(super) plugin: String,
    number: u64,
}

impl WorkerMark {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (plugin, number) = text.rsplit_once('.')?;
        Some(Self {
            plugin: plugin.to_owned(),
            number: number.parse().ok()?,
        })
    }
}

impl std::fmt::Display for WorkerMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.plugin, self.number)
    }
}

/// A started worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpawnedWorker {
    pub(super) pid: Pid,
    /// `true` if it is in its control group already.
    pub(super) in_group: bool,
}

/// The workers by PID.
#[derive(Debug, Default)]
pub(super) struct RunningWorkers {
    by_pid: BTreeMap<u32, WorkerMark>,
    started: u64,
}

impl RunningWorkers {
    /// Locks the list: meanwhile no worker is started or removed.
    pub(super) fn lock() -> MutexGuard<'static, Self> {
        static CHILDREN: Mutex<RunningWorkers> = Mutex::new(RunningWorkers {
            by_pid: BTreeMap::new(),
            started: 0,
        });
        CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the worker of a plugin by `start`, which marks it.
    pub(super) fn spawn(
        &mut self,
        plugin: &str,
        start: impl FnOnce(&WorkerMark) -> io::Result<SpawnedWorker>,
    ) -> io::Result<SpawnedWorker> {
        self.started += 1;
        let mark = WorkerMark {
            plugin: plugin.to_owned(),
            number: self.started,
        };
        let started = start(&mark)?;
        self.by_pid
            .insert(started.pid.as_raw_pid().unsigned_abs(), mark);
        Ok(started)
    }

    /// Removes a worker that was reaped; its PID may be reused from now on.
    pub(super) fn forget(&mut self, pid: u32) {
        self.by_pid.remove(&pid);
    }

    pub(super) fn has(&self, pid: u32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    pub(super) fn has_mark(&self, mark: &WorkerMark) -> bool {
        self.by_pid.values().any(|own| own == mark)
    }

    pub(super) fn has_plugin(&self, plugin: &str) -> bool {
        self.by_pid.values().any(|own| own.plugin == plugin)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_mark_survives_the_environment_and_plugin_ids_with_dots() {
        for plugin in ["http", "a.b", "1"] {
            let mark = WorkerMark {
                plugin: plugin.to_owned(),
                number: 3,
            };
            assert_eq!(WorkerMark::parse(&mark.to_string()), Some(mark));
        }
        assert_eq!(WorkerMark::parse("http"), None);
        assert_eq!(WorkerMark::parse("http.x"), None);
    }

    #[test]
    fn a_worker_is_known_until_it_is_forgotten() {
        let mut children = RunningWorkers::default();
        let mut child = Command::new("true").spawn().unwrap();
        let started = SpawnedWorker {
            pid: Pid::from_child(&child),
            in_group: false,
        };
        children.spawn("x", |_| Ok(started)).unwrap();
        let mark = children.by_pid[&child.id()].clone();
        assert!(children.has(child.id()) && children.has_mark(&mark) && children.has_plugin("x"));
        child.wait().unwrap();
        children.forget(child.id());
        assert!(
            !children.has(child.id()) && !children.has_mark(&mark) && !children.has_plugin("x")
        );
    }
}
