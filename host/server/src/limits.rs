//! Limits on clients' use of the server.

use std::time::Duration;

/// Limits on the resources of the server that clients may use.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// The maximum size of the request line and all headers, in bytes; at least 8192.
    pub header_bytes: usize,
    /// The time to send them, counted from the connection or the last response. A TLS handshake may take as long before
    /// that.
    pub header_time: Duration,
    /// The maximum size of a request body, in bytes.
    pub body_bytes: u64,
    /// The time for a request from its header to the last byte of the response.
    pub request_time: Duration,
    /// The time a client may go without reading a response that is ready for it.
    pub write_time: Duration,
    /// The maximum number of unread response bytes in memory, over all connections. Above it, a further rendering has
    /// slow readers closed, or is answered with 503.
    pub response_bytes: usize,
    /// The time a request waits for its turn at serialized work, before it is answered with 503.
    pub turn_time: Duration,
    /// The time a scraper may go without reading while more is ready for it, before its rendering is aborted so that
    /// the next can begin. Less than [`Self::turn_time`], so that one bad scraper does not stop the others.
    pub stall_time: Duration,
    /// The time a client of an event stream may go without reading events that are ready for it.
    pub stream_time: Duration,
    /// The maximum number of event streams: less than [`Self::connections`], so that other clients find room.
    pub streams: usize,
    /// The maximum number of connections. A further one replaces the connection that has been without a request the
    /// longest, so that idle connections lock no client out.
    pub connections: usize,
    /// The time a new connection waits for such a connection when all have requests, before it replaces the oldest.
    pub place_time: Duration,
    /// The time for running requests to end at shutdown.
    pub drain_time: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            header_bytes: 16 << 10,
            header_time: Duration::from_secs(10),
            body_bytes: 64 << 10,
            request_time: Duration::from_secs(30),
            write_time: Duration::from_secs(10),
            response_bytes: 64 << 20,
            turn_time: Duration::from_secs(10),
            stall_time: Duration::from_secs(3),
            stream_time: Duration::from_secs(60),
            streams: 64,
            connections: 256,
            place_time: Duration::from_secs(1),
            drain_time: Duration::from_secs(5),
        }
    }
}
