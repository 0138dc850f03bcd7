//! Real servers on loopback: healthy, faulty, slow, refusing and lying.

mod answers;
mod config;
mod redirects;
mod runtime;
mod tls;
mod unreachable;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use conductor_plugin_api::{Failure, Report, Status, testing::TestHost};
use serde_json::{Value, json};

use crate::HttpProbe;

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
    host.check_async(&mut probe)
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
fn assert_unhealthy(report: &Report, message: &str) {
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

fn value(report: &Report, name: &str) -> Option<f64> {
    let mut all = report.measurements().iter();
    all.find(|(n, _)| n == name).map(|(_, value)| *value)
}

fn names(report: &Report) -> Vec<&str> {
    report
        .measurements()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect()
}
