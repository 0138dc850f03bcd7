//! Servers of the test's own, and Postfix and Dovecot.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use super::*;

mod config;
#[cfg(unix)]
mod debian;
mod imap;
mod lies;
mod pop3;
mod secrets;
mod smtp;

/// The texts that a server sends, and the starts of the lines that it waits for.
type Script = &'static [(&'static str, &'static str)];

/// A server of one connection after the other, on loopback.
struct Server {
    address: SocketAddr,
    /// The lines that it received, of all connections.
    received: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server that sends each text, and receives a line that starts with the second one before the next. It
    /// closes the connection in the end.
    fn talking(script: Script) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = received.clone();
        let address = listen(move |mut stream| {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for (sent, expected) in script {
                if stream.write_all(sent.as_bytes()).is_err() {
                    return;
                }
                while !expected.is_empty() {
                    let Some(Ok(line)) = lines.next() else {
                        return;
                    };
                    log.lock().unwrap().push(line.clone());
                    if line.starts_with(expected) {
                        break;
                    }
                }
            }
        });
        Self { address, received }
    }

    fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }

    /// Returns a config without encryption, with further keys.
    fn config(&self, protocol: &str, more: Value) -> Value {
        clear(protocol, self.address, more)
    }
}

/// Serves one connection after the other, as long as the test process lives.
fn listen(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
    address
}

fn clear(protocol: &str, address: SocketAddr, more: Value) -> Value {
    let config =
        json!({"protocol": protocol, "address": address.to_string(), "encryption": "none"});
    with(config, more)
}

/// Returns the login of the tests, in clear.
fn login() -> Value {
    json!({"username": "tester", "password": "open-sesame", "allow_clear_login": true})
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
    let host = TestHost::new("mail").timeout(timeout);
    let mut probe = host.create_async::<MailProbe>(&config.to_string()).unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert_legal(&report);
    report
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}
