//! The host under a real Prometheus, which must be installed; CI installs it.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    bundled::{self, declared_metrics},
    harness::{Host, PATIENCE, Setup, workspace},
    servers::{may_ping, time_server},
};

/// Returns `true` if the program is installed; in CI it must be.
pub(crate) fn is_installed(program: &str) -> bool {
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
        .platform("b", "disk", "{ path = \"/\", unhealthy_above = 100 }")
        .platform("c", "fault", r#"{ check = { fault = "error" } }"#)
        .metrics("series = \"lean\"")
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
    let host = Setup::new()
        .platform("shop", "fault", "{}")
        .platform("port", "tcp", "{ address = \"${self.address}\" }")
        .start();
    let prometheus = Prometheus::beside(&host);
    prometheus.wait_for("up{job=\"conductor\"} == 1");
    // It asks for OpenMetrics, which has a line for the unit.
    prometheus.wait_for("conductor_tcp_duration_seconds{platform=\"port\"} > 0");
    let metadata = prometheus.get("/api/v1/metadata?metric=conductor_tcp_duration_seconds");
    let metadata = metadata.unwrap()["data"]["conductor_tcp_duration_seconds"][0].clone();
    assert_eq!(metadata["unit"], "seconds", "{metadata}");
    prometheus.wait_for("up{job=\"conductor\"} == 1");
    for expression in [
        "health_check_total{platform=\"shop\",status=\"healthy\"} >= 2",
        "conductor_platform_up{platform=\"shop\"} == 1",
        "circuit_breaker_state{platform=\"shop\"} == 0",
    ] {
        prometheus.wait_for(expression);
    }
}

#[test]
fn the_alert_rules_pass_their_tests() {
    if !is_installed("promtool") {
        return;
    }
    let folder = workspace().join("packaging/prometheus");
    for arguments in [
        // Checks the files of rules that it names.
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "conductor.rules.test.yml"],
        ["test", "rules", "conductor-probes.rules.test.yml"],
    ] {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(&folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
    for name in ["conductor", "conductor-probes"] {
        let rules = fs::read_to_string(folder.join(format!("{name}.rules.yml"))).unwrap();
        let tests = fs::read_to_string(folder.join(format!("{name}.rules.test.yml"))).unwrap();
        for alert in rules
            .lines()
            .filter_map(|line| line.split_once("- alert: "))
        {
            let fires = format!("alertname: {}\n        exp_alerts:\n", alert.1);
            assert!(tests.contains(&fires), "no test sees {} fire", alert.1);
        }
    }
}

#[test]
fn every_query_of_the_dashboard_and_every_metric_of_the_rules_is_there() {
    if !is_installed("prometheus") {
        return;
    }
    let host = Setup::new()
        .platform("shop", "fault", "{}")
        .platform("failing", "fault", r#"{ check = { fault = "error" } }"#)
        .platform("crashing", "fault", r#"{ check = { fault = "abort" } }"#)
        .platform("flapping", "fault", r#"{ status = "flap" }"#)
        .platform("disk", "disk", "{ path = \"/\" }")
        .platform("web", "http", "{ url = \"${self.url}/-/healthy\" }")
        .platform("port", "tcp", "{ address = \"${self.address}\" }")
        .bundled("ntp")
        .platform(
            "time",
            "ntp",
            &format!("{{ server = \"{}\" }}", time_server()),
        )
        .bundled("exec")
        .platform(
            "load",
            "exec",
            "{ command = [\"/bin/echo\", \"OK | load=1;4;8\"] }",
        )
        .with("[shard]\nindex = 0\ntotal = 1\n")
        .with("[notify.people]\nwebhook = { url = \"http://127.0.0.1:9/\" }\n")
        .metrics("series = \"lean\"");
    let may_ping = may_ping();
    let host = match may_ping {
        true => {
            host.bundled("icmp")
                .platform("router", "icmp", "{ host = \"127.0.0.1\", count = 1 }")
        }
        false => host,
    };
    let host = host.start();
    let prometheus = Prometheus::beside(&host);
    let dashboard = workspace().join("packaging/grafana/conductor.json");
    let dashboard: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dashboard).unwrap()).unwrap();
    let mut expressions = Vec::new();
    find(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() > 25, "{expressions:#?}");
    let variables = [
        ("$instance", ".*"),
        ("$plugin", ".*"),
        ("$platform", ".*"),
        // A range that needs two scrapes; Grafana's value depends on the width of the panel.
        ("$__rate_interval", "30s"),
    ];
    for (variable, value) in variables {
        for expression in &mut expressions {
            *expression = expression.replace(variable, value);
        }
    }
    let mut used = vec!["disk", "exec", "fault", "http", "ntp", "tcp"];
    used.extend(may_ping.then_some("icmp"));
    let mut others = bundled::ids();
    others.retain(|id| !used.contains(&id.as_str()));
    let of_others: BTreeSet<_> = others.iter().flat_map(|id| declared_metrics(id)).collect();
    for expression in &expressions {
        // No platform of this host has such a metric, so the query has no result.
        let is_absent = |word: &str| word.contains("certificate") || of_others.contains(word);
        if words(expression).any(is_absent) {
            let answer = prometheus.query(expression).unwrap();
            assert_eq!(answer["status"], "success", "{expression}: {answer}");
            continue;
        }
        prometheus.wait_for(expression);
    }
    let rules = ["conductor.rules.yml", "conductor-probes.rules.yml"]
        .map(|file| {
            fs::read_to_string(workspace().join("packaging/prometheus").join(file)).unwrap()
        })
        .concat();
    let text = host.get("/metrics").1;
    let metrics = words(&rules).filter(|word| {
        ["conductor_", "health_check_", "circuit_", "plugin_failure"]
            .iter()
            .any(|start| word.starts_with(start))
    });
    for metric in metrics {
        assert!(
            of_others.contains(metric) || text.contains(&format!("\n{metric}")),
            "{metric} is neither served nor declared by a plugin"
        );
    }
}

/// Returns the names and keywords in a query or a file of rules.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
}

/// Collects the values under `key`, at any depth.
fn find(value: &serde_json::Value, key: &str, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str() {
                    Some(text) if name == key => found.push(text.to_owned()),
                    _ => find(field, key, found),
                }
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                find(item, key, found);
            }
        }
        _ => {}
    }
}

/// A real Prometheus that scrapes a host each second.
pub(crate) struct Prometheus {
    port: u16,
    _folder: tempfile::TempDir,
    _process: Kill,
}

impl Prometheus {
    fn beside(host: &Host) -> Self {
        let target = host.address;
        Self::with(&format!(
            "- job_name: conductor\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{target}']\n"
        ))
    }

    /// Starts it with these scrape configs.
    pub(crate) fn with(scrapes: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, format!("scrape_configs:\n{scrapes}")).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let data = folder.path().join("data");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            port,
            _folder: folder,
            _process: Kill(process),
        }
    }

    /// Queries until the expression has a result.
    #[track_caller]
    pub(crate) fn wait_for(&self, expression: &str) {
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < PATIENCE {
            if let Some(answer) = self.query(expression) {
                assert_eq!(answer["status"], "success", "{expression}: {answer}");
                if answer["data"]["result"]
                    .as_array()
                    .is_some_and(|r| !r.is_empty())
                {
                    return;
                }
                last = answer.to_string();
            }
            thread::sleep(Duration::from_millis(200));
        }
        panic!("Prometheus never had a result for {expression}: {last}");
    }

    /// Returns `None` while it does not respond yet.
    fn query(&self, expression: &str) -> Option<serde_json::Value> {
        let escaped: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        self.get(&format!("/api/v1/query?query={escaped}"))
    }

    /// Returns `None` while it does not respond yet.
    fn get(&self, path: &str) -> Option<serde_json::Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

/// A process that ends with its owner.
pub(crate) struct Kill(pub(crate) Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
