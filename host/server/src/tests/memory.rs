//! Clients that send requests and do not read: their cost, and their effect on other clients.

use super::*;

const MIB: usize = 1 << 20;

#[test]
fn requests_that_wait_for_the_same_text_share_one_rendering() {
    let host = Host::default();
    let server = host.serve(ServerLimits::default());
    let held = host.hold_statuses();
    let mut first = server.connect();
    first.write_all(STATUS).unwrap();
    held.wait_for_one();
    let mut waiting: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.write_all(STATUS).unwrap();
    }
    // By then the server has almost certainly read their requests.
    for _ in 0..5 {
        server.get("/-/healthy");
    }
    held.release();
    assert!(read_to_end(&mut first).contains("\"checks_in_flight\":0"));
    for client in &mut waiting {
        let answer = read_to_end(client);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            !answer.contains("\"checks_in_flight\":0"),
            "a text from before the request"
        );
    }
    let looks = host.looks.load(Ordering::SeqCst);
    assert!(looks <= 4, "{looks} renderings for 21 requests");
}

#[test]
fn clients_that_read_nothing_neither_fill_the_memory_nor_lock_others_out() {
    let host = Host::default();
    host.message_bytes.store(4 * MIB, Ordering::SeqCst);
    let limits = ServerLimits {
        response_bytes: 16 * MIB,
        ..ServerLimits::default()
    };
    let server = host.serve(limits);
    let paths = ["/api/v1/status", "/api/v1/platforms", "/", "/?q=x"];
    let mut deaf = Vec::new();
    for round in 0..40 {
        let mut client = server.connect();
        let path = paths[round % paths.len()];
        write!(client, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        // The first byte shows that the rendering is in progress or refused.
        let _ = client.read(&mut [0]);
        deaf.push(client);
        let used = server.budget().used();
        // One rendering may be made while the budget is nearly spent.
        let most = limits.response_bytes + 8 * MIB;
        assert!(used <= most, "{used} bytes in memory");
    }
    let mut answer = String::new();
    for _ in 0..100 {
        answer = server.get("/api/v1/status");
        if answer.starts_with("HTTP/1.1 200 ") {
            break;
        }
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("retry-after: 1"), "{answer}");
    }
    assert!(answer.ends_with('}'), "it was not served in full");
    drop(deaf);
    while server.budget().used() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_stops_reading_loses_its_connection_long_before_the_request_ends() {
    let host = Host::default();
    host.message_bytes.store(16 * MIB, Ordering::SeqCst);
    let server = host.serve(ServerLimits {
        write_time: Duration::from_millis(300),
        request_time: 2 * PATIENCE,
        ..ServerLimits::default()
    });
    let mut deaf = server.connect();
    deaf.write_all(STATUS).unwrap();
    deaf.read_exact(&mut [0; 100]).unwrap();
    while server.budget().used() > 0 {
        std::thread::yield_now();
    }
    assert!(
        !read_to_end(&mut deaf).ends_with('}'),
        "it was sent in full"
    );
}

#[test]
fn streams_that_are_not_read_share_what_they_are_told() {
    let host = Host::default();
    host.message_bytes.store(4 * MIB, Ordering::SeqCst);
    let limits = ServerLimits {
        response_bytes: 8 * MIB,
        ..ServerLimits::default()
    };
    let server = host.serve(limits);
    let mut deaf = Vec::new();
    for _ in 0..5 {
        let mut stream = server.connect();
        stream
            .write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        deaf.push(stream);
        // Each gets a separate poll.
        let looks = host.looks.load(Ordering::SeqCst);
        while host.looks.load(Ordering::SeqCst) == looks {
            std::thread::yield_now();
        }
        let used = server.budget().used();
        let most = limits.response_bytes + 5 * MIB;
        assert!(used <= most, "{used} bytes in memory");
    }
    assert!(server.get("/-/healthy").starts_with("HTTP/1.1 200 "));
}
