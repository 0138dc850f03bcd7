//! Processes that the tests start, and hidden ones.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use conductor_plugin_api::{Report, Status, testing::TestHost};
use serde_json::{Value, json};

use super::check;
use crate::{HostProbe, linux::KernelFolders, metrics::*};

/// A child that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program that waits, with an argument that no other process has.
fn start(mark: &str) -> Process {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "read line", mark])
        .stdin(Stdio::piped());
    Process(command.spawn().unwrap())
}

fn signal(process: &Process, name: &str) {
    let id = process.0.id().to_string();
    let done = Command::new("/bin/kill").args([name, &id]).status();
    assert!(done.unwrap().success());
}

fn processes(keys: Value) -> Report {
    check(&json!({ "process": keys })).unwrap()
}

/// Repeats a check until it holds; a process takes its time to start, stop and end.
fn eventually(keys: &Value, holds: impl Fn(&Report) -> bool) -> Report {
    for _ in 0..1000 {
        let report = processes(keys.clone());
        if holds(&report) {
            return report;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?}", processes(keys.clone()));
}

#[test]
fn processes_are_counted_by_their_command_line() {
    let mark = format!("conductor-test-count-{}", std::process::id());
    let keys = json!({ "command": format!("read line {mark}$") });
    let report = processes(keys.clone());
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(
        report.message(),
        "0 processes (`process.count.unhealthy_below` is 1)"
    );

    let first = start(&mark);
    let _second = start(&mark);
    let report = eventually(&keys, |report| report.message().starts_with("2 processes"));
    assert_eq!(report.status(), Status::Healthy);
    assert!(report.value(&PROCESS_MEMORY, []).unwrap() > 0.0);
    assert_eq!(report.value(&PROCESS_THREADS, []), Some(2.0));

    let exactly_one = json!({ "unhealthy_below": 1, "unhealthy_above": 1 });
    let mut strict = keys.clone();
    strict["count"] = exactly_one;
    let report = processes(strict);
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(
        report.message(),
        "2 processes (`process.count.unhealthy_above` is 1)"
    );

    drop(first);
    let report = processes(keys);
    assert!(report.message().starts_with("1 process, "), "{report:?}");
}

#[test]
fn a_process_is_found_by_a_name_longer_than_the_kernel_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("conductor-shell-{}", std::process::id());
    let program = folder.path().join(&name);
    symlink("/bin/sh", &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["-c", "read line"]).stdin(Stdio::piped());
    let _process = Process(command.spawn().unwrap());
    let keys = json!({ "name": name });
    eventually(&keys, |report| report.status() == Status::Healthy);
    let report = processes(json!({ "name": format!("{name}x") }));
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
}

#[test]
fn a_stopped_process_and_a_zombie_are_seen() {
    let mark = format!("conductor-test-states-{}", std::process::id());
    let by_command = json!({
        "command": format!("read line {mark}$"),
        "stopped": { "degraded_above": 0 },
    });
    let mut process = start(&mark);
    eventually(&by_command, |report| report.status() == Status::Healthy);
    signal(&process, "-STOP");
    let report = eventually(&by_command, |report| report.status() == Status::Degraded);
    assert_eq!(
        report.message(),
        "1 stopped (`process.stopped.degraded_above` is 0)"
    );
    assert_eq!(report.value(&PROCESSES, ["stopped"]), Some(1.0));

    // A zombie has no command line left, only its name.
    let folder = tempfile::tempdir().unwrap();
    let name = format!("ct-{}", std::process::id());
    let program = folder.path().join(&name);
    symlink("/bin/true", &program).unwrap();
    let mut zombie = Process(Command::new(&program).spawn().unwrap());
    let by_name = json!({ "name": name, "zombies": { "degraded_above": 0 } });
    let report = eventually(&by_name, |report| report.message().contains("zombie"));
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(
        report.message(),
        "0 processes (`process.count.unhealthy_below` is 1); 1 zombie (`process.zombies.degraded_above` is 0)"
    );
    zombie.0.wait().unwrap();
    process.0.kill().unwrap();
}

#[test]
fn the_age_and_the_memory_of_processes_are_judged() {
    let mark = format!("conductor-test-age-{}", std::process::id());
    let keys = |rest: Value| {
        let mut keys = json!({ "command": format!("read line {mark}$") });
        keys.as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        keys
    };
    let _process = start(&mark);
    eventually(&keys(json!({})), |report| {
        report.status() == Status::Healthy
    });
    let report = processes(keys(json!({ "age": { "degraded_below": "1h" } })));
    assert_eq!(report.status(), Status::Degraded, "{report:?}");
    assert!(
        report.message().starts_with("the youngest process is "),
        "{report:?}"
    );
    let report = processes(keys(json!({ "age": { "unhealthy_above": "1h" } })));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    let age = report.value(&PROCESS_AGE, ["oldest"]).unwrap();
    assert!(age < 600.0, "{age}");
    let report = processes(keys(json!({ "memory": { "unhealthy_above": "1KiB" } })));
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    assert!(
        report
            .message()
            .contains("`process.memory.unhealthy_above` is 1KiB"),
        "{report:?}"
    );
}

/// With `hidepid=2` the folders of other users' processes do not exist for this user: no process is not an answer.
#[test]
fn hidden_processes_are_a_failure_and_not_a_count() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("4711");
    fs::create_dir(&own).unwrap();
    fs::copy("/proc/self/stat", own.join("stat")).unwrap();
    fs::copy("/proc/self/cmdline", own.join("cmdline")).unwrap();
    let host = TestHost::new("there");
    let mut probe = host
        .create::<HostProbe>(r#"{ "process": { "command": "." } }"#)
        .unwrap();
    probe.inner.folders = KernelFolders {
        proc: folder.path().to_owned(),
        sys: folder.path().to_owned(),
    };
    let failure = host.check(&mut probe).unwrap_err();
    assert!(failure.message().contains("`hidepid`"), "{failure}");

    let first = folder.path().join("1");
    fs::create_dir(&first).unwrap();
    fs::copy("/proc/self/stat", first.join("stat")).unwrap();
    fs::write(first.join("cmdline"), "").unwrap();
    let report = host.check(&mut probe).unwrap();
    assert!(report.message().starts_with("1 process, "), "{report:?}");
}

/// A process that ends between the listing and the reading is no error.
#[test]
fn a_process_that_has_just_ended_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("1");
    fs::create_dir_all(folder.path().join("4712")).unwrap();
    fs::create_dir(&first).unwrap();
    fs::copy("/proc/self/stat", first.join("stat")).unwrap();
    fs::write(first.join("cmdline"), "init\0").unwrap();
    let host = TestHost::new("there");
    let mut probe = host
        .create::<HostProbe>(r#"{ "process": { "command": "^init$" } }"#)
        .unwrap();
    probe.inner.folders.proc = folder.path().to_owned();
    let report = host.check(&mut probe).unwrap();
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
}
