//! Event streams over a real connection: they outlive the limits of other requests, and block no other client.

use super::*;

const LISTEN: &[u8] = b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[test]
fn a_stream_goes_on_longer_than_a_request_may_take() {
    let host = Host::default();
    let server = host.serve(ServerLimits {
        request_time: Duration::from_millis(300),
        ..ServerLimits::default()
    });
    let mut stream = server.connect();
    stream.write_all(LISTEN).unwrap();
    let mut heard = read_until(&mut stream, "event: host");
    assert!(heard.contains("content-type: text/event-stream"), "{heard}");
    assert!(heard.contains("retry: 2000"), "{heard}");
    // Each poll finds another number of running checks; the third comes a second and more after the first.
    for _ in 0..2 {
        heard = read_until(&mut stream, "event: host");
    }
    assert!(heard.contains("checks_in_flight"), "{heard}");
}

#[test]
fn streams_beyond_the_limit_are_told_so_and_others_are_served() {
    let host = Host::default();
    let server = host.serve(ServerLimits {
        streams: 1,
        connections: 3,
        place_time: Duration::from_secs(60),
        ..ServerLimits::default()
    });
    let mut stream = server.connect();
    stream.write_all(LISTEN).unwrap();
    read_until(&mut stream, "event: host");
    let answer = server.get("/events");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 30"), "{answer}");
    let _idle: Vec<_> = (0..6).map(|_| server.connect()).collect();
    assert!(server.get("/-/healthy").starts_with("HTTP/1.1 200 "));
    read_until(&mut stream, "event: host");
}

#[test]
fn a_stream_that_ends_leaves_its_place_to_another() {
    let host = Host::default();
    let server = host.serve(ServerLimits {
        streams: 1,
        ..ServerLimits::default()
    });
    for _ in 0..3 {
        // The previous stream takes a moment to end.
        let mut answer = String::new();
        for _ in 0..600 {
            let mut stream = server.connect();
            stream.write_all(LISTEN).unwrap();
            answer = read_until(&mut stream, "\r\n\r\n");
            if answer.starts_with("HTTP/1.1 200 ") {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[test]
fn a_client_that_takes_nothing_loses_its_connection() {
    let host = Host::default();
    host.message_bytes.store(16 << 20, Ordering::SeqCst);
    let server = host.serve(ServerLimits {
        stream_time: Duration::from_millis(500),
        ..ServerLimits::default()
    });
    let mut stream = server.connect();
    stream.write_all(LISTEN).unwrap();
    read_until(&mut stream, "event: host");
    // The connection is gone once its unsent bytes no longer count.
    while server.budget().used() > 0 {
        std::thread::yield_now();
    }
    let heard = read_to_end(&mut stream);
    assert!(!heard.ends_with("\r\n0\r\n\r\n"), "it looks whole");
}

#[test]
fn a_shutdown_does_not_wait_for_streams() {
    let host = Host::default();
    let server = host.serve(ServerLimits {
        drain_time: 2 * PATIENCE,
        ..ServerLimits::default()
    });
    let mut stream = server.connect();
    stream.write_all(LISTEN).unwrap();
    read_until(&mut stream, "event: host");
    let clock = conductor_core::clock::Clock::start();
    server.stop();
    server.join();
    assert!(clock.now() < PATIENCE, "it was waited for");
    read_to_end(&mut stream);
}

/// Reads until this text arrives.
pub(super) fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut heard = Vec::new();
    let mut byte = [0];
    while !heard.ends_with(text.as_bytes()) {
        stream.read_exact(&mut byte).unwrap();
        heard.push(byte[0]);
    }
    // Includes the rest of the line.
    while byte[0] != b'\n' {
        stream.read_exact(&mut byte).unwrap();
        heard.push(byte[0]);
    }
    String::from_utf8(heard).unwrap()
}
