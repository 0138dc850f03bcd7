//! Limits of what clients may take of the server.

use std::time::Duration;

/// How much a client may ask of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest request line with all headers, in bytes; at least 8192.
    pub header_bytes: usize,
    /// How long a client may take to send them, counted from the connection or the last response. A TLS handshake may
    /// take as long before that.
    pub header_time: Duration,
    /// The longest body of a request, in bytes.
    pub body_bytes: u64,
    /// How long a request may take from its header to the last byte of the response.
    pub request_time: Duration,
    /// How long a client may take nothing of a response that is ready for it.
    pub write_time: Duration,
    /// How many bytes of responses may be in memory because clients have not read them, over all connections. A further
    /// rendering has slow readers closed, or is answered with 503.
    pub response_bytes: usize,
    /// How long a request waits for its turn at what is made one at a time, before it is answered with 503.
    pub turn_time: Duration,
    /// How long a scraper may take nothing while more is ready for it, before its rendering is given up so that
    /// the next can begin. Less than [`Self::turn_time`], so that one bad scraper does not stop the others.
    pub stall_time: Duration,
    /// How long a client of a stream of events may take nothing although there is something for it.
    pub stream_time: Duration,
    /// How many streams of events there may be: less than [`Self::connections`], so that others find a place.
    pub streams: usize,
    /// How many connections there may be. A further one takes the place of the one that has been without a
    /// request the longest, so that idle connections lock nobody out.
    pub connections: usize,
    /// How long a new connection waits for such a place when all have requests, before it takes the oldest's.
    pub place_time: Duration,
    /// How long running requests may take to end at shutdown.
    pub drain_time: Duration,
}

impl Default for Limits {
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
