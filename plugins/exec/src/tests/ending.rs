//! The end of commands that do not end, and of what they started.
#![expect(
    clippy::disallowed_methods,
    reason = "a test that waits has to give up some time"
)]

use std::{
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use conductor_plugin_api::{FailureKind, Status, testing::TestHost};
use serde_json::json;

use super::{MINUTE, check, shell};
use crate::ExecProbe;

/// A script that starts a child, a grandchild that ignores signals, an orphan, and one in its own session; each adds its
/// PID to a file and sleeps.
fn family(file: &Path) -> String {
    let file = file.display();
    format!(
        "note() {{ echo $$ >> {file}; }}
         sh -c 'echo $$ >> {file}; exec sleep 1000' &
         sh -c 'trap \"\" TERM HUP INT; echo $$ >> {file}; sh -c \"echo \\$\\$ >> {file}; exec sleep 1000\"; :' &
         sh -c 'sh -c \"echo \\$\\$ >> {file}; exec sleep 1000\" &' &
         setsid sh -c 'echo $$ >> {file}; exec sleep 1000' >/dev/null 2>&1 </dev/null &
         note"
    )
}

const MEMBERS: usize = 6;

fn members(file: &Path) -> Vec<u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Returns state and parent of a process.
fn state(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// Checks that the processes are dead, and none of them waits for this process.
#[track_caller]
fn assert_gone(pids: &[u32]) {
    for pid in pids {
        if let Some((state, parent)) = state(*pid) {
            assert_eq!(state, "Z", "{pid} is alive");
            assert_ne!(parent, std::process::id(), "{pid} is a zombie");
        }
    }
}

#[track_caller]
fn patiently(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < MINUTE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn at_the_deadline_a_command_is_killed_with_its_children_and_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let host = TestHost::new("here").timeout(Duration::from_secs(2));
    let script = format!("echo begun; {}; sleep 1000", family(&file));
    let begun = Instant::now();
    let failure = check(&host, &json!({"command": ["/bin/sh", "-c", script]})).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(failure.kind(), FailureKind::Timeout);
    let message = failure.message();
    assert!(
        message.starts_with("the command did not end within 1.9 s, it was killed with the "),
        "{message}"
    );
    assert!(message.ends_with("its output so far: begun"), "{message}");
    let pids = members(&file);
    assert_eq!(pids.len(), MEMBERS, "{pids:?}");
    assert_gone(&pids);
}

#[test]
fn a_cancelled_check_is_killed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let host = Arc::new(TestHost::new("here").timeout(MINUTE * 10));
    let script = format!("{}; sleep 1000", family(&file));
    let config = json!({"command": ["/bin/sh", "-c", script]});
    let checking = {
        let host = Arc::clone(&host);
        thread::spawn(move || check(&host, &config))
    };
    patiently("the processes", || members(&file).len() == MEMBERS);
    host.cancel();
    let failure = checking.join().unwrap().unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Timeout);
    assert_gone(&members(&file));
}

#[test]
fn what_holds_the_output_after_the_end_of_the_command_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!(
        "{}; while [ $(wc -l < {}) -lt {MEMBERS} ]; do sleep 0.01; done; echo OK",
        family(&file),
        file.display()
    );
    let begun = Instant::now();
    let report = shell(&script, json!({})).unwrap();
    assert_eq!(report.message(), "OK");
    assert!(begun.elapsed() < MINUTE / 2, "it waited for them");
    assert_gone(&members(&file));
}

#[test]
fn a_process_in_the_background_is_killed_when_the_probe_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ > {0}; exec sleep 1000' >/dev/null 2>&1 & while [ ! -s {0} ]; do sleep 0.01; done; echo OK",
        file.display()
    );
    let host = TestHost::new("here").timeout(MINUTE);
    let config = json!({"command": ["/bin/sh", "-c", script]});
    let mut probe = host.create::<ExecProbe>(&config.to_string()).unwrap();
    let report = host.check(&mut probe).unwrap();
    assert_eq!(report.status(), Status::Healthy);
    drop(probe);
    // The drop of another test's probe may be killing it.
    let is_alive = |pid: &u32| state(*pid).is_some_and(|(state, _)| state != "Z");
    patiently("its end", || !members(&file).iter().any(is_alive));
    assert_gone(&members(&file));
}

#[test]
fn an_endless_writer_is_killed_at_the_deadline() {
    let host = TestHost::new("here").timeout(Duration::from_secs(1));
    for script in ["yes", "yes >&2", "exec >&- 2>&-; sleep 1000"] {
        let begun = Instant::now();
        let failure = check(&host, &json!({"command": ["/bin/sh", "-c", script]})).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Timeout, "{script}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{script}");
    }
}

#[test]
fn checks_at_the_same_time_end_only_their_own_processes() {
    thread::scope(|scope| {
        for nth in 0..8_u64 {
            scope.spawn(move || {
                if nth % 2 == 0 {
                    let host = TestHost::new("late").timeout(Duration::from_millis(200));
                    let config = json!({"command": ["/bin/sh", "-c", "sleep 1000 & sleep 1000"]});
                    let failure = check(&host, &config).unwrap_err();
                    assert_eq!(failure.kind(), FailureKind::Timeout);
                } else {
                    let report = shell("(sleep 0.5; echo OK) & wait", json!({})).unwrap();
                    assert_eq!(report.message(), "OK");
                }
            });
        }
    });
}
