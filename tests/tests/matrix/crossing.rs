//! The plugin of the matrix in a real host, in a worker and in-process: everything crosses, both ways.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{Host, Setup, artifacts};

/// Further lines expected in the host's log, in a worker and in-process.
pub(crate) type Said<'a> = &'a [&'a str];

/// The log of a host of today about a plugin that uses what today's API has.
pub(crate) const OF_TODAY: &str =
    r#"crossing with {"team": "a"}, an interval: true, a state: true"#;

const REPORTS: &str = r#"[platform.reports]
plugin = "crossing"
labels = { team = "a" }
config = { words = ["one", "three"] }"#;

/// Runs checks of the plugin at `library` in the host that was built with this test.
pub(crate) fn crosses(library: &Path, said: Said<'_>) {
    for isolation in ["process", "in-process"] {
        crosses_in(isolation, Setup::start, library, said);
    }
}

/// Runs checks of the plugin at `library` in another host.
pub(crate) fn crosses_to(host: &Path, library: &Path, said: Said<'_>) {
    for isolation in ["process", "in-process"] {
        crosses_in(isolation, |setup| start(host, setup), library, said);
    }
}

fn crosses_in(isolation: &str, start: impl FnOnce(Setup) -> Host, library: &Path, said: Said<'_>) {
    let setup = Setup::without_plugins()
        .with(&format!("[plugin.crossing]\nisolation = \"{isolation}\""))
        .with(REPORTS)
        .platform("fails", "crossing", r#"{ ends = "failure" }"#)
        .platform("panics", "crossing", r#"{ ends = "panic" }"#);
    setup.install(library);
    let mut host = start(setup);
    host.wait("reports", |m| m.checks("reports", "healthy") >= 3.0);
    host.wait("a failure", |m| m.failures("fails", "error") >= 1.0);
    host.wait("a panic", |m| m.failures("panics", "panic") >= 2.0);
    let metrics = host.wait("reports after panics", |m| {
        m.checks("reports", "healthy") >= 5.0
    });
    let measured = [("platform", "reports"), ("name", "measured_19")];
    assert_eq!(metrics.sum("conductor_measurement", &measured), 19.0);
    if said.contains(&OF_TODAY) {
        let length = |word| {
            let labels = [("platform", "reports"), ("word", word)];
            metrics.sum("conductor_crossing_length_bytes", &labels)
        };
        assert_eq!((length("one"), length("three")), (3.0, 5.0));
        let checks = [("platform", "reports")];
        assert!(metrics.sum("conductor_crossing_checks_total", &checks) >= 4.0);
    }
    for text in [
        "reported for reports: one three",
        "failed for fails",
        "panicked for panics",
        "lib.rs:",
        "crossing to reports",
        "crossing as an event",
    ]
    .into_iter()
    .chain(said.iter().copied())
    {
        host.wait_for_log(text);
    }
    let plugin = host.status()["plugins"][0].clone();
    assert_eq!(plugin["isolation"], isolation, "{plugin}");
    let left = host.stop();
    assert!(left.success(), "{left}\n{}", host.log());
}

pub(crate) fn start(program: &Path, setup: Setup) -> Host {
    let child = Command::new(program)
        .args([
            "run",
            "--web.listen-address",
            "127.0.0.1:0",
            "--config.file",
        ])
        .arg(setup.write())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut host = Host::adopt(child, setup);
    host.find_address();
    host
}

pub(crate) fn this_host() -> std::path::PathBuf {
    artifacts().join(format!("conductor{}", std::env::consts::EXE_SUFFIX))
}
