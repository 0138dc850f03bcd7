//! Proxies: HTTP and SOCKS5, open, with authentication, and refusing.

use super::{super::proxies::connect, *};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A visit to a server through a proxy.
fn through(name: &'static str, url: &str, scheme: &str, proxy: SocketAddr) -> Behaviour {
    let proxy = format!("{scheme}://{proxy}");
    Behaviour::at(name, url)
        .curl(&["-k", "-x", &proxy.replace("socks5:", "socks5h:")])
        .config(json!({ "proxy": proxy, "tls": { "skip_verify": true } }))
}

/// The same visit with user name and password for the proxy.
fn authenticated(visit: Behaviour) -> Behaviour {
    with_password(visit, "s3cret")
}

fn with_password(mut visit: Behaviour, password: &str) -> Behaviour {
    visit.config["proxy_auth"] = json!({ "username": "me", "password": password });
    visit.curl(&["-U", &format!("me:{password}")])
}

/// Starts a proxy that responds to CONNECT with `answer`, and then connects to `server`.
fn connecting(answer: &'static str, server: SocketAddr) -> SocketAddr {
    serve(move |head, stream| {
        let _ = stream.write_all(answer.as_bytes());
        if head.starts_with("CONNECT") && answer.contains(" 2") {
            connect(stream, server);
        }
    })
}

/// Starts a proxy that wants user name and password.
fn asking(server: SocketAddr) -> SocketAddr {
    serve(move |head, stream| {
        if !head.to_lowercase().contains(
            "proxy-authorization: basic bwu6czNjcmv0"
                .to_lowercase()
                .as_str(),
        ) {
            let _ = stream.write_all(
                b"HTTP/1.1 407 Who\r\nproxy-authenticate: Basic realm=x\r\ncontent-length: 0\r\n\r\n",
            );
        } else if head.starts_with("CONNECT") {
            let _ = stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n");
            connect(stream, server);
        } else {
            let _ = stream.write_all(OK.as_bytes());
        }
    })
}

/// Starts a SOCKS5 proxy that chooses a way to authenticate, and responds to requests with a code.
fn socks(method: u8, code: u8, server: SocketAddr) -> SocketAddr {
    listen(move |mut stream| {
        let _ = talk(&mut stream, method, code, server);
    })
}

fn talk(stream: &mut TcpStream, method: u8, code: u8, server: SocketAddr) -> std::io::Result<()> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut methods = vec![0; head[1].into()];
    stream.read_exact(&mut methods)?;
    if !methods.contains(&method) {
        return stream.write_all(&[5, 0xff]);
    }
    stream.write_all(&[5, method])?;
    if method == 2 {
        let mut login = [0; 11];
        stream.read_exact(&mut login)?;
        stream.write_all(&[1, u8::from(&login != b"\x01\x02me\x06s3cret")])?;
    }
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    stream.read_exact(&mut vec![0; usize::from(head[4]) + 2])?;
    stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0])?;
    if code == 0 {
        connect(stream, server);
    }
    Ok(())
}

pub(super) fn section() -> Section {
    const HTTP: &str = "http://shop.example/";
    const HTTPS: &str = "https://shop.example/";
    let server = answering(OK);
    let secure = http2::over_tls(&[], |stream| {
        if !read_head(stream).is_empty() {
            let _ = stream.write_all(OK.as_bytes());
        }
    });
    let closed = broken::closed_port();
    Section {
        title: "Proxies",
        behaviours: vec![
            through("an HTTP proxy", HTTP, "http", answering(OK)),
            through(
                "an HTTP proxy for https",
                HTTPS,
                "http",
                connecting("HTTP/1.1 200 Connected\r\n\r\n", secure),
            ),
            through(
                "an HTTP proxy that speaks HTTP/1.0, with headers",
                HTTPS,
                "http",
                connecting("HTTP/1.0 200 Connected\r\nvia: x\r\n\r\n", secure),
            ),
            through(
                "an HTTP proxy that responds to CONNECT with 201",
                HTTPS,
                "http",
                connecting("HTTP/1.1 201 Created\r\n\r\n", secure),
            ),
            through(
                "an HTTP proxy that responds to CONNECT with 204 and a length",
                HTTPS,
                "http",
                connecting("HTTP/1.1 204 Open\r\ncontent-length: 0\r\n\r\n", secure),
            ),
            authenticated(through(
                "an HTTP proxy with user name and password",
                HTTP,
                "http",
                asking(server),
            )),
            authenticated(through(
                "an HTTP proxy for https with user name and password",
                HTTPS,
                "http",
                asking(secure),
            )),
            through(
                "an HTTP proxy that wants a password, without one",
                HTTP,
                "http",
                asking(server),
            ),
            through(
                "an HTTP proxy for https that wants a password, without one",
                HTTPS,
                "http",
                asking(secure),
            ),
            through(
                "an HTTP proxy that does not connect",
                HTTPS,
                "http",
                connecting("HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n", secure),
            ),
            through(
                "an HTTP proxy that does not reach the server",
                HTTP,
                "http",
                connecting("HTTP/1.1 504 No\r\ncontent-length: 0\r\n\r\n", server),
            ),
            through("no HTTP proxy", HTTP, "http", closed),
            through(
                "an HTTP proxy that closes the connection",
                HTTPS,
                "http",
                listen(|mut stream| drop(read_head(&mut stream))),
            ),
            through(
                "an HTTP proxy that is silent",
                HTTPS,
                "http",
                serve(|_, stream| keep_silent(stream)),
            )
            .impatient(),
            through("a SOCKS5 proxy", HTTP, "socks5", socks(0, 0, server)),
            through(
                "a SOCKS5 proxy for https",
                HTTPS,
                "socks5",
                socks(0, 0, secure),
            ),
            authenticated(through(
                "a SOCKS5 proxy with user name and password",
                HTTP,
                "socks5",
                socks(2, 0, server),
            )),
            through(
                "a SOCKS5 proxy that wants a password, without one",
                HTTP,
                "socks5",
                socks(2, 0, server),
            ),
            with_password(
                through(
                    "a SOCKS5 proxy that refuses the password",
                    HTTP,
                    "socks5",
                    socks(2, 0, server),
                ),
                "secret",
            ),
            with_password(
                through(
                    "an HTTP proxy for https that refuses the password",
                    HTTPS,
                    "http",
                    asking(secure),
                ),
                "secret",
            ),
            through(
                "a SOCKS5 proxy that does not reach the server",
                HTTP,
                "socks5",
                socks(0, 4, server),
            ),
            through(
                "a SOCKS5 proxy that does not allow the server",
                HTTP,
                "socks5",
                socks(0, 2, server),
            ),
            through("no SOCKS5 proxy", HTTP, "socks5", closed),
            through(
                "an HTTP server as a SOCKS5 proxy",
                HTTP,
                "socks5",
                listen(|mut stream| {
                    let _ = stream.write_all(OK.as_bytes());
                    keep_silent(&mut stream);
                }),
            )
            .impatient(),
        ],
    }
}
