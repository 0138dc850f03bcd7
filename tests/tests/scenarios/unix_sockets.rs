//! Servers on Unix sockets, which a worker may use if its plugin declares them and the operator leaves them.

use std::{io::Write as _, os::unix::net::UnixListener, thread};

use crate::harness::Setup;

/// Returns a setup with a platform `cache`, whose server on a Unix socket greets each client.
fn setup() -> Setup {
    let setup = Setup::new();
    let path = setup.path("cache.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"ready\n");
        }
    });
    let config = format!(
        r#"{{ address = "unix:{}", expect = "ready" }}"#,
        path.display()
    );
    setup.platform("cache", "tcp", &config)
}

#[test]
fn a_server_on_a_unix_socket_is_checked_in_a_worker() {
    let host = setup().start();
    host.wait("a healthy check", |m| m.checks("cache", "healthy") > 0.0);
}

#[test]
fn an_operator_can_take_unix_sockets_away() {
    let host = setup().with("[plugin.tcp]\nallow = [\"network\"]").start();
    host.wait("a failure", |m| m.failures("cache", "error") > 0.0);
    let (_, platform) = host.get("/api/v1/platforms/cache");
    assert!(platform.contains("must list `unix-sockets`"), "{platform}");
}
