//! HTTP/2: its frames, and servers that change their mind about the protocol.

use std::{io, net::Shutdown};

use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer,
};

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200` and `:status: 404` of HPACK.
const OK: &[u8] = &[0x88];
const NOT_FOUND: &[u8] = &[0x8d];
/// `:status: 103`.
const EARLY_HINTS: &[u8] = b"\x08\x03103";

/// Returns a frame of the connection, or of the first stream.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = match kind {
        SETTINGS | PING | GOAWAY => 0,
        _ => 1,
    };
    let mut frame = size[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, stream]);
    frame.extend_from_slice(payload);
    frame
}

fn goaway(last_stream: u8) -> Vec<u8> {
    frame(GOAWAY, 0, &[0, 0, 0, last_stream, 0, 0, 0, 0])
}

fn reset(code: u8) -> Vec<u8> {
    frame(RST_STREAM, 0, &[0, 0, 0, code])
}

/// Reads frames up to the first request.
fn read_request(stream: &mut impl Read) -> io::Result<()> {
    stream.read_exact(&mut [0; 24])?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; usize::try_from(size).unwrap()])?;
        if head[3] == HEADERS {
            return Ok(());
        }
    }
}

/// Starts a server with TLS that agrees to one of these protocols.
pub(super) fn over_tls(
    protocols: &[&str],
    treat: impl Fn(&mut StreamOwned<ServerConnection, TcpStream>) + Send + Sync + 'static,
) -> SocketAddr {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
    config.alpn_protocols = protocols.collect();
    let config = Arc::new(config);
    listen(move |stream| {
        let tls = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        treat(&mut stream);
        stream.conn.send_close_notify();
        let _ = stream.flush();
        // What is left unread would reset the connection, and the client might lose the response.
        let _ = stream.sock.shutdown(Shutdown::Write);
        let _ = io::copy(&mut stream.sock, &mut io::sink());
    })
}

fn visit(name: &'static str, server: SocketAddr) -> Behaviour {
    Behaviour::at(name, format!("https://{server}/"))
        .curl(&["-k"])
        .config(json!({ "tls": { "skip_verify": true } }))
}

/// A server that sends these frames in response to the request, and waits for the client to close the connection.
fn frames(name: &'static str, frames: &[Vec<u8>]) -> Behaviour {
    let response = frames.concat();
    let server = over_tls(&["h2"], move |stream| {
        let _ = stream.write_all(&frame(SETTINGS, 0, &[]));
        if read_request(stream).is_ok() {
            let _ = stream.write_all(&response);
            keep_silent(stream);
        }
    });
    visit(name, server)
}

/// A server that sends these frames in response to the request, and closes the connection.
fn cut_off(name: &'static str, frames: &[Vec<u8>]) -> Behaviour {
    let response = frames.concat();
    let server = over_tls(&["h2"], move |stream| {
        let _ = stream.write_all(&frame(SETTINGS, 0, &[]));
        if read_request(stream).is_ok() {
            let _ = stream.write_all(&response);
        }
    });
    visit(name, server)
}

pub(super) fn section() -> Section {
    let head = frame(HEADERS, END_HEADERS, OK);
    let body = frame(DATA, END_STREAM, b"ok");
    let part = frame(DATA, 0, b"ok");
    let http1 = |stream: &mut StreamOwned<ServerConnection, TcpStream>| {
        if !read_head(stream).is_empty() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    };
    let trailers = b"\x00\x0ax-checksum\x01y";
    // `content-length: 9`.
    let promise = [OK, b"\x0f\x0d\x019"].concat();
    let clear = {
        let response = [head.clone(), body.clone()].concat();
        listen(move |mut stream| {
            let _ = stream.write_all(&frame(SETTINGS, 0, &[]));
            if read_request(&mut stream).is_ok() {
                let _ = stream.write_all(&response);
                keep_silent(&mut stream);
            }
        })
    };
    Section {
        title: "HTTP/2",
        behaviours: vec![
            frames("a response", &[head.clone(), body.clone()]),
            frames(
                "a response without a body",
                &[frame(HEADERS, END_HEADERS | END_STREAM, OK)],
            ),
            frames(
                "404",
                &[frame(HEADERS, END_HEADERS, NOT_FOUND), body.clone()],
            ),
            frames(
                "103 before the response",
                &[
                    frame(HEADERS, END_HEADERS, EARLY_HINTS),
                    head.clone(),
                    body.clone(),
                ],
            ),
            frames(
                "a response with trailers",
                &[
                    head.clone(),
                    part.clone(),
                    frame(HEADERS, END_HEADERS | END_STREAM, trailers),
                ],
            ),
            frames(
                "PING and SETTINGS between the frames of a response",
                &[
                    frame(PING, 0, &[0; 8]),
                    head.clone(),
                    frame(SETTINGS, 0, &[]),
                    part.clone(),
                    frame(PING, 0, &[1; 8]),
                    body.clone(),
                ],
            ),
            frames(
                "a frame of an unknown type",
                &[frame(0x77, 0, b"x"), head.clone(), body.clone()],
            ),
            frames("GOAWAY instead of a response", &[goaway(0)]),
            frames(
                "GOAWAY before a response that still comes",
                &[goaway(1), head.clone(), body.clone()],
            ),
            frames(
                "GOAWAY after the response",
                &[head.clone(), body.clone(), goaway(1)],
            ),
            frames("RST_STREAM instead of a response (refused)", &[reset(7)]),
            frames(
                "RST_STREAM instead of a response (internal error)",
                &[reset(2)],
            ),
            frames(
                "RST_STREAM in the body",
                &[head.clone(), part.clone(), reset(2)],
            ),
            frames(
                "RST_STREAM after the response (no error)",
                &[head.clone(), body.clone(), reset(0)],
            ),
            cut_off("an end before the response of HTTP/2", &[]),
            cut_off("an end in the body of HTTP/2", &[head, part]),
            frames(
                "a body shorter than its content-length in HTTP/2",
                &[frame(HEADERS, END_HEADERS, &promise), body],
            ),
            frames(
                "a head that is not valid HPACK",
                &[frame(
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    &[0xff, 0xff, 0xff],
                )],
            ),
            visit(
                "a server that agrees to h2 and speaks HTTP/1.1",
                over_tls(&["h2"], move |stream| {
                    if read_request(stream).is_ok() {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                    }
                }),
            ),
            visit(
                "a server that agrees to http/1.1",
                over_tls(&["http/1.1"], http1),
            ),
            visit("a server without ALPN", over_tls(&[], http1)),
            Behaviour::at("HTTP/2 without TLS", format!("http://{clear}/"))
                .curl(&["--http2-prior-knowledge"])
                .config(json!({ "http_version": "2" })),
            Behaviour::raw(
                "HTTP/2 without TLS, but the server speaks HTTP/1.1",
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            )
            .curl(&["--http2-prior-knowledge"])
            .config(json!({ "http_version": "2" })),
        ],
    }
}
