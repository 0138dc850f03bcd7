//! Proxies, compression and versions of IP.

use std::sync::mpsc::{Receiver, sync_channel};

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Copies in both directions until both have ended.
pub(super) fn connect(client: &mut TcpStream, server: SocketAddr) {
    let mut server = TcpStream::connect(server).unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, client);
}

/// Starts an HTTP proxy that passes the heads of its requests on, and connects everything to `server`.
fn http_proxy(server: SocketAddr) -> (SocketAddr, Receiver<String>) {
    let (heads, asked) = sync_channel(10);
    let address = serve(move |head, stream| {
        heads.send(head.to_owned()).unwrap();
        if head.starts_with("CONNECT") {
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
            connect(stream, server);
        } else {
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    (address, asked)
}

#[test]
fn an_http_proxy_forwards_http_requests() {
    let (proxy, asked) = http_proxy(answering(OK));
    let report = patient(&json!({
        "url": "http://shop.example/x?y", "proxy": format!("http://{proxy}"),
        "proxy_auth": {"username": "me", "password": "s3cret"},
    }));
    assert_healthy(&report);
    let head = asked.recv().unwrap();
    assert!(
        head.starts_with("GET http://shop.example/x?y HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("host: shop.example\r\n"), "{head}");
    assert!(
        head.contains("proxy-authorization: Basic bWU6czNjcmV0\r\n"),
        "{head}"
    );
}

#[test]
fn an_http_proxy_connects_https_requests() {
    let certificate = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let key = certificate.signing_key.serialize_der();
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(Arc::new(
        tokio_rustls::rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![certificate.cert.der().clone()],
        tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(key).unwrap(),
    )
    .unwrap();
    let config = Arc::new(config);
    let server = listen(move |stream| {
        let tls = tokio_rustls::rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = tokio_rustls::rustls::StreamOwned::new(tls, stream);
        if !read_head(&mut stream).is_empty() {
            let _ = stream.write_all(OK.as_bytes());
        }
    });
    let (proxy, asked) = http_proxy(server);
    let report = patient(&json!({
        "url": "https://shop.example/", "proxy": format!("http://{proxy}"), "tls": {"skip_verify": true},
        "proxy_auth": {"username": "me", "password": "s3cret"}, "contains": "ok",
    }));
    assert_healthy(&report);
    let head = asked.recv().unwrap();
    assert!(
        head.starts_with("CONNECT shop.example:443 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.to_lowercase().contains("proxy-authorization: basic "),
        "{head}"
    );
    assert_eq!(
        phases(&report),
        ["connect", "tls", "request", "first_byte", "transfer"]
    );
}

/// Starts a SOCKS5 proxy that connects everything to `server`, and passes on what it was asked for.
fn socks_proxy(server: SocketAddr) -> (SocketAddr, Receiver<Vec<u8>>) {
    let (requests, asked) = sync_channel(10);
    let address = listen(move |mut stream| {
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(&[5, 0]).unwrap();
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let mut rest = vec![0; usize::from(head[4]) + 2];
        stream.read_exact(&mut rest).unwrap();
        requests.send([&head[..], &rest].concat()).unwrap();
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        connect(&mut stream, server);
    });
    (address, asked)
}

#[test]
fn a_socks_proxy_resolves_the_name_and_connects() {
    let (proxy, asked) = socks_proxy(answering(OK));
    let report = patient(&json!({
        "url": "http://shop.example:8080/", "proxy": format!("socks5://{proxy}"), "contains": "ok",
    }));
    assert_healthy(&report);
    let request = asked.recv().unwrap();
    assert_eq!(request, b"\x05\x01\x00\x03\x0cshop.example\x1f\x90");
}

#[test]
fn a_proxy_out_of_reach_is_a_failure_and_one_that_refuses_is_not() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let through = |proxy: String| {
        check(
            MINUTE,
            &json!({"url": "https://shop.example/", "proxy": proxy}),
        )
    };
    let failure = through(format!("http://{closed}")).unwrap_err();
    assert!(
        failure
            .message()
            .contains("cannot use the proxy 127.0.0.1:"),
        "{failure}"
    );
    let refusing = answering("HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n");
    let report = through(format!("http://{refusing}")).unwrap();
    assert_unhealthy(&report, "does not connect to shop.example: 502 Bad Gateway");
}

#[test]
fn a_proxy_that_refuses_the_login_is_a_failure_that_names_the_cure() {
    let refusing_http = || answering("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").to_string();
    // Wants a password, and refuses every one.
    let refusing_socks = || {
        let address = listen(|mut stream| {
            let mut head = [0; 2];
            stream.read_exact(&mut head).unwrap();
            let mut methods = vec![0; head[1].into()];
            stream.read_exact(&mut methods).unwrap();
            if !methods.contains(&2) {
                return stream.write_all(&[5, 0xff]).unwrap();
            }
            stream.write_all(&[5, 2]).unwrap();
            stream.read_exact(&mut [0; 11]).unwrap();
            stream.write_all(&[1, 1]).unwrap();
        });
        address.to_string()
    };
    for (scheme, proxy) in [("http", refusing_http()), ("socks5", refusing_socks())] {
        let mut config =
            json!({"url": "https://shop.example/", "proxy": format!("{scheme}://{proxy}")});
        let failure = check(MINUTE, &config).unwrap_err();
        assert_eq!(
            failure.message(),
            format!(
                "cannot use the proxy {proxy}: it requires authentication; set `proxy_auth` to a user name and password that it accepts"
            )
        );
        config["proxy_auth"] = json!({"username": "me", "password": "s3cret"});
        let failure = check(MINUTE, &config).unwrap_err();
        assert_eq!(
            failure.message(),
            format!(
                "cannot use the proxy {proxy}: it refuses the user name or the password; correct `proxy_auth`"
            )
        );
    }
}

#[test]
fn a_compressed_body_is_asked_for_and_judged_as_text() {
    let gzip: &[u8] = &[
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 203, 207, 6, 0, 71, 221, 220, 121, 2, 0, 0, 0,
    ];
    let (heads, asked) = sync_channel(10);
    let address = serve(move |head, stream| {
        heads.send(head.to_owned()).unwrap();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            gzip.len()
        );
        stream.write_all(&[head.as_bytes(), gzip].concat()).unwrap();
    });
    let url = format!("http://{address}/");
    let report = patient(&json!({"url": url, "compression": true, "matches": "^ok$"}));
    assert_healthy(&report);
    assert_eq!(value(&report, &metrics::BYTES), Some(2.0));
    let head = asked.recv().unwrap();
    assert!(
        head.contains("accept-encoding: gzip, deflate, br\r\n"),
        "{head}"
    );
    assert_healthy(&patient(&json!({"url": url, "matches": "^ok$"})));

    let address =
        answering("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok");
    let url = format!("http://{address}/");
    assert_healthy(&patient(&json!({"url": url, "contains": "ok"})));
    let report = patient(&json!({"url": url, "compression": true}));
    assert_unhealthy(&report, "200 OK, but the body of 2 bytes is not valid gzip");
}

#[test]
fn one_version_of_ip_is_used_alone() {
    let port = answering(OK).port();
    let with = |version: u8| {
        patient(&json!({"url": format!("http://localhost:{port}/"), "ip_version": version}))
    };
    assert_healthy(&with(4));
    assert_unhealthy(&with(6), "cannot connect to [::1]:");
    let report = patient(&json!({"url": format!("http://127.0.0.1:{port}/"), "ip_version": 6}));
    assert_unhealthy(&report, "127.0.0.1 has no IPv6 address");
}
