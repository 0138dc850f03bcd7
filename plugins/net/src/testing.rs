//! Servers on loopback for the tests of probes: one that responds as told, and those that misbehave.

#[cfg(unix)]
use std::path::Path;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use serde_json::Value;

/// A request that a server received.
#[derive(Clone, Debug, Default)]
pub struct SeenRequest {
    /// The request line and the headers, with their line ends.
    pub head: String,
    /// The body.
    pub body: String,
}

impl SeenRequest {
    /// Returns the method and the path with its query, as in `GET /a?b=c`.
    pub fn line(&self) -> &str {
        let line = self.head.lines().next().unwrap_or_default();
        line.strip_suffix(" HTTP/1.1").unwrap_or(line)
    }

    /// Returns the value of a header, whose name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Reads a request; an empty one if the client hung up.
    fn read(stream: &mut impl Read) -> Self {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut request = Self {
            head,
            body: String::new(),
        };
        let length = request.header("content-length").unwrap_or_default();
        let mut body = vec![0; length.parse().unwrap_or(0)];
        if stream.read_exact(&mut body).is_ok() {
            request.body = String::from_utf8_lossy(&body).into_owned();
        }
        request
    }
}

/// Starts a server that passes each request, and the stream for its response, to `respond`; it lives as long as the
/// process.
///
/// # Panics
/// If there is no free port.
pub fn serve(respond: impl Fn(&SeenRequest, &mut dyn Write) + Send + Sync + 'static) -> SocketAddr {
    listen(move |mut stream| respond(&SeenRequest::read(&mut stream), &mut stream))
}

/// Starts a server at a Unix socket, as [`serve`] does.
///
/// # Panics
/// If the socket cannot be created.
#[cfg(unix)]
pub fn serve_unix(
    path: &Path,
    respond: impl Fn(&SeenRequest, &mut dyn Write) + Send + Sync + 'static,
) {
    let listener = std::os::unix::net::UnixListener::bind(path).expect("a free path");
    let respond = Arc::new(respond);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (respond, mut stream) = (respond.clone(), stream.expect("a connection"));
            thread::spawn(move || respond(&SeenRequest::read(&mut stream), &mut stream));
        }
    });
}

/// Returns a whole response with a body in JSON.
pub fn json(status: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A server of an API that is refusing, slow or lying.
pub struct BadServer {
    /// The way it misbehaves.
    pub name: &'static str,
    /// Its URL.
    pub url: String,
    /// Part of the message of an unhealthy report about it.
    pub message: &'static str,
    /// `true` if a check of it ends with its time.
    pub is_slow: bool,
}

impl BadServer {
    /// Starts all of them.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn all() -> Vec<Self> {
        let fast = |name, message, bytes: &'static [u8]| {
            let address = serve(move |_, stream| drop(stream.write_all(bytes)));
            Self::at(name, address, message, false)
        };
        vec![
            Self::at("refusing", closed_port(), "cannot connect to ", false),
            fast("hanging up", "the connection was closed before the response", b""),
            fast("another protocol", "not valid HTTP", b"SSH-2.0-OpenSSH_9.2\r\n"),
            fast("no JSON", "is not JSON", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
            fast(
                "an error page",
                "502 Bad Gateway",
                b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<p>x",
            ),
            fast(
                "half a response",
                "the body ended after 5 bytes",
                b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"a\":",
            ),
            fast(
                "a redirect",
                "301 Moved Permanently to https://other.example/",
                b"HTTP/1.1 301 Moved\r\nlocation: https://other.example/\r\ncontent-length: 0\r\n\r\n",
            ),
            Self::at("silent", listen(|mut stream| await_end(&mut stream)), "no answer within ", true),
            Self::at("an endless body", endless(BODY, b"\"aaaaaaaaaaaaaa\","), "has more than ", false),
            Self::at("an endless head", endless(b"HTTP/1.1 200 OK\r\n", b"x: aaaaaaaaa\r\n"), "not valid HTTP", false),
            Self::at("drop by drop", drop_by_drop(), "no answer within ", true),
        ]
    }

    fn at(name: &'static str, address: SocketAddr, message: &'static str, is_slow: bool) -> Self {
        Self {
            name,
            url: format!("http://{address}"),
            message,
            is_slow,
        }
    }
}

fn listen(treat: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let treat = Arc::new(treat);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (treat, stream) = (treat.clone(), stream.expect("a connection"));
            thread::spawn(move || treat(stream));
        }
    });
    address
}

/// Returns a port that never has a listener: it is the near end of a connection that stays open.
fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let stream = TcpStream::connect(address).expect("a connection");
    let near = stream.local_addr().expect("a bound port");
    Box::leak(Box::new((stream, listener)));
    near
}

/// Repeats the same bytes as long as the client reads.
fn endless(begin: &'static [u8], repeated: &'static [u8]) -> SocketAddr {
    serve(move |_, stream| {
        let many = repeated.repeat(4096 / repeated.len());
        let mut sent = stream.write_all(begin);
        while sent.is_ok() {
            sent = stream.write_all(&many);
        }
    })
}

/// Sends a body byte by byte as long as the client reads.
fn drop_by_drop() -> SocketAddr {
    serve(|_, stream| {
        let mut sent = stream.write_all(BODY);
        while sent.is_ok() {
            thread::sleep(Duration::from_millis(20));
            sent = stream.write_all(b" ").and_then(|()| stream.flush());
        }
    })
}

fn await_end(stream: &mut impl Read) {
    while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {}
}

const BODY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[";
