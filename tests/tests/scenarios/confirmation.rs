//! States that several results confirm: soft states, quick re-checks and flapping.

use std::process::Output;

use crate::harness::{Host, Metrics, Setup, conductor};

/// The values of `conductor_platform_state`.
const HEALTHY: f64 = 0.0;
const UNKNOWN: f64 = 3.0;

fn state(metrics: &Metrics, platform: &str) -> f64 {
    metrics.sum("conductor_platform_state", &[("platform", platform)])
}

fn run(host: &Host, arguments: &[&str]) -> Output {
    let mut command = conductor(arguments);
    command
        .arg("--address")
        .arg(format!("http://{}", host.address));
    command.output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the platform in the host's JSON.
fn view(host: &Host, name: &str) -> serde_json::Value {
    serde_json::from_str(&host.get(&format!("/api/v1/platforms/{name}")).1).unwrap()
}

#[test]
fn a_blip_changes_no_state_and_as_many_bad_results_as_configured_do() {
    let host = Setup::new()
        .platform(
            "blip",
            "fault",
            r#"{ check = { fault = "error", after = 5, times = 2 } }"#,
        )
        .with("unhealthy_after = 3\nhealthy_after = 2")
        .platform(
            "gone",
            "fault",
            r#"{ check = { fault = "error", after = 5 } }"#,
        )
        .with("unhealthy_after = 3\nbreaker = { failure_threshold = 1000 }")
        .platform(
            "plain",
            "fault",
            r#"{ check = { fault = "error", after = 5, times = 1 } }"#,
        )
        .start();
    let metrics = host.wait("the end of the blip and the failures", |m| {
        m.checks("blip", "failed") == 2.0
            && m.checks("blip", "healthy") >= 8.0
            && state(m, "gone") == UNKNOWN
            && m.checks("plain", "failed") == 1.0
    });
    assert_eq!(state(&metrics, "blip"), HEALTHY);
    assert!(metrics.checks("gone", "failed") >= 3.0);
    let soft = "conductor_platform_soft_state";
    assert!(metrics.has(soft, &[("platform", "blip")]));
    assert!(!metrics.has(soft, &[("platform", "plain")]));
    let log = host.log();
    for line in [
        "blip: soft state: check failed (1 of 3): error: injected error",
        "blip: soft state ended (2 of 3): still healthy",
        "gone: soft state: check failed (1 of 3): error: injected error",
        "gone (plugin fault): check failed: error: injected error",
        "plain (plugin fault): check failed: error: injected error",
    ] {
        assert!(log.contains(line), "no {line:?} in\n{log}");
    }
    assert!(!log.contains("blip (plugin fault): check failed"), "{log}");
}

#[test]
fn a_soft_state_is_checked_again_soon_and_then_on_the_schedule() {
    let setup = Setup::new().host(
        "interval = \"1h\"\nstagger = \"10ms\"\ntimeout = \"10s\"\nunhealthy_after = 4\nretry_interval = \"200ms\"",
    );
    let host = setup
        .platform(
            "shop",
            "fault",
            r#"{ check = { fault = "error", after = 1 } }"#,
        )
        .with("breaker = { failure_threshold = 9 }")
        .start_with(&["--web.enable-lifecycle"]);
    host.wait("the first check", |m| m.checks("shop", "healthy") == 1.0);
    // Its own result counts for it, confirmed or not.
    let checked = run(&host, &["check", "shop"]);
    assert_eq!(checked.status.code(), Some(1), "{}", printed(&checked));
    let metrics = host.wait("the confirmation", |m| state(m, "shop") == UNKNOWN);
    assert_eq!(metrics.checks("shop", "failed"), 4.0);
    let status = host.status();
    let now = status["host"]["now"].as_f64().unwrap();
    let view = view(&host, "shop");
    assert!(view["next_check"].as_f64().unwrap() > now + 600.0, "{view}");
    assert_eq!(view["soft"], serde_json::Value::Null, "{view}");
    assert_eq!(host.metrics().due("shop"), 5.0);
}

#[test]
fn a_soft_state_is_shown_and_a_reload_that_changes_the_numbers_keeps_it() {
    let host = Setup::new()
        .platform("door", "fault", r#"{ status = "flap" }"#)
        .with("unhealthy_after = 900\nhealthy_after = 900")
        .platform(
            "cellar",
            "fault",
            r#"{ check = { fault = "error", after = 3 } }"#,
        )
        .with("unhealthy_after = 1000\nbreaker = { failure_threshold = 1000 }")
        .start();
    host.wait("flapping", |m| {
        m.sum("conductor_platform_flapping", &[("platform", "door")]) == 1.0
            && m.checks("cellar", "failed") >= 2.0
    });
    host.wait_for_log("door (plugin fault): flapping: 6 changes in 20 checks");
    assert_eq!(state(&host.metrics(), "door"), HEALTHY);
    let door = view(&host, "door");
    assert_eq!(
        (&door["status"], &door["flapping"]),
        (&"healthy".into(), &true.into())
    );
    let cellar = view(&host, "cellar");
    assert_eq!(cellar["soft"]["status"], "unknown", "{cellar}");
    assert_eq!(cellar["soft"]["needed"], 1000);
    let status = printed(&run(&host, &["status"]));
    assert!(status.contains("healthy, soft unknown "), "{status}");
    assert!(status.contains("/1000"), "{status}");
    assert!(status.contains("flapping"), "{status}");
    for page in ["/", "/platforms/cellar"] {
        let (_, page) = host.get(page);
        assert!(page.contains("soft unknown "), "{page}");
    }

    let reloaded = host.status()["host"]["now"].as_f64().unwrap();
    let file = host.setup.path("conductor.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("unhealthy_after = 1000", "unhealthy_after = 2"),
    )
    .unwrap();
    host.reload();
    host.wait_for_log("config reloaded");
    // One more result is enough: those before the reload count.
    host.wait_for_log("cellar (plugin fault): check failed: error: injected error");
    let cellar = view(&host, "cellar");
    assert_eq!(
        (&cellar["status"], &cellar["soft"]),
        (&"unknown".into(), &serde_json::Value::Null)
    );
    let first = cellar["history"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert!(
        first["ended"].as_f64().unwrap() < reloaded,
        "it lost its history"
    );
    assert_eq!(
        host.log().matches("cellar: healthy: ").count(),
        1,
        "{}",
        host.log()
    );
}
