//! The breaker's state in Prometheus metrics.

use crate::harness::{IN_PROCESS, Setup, literal};

const BREAKER: &str =
    "[breaker]\nfailure_threshold = 3\nreset_timeout = \"2s\"\nmax_reset_timeout = \"2s\"";

#[test]
fn three_failures_open_it_for_the_reset_time_then_one_trial_decides() {
    let setup = Setup::new().with(BREAKER).with(IN_PROCESS);
    let count = setup.path("calls");
    let config = format!(
        r#"{{ check = {{ fault = "error", times = 4 }}, count_file = {} }}"#,
        literal(&count)
    );
    let host = setup
        .host("interval = \"100ms\"\nstagger = \"10ms\"\ntimeout = \"100ms\"")
        .platform("db", "fault", &config)
        .start();
    let checks = || {
        std::fs::read_to_string(&count)
            .unwrap()
            .matches("check")
            .count()
    };

    let metrics = host.wait("an open breaker", |m| m.breaker("db") == 1.0);
    assert_eq!(metrics.failures("db", "error"), 3.0);
    assert_eq!(checks(), 3);
    // Two seconds contain twenty checks of 100 ms; most of them are skipped before the trial.
    let metrics = host.wait("skips", |m| m.skipped("db", "breaker_open") >= 10.0);
    assert_eq!(
        metrics.failures("db", "error"),
        3.0,
        "a refused call is no failure"
    );
    // A busy machine may make the host miss some, and nothing else may have happened.
    let others = metrics.skipped("db", "breaker_open") + metrics.skipped("db", "missed");
    assert_eq!(metrics.due("db"), 3.0 + others);
    assert_eq!(checks(), 3, "no call while it is open");

    // The trial fails, and it opens at once.
    let metrics = host.wait("a failed trial", |m| m.failures("db", "error") == 4.0);
    assert_eq!(metrics.breaker("db"), 1.0);
    assert_eq!(checks(), 4);
    // The next trial succeeds, and it closes.
    let metrics = host.wait("a closed breaker", |m| {
        m.breaker("db") == 0.0 && m.checks("db", "healthy") >= 1.0
    });
    let to = |to| {
        metrics.sum(
            "circuit_breaker_transitions_total",
            &[("platform", "db"), ("to", to)],
        )
    };
    assert_eq!((to("open"), to("half_open"), to("closed")), (2.0, 2.0, 1.0));
    assert!(metrics.skipped("db", "breaker_open") >= 30.0);
}

#[test]
fn one_platforms_breaker_leaves_the_others_of_its_plugin_alone() {
    let host = Setup::new()
        .platform("bad", "fault", r#"{ check = { fault = "error" } }"#)
        .platform("good", "fault", "{}")
        .start();
    host.wait("an open breaker", |m| m.breaker("bad") == 1.0);
    let metrics = host.wait("good goes on", |m| m.checks("good", "healthy") >= 20.0);
    assert_eq!(metrics.breaker("good"), 0.0);
}
