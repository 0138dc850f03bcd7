//! The first experience of a user who has just built it.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::harness::{Host, PATIENCE, Setup, conductor, is_windows, library_suffix};

#[test]
fn the_default_config_watches_this_machine_from_any_folder_within_ten_seconds() {
    // As in the README: the default written to a file, with the test's own address.
    let setup = Setup::without_plugins();
    let text = conductor(&["config", "default"]).output().unwrap().stdout;
    fs::write(setup.path("conductor.toml"), text).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for file in [None, Some(setup.path("conductor.toml"))] {
        let own = Setup::without_plugins();
        let mut command = conductor(&["run", "--web.listen-address", "127.0.0.1:0"]);
        command
            .env("XDG_STATE_HOME", own.folder.path())
            .current_dir(elsewhere.path());
        if let Some(file) = &file {
            command.arg("--config.file").arg(file);
        }
        let mut host = Host::adopt(command.stderr(Stdio::piped()).spawn().unwrap(), own);
        host.find_address();
        let start = Instant::now();
        let plugins = ["disk", "http", "tcp"];
        let metrics = host.wait("a report of each", |m| {
            let has_report = |plugin| {
                m.sum(
                    "conductor_last_report_timestamp_seconds",
                    &[("plugin", plugin)],
                ) > 0.0
            };
            plugins.into_iter().all(has_report)
        });
        // Ten seconds are promised for an idle machine; this one runs the other tests too.
        assert!(start.elapsed() < Duration::from_secs(30));
        for plugin in plugins {
            assert_eq!(
                metrics.sum("plugin_failure_total", &[("plugin", plugin)]),
                0.0
            );
        }
        assert!(host.stop().success());
    }
}

#[test]
fn the_builtin_config_is_well_without_a_server_and_behind_a_password() {
    let setup = Setup::without_plugins();
    let state = || {
        let mut command = conductor(&["run"]);
        command.env("XDG_STATE_HOME", setup.folder.path());
        command
    };
    let once = state().arg("--once").output().unwrap();
    let said =
        String::from_utf8_lossy(&once.stdout).into_owned() + &String::from_utf8_lossy(&once.stderr);
    assert_eq!(once.status.code(), Some(0), "{said}");
    assert!(
        said.contains("not checked: run --once serves no page or port"),
        "{said}"
    );

    let hash = bcrypt::hash("wonder", 4).unwrap();
    fs::write(
        setup.path("web.yml"),
        format!("basic_auth_users:\n  a: {hash}\n"),
    )
    .unwrap();
    let child = state()
        .args(["--web.listen-address", ":0", "--web.config.file"])
        .arg(setup.path("web.yml"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let host = Host::adopt(child, Setup::without_plugins());
    host.wait_for_log("healthy: connected in");
    let log = host.log();
    assert!(
        log.contains("not checked: web config restricts access"),
        "{log}"
    );
    assert!(!log.contains("unhealthy"), "{log}");
}

#[test]
fn a_plugin_that_is_nowhere_is_searched_for_in_folders_that_are_named() {
    let setup = Setup::new().platform("a", "nosuch", "{}");
    let broken = setup.path(&format!("plugins/broken{}", library_suffix()));
    fs::write(&broken, "no library").unwrap();
    let file = setup.write();
    let text = fs::read_to_string(&file).unwrap();
    let folders = "plugin_dirs = [\"plugins\", \"gone\", \"empty\"]";
    fs::create_dir(setup.path("empty")).unwrap();
    fs::write(&file, text.replace("plugin_dirs = [\"plugins\"]", folders)).unwrap();
    let once = conductor(&["run", "--once", "--config.file"])
        .arg(&file)
        .env("COLUMNS", "400")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&once.stderr).into_owned();
    for part in [
        "there is no plugin \"nosuch\"",
        "/gone (no such folder)",
        "/empty (no plugins in it)",
        "/plugins (has disk, fault, http, tcp; 1 file refused: ",
        "refused by rule format",
    ] {
        assert!(said.replace('\\', "/").contains(part), "{part}: {said}");
    }
}

#[test]
fn a_change_of_state_is_one_readable_line_and_a_check_is_none() {
    let setup = Setup::new().platform("shop", "fault", "{}");
    let host = setup.start_with_these(&[]);
    host.wait("thirty checks", |m| m.checks("shop", "healthy") >= 30.0);
    let log = host.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("shop: ")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("healthy: status as configured"), "{log}");
    // On Windows it says at start, once each, what it cannot do there.
    let is_of_start = |line: &str| is_windows() && line.contains(" WARN ");
    let lines = log.lines().filter(|line| !is_of_start(line));
    let long: Vec<_> = lines.filter(|line| line.len() > 80).collect();
    assert!(long.is_empty(), "lines of more than 80 columns: {long:#?}");
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
    let log = host.log();
    assert!(
        left.is_empty(),
        "private copies are left behind: {left:?}\n{log}"
    );
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
    host.wait_for_log("stopping: waiting up to 10m for running checks (1)");
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
fn a_taken_port_is_fatal_with_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (address, code, reason) in [
        (address.as_str(), 1, "another process listens on this port"),
        ("192.0.2.1:0", 1, "no network interface of this machine"),
        ("127.0.0.1", 2, "the port is missing"),
        ("127.0.0.1:99999", 2, "the port is not a number"),
    ] {
        let setup = Setup::new().platform("shop", "fault", "{}");
        let output = setup
            .command(&["run", "--web.listen-address", address])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(reason) && said.contains(address), "{said}");
        assert!(!said.contains("healthy"), "nothing is checked: {said}");
    }
}

#[test]
fn a_second_host_on_the_same_state_is_refused_and_commands_are_not() {
    let host = Setup::new().platform("shop", "fault", "{}").start();
    host.wait("a check", |m| m.checks("shop", "healthy") >= 1.0);
    let second = host
        .setup
        .command(&["run", "--web.listen-address", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("already uses the state folder"), "{said}");
    // Wine's processes have numbers of their own.
    let names_process = said.contains(&format!("process {}", host.child.id()));
    assert!(names_process || is_windows(), "{said}");
    assert!(said.contains("host.state_dir"), "{said}");
    for arguments in [
        &["run", "--once"][..],
        &["plugin", "list"],
        &["config", "check"],
    ] {
        let output = host.setup.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    let before = host.metrics().checks("shop", "healthy");
    host.wait("more checks", |m| m.checks("shop", "healthy") > before);
}

#[test]
fn all_addresses_are_served_and_asked_by_the_port_alone() {
    let setup = Setup::new().platform("own", "tcp", r#"{ address = "${self.address}" }"#);
    let child = setup
        .command(&["run", "--web.listen-address", ":0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut host = Host::adopt(child, setup);
    host.find_address();
    let port = host.address.port();
    host.address = ([127, 0, 0, 1], port).into();
    host.wait("its own port", |m| m.checks("own", "healthy") >= 1.0);
    for (variable, value) in [
        ("CONDUCTOR_ADDRESS", format!(":{port}")),
        ("CONDUCTOR_WEB_LISTEN_ADDRESS", format!("0.0.0.0:{port}")),
        ("CONDUCTOR_WEB_LISTEN_ADDRESS", format!("localhost:{port}")),
    ] {
        let status = conductor(&["status"]).env(variable, &value).output();
        assert!(status.unwrap().status.success(), "{variable}={value}");
    }
}
