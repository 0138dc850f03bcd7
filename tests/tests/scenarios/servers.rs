//! Servers that the bundled probes can check, each on loopback and on a thread of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Read, Write as _},
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    thread,
    time::UNIX_EPOCH,
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer,
};

/// Returns `true` if this process may ping: the group of its user is in the range of the system.
pub(crate) fn may_ping() -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let range = read("/proc/sys/net/ipv4/ping_group_range");
    let status = read("/proc/self/status");
    // Real, effective, saved and file system group.
    let groups = status.lines().find_map(|line| line.strip_prefix("Gid:"));
    let number = |text: &str, nth| text.split_whitespace().nth(nth)?.parse::<u32>().ok();
    match (number(&range, 0), number(&range, 1), groups) {
        (Some(least), Some(most), Some(groups)) => {
            number(groups, 1).is_some_and(|group| (least..=most).contains(&group))
        }
        _ => false,
    }
}

/// Returns a listener and a socket on the same port.
pub(crate) fn tcp_and_udp() -> (TcpListener, UdpSocket) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        match UdpSocket::bind(listener.local_addr().unwrap()) {
            Ok(socket) => return (listener, socket),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
        }
    }
}

/// Starts a web server that responds to every request with 200.
pub(crate) fn web_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                );
            });
        }
    });
    address
}

/// Starts a name server that returns the address 192.0.2.1 for each query.
pub(crate) fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((size, client)) = socket.recv_from(&mut query) {
            if let Some(response) = with_address(&query[..size]) {
                let _ = socket.send_to(&response, client);
            }
        }
    });
    address
}

/// Returns the response to a query for one name; `None` if it is not such a query.
fn with_address(query: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let name = query.get(HEADER..)?.iter().position(|byte| *byte == 0)?;
    let question = query.get(HEADER..HEADER + name + 5)?;
    let id = query.get(..2)?;
    // A response without an error: one question, one answer.
    let head = [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    // The name of the question, type A, class IN, 60 seconds, 4 bytes.
    let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
    Some([id, &head, question, &answer].concat())
}

/// Starts a time server of stratum 1 with the clock of this machine.
pub(crate) fn time_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut packet = [0; 48];
        while let Ok((48, client)) = socket.recv_from(&mut packet) {
            const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
            let now = UNIX_EPOCH.elapsed().unwrap();
            let seconds = (now.as_secs() + SECONDS_1900_TO_1970) & 0xffff_ffff;
            let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
            let time = (seconds << 32 | fraction).to_be_bytes();
            // A server of version 4, stratum 1.
            packet[..2].copy_from_slice(&[4 << 3 | 4, 1]);
            packet.copy_within(40..48, 24);
            packet[32..40].copy_from_slice(&time);
            packet[40..48].copy_from_slice(&time);
            let _ = socket.send_to(&packet, client);
        }
    });
    address
}

/// Starts a server that shakes hands, with a self-signed certificate that is valid until 2040.
pub(crate) fn tls_server() -> SocketAddr {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2040, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            // Until the client hangs up.
            let _ = StreamOwned::new(connection, stream).read(&mut [0]);
        }
    });
    address
}

/// Starts an SMTP server without TLS that refuses nothing.
pub(crate) fn mail_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut sent = stream.write_all(b"220 mx.example\r\n");
            for _ in lines.map_while(Result::ok) {
                sent = sent.and_then(|()| stream.write_all(b"250 mx.example\r\n"));
            }
        }
    });
    address
}

/// Starts a gRPC server without TLS that is healthy.
pub(crate) fn health_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Settings of HTTP/2, all default.
            let _ = stream.write_all(&frame(4, 0, 0, &[]));
            if is_requested(&mut stream) {
                // Status 200, the message of gRPC, and grpc-status 0 as the trailer.
                let trailer = [b"\0\x0bgrpc-status\x01", &b"0"[..]].concat();
                let response = [
                    frame(1, 4, 1, &[0x88]),
                    frame(0, 0, 1, &[0, 0, 0, 0, 2, 8, 1]),
                    frame(1, 5, 1, &trailer),
                ];
                let _ = stream.write_all(&response.concat());
                // Until the client hangs up.
                while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {}
            }
        }
    });
    address
}

/// Reads frames of HTTP/2 until the headers of the first request; returns `false` if the client hangs up before.
fn is_requested(stream: &mut impl Read) -> bool {
    let mut preface = [0; 24];
    let mut header = [0; 9];
    if stream.read_exact(&mut preface).is_err() {
        return false;
    }
    while stream.read_exact(&mut header).is_ok() {
        let [_, high, low, kind, ..] = header;
        let mut payload = vec![0; u16::from_be_bytes([high, low]).into()];
        if stream.read_exact(&mut payload).is_err() {
            return false;
        }
        if kind == 1 {
            return true;
        }
    }
    false
}

/// Returns a frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}
