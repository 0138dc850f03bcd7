//! Resource usage of workers: measured through the OS, and checked against their limits.
//!
//! Limits that the kernel can enforce are set when a worker starts. This module handles the rest: limits over time, and
//! machines where the host has no cgroup.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// The resource usage of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUsage {
    /// Resident memory in bytes.
    pub memory: u64,
    /// Processor time in seconds since it was started, including its children.
    pub cpu_seconds: f64,
}

/// A process to measure.
#[derive(Clone, Copy, Debug)]
pub struct MeasuredProcess {
    /// Its process id.
    pub pid: u32,
    /// `true` if it may start children, which are looked for only then.
    pub may_run: bool,
}

/// Measures processes.
pub struct ProcessMeter {
    system: System,
    /// By process.
    trees: HashMap<u32, TreeTime>,
}

/// Processor time of a process and its children, which never decreases.
#[derive(Debug, Default)]
struct TreeTime {
    last: f64,
    /// The time of children that ended without being waited for.
    lost: f64,
}

impl TreeTime {
    fn note(&mut self, seconds: f64) -> f64 {
        self.lost += (self.last - seconds).max(0.0);
        self.last = seconds;
        self.last + self.lost
    }
}

impl ProcessMeter {
    /// Creates a meter without measurements.
    ///
    /// # Errors
    /// If the OS does not support it.
    pub fn new() -> Result<Self, sysinfo::Error> {
        Ok(Self {
            system: System::new()?,
            trees: HashMap::new(),
        })
    }

    /// Returns the usage of each process; `None` for one that is gone.
    pub fn measure(&mut self, workers: &[MeasuredProcess]) -> Vec<Option<ProcessUsage>> {
        let pids: Vec<_> = workers.iter().map(|w| Pid::from_u32(w.pid)).collect();
        self.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&pids),
            true,
            ProcessRefreshKind::nothing()
                .with_memory()
                .with_cpu()
                .without_tasks(),
        );
        self.trees
            .retain(|pid, _| workers.iter().any(|worker| worker.pid == *pid));
        let usage = |worker: &MeasuredProcess| {
            let process = self.system.process(Pid::from_u32(worker.pid))?;
            let own = Duration::from_millis(process.accumulated_cpu_time()).as_secs_f64();
            let all = worker.may_run.then(|| tree_seconds(worker.pid)).flatten();
            let cpu_seconds = match all {
                Some(all) => self.trees.entry(worker.pid).or_default().note(all),
                None => own,
            };
            Some(ProcessUsage {
                memory: process.memory(),
                cpu_seconds,
            })
        };
        workers.iter().map(usage).collect()
    }
}

#[cfg(target_os = "linux")]
use super::process_tree::cpu_seconds as tree_seconds;

/// Children are not counted on this OS.
#[cfg(not(target_os = "linux"))]
fn tree_seconds(_: u32) -> Option<f64> {
    None
}

/// Checks one worker's usage against its limits. Pure.
#[derive(Debug, Default)]
pub struct UsageMonitor {
    /// Processor seconds by time, over the last minute.
    past: VecDeque<(Duration, f64)>,
}

impl UsageMonitor {
    /// Records a measurement; returns the exceeded limit, as in "uses 600 MiB of memory; its limit is 512 MiB".
    ///
    /// `memory` is in bytes; `cpu_percent` is of one core, which the average of a whole minute must exceed.
    pub fn exceeded(
        &mut self,
        now: Duration,
        usage: ProcessUsage,
        memory: u64,
        cpu_percent: u32,
    ) -> Option<String> {
        if usage.memory > memory {
            return Some(format!(
                "uses {} MiB of memory; its limit is {} MiB",
                usage.memory >> 20,
                memory >> 20
            ));
        }
        self.past.push_back((now, usage.cpu_seconds));
        // The last one that is a minute old stays, so that the span is never shorter.
        while self
            .past
            .get(1)
            .is_some_and(|(then, _)| now.saturating_sub(*then) >= SPAN)
        {
            self.past.pop_front();
        }
        let (then, before) = *self.past.front()?;
        let passed = now.saturating_sub(then);
        if passed < SPAN {
            return None;
        }
        let percent = (usage.cpu_seconds - before) / passed.as_secs_f64() * 100.0;
        (percent > f64::from(cpu_percent) + TOLERANCE).then(|| {
            format!("used {percent:.0} % of a core over a minute; its limit is {cpu_percent} %")
        })
    }
}

/// The time over which processor time is averaged.
const SPAN: Duration = Duration::from_secs(60);
/// The kernel's and the host's clock differ a little; in percent of a core.
const TOLERANCE: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn usage(cpu_seconds: f64) -> ProcessUsage {
        ProcessUsage {
            memory: 100 * MIB,
            cpu_seconds,
        }
    }

    #[test]
    fn memory_above_the_limit_is_told_at_once() {
        let mut ledger = UsageMonitor::default();
        assert_eq!(
            ledger.exceeded(Duration::ZERO, usage(0.0), 100 * MIB, 50),
            None
        );
        let said = ledger.exceeded(Duration::ZERO, usage(0.0), 99 * MIB, 50);
        assert_eq!(said.unwrap(), "uses 100 MiB of memory; its limit is 99 MiB");
    }

    #[test]
    fn processor_time_is_judged_by_the_minute_and_a_burst_is_no_excess() {
        let mut ledger = UsageMonitor::default();
        let mut told = |second: u32, cpu: f64| {
            let now = Duration::from_secs(second.into());
            ledger.exceeded(now, usage(cpu), u64::MAX, 50)
        };
        for second in 0..20 {
            assert_eq!(told(second, f64::from(second)), None, "a burst");
        }
        for second in 20..80 {
            assert_eq!(
                told(second, 20.0),
                None,
                "20 s of a minute are below a half"
            );
        }
        let excess = (80..200).find_map(|second| told(second, 20.0 + f64::from(second - 80)));
        assert_eq!(
            excess.unwrap(),
            "used 53 % of a core over a minute; its limit is 50 %"
        );
    }

    #[test]
    fn the_time_of_a_tree_never_decreases() {
        let mut time = TreeTime::default();
        assert_eq!(time.note(3.0), 3.0);
        assert_eq!(time.note(1.0), 3.0, "a child was lost");
        assert_eq!(time.note(2.0), 4.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_worker_is_measured_with_its_children() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"])
            .spawn()
            .unwrap();
        child.wait().unwrap();
        let mut meter = ProcessMeter::new().unwrap();
        let pid = std::process::id();
        let mut seconds = |may_run| {
            let found = meter.measure(&[MeasuredProcess { pid, may_run }]);
            found[0].unwrap().cpu_seconds
        };
        let own = seconds(false);
        let all = seconds(true);
        assert!(all >= own + 0.03, "{own} s of its own, {all} s in all");
    }

    #[test]
    fn a_meter_sees_this_process_and_none_that_is_gone() {
        let mut meter = ProcessMeter::new().unwrap();
        let own = |pid| MeasuredProcess {
            pid,
            may_run: false,
        };
        let found = meter.measure(&[own(std::process::id()), own(u32::MAX >> 2)]);
        assert!(found[0].is_some_and(|usage| usage.memory > MIB));
        assert_eq!(found[1], None);
    }
}
