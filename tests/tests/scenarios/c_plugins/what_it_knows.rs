//! Declared metrics, labels, interval and state in a plugin in C.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::source::{self, Language};
use crate::harness::{Host, Setup, conductor, is_windows, library_suffix};

/// Counts its checks in the platform's state, and sets two declared metrics and one that is not declared.
const COUNTER: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#define CONDUCTOR_DESCRIPTION "Counts its checks."
#define CONDUCTOR_LICENCE "MIT"
#include "conductor_plugin.h"

static void *create(const conductor_call_t *call, const char *config) { (void)call, (void)config; return malloc(1); }

static void check(void *probe, const conductor_call_t *call)
{
    char text[32] = "", message[128];
    const char *word[] = {"o\"ne", NULL}, *fields[] = {"team", conductor_label(call, "team", "none"), NULL};
    int checks;
    (void)probe;
    conductor_state(call, text, sizeof text - 1);
    checks = atoi(text) + 1;
    snprintf(text, sizeof text, "%d", checks);
    if (!conductor_store_state(call, text, sizeof text))
        conductor_fail(call, CONDUCTOR_FAILURE_ERROR, "not stored");
    conductor_set(call, "checks", NULL, checks);
    conductor_set(call, "length", word, 4);
    conductor_set(call, "unknown", NULL, 1);
    if (checks == 1)
        conductor_log_fields(call, CONDUCTOR_LEVEL_WARN, "begins", fields);
    snprintf(message, sizeof message, "check %d, each %.0f ms", checks, conductor_interval_ns(call) / 1e6);
    conductor_report(call, CONDUCTOR_STATUS_HEALTHY, message);
}

static void destroy(void *probe, const conductor_call_t *call) { (void)call; free(probe); }

CONDUCTOR_PLUGIN("counter", "1.0.0", "Counter", "", "{}", create, check, destroy, NULL, NULL,
    "[{\"name\": \"checks\", \"kind\": \"counter\", \"help\": \"Checks.\"},"
    " {\"name\": \"length\", \"kind\": \"gauge\", \"unit\": \"bytes\", \"help\": \"Length.\", \"labels\": [\"word\"]}]");
"#;

/// Returns a setup with two platforms of the counter; `None` without a compiler.
fn setup() -> Option<Setup> {
    let setup = Setup::without_plugins()
        .host("interval = \"100ms\"\nstagger = \"10ms\"\ntimeout = \"100ms\"")
        .with("[platform.a]\nplugin = \"counter\"\nlabels = { team = \"ops\" }")
        .platform("b", "counter", "{}");
    let library = setup
        .plugin_dir()
        .join(format!("counter{}", library_suffix()));
    source::compile(COUNTER, Language::C, &library).then_some(setup)
}

fn counted(host: &Host, platform: &str) -> f64 {
    host.metrics()
        .sum("conductor_counter_checks_total", &[("platform", platform)])
}

#[test]
fn declared_metrics_are_families_and_the_platform_is_known() {
    let Some(setup) = setup() else {
        return;
    };
    let host = setup.start();
    let metrics = host.wait("its checks", |m| m.checks("a", "healthy") >= 3.0);
    let dropped = metrics.sum("conductor_measurements_dropped_total", &[("platform", "a")]);
    assert!(dropped >= 3.0, "{dropped}");
    host.wait_for_log("the value of metric `unknown` is dropped");
    host.wait_for_log("begins team=ops");
    host.wait_for_log("begins team=none");
    let text = host.get("/metrics").1;
    for line in [
        "# HELP conductor_counter_length_bytes Length.\n",
        "# TYPE conductor_counter_checks_total counter\n",
        "conductor_counter_length_bytes{platform=\"a\",word=\"o\\\"ne\"} 4\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let platform = host.status()["platforms"][0].clone();
    let measured = &platform["measurements"];
    assert_eq!(measured[r#"length_bytes{word="o\"ne"}"#], 4.0, "{platform}");
    let message = platform["message"].as_str().unwrap();
    assert!(message.ends_with("each 100 ms"), "{platform}");
}

#[test]
fn a_platforms_state_survives_its_worker_and_its_host() {
    let Some(setup) = setup() else {
        return;
    };
    let mut host = setup.start();
    host.wait("its checks", |m| m.checks("a", "healthy") >= 5.0);
    let before = counted(&host, "a");
    if !is_windows() {
        let pid = host.status()["plugins"][0]["pid"].to_string();
        let killed = Command::new("kill")
            .args(["-KILL", &pid])
            .stdin(Stdio::null())
            .status();
        assert!(killed.unwrap().success());
        host.wait("a new worker", |m| {
            m.sum("conductor_worker_restarts_total", &[("reason", "crash")]) >= 1.0
        });
    }
    let checks = host.metrics().checks("a", "healthy");
    host.wait("checks after it", |m| {
        m.checks("a", "healthy") >= checks + 3.0
    });
    assert!(counted(&host, "a") >= before + 3.0, "{before}");
    let last = counted(&host, "a");
    assert!(host.stop().success());
    let setup = std::mem::replace(&mut host.setup, Setup::without_plugins());
    let host = setup.start();
    host.wait("checks of the next host", |m| {
        m.checks("a", "healthy") >= 2.0
    });
    assert!(counted(&host, "a") >= last + 2.0, "{last}");
    assert!(counted(&host, "b") >= 2.0);
}

#[test]
fn plugin_run_gives_a_probe_its_interval_labels_and_state() {
    let setup = Setup::without_plugins();
    let library = setup.path(&format!("counter{}", library_suffix()));
    if !source::compile(COUNTER, Language::C, &library) {
        return;
    }
    let run = |library: &Path, arguments: &[&str]| {
        let mut command = conductor(&["plugin", "run", "--repeat", "3", "--interval", "20ms"]);
        let output = command.arg(library).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    let said = run(&library, &["--label", "team=ops"]);
    for words in [
        "begins team=ops",
        "check 3, each 20 ms",
        "length_bytes{word=",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = run(&library, &["--label", "team"]);
    assert!(said.contains("NAME=VALUE"), "{said}");
    // The second check of each process crashes; the next process continues from the stored state.
    let crashing = COUNTER.replace("    int checks;", "    static int calls; int checks;");
    let crashing = crashing.replace(
        "    (void)probe;",
        "    (void)probe; if (++calls == 2) abort();",
    );
    assert!(source::compile(&crashing, Language::C, &library));
    let said = run(&library, &[]);
    assert_eq!(said.matches("check 1, each").count(), 1, "{said}");
    assert!(
        said.contains("crash") && said.contains("check 2, each"),
        "{said}"
    );
}
