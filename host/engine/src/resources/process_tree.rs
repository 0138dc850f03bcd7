//! Processor time of a process and its descendants, from `/proc`.
//!
//! A process's own entry includes the children that it has waited for. Running children are found by their parents, and
//! by the process group, in which they stay if a parent ends before them.

use std::{collections::BTreeSet, fs};

use conductor_sandbox::cgroup;

/// Returns the processor time of a worker and its descendants in seconds; `None` if it is gone.
///
/// Exact if the worker has a control group. Otherwise the time of a child that ended without being waited for is lost,
/// so the sum may decrease.
pub(super) fn cpu_seconds(root: u32) -> Option<f64> {
    cgroup::cpu_seconds_of(root).or_else(|| sum(root, &processes()))
}

#[derive(Clone, Copy, Debug)]
struct ProcessStat {
    pid: u32,
    parent: u32,
    group: u32,
    seconds: f64,
}

fn processes() -> Vec<ProcessStat> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse(pid, &stat)
    })
    .collect()
}

fn parse(pid: u32, stat: &str) -> Option<ProcessStat> {
    // The program's name is in parentheses and may contain anything; the state is the first word after it.
    let words: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| words.get(at)?.parse::<u32>().ok();
    let ticks = words.get(11..15)?.iter();
    let ticks: Option<Vec<f64>> = ticks.map(|word| word.parse().ok()).collect();
    Some(ProcessStat {
        pid,
        parent: number(1)?,
        group: number(2)?,
        seconds: ticks?.iter().sum::<f64>() / TICKS_PER_SECOND,
    })
}

fn sum(root: u32, processes: &[ProcessStat]) -> Option<f64> {
    let mut tree = BTreeSet::from([root]);
    loop {
        let belongs = |p: &&ProcessStat| p.group == root || tree.contains(&p.parent);
        let found = processes.iter().filter(belongs).map(|p| p.pid);
        let larger: BTreeSet<_> = tree.iter().copied().chain(found).collect();
        if larger.len() == tree.len() {
            break;
        }
        tree = larger;
    }
    processes.iter().find(|p| p.pid == root)?;
    let members = processes.iter().filter(|p| tree.contains(&p.pid));
    Some(members.map(|p| p.seconds).sum())
}

/// The kernel reports times in hundredths of a second on every supported architecture.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    use rustix::process::{Pid, Signal, kill_process_group};

    use super::*;

    /// Uses processor time for a moment.
    const BURN: &str = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";

    /// Returns the processor time of a shell, by itself and with its children, once it has printed a line.
    fn seconds(script: &str) -> (f64, f64) {
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .env("BURN", BURN)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = shell.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let all = processes();
        let with_children = sum(shell.id(), &all).unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", shell.id())).unwrap();
        let words: Vec<_> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks = |at: usize| words[at].parse::<f64>().unwrap();
        let own = (ticks(11) + ticks(12)) / TICKS_PER_SECOND;
        kill_process_group(Pid::from_child(&shell), Signal::KILL).unwrap();
        shell.wait().unwrap();
        (own, with_children)
    }

    #[test]
    fn the_time_of_children_counts_while_they_run_and_after_they_ended() {
        for script in [
            "sh -c \"$BURN\"; echo; sleep 600",
            "sh -c \"$BURN; echo; sleep 600\" & sleep 600",
            // The parent of the running one has ended.
            "sh -c 'sh -c \"$BURN; echo; sleep 600\" & true'; sleep 600",
        ] {
            let (own, with_children) = seconds(script);
            assert!(own < 0.02, "{script}: {own} s");
            assert!(with_children >= own + 0.03, "{script}: {with_children} s");
        }
    }

    #[test]
    fn a_process_that_is_gone_has_no_time() {
        assert_eq!(sum(u32::MAX >> 2, &processes()), None);
    }
}
