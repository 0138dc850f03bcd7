//! The host under a real Prometheus, which has to be installed; CI installs it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{PATIENCE, Setup};

/// Says that the program is missing; in CI that is a failure.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(
        found || std::env::var_os("CI").is_none(),
        "{program} is part of what CI checks"
    );
    found
}

#[test]
fn promtool_finds_nothing_but_the_originals_own_names() {
    if !is_installed("promtool") {
        return;
    }
    let host = Setup::new()
        .platform("a", "fault", "{}")
        .platform("b", "disk", "{ path = \"/\" }")
        .platform("c", "fault", r#"{ check = { fault = "error" } }"#)
        .start();
    host.wait("reports", |m| {
        m.checks("b", "healthy") + m.checks("b", "degraded") >= 1.0 && m.breaker("c") == 1.0
    });
    let text = host.get("/metrics").1;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let originals = [
        "health_check_",
        "circuit_breaker_",
        "plugin_failure_",
        "system_resources_",
    ];
    let ours: Vec<_> = said
        .lines()
        .filter(|line| !originals.iter().any(|name| line.starts_with(name)))
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

#[test]
fn a_real_prometheus_scrapes_the_host() {
    if !is_installed("prometheus") {
        return;
    }
    let host = Setup::new().platform("shop", "fault", "{}").start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let target = host.address;
    fs::write(
        &config,
        format!("scrape_configs:\n- job_name: conductor\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{target}']\n"),
    )
    .unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let _prometheus = Kill(
        Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    assert_eq!(
        query(port, "up%7Bjob%3D%22conductor%22%7D", |value| value >= 1.0),
        1.0
    );
    query(
        port,
        "health_check_total%7Bplatform%3D%22shop%22%2Cstatus%3D%22healthy%22%7D",
        |value| value >= 2.0,
    );
    query(
        port,
        "conductor_platform_up%7Bplatform%3D%22shop%22%7D",
        |value| value >= 1.0,
    );
    query(
        port,
        "circuit_breaker_state%7Bplatform%3D%22shop%22%7D",
        |value| value == 0.0,
    );
}

/// Asks Prometheus until it has the series with a value as wanted.
fn query(port: u16, query: &str, wanted: impl Fn(f64) -> bool) -> f64 {
    let start = Instant::now();
    let mut last = String::new();
    while start.elapsed() < PATIENCE {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\nHost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            last.clear();
            let _ = stream.read_to_string(&mut last);
            let body = last.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let answer: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let value = answer["data"]["result"][0]["value"][1]
                .as_str()
                .and_then(|v| v.parse().ok());
            if let Some(value) = value.filter(|value| wanted(*value)) {
                return value;
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("Prometheus never answered {query} as wanted: {last}");
}

struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
