//! Real servers on loopback: healthy, faulty, slow, refusing and lying.

mod answers;
mod authentication;
#[cfg(target_os = "linux")]
mod behaviours;
mod conditions;
mod config;
mod http2;
mod proxies;
mod redirects;
mod runtime;
mod tls;
mod tls_keys;
mod unreachable;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use conductor_plugin_api::{
    Failure, Metric, Report, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use crate::{HttpProbe, metrics, progress::CheckPhase};

const MINUTE: Duration = Duration::from_secs(60);

/// Starts a server that runs `treat` for each connection, on a separate thread; it lives as long as the test process.
fn listen(treat: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let treat = Arc::new(treat);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (treat, stream) = (treat.clone(), stream.unwrap());
            thread::spawn(move || treat(stream));
        }
    });
    address
}

/// Starts a server that passes the head of each request, and a stream for the response, to `answer`.
fn serve(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> SocketAddr {
    listen(move |mut stream| {
        let head = read_head(&mut stream);
        answer(&head, &mut stream);
    })
}

/// Starts a server that always sends the same response and closes the connection.
fn answering(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    serve(move |_, stream| stream.write_all(&bytes).unwrap())
}

/// Reads the head of a request; empty if the client hung up before.
fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Keeps the connection open until the client closes it.
fn keep_silent(stream: &mut impl Read) {
    while stream.read(&mut [0; 64]).unwrap_or(0) > 0 {}
}

fn check(timeout: Duration, config: &Value) -> Result<Report, Failure> {
    let host = TestHost::new("shop").timeout(timeout);
    let mut probe = host.create_async::<HttpProbe>(&config.to_string()).unwrap();
    let result = host.check_async(&mut probe);
    if let Ok(report) = &result {
        assert_legal(report);
    }
    result
}

/// Checks with a long timeout, for servers that respond at once.
fn patient(config: &Value) -> Report {
    check(MINUTE, config).unwrap()
}

/// Checks with a short timeout, for servers that do not.
fn impatient(config: &Value) -> Report {
    check(Duration::from_millis(300), config).unwrap()
}

fn get(address: SocketAddr) -> Value {
    json!({"url": format!("http://{address}/")})
}

#[track_caller]
fn assert_healthy(report: &Report) {
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
}

#[track_caller]
fn assert_degraded(report: &Report, message: &str) {
    assert_eq!(report.status(), Status::Degraded, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

#[track_caller]
fn assert_unhealthy(report: &Report, message: &str) {
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

/// Returns the labels of the phases that a report has.
fn phases(report: &Report) -> Vec<&'static str> {
    let all = CheckPhase::ALL.into_iter().map(CheckPhase::label);
    all.filter(|label| report.value(&metrics::PHASE, [label]).is_some())
        .collect()
}

fn phase(report: &Report, label: &str) -> f64 {
    report.value(&metrics::PHASE, [label]).unwrap()
}

fn value(report: &Report, metric: &Metric) -> Option<f64> {
    report.value(metric, [])
}
