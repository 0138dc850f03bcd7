//! Changes of the config while the host runs.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::harness::{Host, Setup, conductor, library_name, original, ported};

/// Changes the text of the config.
fn edit(host: &Host, change: impl Fn(&str) -> String) {
    let file = host.setup.path("conductor.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, ported(&change(&original(&text)))).unwrap();
}

/// Requests a reload over HTTP; returns code and body.
fn post_reload(host: &Host) -> (u16, String) {
    let mut stream = TcpStream::connect(host.address).unwrap();
    write!(
        stream,
        "POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

/// Returns the time of the platform's next check within its interval, in milliseconds.
fn phase(host: &Host, platform: &str, interval: f64) -> i64 {
    let status = host.status();
    let platforms = status["platforms"].as_array().unwrap();
    let view = platforms.iter().find(|p| p["name"] == platform).unwrap();
    let started = status["host"]["started"].as_f64().unwrap();
    let next = view["next_check"].as_f64().unwrap() - started;
    #[expect(clippy::cast_possible_truncation, reason = "a few hundred")]
    let phase = (next.rem_euclid(interval) * 1000.0).round() as i64;
    phase
}

#[test]
fn a_reload_keeps_slot_breaker_and_counters_of_what_did_not_change() {
    let host = Setup::new()
        .platform("gone", "fault", "{}")
        .platform("stays", "fault", "{}")
        .platform("broken", "fault", r#"{ check = { fault = "error" } }"#)
        .platform("changes", "fault", "{}")
        .start();
    let before = host.wait("a breaker that opened", |m| {
        m.breaker("broken") == 1.0 && m.checks("changes", "healthy") >= 3.0
    });
    let slots = ["stays", "broken"].map(|name| phase(&host, name, 0.1));
    let generation = host.status()["plugins"][0]["generation"].clone();
    edit(&host, |text| {
        let text = text.replace("[platform.gone]", "[platform.new]");
        text.replace(
            "[platform.changes]\nplugin = \"fault\"\nconfig = {}",
            "[platform.changes]\nplugin = \"fault\"\nconfig = { status = \"degraded\" }",
        )
    });
    host.reload();
    let after = host.wait("the new config", |m| {
        m.checks("new", "healthy") >= 3.0 && m.checks("changes", "degraded") >= 3.0
    });
    assert_eq!(after.due("gone"), 0.0, "its series are gone");
    assert_eq!(after.breaker("broken"), 1.0);
    assert_eq!(after.failures("broken", "error"), 3.0);
    for name in ["stays", "changes"] {
        let of = |m: &crate::harness::Metrics| m.checks(name, "healthy");
        assert!(of(&after) >= of(&before), "counters never reset");
    }
    assert_eq!(after.failed_in_time("stays"), 0.0);
    assert_eq!(
        ["stays", "broken"].map(|name| phase(&host, name, 0.1)),
        slots
    );
    assert_eq!(host.status()["plugins"][0]["generation"], generation);
    assert_eq!(
        after.sum("conductor_config_last_reload_successful", &[]),
        1.0
    );
}

#[test]
fn a_reload_changes_detail_labels_and_buckets_of_the_metrics() {
    let host = Setup::new()
        .platform("shop", "fault", "{}\nlabels = { team = \"chat\" }")
        .start();
    host.wait("reports", |m| m.checks("shop", "healthy") >= 3.0);
    let skips = "conductor_checks_skipped_total";
    let of = |labels: &[(&str, &str)]| host.metrics().has(skips, labels);
    assert!(of(&[("platform", "shop"), ("plugin", "fault")]));
    let before = host.metrics().checks("shop", "healthy");
    edit(&host, |text| {
        let lean = "series = \"lean\"\nplatform_labels = [\"team\"]\nbuckets = [\"1ms\", \"1m\"]";
        text.replace("series = \"full\"", lean)
    });
    host.reload();
    let after = host.wait("labels", |m| {
        m.has(
            "health_check_total",
            &[("platform", "shop"), ("team", "chat")],
        )
    });
    assert!(after.checks("shop", "healthy") >= before, "a counter reset");
    assert!(after.has(skips, &[("plugin", "fault")]));
    assert!(!after.has(skips, &[("platform", "shop")]));
    let buckets = "health_check_duration_seconds_bucket";
    assert!(after.has(buckets, &[("team", "chat"), ("le", "60")]));
    assert!(!after.has(buckets, &[("le", "5")]));
}

/// Returns the failed reload that the API shows; null if there is none.
fn failed_reload(host: &Host) -> serde_json::Value {
    host.status()["host"]["failed_reloads"][0].clone()
}

/// Returns the output of `conductor status`.
fn status(host: &Host) -> String {
    let address = host.address.to_string();
    let output = conductor(&["status", "--address", &address]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn a_reload_with_a_mistake_changes_nothing_and_says_what_is_wrong() {
    let host = Setup::new()
        .platform("stays", "fault", "{}")
        .start_with(&["--web.enable-lifecycle"]);
    edit(&host, |text| {
        text.replace("[platform.stays]", "[platfrom.stays]")
    });
    let (code, body) = post_reload(&host);
    assert_eq!(code, 400, "{body}");
    assert!(
        body.contains("platfrom") && body.contains("conductor.toml:"),
        "{body}"
    );
    host.wait_for_log("config not reloaded");
    assert_eq!(failed_reload(&host)["file"], "config");
    assert_eq!(failed_reload(&host)["more_errors"], 0);
    let error = failed_reload(&host)["error"].to_string();
    for surface in [error, status(&host), host.get("/").1] {
        let names = surface.contains("platfrom") && surface.contains("conductor.toml:");
        assert!(names, "{surface}");
    }
    assert!(status(&host).contains("the earlier one stays in force"));
    let metrics = host.metrics();
    assert_eq!(
        metrics.sum("conductor_config_last_reload_successful", &[]),
        0.0
    );
    let checked = metrics.checks("stays", "healthy");
    host.wait("checks that go on", |m| {
        m.checks("stays", "healthy") >= checked + 3.0
    });
    edit(&host, |text| {
        text.replace("[platfrom.stays]", "[platform.stays]")
    });
    assert_eq!(post_reload(&host).0, 200);
    assert!(failed_reload(&host).is_null());
    assert!(!status(&host).contains("not reloaded"));
    let metrics = host.metrics();
    assert_eq!(
        metrics.sum("conductor_config_last_reload_successful", &[]),
        1.0
    );
}

#[test]
fn a_reload_brings_plugins_and_times_that_nobody_used_before() {
    let host = Setup::new().platform("first", "fault", "{}").start();
    host.wait("a check", |m| m.checks("first", "healthy") >= 1.0);
    edit(&host, |text| {
        let text = text.replace("stagger = \"10ms\"", "stagger = \"20ms\"");
        format!(
            "{text}\n[platform.second]\nplugin = \"disk\"\nconfig = {{ path = \"/\", degraded_above = 100, unhealthy_above = 100 }}\n"
        )
    });
    let before = host.metrics();
    host.reload();
    let after = host.wait("both", |m| {
        m.checks("second", "healthy") >= 3.0
            && m.checks("first", "healthy") >= before.checks("first", "healthy") + 3.0
    });
    assert_eq!(after.failed_in_time("second"), 0.0, "{}", host.log());
    let skipped = |m: &crate::harness::Metrics| m.skipped("first", "missed");
    assert_eq!(
        skipped(&after),
        skipped(&before),
        "a new lattice misses nothing"
    );
}

#[test]
fn a_plugin_that_leaves_the_config_and_comes_back_is_looked_after_as_before() {
    let disk = "\n[platform.d]\nplugin = \"disk\"\nconfig = { path = \"/\", degraded_above = 100, unhealthy_above = 100 }\n";
    let host = Setup::new()
        .platform("stays", "fault", "{}")
        .with(disk)
        .start();
    host.wait("checks", |m| m.checks("d", "healthy") >= 3.0);
    let before = host.metrics();
    edit(&host, |text| text.replace(disk, ""));
    host.reload();
    host.wait("its end", |m| m.due("d") == 0.0);
    edit(&host, |text| format!("{text}{disk}"));
    host.reload();
    host.wait("checks again", |m| {
        m.checks("d", "healthy") >= before.checks("d", "healthy") + 3.0
            && m.sum("conductor_plugin_info", &[("plugin", "disk")]) == 1.0
    });
    let status = host.status();
    let plugins = status["plugins"].as_array().unwrap();
    let view = plugins.iter().find(|p| p["id"] == "disk").unwrap();
    assert_eq!(view["state"], "loaded", "{view}");
    assert_eq!(view["generation"], 2, "{view}");
    assert!(view["pid"].is_u64(), "{view}");
}

#[test]
fn reloads_that_rename_platforms_leave_nothing_behind_and_a_name_that_returns_goes_on_counting() {
    let host = Setup::new()
        .platform("stays", "fault", "{}")
        .platform("first-1", "fault", "{}")
        .platform("first-2", "fault", "{}")
        .start_with(&["--web.enable-lifecycle"]);
    let before = host.wait("checks of all", |m| m.checks("first-1", "healthy") >= 3.0);
    let mut name = "first-".to_owned();
    for nth in 0..100 {
        let next = format!("of-{nth}-");
        edit(&host, |text| text.replace(&name, &next));
        name = next;
        let (code, body) = post_reload(&host);
        assert_eq!(code, 200, "{body}");
    }
    let tracked =
        |m: &crate::harness::Metrics, kind| m.sum("conductor_tracked_objects", &[("kind", kind)]);
    let after = host.wait("the old ones are gone", |m| {
        tracked(m, "platform") == 3.0 && tracked(m, "probe") == 3.0 && tracked(m, "log_tail") <= 3.0
    });
    assert_eq!(tracked(&after, "series"), 3.0);
    edit(&host, |text| text.replace(&name, "first-"));
    post_reload(&host);
    let returned = host.wait("the first names are back", |m| m.due("first-1") > 0.0);
    assert!(returned.checks("first-1", "healthy") >= before.checks("first-1", "healthy"));
}

#[test]
fn a_plugin_that_no_platform_names_and_whose_library_is_gone_is_forgotten() {
    let disk = "\n[platform.d]\nplugin = \"disk\"\nconfig = { path = \"/\", degraded_above = 100, unhealthy_above = 100 }\n";
    let host = Setup::new()
        .platform("stays", "fault", "{}")
        .with(disk)
        .start_with(&["--web.enable-lifecycle"]);
    let tracked =
        |m: &crate::harness::Metrics, kind| m.sum("conductor_tracked_objects", &[("kind", kind)]);
    let series =
        |m: &crate::harness::Metrics| m.sum("conductor_plugin_info", &[("plugin", "disk")]);
    host.wait("checks", |m| {
        m.checks("d", "healthy") >= 1.0 && tracked(m, "plugin") == 2.0
    });
    edit(&host, |text| text.replace(disk, ""));
    assert_eq!(post_reload(&host).0, 200);
    let kept = host.wait("its end", |m| {
        m.due("d") == 0.0 && tracked(m, "probe") == 1.0
    });
    assert_eq!(tracked(&kept, "plugin"), 2.0, "its library is still there");
    fs::remove_file(
        host.setup
            .plugin_dir()
            .join(library_name("conductor_plugin_disk")),
    )
    .unwrap();
    let forgotten = host.wait("it is forgotten", |m| {
        // The library is gone once two scans have missed it.
        assert_eq!(post_reload(&host).0, 200);
        tracked(m, "plugin") == 1.0
    });
    assert_eq!(tracked(&forgotten, "plugin_series"), 1.0);
    assert_eq!(series(&forgotten), 0.0);
}
