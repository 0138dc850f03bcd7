//! The `exec` probe in a worker: Nagios plugins of Debian, and the end of what a command starts.

mod monitoring_plugins;

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Setup, library};

fn setup() -> Setup {
    let setup = Setup::without_plugins();
    setup.install(&library("conductor_plugin_exec"));
    setup
}

/// Returns the processes with this argument.
fn with_argument(argument: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut arguments = line.split(|&byte| byte == 0);
        arguments
            .any(|one| one == argument.as_bytes())
            .then_some(pid)
    });
    entries.collect()
}

fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[track_caller]
fn patiently<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "waited in vain for {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_command_ends_at_its_deadline_with_all_it_started_and_with_its_worker() {
    // The second one would be in a session of its own, which the sandbox refuses; the third is an orphan.
    // Four processes besides the shell.
    let late = "echo begun; sleep 712341 & (setsid sleep 712342 || sleep 712342) & (sleep 712343 &); sleep 712344";
    let host = setup()
        .host("interval = \"2s\"\nstagger = \"10ms\"\ntimeout = \"1s\"")
        .platform(
            "late",
            "exec",
            &format!("{{ command = [\"/bin/sh\", \"-c\", \"{late}\"] }}"),
        )
        .platform("long", "exec", "{ command = [\"/bin/sleep\", \"712345\"] }")
        .with("timeout = \"10m\"\ninterval = \"10m\"")
        .start();
    host.wait("its timeout", |m| m.failures("late", "timeout") >= 1.0);
    host.wait_for_log("it was killed with the 4 processes it had started");
    for nth in 1..=4 {
        patiently("their end", || {
            with_argument(&format!("71234{nth}"))
                .is_empty()
                .then_some(())
        });
    }
    assert_eq!(host.metrics().sum("conductor_stuck_calls", &[]), 0.0);

    // The worker runs one command; both end together.
    let command = patiently("the long command", || with_argument("712345").pop());
    let worker = parent(command);
    let line = fs::read_to_string(format!("/proc/{worker}/cmdline")).unwrap();
    assert!(line.contains("worker"), "{line}");
    let killed = Command::new("kill")
        .args(["-KILL", &worker.to_string()])
        .status();
    assert!(killed.unwrap().success());
    patiently("its end", || {
        (!Path::new(&format!("/proc/{command}")).exists()).then_some(())
    });
}

#[test]
fn a_command_that_the_operator_did_not_allow_is_a_failure_that_names_the_cure() {
    let setup = setup();
    let script = setup.path("check");
    fs::write(&script, "#!/bin/sh\necho \"OK | a=1\"\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    let script = script.display();
    let config = format!("{{ command = [\"{script}\"] }}");
    let host = setup.platform("mine", "exec", &config).start();
    host.wait_for_log(&format!("add `run {script}` to `allow` in [plugin.exec]"));
    let file = host.setup.path("conductor.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!("{text}\n[plugin.exec]\nallow = [\"run {script}\"]\n"),
    )
    .unwrap();
    host.reload();
    let metrics = host.wait("its report", |m| m.checks("mine", "healthy") >= 1.0);
    let labels = [("platform", "mine"), ("label", "a")];
    assert_eq!(metrics.sum("conductor_exec_value", &labels), 1.0);
}
