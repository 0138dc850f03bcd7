//! What somebody sees who has just built it.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::harness::{Host, PATIENCE, Setup, artifacts, conductor};

#[test]
fn the_default_config_watches_this_machine_within_ten_seconds() {
    // The default's own plugins, HTTP endpoint and port; only the port is another, because tests run side by side.
    let output = conductor(&["config", "default"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conductor.toml");
    let text = text.replace("9750", &port.to_string()).replace(
        "plugin_dirs = [\"plugins\"]",
        &format!("plugin_dirs = [\"{}\"]", artifacts().display()),
    );
    fs::write(&file, &text).unwrap();
    let setup = Setup::without_plugins();
    for plugin in ["http", "tcp", "disk"] {
        setup.install(&crate::harness::library(&format!(
            "conductor_plugin_{plugin}"
        )));
    }
    fs::write(
        &file,
        text.replace(
            &artifacts().display().to_string(),
            &setup.plugin_dir().display().to_string(),
        ),
    )
    .unwrap();
    let child = conductor(&["run", "--config.file"])
        .arg(&file)
        .args(["--web.listen-address", &format!("127.0.0.1:{port}")])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut host = Host::adopt(child, setup);
    host.find_address();
    let start = Instant::now();
    let metrics = host.wait("a report of each", |m| {
        m.sum("conductor_platform_up", &[]) >= 3.0
    });
    // Ten seconds are promised of an idle machine; this one runs the other tests too.
    assert!(start.elapsed() < Duration::from_secs(30));
    for plugin in ["disk", "http", "tcp"] {
        assert!(
            metrics.sum("conductor_platform_up", &[("plugin", plugin)]) >= 1.0,
            "{plugin}\n{}",
            host.log()
        );
        assert_eq!(
            metrics.sum("plugin_failure_total", &[("plugin", plugin)]),
            0.0
        );
    }
    assert!(host.stop().success());
}

#[test]
fn a_change_of_state_is_one_readable_line_and_a_check_is_none() {
    let host = Setup::new().platform("shop", "fault", "{}").start();
    host.wait("thirty checks", |m| m.checks("shop", "healthy") >= 30.0);
    let log = host.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("platform=\"shop\""))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("healthy: as it was told"), "{log}");
}

#[test]
fn sigterm_drains_and_leaves_with_0() {
    let mut host = Setup::new()
        .host("interval = \"1s\"\nstagger = \"10ms\"\ntimeout = \"1s\"")
        .platform(
            "slow",
            "fault",
            r#"{ check = { fault = "sleep", millis = 500 } }"#,
        )
        .start();
    host.wait("its first check", |m| m.checks("slow", "healthy") >= 1.0);
    let folder = host.setup.path("state");
    assert!(folder.join("libraries").exists());
    assert!(host.stop().success());
    let left: Vec<_> = fs::read_dir(folder.join("libraries"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    assert!(left.is_empty(), "private copies are left behind: {left:?}");
}

#[test]
fn a_stuck_call_does_not_keep_the_host_from_leaving() {
    let mut host = Setup::new()
        .host("interval = \"200ms\"\nstagger = \"10ms\"\ntimeout = \"200ms\"\nshutdown_grace = \"300ms\"")
        .platform("stuck", "fault", r#"{ check = { fault = "hang" } }"#)
        .start();
    host.wait("a stuck call", |m| {
        m.sum("conductor_stuck_calls", &[]) == 1.0
    });
    assert!(host.stop().success());
}

#[test]
fn a_second_sigterm_leaves_at_once() {
    let mut host = Setup::new()
        .host("interval = \"60s\"\nstagger = \"10ms\"\ntimeout = \"60s\"\nshutdown_grace = \"10m\"")
        .platform("slow", "fault", r#"{ check = { fault = "hang" } }"#)
        .start();
    let start = Instant::now();
    while host.status()["host"]["checks_in_flight"] != 1 {
        assert!(start.elapsed() < PATIENCE);
    }
    host.signal("TERM");
    host.wait_for_log("stopping: 1 checks are under way");
    host.signal("TERM");
    assert_eq!(host.wait_for_exit().code(), Some(128 + 15));
}

#[test]
fn metrics_and_status_answer_while_every_plugin_hangs() {
    let mut setup = Setup::new().with("[plugin.fault]\nstuck_limit = 100\ncall_threads = 100");
    for nth in 0..20 {
        setup = setup.platform(
            &format!("stuck{nth}"),
            "fault",
            r#"{ check = { fault = "hang" } }"#,
        );
    }
    let host = setup.start();
    host.wait("all of them stuck", |m| {
        m.sum("conductor_stuck_calls", &[]) == 20.0
    });
    assert_eq!(host.get("/-/healthy").0, 200);
    assert_eq!(host.get("/-/ready").0, 200);
    assert_eq!(host.status()["platforms"].as_array().unwrap().len(), 20);
}

#[test]
fn a_taken_port_sends_the_samples_to_the_log_until_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let setup = Setup::new().platform("shop", "fault", "{}");
    let child = setup
        .command(&["run", "--web.listen-address", &address.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut host = Host::adopt(child, setup);
    host.wait_for_log("cannot listen on");
    host.wait_for_log("health_check_total{platform=\"shop\",plugin=\"fault\",status=\"healthy\"}");
    drop(taken);
    host.find_address();
    let metrics = host.wait("the same counters", |m| m.checks("shop", "healthy") >= 2.0);
    assert!(metrics.due("shop") >= 2.0);
}
