//! Notifications: a real Alertmanager, which must be installed (CI installs it), and webhooks of this test.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Host, PATIENCE, Setup},
    prometheus::{Kill, is_installed},
};

/// A platform that is unhealthy or healthy, by config.
fn shop(status: &str) -> String {
    format!(
        "\n[platform.shop]\nplugin = \"fault\"\nlabels = {{ team = \"web\" }}\nconfig = {{ status = \"{status}\" }}\n"
    )
}

/// Makes the unhealthy platform healthy.
fn heal(host: &Host) {
    let file = host.setup.path("conductor.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("status = \"unhealthy\"", "status = \"healthy\""),
    )
    .unwrap();
    host.reload();
}

/// A web server that answers with these codes in turn, and with the last one from then on; code 0 hangs.
fn webhook(codes: &'static [u16]) -> (u16, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = channel();
    thread::spawn(move || {
        let mut hanging = Vec::new();
        for (at, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let (head, body) = request(&mut stream);
            let _ = sender.send((head, serde_json::from_str(&body).unwrap()));
            match codes[at.min(codes.len() - 1)] {
                0 => hanging.push(stream),
                code => {
                    write!(stream, "HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
            }
        }
    });
    (port, received)
}

/// Returns head and body.
fn request(stream: &mut TcpStream) -> (String, String) {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return (head.to_owned(), body.to_owned());
            }
        }
        assert!(n > 0, "{text}");
    }
}

fn count(host: &Host, outcome: &str) -> f64 {
    let metrics = host.metrics();
    metrics.sum("conductor_notifications_total", &[("outcome", outcome)])
}

#[test]
fn a_real_alertmanager_gets_an_alert_and_sees_it_resolved() {
    if !is_installed("prometheus-alertmanager") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("alertmanager.yml");
    fs::write(
        &config,
        "route:\n  receiver: none\nreceivers:\n- name: none\n",
    )
    .unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let _alertmanager = Kill(
        Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let alerts = || -> Option<Vec<Value>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /api/v2/alerts HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    };
    let wait = |what: &str, wanted: &dyn Fn(&[Value]) -> bool, host: &Host| {
        let start = Instant::now();
        loop {
            let seen = alerts().unwrap_or_default();
            if wanted(&seen) {
                return seen;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "no {what}: {seen:?}\n{}",
                host.log()
            );
            thread::sleep(Duration::from_millis(100));
        }
    };
    let host = Setup::new()
        .with(&format!(
            "[notify.people]\nalertmanager = {{ urls = [\"http://127.0.0.1:{port}\"] }}\ngroup_wait = \"0s\""
        ))
        .with(&shop("unhealthy"))
        .start();
    let seen = wait("alert", &|alerts| alerts.len() == 1, &host);
    let labels = &seen[0]["labels"];
    assert_eq!(labels["alertname"], "ConductorPlatform");
    assert_eq!(
        (&labels["platform"], &labels["team"]),
        (&"shop".into(), &"web".into())
    );
    assert_eq!(labels["severity"], "critical");
    assert_eq!(seen[0]["annotations"]["summary"], "shop is unhealthy");
    heal(&host);
    // It lists firing alerts alone.
    wait("end of the alert", &<[Value]>::is_empty, &host);
    assert_eq!(count(&host, "dropped"), 0.0, "{}", host.log());
}

#[test]
fn a_webhook_that_fails_twice_gets_the_message_once_and_the_end_after_a_restart() {
    let (port, received) = webhook(&[500, 500, 200]);
    let mut host = Setup::new()
        .with(&format!(
            r#"
[notify.chat]
webhook = {{ url = "http://127.0.0.1:{port}/secret", headers = {{ X-Key = "k" }}, body = '{{"text": "{{{{title}}}}", "id": "{{{{id}}}}"}}' }}
labels = {{ team = "web" }}
group_wait = "0s"
"#
        ))
        .with(&shop("unhealthy"))
        .platform("other", "fault", r#"{ status = "unhealthy" }"#)
        .start();
    let next = || received.recv_timeout(PATIENCE).unwrap();
    let attempts = [next(), next(), next()];
    for (head, body) in &attempts {
        assert!(
            head.starts_with("POST /secret HTTP/1.1") && head.contains("x-key: k"),
            "{head}"
        );
        assert_eq!(body["text"], "shop is unhealthy");
        // Each attempt is the same message.
        assert_eq!(body["id"], attempts[0].1["id"]);
    }
    host.wait("the metrics", |m| {
        let of = |outcome| {
            m.sum(
                "conductor_notifications_total",
                &[("notify", "chat"), ("outcome", outcome)],
            )
        };
        (of("sent"), of("failed"), of("dropped")) == (1.0, 2.0, 0.0)
    });
    host.wait_for_log("notify.chat: notifications are delivered again");
    let log = host.log();
    assert_eq!(
        log.matches("notify.chat: notifications wait").count(),
        1,
        "{log}"
    );
    assert!(!log.contains("secret"), "{log}");

    assert!(host.stop().success());
    let setup = std::mem::replace(&mut host.setup, Setup::without_plugins());
    let file = setup.path("conductor.toml");
    assert!(file.exists());
    let host = setup.start();
    // It checks the platform, and says nothing again.
    host.wait("checks", |m| m.checks("shop", "unhealthy") >= 10.0);
    heal(&host);
    let (_, body) = next();
    assert_eq!(body["text"], "shop is no longer unhealthy");
    assert_ne!(body["id"], attempts[0].1["id"]);
}

#[test]
fn a_webhook_that_hangs_delays_no_check() {
    let (port, received) = webhook(&[0]);
    let host = Setup::new()
        .with(&format!(
            "[notify.slow]\nwebhook = {{ url = \"http://127.0.0.1:{port}\" }}\ngroup_wait = \"0s\""
        ))
        .with(&shop("unhealthy"))
        .start();
    let (_, body) = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(body["events"][0]["platform"], "shop");
    // The request is under way for its 10 s, and a new one follows it.
    host.wait("checks meanwhile", |m| {
        m.checks("shop", "unhealthy") >= 20.0
    });
    assert_eq!(count(&host, "sent"), 0.0);
    host.wait_for_log("no answer within 10 s");
    received.recv_timeout(PATIENCE).unwrap();
}
