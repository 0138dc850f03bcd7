//! Prometheus of Debian: it scrapes itself and a port without a server, with TLS and a password.

use std::{fs, net::TcpStream, path::Path, process::Command};

use conductor_real_servers::{RealServer, drop_root, free_port, program, wait_for};
use tempfile::TempDir;

use super::*;

/// The hash of the password `test` in the documentation of Prometheus.
const HASH_OF_TEST: &str = "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay";

/// A Prometheus with TLS and a password, which ends when it is dropped.
struct Prometheus {
    _server: RealServer,
    folder: TempDir,
    port: u16,
}

impl Prometheus {
    fn start() -> Option<Self> {
        let prometheus = program("prometheus", "prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        let (port, closed) = (free_port(), free_port());
        write_tls(folder.path());
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
             - job_name: self\n  scheme: https\n  basic_auth: {{username: test, password: test}}\n\
             \x20 tls_config: {{ca_file: ca.pem}}\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n\
             - job_name: gone\n  static_configs: [{{targets: ['127.0.0.1:{closed}']}}]\n"
        );
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let mut command = Command::new(prometheus);
        command
            .args(["--config.file=prometheus.yml", "--web.config.file=web.yml"])
            .args([
                "--storage.tsdb.path=data",
                &format!("--web.listen-address=127.0.0.1:{port}"),
            ])
            .current_dir(&folder);
        drop_root(&mut command, folder.path());
        let server = RealServer::start(command, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self {
            _server: server,
            folder,
            port,
        })
    }

    fn config(&self, keys: Value) -> Value {
        let mut config = json!({
            "url": format!("https://127.0.0.1:{}", self.port),
            "basic_auth": {"username": "test", "password": "test"},
            "tls": {"ca_file": self.folder.path().join("ca.pem")},
        });
        config
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        config
    }

    /// Checks until the report has this status: Prometheus scrapes each second.
    fn until(&self, status: Status, keys: &Value) -> Report {
        let config = self.config(keys.clone());
        wait_for(|| Some(check(&config)).filter(|report| report.status() == status))
    }
}

fn write_tls(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(folder.join("ca.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let web = format!(
        "tls_server_config: {{cert_file: ca.pem, key_file: key.pem}}\nbasic_auth_users: {{test: '{HASH_OF_TEST}'}}\n"
    );
    fs::write(folder.join("web.yml"), web).unwrap();
}

#[test]
fn prometheus_is_asked_over_tls_with_a_password() {
    let Some(prometheus) = Prometheus::start() else {
        return;
    };
    let report = prometheus.until(Status::Healthy, &json!({"targets": {"jobs": ["self"]}}));
    assert_report(&report, Status::Healthy, "1 of 1 targets in 1 jobs are up");
    assert!(report.value(&CERTIFICATE_EXPIRY, []).is_some());
    assert!(report.value(&PHASE, ["tls"]).is_some());

    let both = json!({"query": "up", "value": {"unhealthy_below": 1}, "targets": {}});
    let report = prometheus.until(Status::Unhealthy, &both);
    let gone = "job gone: 1 of 1 targets are down (127.0.0.1:";
    let message = report.message();
    assert!(
        message.contains("job=\"gone\"} is 0 (`value.unhealthy_below` is 1)")
            || message.contains(gone),
        "{message}"
    );
    let ask = |keys: Value| check_within(MINUTE, &prometheus.config(keys));
    let report =
        ask(json!({"query": "scalar(vector(3))", "value": {"degraded_above": 2}})).unwrap();
    assert_report(
        &report,
        Status::Degraded,
        "the scalar is 3 (`value.degraded_above` is 2)",
    );
    let report = ask(json!({"query": "ALERTS", "series": {"unhealthy_above": 0}})).unwrap();
    assert_report(&report, Status::Healthy, "0 series");
    let failure = ask(json!({"query": "sum("})).unwrap_err();
    assert!(
        failure
            .message()
            .contains("the server refuses the query: invalid parameter"),
        "{failure}"
    );
    let failure = ask(json!({"query": "up[1m]"})).unwrap_err();
    assert!(failure.message().contains("a range of values"), "{failure}");
    let report =
        ask(json!({"query": "up", "basic_auth": {"username": "test", "password": "wrong"}}));
    assert_report(&report.unwrap(), Status::Unhealthy, "401 Unauthorized");
}
