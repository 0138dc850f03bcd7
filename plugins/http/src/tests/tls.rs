//! Certificates that are right, expired, untrusted and for another name.

use std::{path::PathBuf, sync::Arc};

use conductor_plugin_api::FailureKind;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::rustls::{
    HandshakeKind, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use super::*;
use crate::tls;

/// A CA, with the file that its certificate lies in.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    _folder: tempfile::TempDir,
    file: PathBuf,
}

impl Authority {
    fn new() -> Self {
        Self::named("our CA")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            _folder: folder,
            file,
        }
    }

    /// A server for `name`, whose certificate is valid until 1 January of `year`.
    fn server(&self, name: &str, year: i32) -> SocketAddr {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        serve_tls(certificate.der().clone(), key)
    }

    fn check(&self, url: &str) -> Report {
        patient(&json!({"url": url, "ca_file": self.file}))
    }
}

fn serve_tls(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> SocketAddr {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    listen(move |stream| {
        let tls = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        // Who does not trust us hangs up here.
        if !read_head(&mut stream).is_empty() {
            let status = match stream.conn.handshake_kind() {
                Some(HandshakeKind::Full) => "200 OK",
                _ => "403 The certificate was not looked at",
            };
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok");
        }
    })
}

#[test]
fn a_trusted_certificate_is_healthy_and_its_end_is_measured() {
    let authority = Authority::new();
    let address = authority.server("127.0.0.1", 2040);
    let report = authority.check(&format!("https://{address}/"));
    assert_healthy(&report);
    let seconds_to_2040 = 2_208_988_800.0;
    assert_eq!(
        value(&report, "certificate_expiry_timestamp_seconds"),
        Some(seconds_to_2040)
    );
    assert!(value(&report, "tls_seconds").unwrap() > 0.0, "{report:?}");
}

#[test]
fn a_name_is_proven_by_the_certificate() {
    let authority = Authority::new();
    let port = authority.server("localhost", 2040).port();
    let report = authority.check(&format!("https://localhost:{port}/"));
    assert_healthy(&report);
    assert!(value(&report, "resolve_seconds").is_some(), "{report:?}");
}

#[test]
fn a_certificate_for_another_name_is_unhealthy() {
    let authority = Authority::new();
    let address = authority.server("shop.example", 2040);
    let report = authority.check(&format!("https://{address}/"));
    assert_unhealthy(
        &report,
        "the certificate is not for 127.0.0.1 but for shop.example",
    );
    assert!(value(&report, "certificate_expiry_timestamp_seconds").is_some());
}

#[test]
fn an_expired_certificate_is_unhealthy() {
    let authority = Authority::new();
    let address = authority.server("127.0.0.1", 2020);
    let report = authority.check(&format!("https://{address}/"));
    assert_unhealthy(&report, "the certificate of 127.0.0.1 expired ");
    assert_unhealthy(&report, " days ago");
    let seconds_to_2020 = 1_577_836_800.0;
    assert_eq!(
        value(&report, "certificate_expiry_timestamp_seconds"),
        Some(seconds_to_2020),
        "a time in the past, for the alert that warned of it"
    );
}

#[test]
fn a_certificate_is_looked_at_each_time() {
    let authority = Authority::new();
    let address = authority.server("127.0.0.1", 2040);
    let host = TestHost::new("shop").timeout(MINUTE);
    let config = json!({"url": format!("https://{address}/"), "ca_file": authority.file});
    let mut probe = host.create_async::<Http>(&config.to_string()).unwrap();
    for _ in 0..3 {
        let report = host.check_async(&mut probe).unwrap();
        assert_healthy(&report);
        assert!(value(&report, "certificate_expiry_timestamp_seconds").is_some());
    }
}

#[test]
fn an_issuer_nobody_trusts_is_unhealthy() {
    let (trusted, stranger) = (Authority::new(), Authority::named("another CA"));
    let address = stranger.server("127.0.0.1", 2040);
    let report = trusted.check(&format!("https://{address}/"));
    assert_unhealthy(
        &report,
        "from an issuer that is not trusted here; if it should be, name its CA in `ca_file`",
    );
    assert!(value(&report, "certificate_expiry_timestamp_seconds").is_some());
}

#[test]
fn the_systems_cas_are_trusted_and_not_ours() {
    let address = Authority::new().server("127.0.0.1", 2040);
    let host = TestHost::new("shop").timeout(MINUTE);
    match host.create_async::<Http>(&json!({"url": format!("https://{address}/")}).to_string()) {
        Ok(mut probe) => {
            assert_unhealthy(&host.check_async(&mut probe).unwrap(), "not trusted here")
        }
        // A machine without any, such as a bare container.
        Err(failure) => assert!(
            failure.message().contains("no CA certificates"),
            "{failure}"
        ),
    }
}

#[test]
fn an_issuer_that_only_has_the_name_of_a_trusted_one_is_unhealthy() {
    let (trusted, impostor) = (Authority::new(), Authority::new());
    let address = impostor.server("127.0.0.1", 2040);
    let report = trusted.check(&format!("https://{address}/"));
    assert_unhealthy(
        &report,
        "signed with another key than that of the trusted CA",
    );
}

#[test]
fn a_server_without_tls_is_unhealthy() {
    let authority = Authority::new();
    let address = listen(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        keep_silent(&mut stream);
    });
    let report = authority.check(&format!("https://{address}/"));
    assert_unhealthy(&report, "127.0.0.1 does not speak TLS on this port");
}

#[test]
fn a_server_that_hangs_up_in_the_handshake_is_unhealthy() {
    let authority = Authority::new();
    let report = authority.check(&format!("https://{}/", listen(drop)));
    assert_unhealthy(&report, "the TLS handshake failed: ");
}

#[test]
fn a_silent_handshake_is_unhealthy() {
    let authority = Authority::new();
    let address = listen(|mut stream| keep_silent(&mut stream));
    let config = json!({"url": format!("https://{address}/"), "ca_file": authority.file});
    assert_unhealthy(&impatient(&config), "(waiting for the TLS handshake)");
}

#[test]
fn a_redirect_to_tls_is_followed() {
    let authority = Authority::new();
    let secure = authority.server("127.0.0.1", 2040);
    let plain = answering(format!(
        "HTTP/1.1 301 Moved\r\nlocation: https://{secure}/\r\n\r\n"
    ));
    let report = authority.check(&format!("http://{plain}/"));
    assert_healthy(&report);
    assert!(value(&report, "tls_seconds").is_some(), "{report:?}");
}

#[test]
fn a_ca_file_that_is_closed_to_the_plugin_is_told_with_the_cure() {
    let denied = std::io::Error::from_raw_os_error(13);
    let said = tls::unreadable("/x/ca.pem".as_ref(), &denied);
    assert!(said.starts_with("Permission denied"), "{said}");
    assert!(
        said.contains(r#"allow = ["network", "read /x/ca.pem"]"#),
        "{said}"
    );
}

#[test]
fn a_system_without_cas_is_a_failure_with_a_cure() {
    let failure = tls::no_system_roots(&["cannot read /etc/ssl".to_owned()]);
    assert_eq!(failure.kind(), FailureKind::Error);
    for needle in ["cannot read /etc/ssl", "ca-certificates", "`ca_file`"] {
        assert!(failure.message().contains(needle), "{failure}");
    }
}

#[test]
fn what_is_no_certificate_has_no_end() {
    assert_eq!(tls::expiry(b"no certificate"), None);
}
