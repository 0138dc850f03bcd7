//! HTTP/2, by prior knowledge and negotiated over TLS.

use std::{convert::Infallible, sync::Arc};

use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use super::*;

/// Responds to requests over HTTP/2 with the path, authority and headers of each.
async fn answer<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let authority = request.uri().authority().map(ToString::to_string);
        let text = format!(
            "{} {authority:?} {:?}",
            request.uri().path(),
            request.headers()
        );
        Ok::<_, Infallible>(Response::new(text))
    });
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Starts a server that speaks HTTP/2 alone, over TLS if there is a setup.
fn start(tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                match &tls {
                    None => answer(stream).await,
                    Some(tls) => {
                        let accepted = TlsAcceptor::from(tls.clone()).accept(stream).await;
                        if let Ok(stream) = accepted {
                            answer(stream).await;
                        }
                    }
                }
            }
        });
    });
    address
}

fn tls(protocols: &[&str]) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Arc::new(config)
}

#[test]
fn http2_is_spoken_by_prior_knowledge() {
    let address = start(None);
    let report = patient(&json!({
        "url": format!("http://{address}/x?y"), "http_version": "2", "headers": {"x-key": "z"},
        "contains": [format!("/x Some(\"{address}\")"), "\"x-key\": \"z\""], "not_contains": "connection",
    }));
    assert_healthy(&report);
    assert_eq!(value(&report, &metrics::VERSION), Some(2.0));
    assert_eq!(
        phases(&report),
        ["connect", "request", "first_byte", "transfer"]
    );
}

#[test]
fn http2_is_negotiated_over_tls() {
    let address = start(Some(tls(&["h2"])));
    let config = json!({"url": format!("https://{address}/"), "tls": {"skip_verify": true}});
    let report = patient(&config);
    assert_healthy(&report);
    assert_eq!(value(&report, &metrics::VERSION), Some(2.0));
    let mut only_http1 = config;
    only_http1["http_version"] = "1.1".into();
    assert_unhealthy(&patient(&only_http1), "the TLS handshake failed: ");
}

#[test]
fn a_server_without_http2_is_unhealthy_where_it_is_required() {
    let config = json!({"tls": {"skip_verify": true}, "http_version": "2"});
    for protocols in [&[][..], &["http/1.1"]] {
        let address = start(Some(tls(protocols)));
        let mut config = config.clone();
        config["url"] = format!("https://{address}/").into();
        let report = patient(&config);
        assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    }
    let plain = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let report = patient(&json!({"url": format!("http://{plain}/"), "http_version": "2"}));
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
}
