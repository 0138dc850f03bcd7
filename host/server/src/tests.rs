//! A real server on loopback, and clients that write bytes by hand.
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use conductor_engine::{
    actor::ActionOrigin,
    heartbeats::{HeartbeatRefusal, InvalidHeartbeat},
    metrics::HostMetrics,
    state::{CheckNow, OrderError},
};
use conductor_types::{
    requests::{BreakerOrder, Heartbeat, MaintenanceEnd, MaintenanceOrder},
    views::{PlatformDetail, PluginDetail, StatusView, WindowView},
};
use tokio::sync::oneshot;

use super::accepting::{AcceptBackoff, SHORTEST_PAUSE};
use super::*;

mod control;
mod corpus;
mod memory;
mod security;
mod streams;
#[cfg(feature = "prometheus")]
mod targets;

#[test]
fn pages_and_json_are_compressed_for_clients_that_accept_it() {
    let host = Host::default();
    let server = host.serve(ServerLimits::default());
    let ask = |path: &str, accept: &str| {
        let mut stream = server.connect();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{accept}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let body = answer.split_off(end.unwrap() + 4);
        (String::from_utf8(answer).unwrap(), body)
    };
    for path in ["/", "/platforms/shop", "/assets/page.js", "/api/v1/status"] {
        let (head, plain) = ask(path, "");
        assert!(!head.contains("content-encoding"), "{head}");
        assert!(head.contains("vary: accept-encoding"), "{head}");
        let (head, zipped) = ask(path, "accept-encoding: gzip, br\r\n");
        assert!(head.contains("content-encoding: gzip"), "{path}: {head}");
        assert!(head.contains("vary: accept-encoding"), "{head}");
        assert!(
            plain.len() < 1000 || zipped.len() * 3 < plain.len() * 2,
            "{path}: {} of {} bytes",
            zipped.len(),
            plain.len()
        );
        let zipped = unchunked(&zipped);
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&*zipped)
            .read_to_end(&mut text)
            .unwrap();
        // The others contain the time.
        if path.starts_with("/assets") {
            assert_eq!(text, plain, "{path}");
        }
    }
    let (head, _) = ask("/api/v1/status", "accept-encoding: gzip;q=0\r\n");
    assert!(!head.contains("content-encoding"), "{head}");
    let (head, _) = ask("/metrics", "accept-encoding: gzip\r\n");
    assert_eq!(head.matches("content-encoding: gzip").count(), 1, "{head}");
}

/// Decodes a chunked body.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = std::str::from_utf8(&body[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 4 + length..];
    }
}

#[test]
fn each_route_answers() {
    let host = Host::default();
    let server = host.serve(ServerLimits::default());
    for (path, status, content_type, text) in [
        ("/", 200, "text/html", "The config has no platforms"),
        ("/-/", 200, "text/plain", "/api/v1/status"),
        ("/platforms/shop", 200, "text/html", "<h1>shop</h1>"),
        (
            "/platforms/nobody",
            404,
            "text/html",
            "No platform is named nobody",
        ),
        ("/assets/page.css", 200, "text/css", ":root"),
        ("/assets/page.js", 200, "text/javascript", "EventSource"),
        ("/assets/icon.svg", 200, "image/svg+xml", "<svg"),
        (
            "/api/v1/platforms/shop/badge.svg",
            200,
            "image/svg+xml",
            "shop: healthy",
        ),
        (
            "/api/v1/platforms/nobody/badge.svg",
            404,
            "text/plain",
            "No platform is named nobody",
        ),
        ("/api/v1/openapi.json", 200, "application/json", "\"3.1.0\""),
        ("/-/healthy", 200, "text/plain", "Conductor is healthy."),
        ("/-/ready", 503, "text/plain", "not ready"),
        (
            "/api/v1/status",
            200,
            "application/json",
            "\"platforms\":[]",
        ),
        ("/api/v1/platforms", 200, "application/json", "[]"),
        (
            "/api/v1/platforms/shop",
            200,
            "application/json",
            "\"history\":[{\"ended\":2.0",
        ),
        (
            "/api/v1/platforms/nobody",
            404,
            "text/plain",
            "No platform is named nobody",
        ),
        ("/api/v1/plugins", 200, "application/json", "[]"),
        ("/nothing", 404, "text/plain", "/-/healthy"),
    ] {
        let answer = server.get(path);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(
            answer.contains(&format!("content-type: {content_type}")),
            "{answer}"
        );
        assert!(answer.contains(text), "{answer}");
        let head = server.ask(&format!(
            "HEAD {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        ));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "a body after HEAD: {head}");
    }
    host.ready.store(true, Ordering::SeqCst);
    assert!(server.get("/-/ready").starts_with("HTTP/1.1 200 "));
}

#[test]
fn another_method_is_refused_with_the_ones_there_are() {
    let server = Host::default().serve(ServerLimits::default());
    let answer =
        server.ask("DELETE /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: GET,HEAD"), "{answer}");
    assert!(answer.contains("use GET or HEAD"), "{answer}");
}

#[test]
#[cfg(feature = "prometheus")]
fn a_scrape_is_whole_and_counted_and_a_look_at_its_head_is_not() {
    let host = Host::default();
    let _platform = host.metrics.platform("a", "p");
    let server = host.serve(ServerLimits::default());
    let head = server.ask("HEAD /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let content_type = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(head.contains(content_type), "{head}");
    assert_eq!(host.scrapes(), 0);
    let answer = server.get("/metrics");
    assert!(answer.contains(content_type), "{answer}");
    assert!(answer.contains("\ncircuit_breaker_state{platform=\"a\",plugin=\"p\"} 0\n"));
    assert!(
        answer.ends_with("\r\n0\r\n\r\n"),
        "the last chunk is missing: {answer}"
    );
    assert_eq!(host.scrapes(), 1);
}

#[test]
#[cfg(not(feature = "prometheus"))]
fn without_the_feature_metrics_says_where_they_are() {
    let host = Host::default();
    let server = host.serve(ServerLimits::default());
    let answer = server.get("/metrics");
    assert_eq!(host.scrapes(), 0);
    assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
    assert!(
        answer.contains("its metrics are written to the log"),
        "{answer}"
    );
}

#[test]
#[cfg(feature = "prometheus")]
fn scrapes_at_the_same_time_are_all_answered_in_full() {
    let host = Host::default();
    for platform in 0..200 {
        let _platform = host.metrics.platform(&format!("p{platform}"), "p");
    }
    let server = host.serve(ServerLimits::default());
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let answer = server.ask("GET /metrics HTTP/1.0\r\n\r\n");
                assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
                assert_eq!(answer.matches("\nconductor_stuck_calls{").count(), 1);
                assert_eq!(answer.matches("\ncircuit_breaker_state{").count(), 200);
            });
        }
    });
    assert_eq!(host.scrapes(), 16);
}

#[test]
#[cfg(feature = "prometheus")]
fn a_scraper_that_does_not_read_is_dropped_and_the_next_one_served() {
    let host = Host::default();
    for platform in 0..5_000 {
        let _platform = host.metrics.platform(&format!("p{platform}"), "p");
    }
    let server = host.serve(ServerLimits {
        stall_time: Duration::from_millis(200),
        turn_time: PATIENCE,
        request_time: PATIENCE,
        ..ServerLimits::default()
    });
    let mut deaf = server.connect();
    deaf.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    // The first bytes show that the rendering is in progress.
    deaf.read_exact(&mut [0; 100]).unwrap();
    let answer = server.get("/metrics");
    assert!(
        answer.ends_with("\r\n0\r\n\r\n"),
        "the last chunk is missing"
    );
    assert_eq!(host.scrapes(), 1, "the text is too short for this test");
    let rest = read_to_end(&mut deaf);
    assert!(
        !rest.ends_with("\r\n0\r\n\r\n"),
        "a broken rendering looks whole"
    );
}

#[test]
fn a_client_that_sends_half_a_header_is_dropped() {
    let server = Host::default().serve(ServerLimits {
        header_time: Duration::from_millis(200),
        ..ServerLimits::default()
    });
    // Less than the 30 s after which the HTTP library would drop it unasked.
    let soon = Some(Duration::from_secs(15));
    for start in ["", "GET /-/healthy HTTP/1.1\r\nhost:"] {
        let mut slow = server.connect();
        slow.set_read_timeout(soon).unwrap();
        slow.write_all(start.as_bytes()).unwrap();
        let answer = read_to_end(&mut slow);
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    let mut kept = server.connect();
    kept.set_read_timeout(soon).unwrap();
    kept.write_all(b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let answer = read_to_end(&mut kept);
    assert!(answer.contains("Conductor is healthy."), "{answer}");
}

#[test]
#[cfg(unix)]
fn a_thousand_idle_connections_lock_nobody_out() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();

    let server = Host::default().serve(ServerLimits {
        header_time: 2 * PATIENCE,
        ..ServerLimits::default()
    });
    let mut idle: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    assert!(server.get("/-/healthy").starts_with("HTTP/1.1 200 "));
    for gone in &mut idle[..700] {
        assert_eq!(read_to_end(gone), "");
    }
    let last = idle.last_mut().unwrap();
    last.write_all(b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    assert!(read_to_end(last).contains("Conductor is healthy."));
}

#[test]
fn idle_connections_do_not_push_out_one_that_has_a_request() {
    let host = Host::default();
    let server = host.serve(ServerLimits {
        connections: 4,
        place_time: Duration::from_secs(60),
        ..ServerLimits::default()
    });
    let held = host.hold_statuses();
    let mut waiting = server.connect();
    waiting.write_all(STATUS).unwrap();
    held.wait_for_one();
    let _idle: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    assert!(server.get("/-/healthy").starts_with("HTTP/1.1 200 "));
    held.release();
    assert!(read_to_end(&mut waiting).contains("\"platforms\":[]"));
}

#[test]
fn requests_that_take_all_connections_lock_nobody_out_for_long() {
    let host = Host::default();
    let server = host.serve(ServerLimits {
        connections: 1,
        place_time: Duration::from_millis(100),
        request_time: 2 * PATIENCE,
        ..ServerLimits::default()
    });
    let held = host.hold_statuses();
    let mut oldest = server.connect();
    oldest.write_all(STATUS).unwrap();
    held.wait_for_one();
    assert!(server.get("/-/healthy").starts_with("HTTP/1.1 200 "));
    assert_eq!(read_to_end(&mut oldest), "");
}

#[test]
fn a_header_that_is_too_large_is_refused() {
    let server = Host::default().serve(ServerLimits::default());
    let large = "x".repeat(20_000);
    let answer = server.ask(&format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: {large}\r\n\r\n"
    ));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let fits = "x".repeat(12_000);
    let answer = server.ask(&format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: {fits}\r\n\r\n"
    ));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_large_body_is_refused_and_the_connection_closed() {
    let server = Host::default().serve(ServerLimits::default());
    let answer = server.ask("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 65537\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("at most 65536 bytes"), "{answer}");
    let answer = server.ask(
        "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
    );
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[test]
fn rubbish_after_a_request_is_refused_and_the_connection_closed() {
    let server = Host::default().serve(ServerLimits::default());
    let answer =
        server.ask("GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n\0\u{1}rubbish\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn a_request_whose_turn_does_not_come_is_told_so() {
    let host = Host::default();
    let server = host.serve(ServerLimits {
        turn_time: Duration::from_millis(50),
        ..ServerLimits::default()
    });
    let held = host.hold_statuses();
    let mut first = server.connect();
    first.write_all(STATUS).unwrap();
    held.wait_for_one();
    assert!(server.get("/api/v1/status").starts_with("HTTP/1.1 503 "));
    held.release();
    assert!(read_to_end(&mut first).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_request_that_takes_too_long_loses_its_connection() {
    let host = Host::default();
    let server = host.serve(ServerLimits {
        request_time: Duration::from_millis(200),
        ..ServerLimits::default()
    });
    let held = host.hold_statuses();
    let mut stuck = server.connect();
    stuck.write_all(STATUS).unwrap();
    held.wait_for_one();
    assert_eq!(read_to_end(&mut stuck), "");
    assert!(server.get("/-/healthy").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_status_that_panics_is_an_error_and_not_the_end() {
    let host = Host::default();
    host.panics.store(true, Ordering::SeqCst);
    let server = host.serve(ServerLimits::default());
    for _ in 0..2 {
        let answer = server.get("/api/v1/status");
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains("see the host's log"), "{answer}");
    }
}

#[test]
fn a_shutdown_lets_a_running_request_end_and_takes_no_other() {
    let host = Host::default();
    let server = host.serve(ServerLimits {
        drain_time: PATIENCE,
        header_time: 2 * PATIENCE,
        ..ServerLimits::default()
    });
    let held = host.hold_statuses();
    let mut running = server.connect();
    running.write_all(STATUS).unwrap();
    held.wait_for_one();
    let mut idle = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET /-/hea").unwrap();
    // By then the server has almost certainly read the half.
    for _ in 0..5 {
        server.get("/-/healthy");
    }
    server.stop();
    for without_request in [&mut idle, &mut half] {
        assert_eq!(
            read_to_end(without_request),
            "",
            "it is closed while the request runs"
        );
    }
    assert!(TcpStream::connect(server.address).is_err());
    held.release();
    assert!(read_to_end(&mut running).contains("\"platforms\":[]"));
    server.join();
}

#[test]
fn a_shutdown_does_not_wait_for_a_request_that_hangs() {
    let host = Host::default();
    let server = host.serve(ServerLimits {
        drain_time: Duration::from_millis(100),
        request_time: 2 * PATIENCE,
        ..ServerLimits::default()
    });
    let held = host.hold_statuses();
    let mut stuck = server.connect();
    stuck.write_all(STATUS).unwrap();
    held.wait_for_one();
    server.stop();
    server.join();
    assert_eq!(read_to_end(&mut stuck), "");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let server = Host::default().serve(ServerLimits::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime
        .block_on(HttpServer::bind(server.address))
        .err()
        .unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(
        error.to_string().contains(&server.address.to_string()),
        "{error}"
    );
}

#[test]
fn errors_of_accept_are_not_retried_in_a_tight_loop() {
    let no_files = || io::Error::from_raw_os_error(24);
    let mut pauses = AcceptBackoff::default();
    let ms: Vec<u128> = (0..9)
        .map(|_| pauses.after(&no_files()).unwrap().as_millis())
        .collect();
    assert_eq!(ms, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    pauses.accepted();
    assert_eq!(pauses.after(&no_files()), Some(SHORTEST_PAUSE));
    let gone = io::ErrorKind::ConnectionAborted.into();
    assert_eq!(pauses.after(&gone), None);
}

const STATUS: &[u8] =
    b"GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// The server's sources in these tests, and controls for them.
#[derive(Clone, Default)]
struct Host {
    metrics: HostMetrics,
    ready: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    scrapes: Arc<AtomicUsize>,
    looks: Arc<AtomicUsize>,
    /// The message length of a platform that the status contains unless this is 0.
    message_bytes: Arc<AtomicUsize>,
    gate: Arc<Gate>,
    security: ServerSecurity,
}

/// Delays statuses while it is closed.
#[derive(Default)]
struct Gate {
    closed: Mutex<Option<mpsc::Sender<()>>>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut closed = self.closed.lock().unwrap();
        if let Some(arrived) = &*closed {
            arrived.send(()).unwrap();
        }
        while closed.is_some() {
            closed = self.opened.wait(closed).unwrap();
        }
    }
}

/// A closed gate; opens when dropped, so that a failing test ends.
struct Held {
    gate: Arc<Gate>,
    arrivals: mpsc::Receiver<()>,
}

impl Held {
    fn wait_for_one(&self) {
        self.arrivals.recv_timeout(PATIENCE).unwrap();
    }

    fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.gate.closed.lock().unwrap() = None;
        self.gate.opened.notify_all();
    }
}

impl StatusSource for Host {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    fn status(&self) -> StatusView {
        self.gate.pass();
        assert!(!self.panics.load(Ordering::SeqCst), "asked to panic");
        let mut status: StatusView = serde_json::from_str(EMPTY).unwrap();
        status.host.checks_in_flight = self.looks.fetch_add(1, Ordering::SeqCst);
        let message_bytes = self.message_bytes.load(Ordering::SeqCst);
        if message_bytes > 0 {
            let mut platform = self.platform("shop").unwrap().platform;
            platform.message = "x".repeat(message_bytes);
            status.platforms.push(platform);
        }
        status
    }

    fn plugins(&self) -> Vec<PluginDetail> {
        Vec::new()
    }

    fn overview(&self) -> StatusView {
        self.status()
    }

    fn platform(&self, name: &str) -> Option<PlatformDetail> {
        (name == "shop").then(|| serde_json::from_str(PLATFORM).unwrap())
    }

    fn maintenance(&self) -> Vec<WindowView> {
        Vec::new()
    }
}

impl HeartbeatReceiver for Host {
    fn admit(&self, platform: &str, token: &str) -> Result<(), HeartbeatRefusal> {
        match (platform, token) {
            ("busy", _) => Err(HeartbeatRefusal::TooMany),
            ("backup", "right") => Ok(()),
            ("backup", _) => Err(HeartbeatRefusal::WrongToken),
            _ => Err(HeartbeatRefusal::Unknown),
        }
    }

    fn receive(&self, _: &str, heartbeat: Heartbeat) -> Result<(), InvalidHeartbeat> {
        match heartbeat.start && heartbeat.exit_code.is_some() {
            true => Err(InvalidHeartbeat::StartWithResult),
            false => Ok(()),
        }
    }
}

impl TargetProber for Host {
    fn check(&self, request: &TargetRequest) -> Result<CheckedTarget, TargetRefusal> {
        self.gate.pass();
        match request.module.as_str() {
            "http_2xx" => Ok(CheckedTarget {
                outcome: TargetOutcome::NoResult(request.patience),
                now: Duration::ZERO,
            }),
            _ => Err(TargetRefusal::Unknown(
                "the modules are http_2xx".to_owned(),
            )),
        }
    }
}

impl Host {
    fn scrapes(&self) -> usize {
        self.scrapes.load(Ordering::SeqCst)
    }

    fn hold_statuses(&self) -> Held {
        let (sender, arrivals) = mpsc::channel();
        *self.gate.closed.lock().unwrap() = Some(sender);
        Held {
            gate: self.gate.clone(),
            arrivals,
        }
    }

    fn state(&self) -> ServerState {
        let scraped = self.clone();
        ServerState {
            metrics: self.metrics.clone(),
            source: Arc::new(self.clone()),
            scraped: Arc::new(move || {
                scraped.scrapes.fetch_add(1, Ordering::SeqCst);
            }),
            past: Arc::new(NoPast),
            targets: Arc::new(self.clone()),
            heartbeats: Arc::new(self.clone()),
            control: None,
        }
    }

    fn serve(&self, limits: ServerLimits) -> Running {
        self.serve_with(limits, |_| {})
    }

    fn serve_with(&self, limits: ServerLimits, change: impl FnOnce(&mut ServerState)) -> Running {
        let mut state = self.state();
        change(&mut state);
        let security = self.security.clone();
        let (started_sender, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = HttpServer::bind("127.0.0.1:0".parse().unwrap())
                    .await
                    .unwrap();
                let connections = OpenConnections::default();
                let budget = MemoryBudget::new(limits.response_bytes, connections.readers());
                let address = server.local_addr().unwrap();
                started_sender.send((address, budget.clone())).unwrap();
                let shutdown = async {
                    let _ = stopped.await;
                };
                let server = server.with_limits(limits).with_security(security);
                server
                    .serve_within(state, shutdown, connections, budget)
                    .await;
            });
            runtime.shutdown_background();
        });
        let (address, budget) = started.recv_timeout(PATIENCE).unwrap();
        Running {
            address,
            budget,
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
        }
    }
}

/// A running server; shut down when dropped.
struct Running {
    address: SocketAddr,
    budget: MemoryBudget,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Returns the whole response to a request that ends with its connection.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_to_end(&mut stream)
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        ))
    }

    fn stop(&self) {
        self.stop.lock().unwrap().take();
    }

    fn join(&self) {
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Reads until the server closes the connection, possibly with a reset.
fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host without platforms.
const EMPTY: &str = r#"{
    "host": { "version": "1.2.3", "started": 1.0, "mode": "normal", "checks_in_flight": 0 },
    "platforms": [], "plugins": [], "refused": []
}"#;
const PLATFORM: &str = r#"{
    "name": "shop", "plugin": "http", "status": "healthy", "message": "200 OK", "interval": 5.0, "timeout": 4.0,
    "priority": "normal", "breaker": { "state": "closed", "forced": false }, "labels": {}, "measurements": {},
    "history": [{ "ended": 2.0, "duration": 0.5, "status": "healthy" }], "log": []
}"#;
