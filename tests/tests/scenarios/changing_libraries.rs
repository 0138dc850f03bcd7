//! Libraries that are added, changed and removed while the host runs.

use std::{fs, path::Path};

use crate::harness::{Host, Metrics, Setup, library, library_name, ordered};

fn generation(host: &Host) -> u64 {
    let status = host.status();
    let plugins = status["plugins"].as_array().unwrap();
    let fault = plugins.iter().find(|p| p["id"] == "fault").unwrap();
    fault["generation"].as_u64().unwrap_or_default()
}

fn note(host: &Host) -> String {
    host.status()["plugins"][0]["note"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Asserts that every due check was made and succeeded, except those that the machine was too slow for.
#[track_caller]
fn nothing_was_lost(host: &Host, before: &Metrics, after: &Metrics, platform: &str) {
    let healthy = after.checks(platform, "healthy") - before.checks(platform, "healthy");
    let due = |m: &Metrics| m.due(platform) - m.skipped(platform, "missed");
    let due = due(after) - due(before);
    // A scrape may fall between a check's due time and its end.
    assert!(due - healthy <= 1.0, "{healthy} of {due}\n{}", host.log());
    assert_eq!(after.failed_in_time(platform), 0.0, "{}", host.log());
}

fn running() -> Host {
    let host = Setup::new()
        .platform("a", "fault", r#"{ drop = { fault = "log" } }"#)
        .platform("b", "fault", r#"{ check = { fault = "error" } }"#)
        .start();
    host.wait("checks", |m| m.checks("a", "healthy") >= 5.0);
    host
}

/// Replaces the running library by renaming.
fn move_over(host: &Host, bytes: &[u8]) {
    let new = host.setup.path("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, host.setup.plugin_dir().join(fault())).unwrap();
}

#[test]
fn a_library_that_replaces_another_takes_over_without_a_missed_slot() {
    let host = running();
    let before = host.metrics();
    assert_eq!(generation(&host), 1);
    move_over(&host, &ordered("other"));
    host.wait("a restart", |m| restarts(m, "replace") == 1.0);
    assert_eq!(generation(&host), 2);
    host.wait_for_log("injected log line"); // by the old probe, as it was dropped
    // Again, by overwriting the file.
    fs::write(host.setup.plugin_dir().join(fault()), ordered("third")).unwrap();
    let metrics = host.wait("another restart", |m| restarts(m, "replace") == 2.0);
    let after = host.wait("checks by it", |m| {
        m.checks("a", "healthy") >= metrics.checks("a", "healthy") + 5.0
    });
    assert_eq!(generation(&host), 3);
    nothing_was_lost(&host, &before, &after, "a");
}

#[test]
fn a_library_whose_probes_need_a_warm_up_takes_over() {
    let host = running();
    let before = host.metrics();
    move_over(&host, &ordered("warm-up"));
    host.wait("a restart", |m| restarts(m, "replace") == 1.0);
    assert_eq!(note(&host), "");
    let taken = host.metrics();
    let after = host.wait("checks by it", |m| {
        m.checks("a", "healthy") >= taken.checks("a", "healthy") + 5.0
    });
    nothing_was_lost(&host, &before, &after, "a");
}

#[test]
fn a_library_whose_first_checks_fail_is_not_taken() {
    let host = running();
    let before = host.metrics();
    move_over(&host, &ordered("checks"));
    host.wait_for_log("new library rejected");
    let seen = note(&host);
    assert!(
        seen.contains("a: error: injected error of the library"),
        "{seen}"
    );
    assert!(!seen.contains("b:"), "b fails either way: {seen}");
    assert_eq!(generation(&host), 1);
    let metrics = host.metrics();
    let after = host.wait("checks by the old one", |m| {
        m.checks("a", "healthy") >= metrics.checks("a", "healthy") + 5.0
    });
    nothing_was_lost(&host, &before, &after, "a");
    move_over(&host, &ordered("good"));
    host.wait("a good one", |m| restarts(m, "replace") == 1.0);
    assert_eq!(note(&host), "");
}

#[test]
fn a_library_that_is_refused_leaves_the_one_that_runs() {
    let host = running();
    let before = host.metrics();
    let mut damaged = ordered("other");
    damaged.truncate(damaged.len() / 2);
    move_over(&host, &damaged);
    host.wait_for_log("refused by rule");
    let metrics = host.metrics();
    let after = host.wait("checks by the old one", |m| {
        m.checks("a", "healthy") >= metrics.checks("a", "healthy") + 5.0
    });
    assert_eq!(generation(&host), 1);
    nothing_was_lost(&host, &before, &after, "a");
}

#[test]
fn a_platform_that_waits_for_its_library_starts_when_it_comes_and_fails_with_the_reason_when_it_goes()
 {
    let setup = Setup::without_plugins().platform("a", "fault", "{}");
    let host = setup.start();
    host.wait("failures while there is none", |m| {
        m.failures("a", "load") >= 3.0
    });
    copy(&library("conductor_plugin_fault"), &host);
    let metrics = host.wait("checks", |m| m.checks("a", "healthy") >= 3.0);
    fs::remove_file(host.setup.plugin_dir().join(fault())).unwrap();
    let gone = host.wait("failures once it is gone", |m| {
        m.failures("a", "load") > metrics.failures("a", "load")
    });
    assert!(gone.checks("a", "healthy") >= 3.0);
    let status = host.status();
    let message = status["platforms"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("the plugin is not loaded") && message.contains("plugins"),
        "{message}"
    );
    copy(&library("conductor_plugin_fault"), &host);
    host.wait("checks again", |m| {
        m.checks("a", "healthy") >= gone.checks("a", "healthy") + 3.0
    });
}

#[test]
fn the_folder_vanishing_takes_nothing_away_that_runs() {
    let host = running();
    let away = host.setup.path("away");
    fs::rename(host.setup.plugin_dir(), &away).unwrap();
    let before = host.metrics();
    let after = host.wait("fifty more checks", |m| {
        m.checks("a", "healthy") >= before.checks("a", "healthy") + 50.0
    });
    nothing_was_lost(&host, &before, &after, "a");
    assert_eq!(generation(&host), 1);
    fs::rename(away, host.setup.plugin_dir()).unwrap();
}

fn copy(library: &Path, host: &Host) {
    fs::copy(library, host.setup.plugin_dir().join(fault())).unwrap();
}

/// File name of the plugin `fault`.
fn fault() -> String {
    library_name("conductor_plugin_fault")
}

fn restarts(metrics: &Metrics, reason: &str) -> f64 {
    metrics.sum(
        "conductor_worker_restarts_total",
        &[("plugin", "fault"), ("reason", reason)],
    )
}
