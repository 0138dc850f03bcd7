//! dnsmasq, over UDP and TCP; only where it is installed.

use std::process::Command;

use conductor_real_servers::{RealServer, free_port, program};

use super::*;

/// Starts dnsmasq with records of `shop.example`; `None` if it is not installed.
fn start() -> Option<(RealServer, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new(program("dnsmasq", "dnsmasq-base")?);
    command
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--pid-file",
            "--user",
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            "--local-ttl=120",
            "--host-record=shop.example,192.0.2.1,2001:db8::1",
            "--mx-host=shop.example,mail.example,10",
            "--txt-record=shop.example,hello",
            "--local=/example/",
        ])
        .arg(format!("--port={}", address.port()));
    let is_ready = || patient(&query(address)).status() == Status::Healthy;
    Some((RealServer::start(command, is_ready), address))
}

#[test]
fn dnsmasq_is_checked_over_udp_and_tcp() {
    let Some((_server, address)) = start() else {
        return;
    };
    for protocol in ["udp", "tcp"] {
        let ask = |record_type: &str, pattern: &str| {
            let config = with(query(address), "type", record_type);
            let config = with(config, "protocol", protocol);
            patient(&with(config, "answers", json!([pattern])))
        };
        let report = ask("A", r"^192\.0\.2\.1$");
        assert_healthy(&report, "1 record (192.0.2.1)");
        assert_eq!(report.value(&TTL, [&address.to_string()]), Some(120.0));
        assert_healthy(&ask("AAAA", "^2001:db8::1$"), "1 record");
        assert_healthy(&ask("MX", r"^10 mail\.example\.$"), "1 record");
        assert_healthy(&ask("TXT", "hello"), "1 record");
        let missing =
            json!({"servers": [address.to_string()], "name": "no.example", "protocol": protocol});
        assert_unhealthy(&patient(&missing), "NXDOMAIN, expected NOERROR");
    }
}
