//! Clients that request much and read nothing: the host's memory stays bounded, and others are served.

use std::{fmt::Write as _, fs, io::Write as _, net::TcpStream};

use crate::harness::{Host, PATIENCE, Setup};

#[test]
fn clients_that_read_nothing_do_not_fill_the_memory() {
    let mut config = String::new();
    for platform in 0..400 {
        writeln!(
            config,
            "[platform.p{platform}]\nplugin = \"fault\"\nconfig = {{}}"
        )
        .unwrap();
        writeln!(config, "[platform.p{platform}.labels]").unwrap();
        for label in 0..20 {
            writeln!(config, "label{label} = \"{}\"", "x".repeat(850)).unwrap();
        }
    }
    let host = Setup::new()
        .host("interval = \"20s\"\nstagger = \"1ms\"\n")
        .with(&config)
        .start();
    host.wait("a first check of all", |m| {
        m.sum("health_check_total", &[]) >= 400.0
    });
    for path in PATHS {
        assert_eq!(host.get(path).0, 200, "{path}");
    }
    let before = peak(&host);
    let mut deaf = Vec::new();
    let rounds = std::iter::repeat_n(LARGE, ROUNDS).flatten();
    for path in ["/metrics", "/api/v1/events"].into_iter().chain(rounds) {
        let mut client = TcpStream::connect(host.address).unwrap();
        write!(client, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        // Concurrent clients share a rendering: each waits for the beginning of its own. If the budget is spent, that
        // is a 503, or the connection is closed.
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = client.peek(&mut [0]);
        deaf.push(client);
    }
    let grown = peak(&host).saturating_sub(before) >> 20;
    assert!(grown < 160, "the host took {grown} MiB more");
    let served = (0..100).any(|_| host.get("/api/v1/status").0 == 200);
    assert!(served, "a client that reads is not served");
}

/// Each causes some 20 MiB of responses, of which the host may buffer 64 MiB.
const ROUNDS: usize = 16;

/// Each is rendered for each single client; `/metrics` is written by one thread, client by client.
const LARGE: [&str; 3] = ["/api/v1/status", "/", "/api/v1/platforms"];

const PATHS: [&str; 4] = ["/api/v1/status", "/", "/metrics", "/api/v1/platforms"];

/// Returns the host's peak memory, in bytes.
fn peak(host: &Host) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", host.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}
