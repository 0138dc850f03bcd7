//! An author's asynchronous plugin, from a crate outside the workspace: thousands of checks wait on a few threads, and
//! a fault of one affects only that one.

use std::{path::Path, sync::OnceLock, thread, time::Duration};

use crate::{
    author,
    harness::{Host, PATIENCE, Setup, artifacts, library, workspace},
};

#[test]
fn ten_thousand_checks_of_a_dead_network_wait_at_once_and_each_ends_once_as_a_timeout() {
    const PLATFORMS: usize = 10_000;
    // As long as the interval, so that the first is not over when the last starts.
    let mut setup = waiters("")
        .host("interval = \"10s\"\nstagger = \"500ms\"\ntimeout = \"10s\"")
        // One timeout each, and then time without checks to count them in.
        .with("[breaker]\nfailure_threshold = 1\nreset_timeout = \"5m\"")
        .with("[plugin.waiter]\ncall_threads = 4")
        .platform("teller", "waiter", "{ act = \"tell\" }")
        .with("interval = \"1s\"\ntimeout = \"1s\"")
        .platform("bystander", "disk", DISK)
        .with("interval = \"1s\"\ntimeout = \"1s\"");
    setup.install(&library("conductor_plugin_disk"));
    for nth in 0..PLATFORMS {
        setup = setup.platform(&format!("p{nth}"), "waiter", "{ act = \"hang\" }");
    }
    let host = setup.start();
    let mut threads = 0;
    let platforms = poll(&host, |status| {
        let waiter = find(status, "plugins", "id", "waiter");
        if let Some(pid) = waiter["pid"].as_u64() {
            let tasks = Path::new("/proc").join(pid.to_string()).join("task");
            threads = threads.max(tasks.read_dir().map_or(0, Iterator::count));
        }
        let platforms = status["platforms"].as_array().unwrap();
        let failed = platforms.iter().filter(|p| p["error_type"].is_string());
        (failed.count() >= PLATFORMS).then(|| status.clone())
    });
    for platform in platforms["platforms"].as_array().unwrap() {
        if platform["status"] == "unknown" {
            assert_eq!(platform["error_type"], "timeout", "{platform}");
        }
    }
    assert!((5..24).contains(&threads), "{threads} threads");
    let teller = find(&platforms, "platforms", "name", "teller");
    let most = teller["message"].as_str().unwrap();
    let most: usize = most.strip_prefix("most: ").unwrap().parse().unwrap();
    assert!(most >= PLATFORMS * 9 / 10, "{most} at once");

    let waiter = find(&platforms, "plugins", "id", "waiter");
    assert_eq!(waiter["generation"], 1, "{waiter}");
    assert_eq!(waiter["quarantined"], false, "{waiter}");
    let of = [("plugin", "waiter")];
    let failed = [("plugin", "waiter"), ("status", "failed")];
    let timeouts = [("plugin", "waiter"), ("error_type", "timeout")];
    let metrics = host.wait("a failed check for each timeout, and none stuck", |m| {
        m.sum("health_check_total", &failed) == m.sum("plugin_failure_total", &timeouts)
            && m.sum("conductor_stuck_calls", &of) == 0.0
    });
    let of_any_type = metrics.sum("plugin_failure_total", &of);
    assert_eq!(metrics.sum("plugin_failure_total", &timeouts), of_any_type);
    assert_eq!(metrics.sum("conductor_worker_restarts_total", &of), 0.0);
    assert_eq!(metrics.checks("bystander", "failed"), 0.0);
    assert!(metrics.checks("bystander", "healthy") >= 8.0);
}

#[test]
fn what_goes_wrong_with_a_check_is_its_own_in_a_worker() {
    what_goes_wrong_with_a_check_is_its_own("process");
}

#[test]
fn what_goes_wrong_with_a_check_is_its_own_inside_the_host() {
    what_goes_wrong_with_a_check_is_its_own("in-process");
}

fn what_goes_wrong_with_a_check_is_its_own(isolation: &str) {
    let mut host = waiters(isolation)
        .with("[breaker]\nreset_timeout = \"1s\"")
        .platform("waits", "waiter", "{ act = \"wait\" }")
        .platform("hangs", "waiter", "{ act = \"hang\" }")
        .platform("panics", "waiter", "{ act = \"panic\" }")
        .start();
    let metrics = host.wait("checks of each", |m| {
        m.checks("waits", "healthy") >= 10.0
            && m.failures("hangs", "timeout") >= 3.0
            && m.failures("panics", "panic") >= 3.0
    });
    assert_eq!(metrics.checks("waits", "failed"), 0.0);
    assert_eq!(
        metrics.failures("hangs", "timeout"),
        metrics.checks("hangs", "failed")
    );
    assert_eq!(
        metrics.failures("panics", "panic"),
        metrics.checks("panics", "failed")
    );
    host.wait_for_log("lib.rs:");
    host.wait_for_log("panics is not to be looked at");
    host.wait("the end of what was given up", |m| {
        m.sum("conductor_stuck_calls", &[("plugin", "waiter")]) == 0.0
    });
    let waiter = find(&host.status(), "plugins", "id", "waiter");
    assert_eq!(waiter["generation"], 1, "{waiter}");
    assert_eq!(waiter["isolation"], isolation, "{waiter}");
    assert!(host.stop().success(), "{}", host.log());
}

#[test]
fn a_check_that_hears_of_no_cancelling_ends_with_its_generation() {
    for isolation in ["process", "in-process"] {
        let host = waiters(isolation)
            .with("[breaker]\nreset_timeout = \"1s\"")
            .platform("waits", "waiter", "{ act = \"wait\" }")
            .platform("deaf", "waiter", "{ act = \"deaf\" }")
            .start();
        host.wait_for_log("restarted after a hang");
        let waiter = find(&host.status(), "plugins", "id", "waiter");
        assert_eq!(waiter["isolation"], "process", "{waiter}");
        let before = host.metrics().checks("waits", "healthy");
        host.wait("checks of another platform", |m| {
            m.checks("waits", "healthy") >= before + 10.0
        });
    }
}

/// Returns a host's config with the plugin `waiter`, in this isolation if it is not the default.
fn waiters(isolation: &str) -> Setup {
    let setup = Setup::without_plugins();
    setup.install(waiter());
    match isolation {
        "" => setup,
        isolation => setup.with(&format!("[plugin.waiter]\nisolation = \"{isolation}\"")),
    }
}

/// Returns the library of the crate whose source is `async_checks/waiter.rs`.
fn waiter() -> &'static Path {
    static LIBRARY: OnceLock<std::path::PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = artifacts().parent().unwrap().join("outside").join("waiter");
        // It is below the workspace's folder, but not a member of the workspace.
        let manifest = format!(
            "[package]\nname = \"waiter\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n\
             [dependencies]\nconductor-plugin-api = {{ path = \"{}\", features = [\"tokio\"] }}\n\
             serde = {{ version = \"1\", features = [\"derive\"] }}\ntokio = {{ version = \"1\", features = [\"rt\", \"time\"] }}\n\
             [workspace]\n",
            author::API_PATH
        );
        author::build(
            &folder,
            "waiter",
            &manifest,
            include_str!("async_checks/waiter.rs"),
            &workspace().join("plugin-api"),
            None,
        )
    })
}

fn find(status: &serde_json::Value, list: &str, key: &str, value: &str) -> serde_json::Value {
    let mut list = status[list].as_array().unwrap().iter();
    list.find(|entry| entry[key] == value)
        .unwrap_or_else(|| panic!("{value} is not there: {status}"))
        .clone()
}

/// Polls until there is an answer.
fn poll<T>(host: &Host, mut answer: impl FnMut(&serde_json::Value) -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        let status = host.status();
        if let Some(answer) = answer(&status) {
            return answer;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "waited in vain:\n{}",
            host.log()
        );
        thread::sleep(Duration::from_millis(500));
    }
}

const DISK: &str = r#"{ path = "/", degraded_above = 100, unhealthy_above = 100 }"#;
