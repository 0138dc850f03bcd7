//! Servers of the test's own, and OpenSSH's.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use super::*;

mod algorithms;
mod config;
mod lies;
#[cfg(unix)]
mod openssh;
mod server;

/// Serves each connection on a thread of its own, as long as the test process lives.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (serve, stream) = (serve.clone(), stream.unwrap());
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn at(address: SocketAddr, more: Value) -> Value {
    with(json!({"address": address.to_string()}), more)
}

fn with(mut config: Value, more: Value) -> Value {
    let keys = config.as_object_mut().unwrap();
    keys.extend(more.as_object().unwrap().clone());
    config
}

fn check(config: &Value) -> Report {
    check_within(Duration::from_secs(60), config)
}

fn check_within(timeout: Duration, config: &Value) -> Report {
    let report = try_check(timeout, config).unwrap();
    assert_legal(&report);
    report
}

fn try_check(timeout: Duration, config: &Value) -> Result<Report, Failure> {
    let host = TestHost::new("bastion").timeout(timeout);
    let mut probe = host.create_async::<SshProbe>(&config.to_string()).unwrap();
    host.check_async(&mut probe)
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}
