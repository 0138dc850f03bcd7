//! `/probe` next to a real blackbox_exporter, which must be installed; CI installs it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{PATIENCE, Setup},
    prometheus::{Kill, Prometheus, is_installed},
};

/// The modules of blackbox_exporter's own example, for both.
const MODULES: &str = "modules:\n  http_2xx:\n    prober: http\n    timeout: 2s\n    http:\n      preferred_ip_protocol: ip4\n  tcp_connect:\n    prober: tcp\n    timeout: 2s\n    tcp:\n      preferred_ip_protocol: ip4\n";
const TEMPLATES: &str = "[template.http_2xx]\nplugin = \"http\"\ntimeout = \"2s\"\nconfig = { url = \"{{url}}\" }\n[template.tcp_connect]\nplugin = \"tcp\"\ntimeout = \"2s\"\nconfig = { address = \"{{target}}\" }\n[probe]\ntargets = [\"localhost\", \"127.0.0.0/8\", \"::1\", \"no-such-host.invalid\"]\n";

#[test]
fn both_say_the_same_of_forty_targets() {
    if !is_installed(BLACKBOX) {
        return;
    }
    let host = Setup::new().with(TEMPLATES).start();
    let blackbox = Blackbox::start();
    let targets = targets();
    assert!(targets.len() >= 40, "{}", targets.len());
    let asked: Vec<_> = targets
        .into_iter()
        .map(|(what, module, target)| {
            let path = format!("/probe?target={}&module={module}", escaped(&target));
            let (address, ours) = (host.address, path.clone());
            let ours = thread::spawn(move || success(address, &ours));
            let theirs = success(blackbox.address, &path);
            (what, target, ours.join().unwrap(), theirs)
        })
        .collect();
    let differing: Vec<_> = asked
        .iter()
        .filter(|(.., ours, theirs)| ours != theirs)
        .collect();
    assert!(
        differing.is_empty(),
        "(what, target, ours, theirs): {differing:#?}"
    );
    let up = asked
        .iter()
        .filter(|(.., ours, _)| *ours == Some(true))
        .count();
    assert!(
        (15..asked.len() - 10).contains(&up),
        "{up} of {}",
        asked.len()
    );
}

#[test]
fn a_scrape_config_for_blackbox_exporter_works_with_the_port_changed() {
    if !is_installed("prometheus") {
        return;
    }
    let host = Setup::new().with(TEMPLATES).start();
    let up = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let scrape = format!(
        "- job_name: blackbox\n  metrics_path: /probe\n  scrape_interval: 1s\n  params:\n    module: [http_2xx]\n  static_configs:\n  - targets: ['http://{up}/', 'http://127.0.0.1:1/']\n  relabel_configs:\n  - source_labels: [__address__]\n    target_label: __param_target\n  - source_labels: [__param_target]\n    target_label: instance\n  - target_label: __address__\n    replacement: '{}'\n",
        host.address
    );
    let prometheus = Prometheus::with(&scrape);
    prometheus.wait_for(&format!("probe_success{{instance=\"http://{up}/\"}} == 1"));
    prometheus.wait_for("probe_success{instance=\"http://127.0.0.1:1/\"} == 0");
    prometheus.wait_for("probe_duration_seconds > 0");
    prometheus.wait_for("conductor_http_phase_seconds{phase=\"connect\"}");
}

/// Returns targets with what they are, their module and their name.
fn targets() -> Vec<(String, &'static str, String)> {
    let mut targets = Vec::new();
    let mut http = |what: &str, target: String| {
        targets.push((what.to_owned(), "http_2xx", target));
    };
    for status in [
        "200 OK",
        "201 Created",
        "204 No Content",
        "206 Partial Content",
        "299 Odd",
        "304 Not Modified",
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "405 Not Allowed",
        "418 Teapot",
        "429 Too Many",
        "451 Legal",
        "500 Error",
        "502 Bad Gateway",
        "503 Unavailable",
        "599 Odd",
    ] {
        let body = match &status[..3] {
            "204" | "304" => "",
            _ => "Content-Length: 2\r\n\r\nok",
        };
        let end = if body.is_empty() { "\r\n" } else { "" };
        let server = serve(format!("HTTP/1.1 {status}\r\n{body}{end}").into_bytes());
        http(status, format!("http://{server}/"));
    }
    for (what, response) in [
        (
            "chunked",
            &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"[..],
        ),
        ("close-delimited", b"HTTP/1.1 200 OK\r\n\r\nok"),
        ("HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nok"),
        (
            "an early hint",
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        ("garbage", b"\x16\x03\x01\x02garbage\r\n\r\n"),
        ("an SSH banner", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("nothing", b""),
        // Not half of a header: curl, which our probe follows, opens a head that is cut off there.
        ("half a status line", b"HTTP/1.1 2"),
    ] {
        let server = serve(response.to_vec());
        http(what, format!("http://{server}/"));
    }
    let up = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let redirect = |status: u16, location: &str| {
        let text =
            format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        serve(text.into_bytes())
    };
    for status in [301, 302, 303, 307, 308] {
        let server = redirect(status, &format!("http://{up}/"));
        http("a redirect", format!("http://{server}/{status}"));
    }
    let lost = redirect(302, "http://127.0.0.1:1/");
    http("a redirect to nowhere", format!("http://{lost}/"));
    let round = redirect(302, "/again");
    http("a redirect to itself", format!("http://{round}/"));
    http("a query", format!("http://{up}/a?b=c&d=%20e"));
    http("a name", format!("http://localhost:{}/", up.port()));
    http("an address alone", up.to_string());
    http("TLS where there is none", format!("https://{up}/"));
    http("a closed port", "http://127.0.0.1:1/".to_owned());
    http("an unknown host", "http://no-such-host.invalid/".to_owned());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    http("a silent server", format!("http://{at}/"));
    for (what, target) in [
        ("an open port", up.to_string()),
        ("an open port of a name", format!("localhost:{}", up.port())),
        ("a silent server", at.to_string()),
        ("a closed port", "127.0.0.1:1".to_owned()),
        ("a closed port of IPv6", "[::1]:1".to_owned()),
        ("an unknown host", "no-such-host.invalid:80".to_owned()),
    ] {
        targets.push((what.to_owned(), "tcp_connect", target));
    }
    // Its backlog completes connections as long as it is open.
    std::mem::forget(silent);
    targets
}

/// Serves this response to each request, on a new port.
fn serve(response: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, response) = (stream.unwrap(), response.clone());
            thread::spawn(move || {
                let mut request = [0; 4096];
                if stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                    let _ = stream.write_all(&response);
                }
            });
        }
    });
    address
}

/// Returns what a prober says of a target; `None` if it does not check it.
fn success(prober: SocketAddr, path: &str) -> Option<bool> {
    let text = get(prober, path).unwrap_or_default();
    let line = |wanted: &str| text.lines().any(|line| line == wanted);
    match (line("probe_success 1"), line("probe_success 0")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn escaped(target: &str) -> String {
    target.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// A real blackbox_exporter.
struct Blackbox {
    address: SocketAddr,
    _folder: tempfile::TempDir,
    _process: Kill,
}

impl Blackbox {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("blackbox.yml");
        fs::write(&config, MODULES).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let process = Command::new(BLACKBOX)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while get(address, "/-/healthy").is_err() {
            assert!(
                started.elapsed() < PATIENCE,
                "blackbox_exporter does not start"
            );
            thread::sleep(Duration::from_millis(50));
        }
        Self {
            address,
            _folder: folder,
            _process: Kill(process),
        }
    }
}

const BLACKBOX: &str = "prometheus-blackbox-exporter";
