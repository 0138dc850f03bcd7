//! Platforms from files that other programs write.

use std::fs;

use crate::harness::{Host, Setup};

const CONFIG: &str = r#"
[template.web]
plugin = "fault"
labels = { address = "{{target}}" }

[discovery.shops]
template = "web"
file_sd = ["targets/*.json", "targets/*.yml"]
refresh = "1s"
drop = { env = "test" }
rename = { zone = "region" }
name = "web-{{target}}"
"#;

fn setup() -> Setup {
    let setup = Setup::new().with(CONFIG);
    fs::create_dir(setup.path("targets")).unwrap();
    list(
        &setup,
        "a.json",
        r#"[{"targets": ["one:80", "two:80"], "labels": {"zone": "north"}}]"#,
    );
    list(
        &setup,
        "b.yml",
        "- targets: [three:80]\n- targets: [hidden:80]\n  labels: {env: test}\n",
    );
    setup
}

/// Replaces a file of targets in one step, as programs that write such files do.
fn list(setup: &Setup, file: &str, text: &str) {
    let new = setup.path("targets").join(format!("{file}.new"));
    fs::write(&new, text).unwrap();
    fs::rename(&new, setup.path("targets").join(file)).unwrap();
}

/// Returns the name of each platform, with the time of its next check within its interval, in milliseconds.
fn phases(host: &Host) -> Vec<(String, i64)> {
    let status = host.status();
    let started = status["host"]["started"].as_f64().unwrap();
    let phase = |platform: &serde_json::Value| {
        let next = platform["next_check"].as_f64().unwrap() - started;
        let interval = platform["interval"].as_f64().unwrap();
        #[expect(clippy::cast_possible_truncation, reason = "a few hundred")]
        let phase = (next.rem_euclid(interval) * 1000.0).round() as i64;
        (platform["name"].as_str().unwrap().to_owned(), phase)
    };
    let platforms = status["platforms"].as_array().unwrap();
    let mut phases: Vec<_> = platforms.iter().map(phase).collect();
    phases.sort();
    phases
}

#[test]
fn targets_of_files_become_platforms_that_come_and_go_without_disturbing_others() {
    let host = setup().platform("written", "fault", "{}").start();
    let names = ["web-one-80", "web-two-80", "web-three-80", "written"];
    let before = host.wait("checks of all", |m| {
        names.iter().all(|name| m.checks(name, "healthy") >= 3.0)
    });
    assert_eq!(before.due("web-hidden-80"), 0.0);
    let first = phases(&host);
    assert_eq!(first.len(), 4);
    let status = host.status();
    let platforms = status["platforms"].as_array().unwrap();
    let one = platforms
        .iter()
        .find(|p| p["name"] == "web-one-80")
        .unwrap();
    assert_eq!(one["labels"]["region"], "north");
    assert_eq!(one["labels"]["address"], "one:80");

    // One comes.
    list(&host.setup, "c.json", r#"[{"targets": ["four:80"]}]"#);
    let with_four = host.wait("a new platform", |m| {
        m.checks("web-four-80", "healthy") >= 3.0
    });
    for name in names {
        assert!(with_four.checks(name, "healthy") >= before.checks(name, "healthy"));
        assert_eq!(with_four.failed_in_time(name), 0.0);
    }
    let mut now = phases(&host);
    now.retain(|(name, _)| name != "web-four-80");
    assert_eq!(now, first);

    // A half-written file changes nothing.
    list(&host.setup, "a.json", r#"[{"targets": ["one:80", "#);
    host.wait_for_log("its last 2 targets are kept");
    assert_eq!(phases(&host).len(), 5);

    // One goes, with its series; so does the error.
    list(
        &host.setup,
        "a.json",
        r#"[{"targets": ["one:80"], "labels": {"zone": "north"}}]"#,
    );
    host.wait("a platform gone", |m| m.due("web-two-80") == 0.0);
    host.wait_for_log("a.json is used again");
    let last = phases(&host);
    assert_eq!(last.len(), 4);
    first
        .iter()
        .filter(|(name, _)| name != "web-two-80")
        .for_each(|entry| assert!(last.contains(entry), "{entry:?}"));

    // A reload keeps the others.
    let before = host.metrics().checks("web-one-80", "healthy");
    host.reload();
    host.wait("checks after the reload", |m| {
        m.checks("web-one-80", "healthy") >= before + 3.0
    });
    assert_eq!(phases(&host), last);
}

#[test]
fn a_target_with_the_name_of_another_platform_is_left_out_and_named() {
    let host = setup().platform("web-one-80", "fault", "{}").start();
    host.wait_for_log("target \"one:80\"");
    assert!(
        host.log()
            .contains("another platform has the name web-one-80")
    );
    host.wait("the others", |m| m.checks("web-two-80", "healthy") >= 3.0);
    assert_eq!(phases(&host).len(), 3);
}
