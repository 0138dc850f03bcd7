//! Servers on loopback that are healthy, sick, without the service, and of another protocol.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::{Cursor, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, body::Incoming, header::HeaderValue, server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use super::*;

/// The response of a server for each service: the number of its health, or a status code of gRPC.
type Health = HashMap<&'static str, Result<u8, &'static str>>;

/// Starts a server, with TLS or without; it lives as long as the test process.
fn serve(health: Health, tls: Option<TlsAcceptor>) -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            let health = Arc::new(health);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let health = health.clone();
                match tls.clone() {
                    None => drop(tokio::spawn(serve_stream(stream, health))),
                    Some(tls) => drop(tokio::spawn(async move {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve_stream(stream, health).await;
                        }
                    })),
                }
            }
        });
    });
    receiver.recv().unwrap()
}

async fn serve_stream(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    health: Arc<Health>,
) {
    let service = service_fn(move |request| respond(request, health.clone()));
    let served =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    let _ = served.await;
}

async fn respond(
    request: Request<Incoming>,
    health: Arc<Health>,
) -> Result<Response<http_body_util::combinators::BoxBody<Cursor<Vec<u8>>, Infallible>>, Infallible>
{
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert!(request.headers().contains_key("grpc-timeout"));
    let is_allowed = request
        .headers()
        .get("authorization")
        .is_none_or(|token| token == "Bearer x");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    // The header of gRPC, then the field and the length of the name.
    let name = String::from_utf8_lossy(body.get(7..).unwrap_or_default()).into_owned();
    let (message, code) = match health.get(name.as_str()) {
        _ if !is_allowed => (Vec::new(), "16"),
        Some(Ok(number)) => (vec![0, 0, 0, 0, 2, 8, *number], "0"),
        Some(Err(code)) => (Vec::new(), *code),
        None => (Vec::new(), "5"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("grpc-message", HeaderValue::from_static("as asked for"));
    let body = Full::new(Cursor::new(message)).with_trailers(async move { Some(Ok(trailers)) });
    Ok(Response::new(body.boxed()))
}

fn check(config: &Value) -> Report {
    let host = TestHost::new("orders").timeout(Duration::from_secs(60));
    let mut probe = host.create_async::<GrpcProbe>(&config.to_string()).unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert_legal(&report);
    report
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

#[test]
fn the_health_of_the_server_and_of_a_service_decides() {
    let health = [
        ("", Ok(1)),
        ("shop.Orders", Ok(2)),
        ("shop.New", Ok(0)),
        ("shop.Watched", Ok(3)),
        ("shop.Closed", Err("12")),
        ("shop.Busy", Err("14")),
    ];
    let address = serve(health.into(), None).to_string();
    let ask = |service: &str| check(&json!({"address": address, "service": service}));
    let report = ask("");
    assert_report(&report, Status::Healthy, "the server is SERVING, in ");
    assert_eq!(report.value(&CODE, []), Some(0.0));
    assert_eq!(report.value(&SERVING_STATUS, []), Some(1.0));
    assert_eq!(report.value(&CERTIFICATE_EXPIRY, []), None, "without TLS");
    for phase in ["connect", "response"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    let report = ask("shop.Orders");
    assert_report(&report, Status::Unhealthy, "shop.Orders is NOT_SERVING");
    assert_eq!(report.value(&SERVING_STATUS, []), Some(2.0));
    assert_report(
        &ask("shop.New"),
        Status::Unhealthy,
        "the health of shop.New is UNKNOWN",
    );
    assert_report(
        &ask("shop.Watched"),
        Status::Unhealthy,
        "does not know shop.Watched (SERVICE_UNKNOWN)",
    );
    let report = ask("shop.Nothing");
    assert_report(
        &report,
        Status::Unhealthy,
        "does not know shop.Nothing (NOT_FOUND)",
    );
    assert_eq!(report.value(&CODE, []), Some(5.0));
    assert_eq!(report.value(&SERVING_STATUS, []), None);
    assert_report(
        &ask("shop.Closed"),
        Status::Unhealthy,
        "no health service, grpc.health.v1.Health (UNIMPLEMENTED)",
    );
    assert_report(
        &ask("shop.Busy"),
        Status::Unhealthy,
        "UNAVAILABLE: as asked for",
    );
}

#[test]
fn a_slow_response_is_degraded_or_unhealthy_by_phase_and_in_total() {
    let address = serve([("", Ok(1)), ("shop.Orders", Ok(2))].into(), None).to_string();
    // No check takes less than a nanosecond.
    let report = check(&json!({"address": address, "degraded_after": "1ns"}));
    assert_report(&report, Status::Degraded, ", but the check took ");
    assert_eq!(report.value(&SERVING_STATUS, []), Some(1.0));
    let by_phase = json!({"response": "1ns", "connect": "60s"});
    let report = check(&json!({"address": address, "unhealthy_after": by_phase}));
    assert_report(&report, Status::Unhealthy, ", but response took ");
    let report =
        check(&json!({"address": address, "service": "shop.Orders", "degraded_after": "1ns"}));
    assert_report(&report, Status::Unhealthy, "NOT_SERVING; the check took ");
    let report = check(&json!({"address": address, "unhealthy_after": "60s"}));
    assert_report(&report, Status::Healthy, "SERVING, in ");
}

#[test]
fn metadata_is_sent() {
    let address = serve([("", Ok(1))].into(), None).to_string();
    let ask = |token| check(&json!({"address": address, "metadata": {"authorization": token}}));
    assert_report(&ask("Bearer x"), Status::Healthy, "SERVING");
    assert_report(&ask("Bearer y"), Status::Unhealthy, "UNAUTHENTICATED");
}

#[test]
fn a_server_with_tls_is_verified_and_measured() {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&ca_file, certificate.pem()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = serve([("", Ok(1))].into(), Some(acceptor)).to_string();
    let report = check(&json!({"address": address, "tls": {"ca_file": ca_file.path()}}));
    assert_report(&report, Status::Healthy, "SERVING");
    assert!(report.value(&PHASE, ["tls"]).is_some());
    let seconds_to_2040 = 2_208_988_800.0;
    assert_eq!(report.value(&CERTIFICATE_EXPIRY, []), Some(seconds_to_2040));

    let other = json!({"ca_file": ca_file.path(), "server_name": "orders.example"});
    let report = check(&json!({"address": address, "tls": other}));
    assert_report(&report, Status::Unhealthy, "orders.example");
}

/// Starts a server that sends the same bytes to each client, and reads until the client hangs up.
fn sending(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(bytes);
            while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {}
        }
    });
    address.to_string()
}

#[test]
fn a_server_of_another_protocol_is_unhealthy() {
    let report = check(&json!({"address": sending(b"HTTP/1.1 400 Bad Request\r\n\r\n")}));
    assert_report(
        &report,
        Status::Unhealthy,
        "the server does not speak HTTP/2 as expected",
    );
}

#[test]
fn a_silent_server_is_unhealthy() {
    let host = TestHost::new("orders").timeout(Duration::from_millis(300));
    let config = json!({"address": sending(b"")}).to_string();
    let mut probe = host.create_async::<GrpcProbe>(&config).unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert_report(
        &report,
        Status::Unhealthy,
        "no answer within 270 ms (waiting for the response)",
    );
}

#[test]
fn a_port_without_a_server_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let report = check(&json!({"address": near.local_addr().unwrap().to_string()}));
    assert_report(&report, Status::Unhealthy, "cannot connect to ");
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (key, value, message) in [
        (
            "address",
            json!("orders.example"),
            "key `address`: \"orders.example\" has no port",
        ),
        (
            "metadata",
            json!({"a b": "x"}),
            "key `metadata.a b`: not a key of metadata",
        ),
        (
            "metadata",
            json!({"grpc-timeout": "1S"}),
            "key `metadata.grpc-timeout`: the probe sets this itself",
        ),
        (
            "metadata",
            json!({"a": "x\ny"}),
            "key `metadata.a`: the value has control characters",
        ),
        (
            "service",
            json!("x".repeat(2000)),
            "key `service`: the name has 2000 bytes",
        ),
    ] {
        let mut config = json!({"address": "a:1"});
        config[key] = value;
        let created =
            TestHost::new("orders").create_async_unchecked::<GrpcProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
