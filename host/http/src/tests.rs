//! The client against small servers: well-behaved, over TLS, and misbehaving.

use std::{convert::Infallible, path::Path, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};

use super::*;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

fn get(url: &str) -> HttpRequest {
    HttpRequest::get(RequestUrl::parse(url).unwrap())
}

/// Answers with the request itself, as text; `/to?URL` redirects to the URL.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/to" {
        let response = Response::builder()
            .status(302)
            .header("location", head.uri.query().unwrap());
        return Ok(response.body(Full::default()).unwrap());
    }
    let mut text = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    text.push_str(&String::from_utf8_lossy(
        &body.collect().await.unwrap().to_bytes(),
    ));
    Ok(Response::new(Full::new(text.into())))
}

async fn serve_echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo));
            tokio::spawn(serving);
        }
    });
    port
}

/// Writes `answer` to each client, then waits until the client leaves.
async fn serve_raw(answer: &'static [u8], is_endless: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                while stream.write_all(answer).await.is_ok() && is_endless {}
                let _ = stream.read(&mut head).await;
            });
        }
    });
    port
}

/// Serves the echo over TLS as `localhost`; the client may have to show the same certificate.
async fn serve_tls(folder: &Path, asks_client: bool) -> u16 {
    std::fs::create_dir_all(folder).unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if asks_client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::clone(cert.der())).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = builder.with_single_cert(vec![cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let serving =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo));
                let _ = serving.await;
            });
        }
    });
    port
}

async fn failure(client: &HttpClient, request: HttpRequest) -> HttpError {
    client
        .send(request)
        .await
        .expect_err("it should have failed")
}

#[test]
fn a_request_arrives_as_it_was_made() {
    run(async {
        let port = serve_echo().await;
        let request = HttpRequest::new(
            Method::POST,
            RequestUrl::parse(&format!("http://127.0.0.1:{port}/a?b=c")).unwrap(),
        )
        .header(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))
        .secret_header(
            header::AUTHORIZATION,
            HeaderValue::from_static("Bearer hush"),
        )
        .body("hello");
        let shown = format!("{request:?}");
        assert!(!shown.contains("hush") && !shown.contains("b=c"), "{shown}");
        let response = HttpClient::plain().send(request).await.unwrap();
        assert_eq!(response.status, StatusCode::OK);
        let text = String::from_utf8(response.body.to_vec()).unwrap();
        assert!(text.starts_with("POST /a?b=c\n"), "{text}");
        for line in [
            format!("host: 127.0.0.1:{port}"),
            "content-type: text/plain".to_owned(),
            "authorization: Bearer hush".to_owned(),
            "connection: close".to_owned(),
            "content-length: 5".to_owned(),
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        }
        assert!(text.ends_with("\nhello"), "{text}");
    });
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_asked_like_a_server() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let serving = http1::Builder::new();
            let _ = serving
                .serve_connection(TokioIo::new(stream), service_fn(echo))
                .await;
        });
        let url = RequestUrl::parse(&format!("unix://{}", socket.display())).unwrap();
        let request = HttpRequest::get(url.join("/v1/containers?all=1"));
        let response = HttpClient::plain().send(request).await.unwrap();
        assert!(response.body.starts_with(b"GET /v1/containers?all=1\n"));
        let nowhere = get(&format!("unix://{}/none", folder.path().display()));
        let error = failure(&HttpClient::plain(), nowhere).await;
        assert!(matches!(error.reason, FailureReason::Connect(_)), "{error}");
    });
}

#[test]
fn a_server_is_trusted_by_its_ca_or_not_at_all() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let port = serve_tls(&folder.path().join("a"), false).await;
        serve_tls(&folder.path().join("b"), false).await;
        let with_ca = |name: &str| TlsSettings {
            ca_file: Some(folder.path().join(name).join("cert.pem")),
            ..TlsSettings::default()
        };
        let request = || get(&format!("https://localhost:{port}/"));
        let client = HttpClient::with_tls(&with_ca("a")).unwrap();
        assert_eq!(client.send(request()).await.unwrap().status, StatusCode::OK);
        let client = HttpClient::with_tls(&with_ca("b")).unwrap();
        let error = failure(&client, request()).await;
        assert!(error.to_string().contains("ca_file"), "{error}");
        let careless = TlsSettings {
            skip_verify: true,
            ..TlsSettings::default()
        };
        let client = HttpClient::with_tls(&careless).unwrap();
        assert_eq!(client.send(request()).await.unwrap().status, StatusCode::OK);
        let error = failure(&HttpClient::plain(), request()).await;
        assert!(matches!(error.reason, FailureReason::NoTls), "{error}");
        let plain = serve_raw(b"HTTP/1.1 400 Bad\r\n\r\n", false).await;
        let error = failure(&client, get(&format!("https://localhost:{plain}/"))).await;
        assert!(matches!(error.reason, FailureReason::NotTls), "{error}");
    });
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_it() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let port = serve_tls(folder.path(), true).await;
        let file = |name: &str| folder.path().join(name);
        let settings = TlsSettings {
            ca_file: Some(file("cert.pem")),
            ..TlsSettings::default()
        };
        let with_identity = TlsSettings {
            identity: Some(ClientIdentity {
                cert_file: file("cert.pem"),
                key_file: file("key.pem"),
            }),
            ..settings.clone()
        };
        let request = || get(&format!("https://localhost:{port}/"));
        let client = HttpClient::with_tls(&with_identity).unwrap();
        assert_eq!(client.send(request()).await.unwrap().status, StatusCode::OK);
        failure(&HttpClient::with_tls(&settings).unwrap(), request()).await;
    });
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let error = |settings: &TlsSettings| HttpClient::with_tls(settings).unwrap_err().to_string();
    let with_ca = |file: &Path| TlsSettings {
        ca_file: Some(file.to_owned()),
        ..TlsSettings::default()
    };
    let missing = error(&with_ca(Path::new("/nowhere/ca.pem")));
    assert!(missing.contains("the CA file /nowhere/ca.pem"), "{missing}");
    let none = error(&with_ca(&empty));
    assert!(none.contains("no CA certificates found in"), "{none}");
    let no_key = error(&TlsSettings {
        identity: Some(ClientIdentity {
            cert_file: empty.clone(),
            key_file: empty,
        }),
        skip_verify: true,
        ..TlsSettings::default()
    });
    assert!(no_key.contains("the client key"), "{no_key}");
}

#[test]
fn redirects_are_followed_when_asked_and_secrets_stay_with_their_server() {
    run(async {
        let (port, other) = (serve_echo().await, serve_echo().await);
        let client = HttpClient::plain();
        let to = |target: &str| {
            get(&format!("http://127.0.0.1:{port}/to?{target}"))
                .secret_header(header::AUTHORIZATION, HeaderValue::from_static("hush"))
        };
        let not_asked = client.send(to("/x")).await.unwrap();
        assert_eq!(not_asked.status, StatusCode::FOUND);
        let text = async |request| {
            let response = client.send(request).await.unwrap();
            String::from_utf8(response.body.to_vec()).unwrap()
        };
        let same = text(to("/x").follow_redirects(1)).await;
        assert!(
            same.starts_with("GET /x\n") && same.contains("hush"),
            "{same}"
        );
        let elsewhere = format!("http://127.0.0.1:{other}/y");
        let moved = text(to(&elsewhere).follow_redirects(1)).await;
        assert!(
            moved.starts_with("GET /y\n") && !moved.contains("hush"),
            "{moved}"
        );
        for (target, redirects, why) in [
            ("/x", 0, "more often than allowed"),
            ("unix:///run/docker.sock", 5, "a Unix socket"),
            ("ftp://x", 5, "not a URL"),
        ] {
            let error = failure(&client, to(target).follow_redirects(redirects)).await;
            assert!(error.to_string().contains(why), "{error}");
        }
    });
}

#[test]
fn a_server_that_misbehaves_costs_no_more_than_the_deadline_and_the_limit() {
    run(async {
        let client = HttpClient::plain();
        let url = |port| format!("http://127.0.0.1:{port}/secret");
        let patient = Duration::from_secs(60);
        let silent = serve_raw(b"", false).await;
        let stuck = serve_raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", false).await;
        for port in [silent, stuck] {
            let request = get(&url(port)).timeout(Duration::from_millis(50));
            let error = failure(&client, request).await;
            assert!(
                matches!(error.reason, FailureReason::TimedOut(_)),
                "{error}"
            );
            assert_eq!(
                error.to_string(),
                format!("http://127.0.0.1:{port}: no answer within 0.05 s")
            );
        }
        let endless_head = serve_raw(b"HTTP/1.1 200 OK\r\nx: y\r\n", true).await;
        let error = failure(&client, get(&url(endless_head)).timeout(patient)).await;
        assert!(
            matches!(error.reason, FailureReason::Exchange { .. }),
            "{error}"
        );
        let endless_body = serve_raw(b"HTTP/1.1 200 OK\r\n\r\n", true).await;
        let request = get(&url(endless_body)).timeout(patient).body_limit(1000);
        let error = failure(&client, request).await;
        assert!(
            matches!(error.reason, FailureReason::TooLong(1000)),
            "{error}"
        );
        let nobody = failure(&client, get("http://127.0.0.1:1/")).await;
        assert!(
            matches!(nobody.reason, FailureReason::Connect(_)),
            "{nobody}"
        );
    });
}
