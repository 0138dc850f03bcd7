//! Secrets in the config: only the plugin gets them.

use std::fs;

use crate::harness::Setup;

const SECRET: &str = "hunter2-hunter2";

#[test]
fn a_secret_reaches_the_plugin_and_is_shown_nowhere() {
    // The plugin repeats its config in its messages.
    let path = r#"{ path = "/no/${CONDUCTOR_TEST_SECRET}/there" }"#;
    let setup = Setup::new().platform("a", "disk", path);
    let mut command = setup.command(&["run", "--web.listen-address", "127.0.0.1:0"]);
    let child = command
        .env("CONDUCTOR_TEST_SECRET", SECRET)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut host = crate::harness::Host::adopt(child, setup);
    host.find_address();
    host.wait("failures", |m| m.checks("a", "failed") >= 1.0);
    for path in [
        "/api/v1/status",
        "/api/v1/platforms",
        "/api/v1/platforms/a",
        "/api/v1/plugins",
        "/metrics",
        "/",
    ] {
        let (_, body) = host.get(path);
        assert!(!body.contains(SECRET), "{path}: {body}");
    }
    let message = host.status()["platforms"][0]["message"].clone();
    let message = message.as_str().unwrap();
    assert!(message.contains("/no/(a secret)/there"), "{message}");
    assert!(!host.log().contains(SECRET), "{}", host.log());
}

#[test]
fn a_secret_that_a_worker_cuts_or_escapes_is_shown_nowhere() {
    let many_lines = "the-first-of-it\nthe-second-of-it";
    // The plugin's message is cut at 2048 bytes, within the secret.
    let cut = format!(
        "{{ path = \"/{}${{CONDUCTOR_TEST_SECRET}}\" }}",
        "x".repeat(2005)
    );
    let setup = Setup::new().platform("cut", "disk", &cut).platform(
        "lines",
        "disk",
        r#"{ path = "/no/${CONDUCTOR_TEST_LINES}/there" }"#,
    );
    let output = setup
        .command(&["run", "--once"])
        .env("CONDUCTOR_TEST_SECRET", SECRET)
        .env("CONDUCTOR_TEST_LINES", many_lines)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/no/(a secret)/there"), "{said}");
    assert!(said.contains("xxx(a "), "{said}");
    assert!(
        !said.contains("hunter") && !said.contains("of-it"),
        "{said}"
    );
}

#[test]
fn a_secret_that_does_not_fit_is_not_shown_and_a_new_one_holds_from_a_reload_on() {
    let setup = Setup::new().platform("a", "fault", r#"{ status = { file = "status" } }"#);
    fs::write(setup.path("status"), SECRET).unwrap();
    let check = setup.command(&["config", "check"]).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned()
        + &String::from_utf8_lossy(&check.stderr);
    assert_eq!(check.status.code(), Some(3), "{said}");
    assert!(
        said.contains("platform.a.config.status must be one of"),
        "{said}"
    );
    assert!(!said.contains("hunter"), "{said}");

    fs::write(setup.path("status"), "degraded\n").unwrap();
    let host = setup.start();
    host.wait("reports", |m| m.checks("a", "degraded") >= 1.0);
    fs::write(host.setup.path("status"), "healthy\n").unwrap();
    host.reload();
    host.wait("the new secret", |m| m.checks("a", "healthy") >= 1.0);
    fs::remove_file(host.setup.path("status")).unwrap();
    host.reload();
    host.wait_for_log("the file");
    host.wait_for_log("config not reloaded");
}
