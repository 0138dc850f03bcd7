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

/// Returns a host with the probe `exec`, whose command prints its environment.
#[cfg(unix)]
fn with_inline_secret() -> Setup {
    Setup::new()
        .bundled("exec")
        .platform("said", "exec", SAYS_ITS_SECRET)
        .with(&format!(
            "[template.says]\nplugin = \"exec\"\nconfig = {SAYS_ITS_SECRET}"
        ))
}

/// `environment` is a table of secrets by the plugin's schema.
#[cfg(unix)]
const SAYS_ITS_SECRET: &str = r#"{ command = ["/bin/sh", "-c", "echo \"up with $TOKEN\"; echo \"$TOKEN\" >&2"], environment = { TOKEN = "hunter2-hunter2" } }"#;

#[cfg(unix)]
#[test]
fn a_secret_written_into_the_config_itself_is_shown_nowhere() {
    let host = with_inline_secret().start();
    host.wait("its report", |m| m.checks("said", "healthy") >= 1.0);
    let message = host.status()["platforms"][0]["message"].clone();
    assert_eq!(message, "up with (a secret)");
    for path in [
        "/api/v1/status",
        "/api/v1/platforms/said",
        "/api/v1/plugins",
        "/metrics",
        "/",
        "/probe?target=127.0.0.1&module=says&debug=true",
    ] {
        let (_, body) = host.get(path);
        assert!(!body.contains(SECRET), "{path}: {body}");
    }
    let (_, details) = host.get("/probe?target=127.0.0.1&module=says&debug=true");
    assert!(details.contains("up with (a secret)"), "{details}");
    // A reload that changes nothing keeps its probe, and the secret with it.
    host.reload();
    host.wait("another report", |m| m.checks("said", "healthy") >= 3.0);
    assert!(!host.log().contains(SECRET), "{}", host.log());
}

#[cfg(unix)]
#[test]
fn an_inline_secret_is_shown_by_no_command() {
    let setup = with_inline_secret();
    let library = setup.plugin_dir().join(
        crate::harness::library("conductor_plugin_exec")
            .file_name()
            .unwrap(),
    );
    let said = |arguments: &[&str]| {
        let output = setup.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("hunter"), "{arguments:?}: {said}");
        said
    };
    assert!(said(&["run", "--once"]).contains("up with (a secret)"));
    let tool = |command: &str, arguments: &[&str]| {
        let output = crate::harness::conductor(&["plugin", command])
            .arg(&library)
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("hunter"), "{command} {arguments:?}: {said}");
        said
    };
    let run = tool("run", &["--config", SAYS_ITS_SECRET]);
    assert!(run.contains("up with (a secret)"), "{run}");
    let run = tool(
        "run",
        &["--config", SAYS_ITS_SECRET, "--isolation", "in-process"],
    );
    assert!(run.contains("up with (a secret)"), "{run}");
    let validated = tool(
        "validate",
        &["--config", SAYS_ITS_SECRET, "--test", "check/"],
    );
    assert!(validated.contains("up with (a secret)"), "{validated}");

    // A value of another type, in a message about the schema, and in the line of the file next to it.
    let wrong = SAYS_ITS_SECRET.replace("\"hunter2-hunter2\"", "1234567890123");
    let wrong = wrong.replace("{ command", "{ comand = 1, command");
    let setup = Setup::new()
        .bundled("exec")
        .platform("said", "exec", &wrong);
    let output = setup.command(&["config", "check"]).output().unwrap();
    let check = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        check.contains("environment.TOKEN must be a string, not (a secret)"),
        "{check}"
    );
    assert!(check.contains("did you mean `command`?"), "{check}");
    assert!(!check.contains("1234567890123"), "{check}");
    let run = tool("run", &["--config", &wrong]);
    assert!(!run.contains("1234567890123"), "{run}");
}
