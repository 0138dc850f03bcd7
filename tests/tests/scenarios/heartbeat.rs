//! Heartbeats of jobs, sent with `curl` as a cron job does.

use std::{fs, process::Command, thread, time::Duration};

use crate::harness::{Host, Metrics, PATIENCE, Setup, library};

const TOKEN: &str = "4f1c2d3e5a6b7980";

/// Returns `true` if `curl` is installed; in CI it must be.
fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    let is_ci = std::env::var_os("CI").is_some();
    assert!(found || !is_ci, "curl is part of what CI checks");
    if !found {
        eprintln!("skipped: there is no curl");
    }
    found
}

/// Lines of `[host]`.
const PACE: &str = "interval = \"250ms\"\ntimeout = \"250ms\"\nstagger = \"10ms\"";

/// Returns a host with the platforms `backup`, which is checked after its heartbeats alone, and `beat`, which is late after
/// some seconds.
fn setup() -> Setup {
    let setup = Setup::without_plugins()
        .host(PACE)
        .bundled("heartbeat")
        .bundled("disk")
        .with(
            r#"
[platform.backup]
plugin = "heartbeat"
interval = "1h"
timeout = "1m"
heartbeat = { token = { file = "backup.token" } }
config = { unhealthy_after = "26h", duration = { unhealthy_above = "1h" } }

[platform.beat]
plugin = "heartbeat"
heartbeat = { token = "a-token-of-its-own" }
config = { unhealthy_after = "5s" }

[platform.disk]
plugin = "disk"
config = { path = "/" }
"#,
        );
    fs::write(setup.path("backup.token"), format!("{TOKEN}\n")).unwrap();
    setup
}

/// Returns status code and body of a POST with `curl`; without a token, no header is sent.
fn curl(host: &Host, target: &str, token: &str, arguments: &[&str]) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60"]);
    if !token.is_empty() {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let output = command
        .args(["--write-out", "\n%{http_code}", "-X", "POST"])
        .args(arguments)
        .arg(format!("http://{}/api/v1/heartbeat/{target}", host.address))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), body.to_owned())
}

/// Sends a heartbeat of `backup`, which is accepted.
#[track_caller]
fn send(host: &Host, query: &str, arguments: &[&str]) {
    let (code, said) = curl(host, &format!("backup{query}"), TOKEN, arguments);
    assert_eq!((code, said.as_str()), (200, "Received.\n"));
}

/// Waits until the platform's last report has this state and this part of a message.
#[track_caller]
fn wait(host: &Host, name: &str, state: &str, message: &str) {
    let mut seen = String::new();
    let patience = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < patience {
        let status = host.status();
        let mut platforms = status["platforms"].as_array().unwrap().iter();
        let platform = platforms.find(|p| p["name"] == name).unwrap();
        if platform["status"] == state && platform["message"].as_str().unwrap().contains(message) {
            return;
        }
        seen = platform.to_string();
        thread::sleep(Duration::from_millis(20));
    }
    panic!(
        "waited in vain for {state}, {message:?}: {seen}\n{}",
        host.log()
    );
}

fn of_backup(metrics: &Metrics, metric: &str) -> f64 {
    let metric = format!("conductor_heartbeat_{metric}");
    metrics.sum(&metric, &[("platform", "backup")])
}

#[test]
fn a_job_is_failed_running_recovered_and_known_to_the_next_library_and_the_next_host() {
    if !has_curl() {
        return;
    }
    let mut host = setup().start();
    wait(
        &host,
        "backup",
        "healthy",
        "no heartbeat yet; the first is expected by",
    );
    let failed = r#"{"exit_code": 2, "message": "disk full"}"#;
    send(&host, "", &["--data", failed]);
    wait(
        &host,
        "backup",
        "unhealthy",
        "failed with exit code 2: \"disk full\"; no run",
    );
    assert_eq!(of_backup(&host.metrics(), "success"), 0.0);

    send(&host, "?start", &[]);
    wait(&host, "backup", "unhealthy", "failed with exit code 2");
    host.wait("the run", |m| {
        m.has(
            "conductor_heartbeat_running_seconds",
            &[("platform", "backup")],
        )
    });
    send(&host, "", &["-d", "exit_code=0", "-d", "message=42 files"]);
    wait(&host, "backup", "healthy", ": \"42 files\"");
    let metrics = host.wait("the end of the run", |m| {
        !m.has(
            "conductor_heartbeat_running_seconds",
            &[("platform", "backup")],
        )
    });
    assert_eq!(of_backup(&metrics, "success"), 1.0);
    assert!(metrics.has(
        "conductor_heartbeat_duration_seconds",
        &[("platform", "backup")]
    ));

    // Another build of the library takes over, and has the record.
    let file = library("conductor_plugin_heartbeat");
    let mut other = fs::read(&file).unwrap();
    other.extend(b"another build");
    let place = host.setup.plugin_dir().join(file.file_name().unwrap());
    fs::write(host.setup.path("new"), other).unwrap();
    fs::rename(host.setup.path("new"), place).unwrap();
    host.wait("the new library", |m| {
        let labels = [("plugin", "heartbeat"), ("reason", "replace")];
        m.sum("conductor_worker_restarts_total", &labels) == 1.0
    });
    send(&host, "?exit_code=1&duration=90", &[]);
    wait(
        &host,
        "backup",
        "unhealthy",
        "failed with exit code 1; the last success was at",
    );
    assert_eq!(of_backup(&host.metrics(), "duration_seconds"), 90.0);

    // So has the next host.
    assert!(host.stop().success());
    let folder = std::mem::replace(&mut host.setup, Setup::without_plugins());
    // Without the state from before, whose next check is an hour ahead, it checks each platform at once.
    let host = folder.host(&format!("{PACE}\nresume = \"0s\"")).start();
    wait(
        &host,
        "backup",
        "unhealthy",
        "failed with exit code 1; the last success was at",
    );
    send(&host, "?success=true", &[]);
    wait(&host, "backup", "healthy", "the last run succeeded at");
    for secret in [TOKEN, "a-token-of-its-own"] {
        assert!(!host.log().contains(secret), "{}", host.log());
        assert!(!host.status().to_string().contains(secret));
    }
}

#[test]
fn a_late_job_recovers_with_its_heartbeat() {
    if !has_curl() {
        return;
    }
    let host = setup().start();
    wait(&host, "beat", "unhealthy", "late by");
    let before = host.metrics().checks("beat", "healthy");
    let (code, said) = curl(&host, "beat", "a-token-of-its-own", &[]);
    assert_eq!(code, 200, "{said}");
    host.wait("it is healthy again", |m| {
        m.checks("beat", "healthy") > before
    });
    wait(&host, "beat", "unhealthy", "the last heartbeat came at");
}

#[test]
fn only_a_post_with_the_platforms_token_is_a_heartbeat() {
    if !has_curl() {
        return;
    }
    let host = setup().start();
    wait(&host, "backup", "healthy", "no heartbeat yet");
    for (target, token, arguments, code, text) in [
        ("backup", "", &[][..], 401, "Authorization: Bearer TOKEN"),
        (
            "backup",
            "a-token-of-its-own",
            &[],
            401,
            "the platform's token",
        ),
        (
            "disk",
            TOKEN,
            &[],
            404,
            "No platform named disk accepts heartbeats",
        ),
        ("nobody", TOKEN, &[], 404, "plugin = \"heartbeat\""),
        ("backup", TOKEN, &["-X", "GET"], 405, "use POST"),
        (
            "backup?exitcode=0",
            TOKEN,
            &[],
            400,
            "unknown field `exitcode`",
        ),
        (
            "backup?start&exit_code=0",
            TOKEN,
            &[],
            400,
            "`start` reports the start",
        ),
    ] {
        let (found, said) = curl(&host, target, token, arguments);
        assert!(
            found == code && said.contains(text),
            "{target} {token}: {found} {said}"
        );
    }
    let large = format!("message={}", "x".repeat(100_000));
    fs::write(host.setup.path("large"), large).unwrap();
    let body = format!("@{}", host.setup.path("large").display());
    assert_eq!(curl(&host, "backup", TOKEN, &["--data", &body]).0, 413);
    // One client, on one connection: more than a burst of ten, and one a second.
    let url = format!("http://{}/api/v1/heartbeat/beat", host.address);
    let (code, said) = curl(&host, "beat", "a-token-of-its-own", &[&*url; 199]);
    assert!(
        code == 429 && said.contains("Too many heartbeats"),
        "{said}"
    );
    wait(&host, "backup", "healthy", "no heartbeat yet");
}

#[test]
fn the_key_and_the_plugin_belong_together_and_a_token_is_no_guess() {
    let check = |platform: &str| {
        let setup = Setup::without_plugins()
            .bundled("heartbeat")
            .bundled("disk")
            .with(platform);
        let output = setup.command(&["config", "check"]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{platform}");
        String::from_utf8(output.stderr).unwrap()
    };
    let config = "config = { unhealthy_after = \"1h\" }";
    for (platform, wanted) in [
        (
            format!("[platform.a]\nplugin = \"heartbeat\"\n{config}"),
            "platform.a: the plugin heartbeat needs the key `heartbeat`",
        ),
        (
            "[platform.a]\nplugin = \"disk\"\nheartbeat = { token = \"0123456789abcdef\" }\nconfig = { path = \"/\" }".to_owned(),
            "platform.a.heartbeat: the plugin disk does not read heartbeats",
        ),
        (
            format!("[platform.a]\nplugin = \"heartbeat\"\nheartbeat = {{ token = \"hunter2\" }}\n{config}"),
            "platform.a.heartbeat.token: the secret is shorter than 16 characters",
        ),
        (
            format!("[platform.a]\nplugin = \"heartbeat\"\nheartbeat = {{ token = {{ file = \"none\" }} }}\n{config}"),
            "platform.a.heartbeat.token: the file",
        ),
    ] {
        let said = check(&platform);
        assert!(said.contains(wanted), "{platform}: {said}");
        assert!(!said.contains("hunter2\""), "{said}");
        assert_eq!(said.matches("conductor.toml:").count(), 1, "one mistake: {said}");
    }
}
