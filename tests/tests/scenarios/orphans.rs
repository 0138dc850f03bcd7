//! Processes that plugins leave behind: reaped and ended by the host, even if it is PID 1 of a container.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Host, PATIENCE, Setup};

/// Runs the host as PID 1 of a namespace without control groups; `None` if this machine cannot create such a namespace.
fn as_pid_1(setup: Setup) -> Option<Host> {
    let namespace = ["--pid", "--fork", "--mount-proc", "--mount", "--kill-child"];
    let possible = Command::new("unshare").args(namespace).arg("true").output();
    if !possible.is_ok_and(|done| done.status.success()) {
        eprintln!("skipped: this machine makes no PID namespace");
        return None;
    }
    let host = setup.command(&["run", "--web.listen-address", "127.0.0.1:0"]);
    let child = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", HIDE_CONTROL_GROUPS, "sh"])
        .arg(host.get_program())
        .args(host.get_args())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut host = Host::adopt(child, setup);
    host.find_address();
    Some(host)
}

/// With control groups, the kernel would end a worker's orphans.
const HIDE_CONTROL_GROUPS: &str = "mount -t tmpfs none /sys/fs/cgroup 2>/dev/null; exec \"$@\"";

/// Returns a setup that leaves behind processes in their own session at every check, which end after `millis`.
fn leaving_daemons(millis: u32) -> Setup {
    let sleep = fs::canonicalize("/bin/sleep").unwrap();
    let sleep = sleep.to_str().unwrap();
    Setup::new()
        .host("interval = \"500ms\"\nstagger = \"10ms\"\ntimeout = \"400ms\"")
        .with(&format!(
            "[breaker]\nfailure_threshold = 1000\n[plugin.fault]\nallow = [\"run {sleep}\"]"
        ))
        .platform(
            "daemons",
            "fault",
            &format!("{{ check = {{ fault = \"daemons\", limit = 3, millis = {millis} }} }}"),
        )
}

/// Counts a process's children, by name and state.
fn children(parent: u32) -> BTreeMap<(String, char), usize> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let (head, rest) = stat.rsplit_once(')').unwrap();
        let mut rest = rest.split_ascii_whitespace();
        let (state, its_parent) = (rest.next().unwrap(), rest.next().unwrap());
        if its_parent.parse() == Ok(parent) {
            let name = head.split_once('(').unwrap().1.to_owned();
            *found
                .entry((name, state.chars().next().unwrap()))
                .or_default() += 1;
        }
    }
    found
}

#[track_caller]
fn wait_for(what: &str, wanted: impl Fn() -> bool) {
    let start = Instant::now();
    while !wanted() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the host inside `unshare`.
fn inner(host: &Host) -> u32 {
    let pid = host.child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().parse().unwrap()
}

fn sleeping(host: u32) -> usize {
    sleeping_pids(host).len()
}

/// Returns the live orphans that a host has adopted.
fn sleeping_pids(host: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{host}/task/{host}/children")).unwrap();
    let adopted = listed
        .split_ascii_whitespace()
        .map(|pid| pid.parse().unwrap());
    let sleeps = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains("(sleep)") && !stat.contains(") Z ")
    };
    adopted.filter(sleeps).collect()
}

fn zombies(host: u32) -> usize {
    let of = children(host);
    let dead = of.iter().filter(|((_, state), _)| *state == 'Z');
    dead.map(|(_, count)| count).sum()
}

#[test]
fn orphans_of_plugins_are_reaped_by_a_host_that_is_pid_1() {
    let Some(host) = as_pid_1(leaving_daemons(300)) else {
        return;
    };
    let pid = inner(&host);
    wait_for("orphans that the host adopted", || sleeping(pid) > 0);
    // They end every half second; without a reaper their number only grows.
    for _ in 0..5 {
        let before = host.metrics().failures("daemons", "error");
        host.wait("another check", |m| m.failures("daemons", "error") > before);
        wait_for("an end without zombies", || zombies(pid) == 0);
    }
    let crashed = host.metrics().failures("daemons", "crash");
    assert_eq!(crashed, 0.0, "the worker's own end was not mistaken");
}

#[test]
fn orphans_of_plugins_are_ended_with_their_worker() {
    let Some(mut host) = as_pid_1(leaving_daemons(600_000)) else {
        return;
    };
    let pid = inner(&host);
    wait_for("orphans that the host adopted", || sleeping(pid) > 0);
    let left = sleeping_pids(pid);
    let worker = worker_of(pid);
    Command::new("kill")
        .args(["-KILL", &worker.to_string()])
        .status()
        .unwrap();
    host.wait_for_log("was killed by signal 9 (SIGKILL)");
    wait_for("the end of what it left behind", || {
        left.iter()
            .all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap())
    });
    Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status()
        .unwrap();
    assert!(host.wait_for_exit().success(), "{}", host.log());
}

/// Returns the worker among the children of a host; the host's namespace has another number for it.
fn worker_of(host: u32) -> u32 {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_worker = |pid: &u32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let parent = read("stat").ok().and_then(|stat| {
            let rest = stat.rsplit_once(')')?.1.to_owned();
            rest.split_ascii_whitespace().nth(1)?.parse::<u32>().ok()
        });
        parent == Some(host)
            && read("cmdline").is_ok_and(|line| line.starts_with("conductor\0worker\0fault"))
    };
    pids.find(is_worker).unwrap()
}
