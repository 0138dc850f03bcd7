//! Certificates that are valid, expired, untrusted and for another name.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::rustls::{
    HandshakeKind, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use super::*;

/// A CA, with the file of its certificate.
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

    /// Returns the TLS config of a server for `name`.
    fn config(&self, name: &str) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(2040, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        server_config(certificate.der().clone(), key)
    }

    /// Starts a server for `name`, whose certificate is valid until 1 January of `year`.
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

fn server_config(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

fn serve_tls(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> SocketAddr {
    let config = server_config(certificate, key);
    listen(move |stream| {
        let tls = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        // A client that does not trust us hangs up here.
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
    assert_eq!(value(&report, &metrics::EXPIRY), Some(seconds_to_2040));
    assert!(phase(&report, "tls") > 0.0, "{report:?}");
}

#[test]
fn a_name_is_proven_by_the_certificate() {
    let authority = Authority::new();
    let port = authority.server("localhost", 2040).port();
    let report = authority.check(&format!("https://localhost:{port}/"));
    assert_healthy(&report);
    assert!(phases(&report).contains(&"resolve"), "{report:?}");
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
    assert!(value(&report, &metrics::EXPIRY).is_some());
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
        value(&report, &metrics::EXPIRY),
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
    let mut probe = host.create_async::<HttpProbe>(&config.to_string()).unwrap();
    for _ in 0..3 {
        let report = host.check_async(&mut probe).unwrap();
        assert_healthy(&report);
        assert!(value(&report, &metrics::EXPIRY).is_some());
    }
}

#[test]
fn an_issuer_nobody_trusts_is_unhealthy() {
    let (trusted, stranger) = (Authority::new(), Authority::named("another CA"));
    let address = stranger.server("127.0.0.1", 2040);
    let report = trusted.check(&format!("https://{address}/"));
    assert_unhealthy(
        &report,
        "from an unknown CA; to trust it, name the CA in `ca_file`",
    );
    assert!(value(&report, &metrics::EXPIRY).is_some());
}

#[test]
fn the_systems_cas_are_trusted_and_not_ours() {
    let address = Authority::new().server("127.0.0.1", 2040);
    let host = TestHost::new("shop").timeout(MINUTE);
    match host.create_async::<HttpProbe>(&json!({"url": format!("https://{address}/")}).to_string())
    {
        Ok(mut probe) => {
            assert_unhealthy(&host.check_async(&mut probe).unwrap(), "from an unknown CA")
        }
        // On a machine without any, such as a bare container.
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
        "names a trusted CA, but is signed with another key",
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
    assert_unhealthy(&report, "127.0.0.1 does not speak valid TLS on this port");
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
    assert!(phases(&report).contains(&"tls"), "{report:?}");
}

#[test]
fn the_server_of_a_redirect_proves_its_own_name() {
    let authority = Authority::new();
    let other = authority.server("localhost", 2040);
    let location = format!("https://localhost:{}/", other.port());
    let plain = answering(format!(
        "HTTP/1.1 301 Moved\r\nlocation: {location}\r\n\r\n"
    ));
    assert_healthy(&authority.check(&format!("http://{plain}/")));
}

/// Starts a server whose certificate can be replaced while it runs.
fn changeable(first: Arc<ServerConfig>) -> (SocketAddr, impl Fn(Arc<ServerConfig>)) {
    let config = Arc::new(Mutex::new(first));
    let now = config.clone();
    let address = listen(move |stream| {
        let tls = ServerConnection::new(now.lock().unwrap().clone()).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        if !read_head(&mut stream).is_empty() {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    (address, move |next| *config.lock().unwrap() = next)
}

#[test]
fn a_ca_file_is_read_again_when_it_is_rewritten_or_replaced() {
    let (old, new) = (Authority::named("old"), Authority::named("new"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let in_place = |from: &Authority| {
        std::fs::write(&file, std::fs::read(&from.file).unwrap()).unwrap();
    };
    let renamed = |from: &Authority| {
        let next = folder.path().join("next");
        std::fs::copy(&from.file, &next).unwrap();
        std::fs::rename(next, &file).unwrap();
    };
    in_place(&old);
    let (address, present) = changeable(old.config("127.0.0.1"));
    let host = TestHost::new("shop").timeout(MINUTE);
    let config = json!({"url": format!("https://{address}/"), "ca_file": file});
    let mut probe = host.create_async::<HttpProbe>(&config.to_string()).unwrap();
    assert_healthy(&host.check_async(&mut probe).unwrap());

    present(new.config("127.0.0.1"));
    assert_unhealthy(&host.check_async(&mut probe).unwrap(), "from an unknown CA");
    in_place(&new);
    assert_healthy(&host.check_async(&mut probe).unwrap());

    // While it is being written, or after a mistake, the previous CAs apply.
    std::fs::write(&file, "half").unwrap();
    assert_healthy(&host.check_async(&mut probe).unwrap());
    std::fs::remove_file(&file).unwrap();
    assert_healthy(&host.check_async(&mut probe).unwrap());

    renamed(&old);
    assert_unhealthy(&host.check_async(&mut probe).unwrap(), "from an unknown CA");
    present(old.config("127.0.0.1"));
    assert_healthy(&host.check_async(&mut probe).unwrap());
}

/// In a separate process, as the system's CAs are found through the environment.
#[cfg(target_os = "linux")]
#[test]
fn the_systems_cas_are_read_again_when_they_change() {
    const NAME: &str = "tests::tls::the_systems_cas_are_read_again_when_they_change";
    let Some(bundle) = std::env::var_os("CONDUCTOR_HTTP_TEST_BUNDLE") else {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("bundle.crt");
        let done = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env("CONDUCTOR_HTTP_TEST_BUNDLE", &bundle)
            .env("SSL_CERT_FILE", &bundle)
            .env("SSL_CERT_DIR", folder.path())
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&done.stdout);
        assert!(
            done.status.success() && output.contains("1 passed"),
            "{done:?}"
        );
        return;
    };
    let bundle = PathBuf::from(bundle);
    let (old, new) = (Authority::named("old"), Authority::named("new"));
    std::fs::copy(&old.file, &bundle).unwrap();
    let (address, present) = changeable(old.config("127.0.0.1"));
    let host = TestHost::new("shop").timeout(MINUTE);
    let config = json!({"url": format!("https://{address}/")});
    let mut probe = host.create_async::<HttpProbe>(&config.to_string()).unwrap();
    assert_healthy(&host.check_async(&mut probe).unwrap());
    present(new.config("127.0.0.1"));
    // As in update-ca-certificates.
    let next = bundle.with_extension("new");
    std::fs::copy(&new.file, &next).unwrap();
    std::fs::rename(next, &bundle).unwrap();
    // They are checked once a second.
    let healthy = (0..600).any(|_| {
        thread::sleep(Duration::from_millis(50));
        host.check_async(&mut probe).unwrap().status() == Status::Healthy
    });
    assert!(healthy, "the new bundle is not read");
}

/// Returns a certificate as from `openssl req -x509`: self-signed, and marked as a CA.
fn self_signed(name: &str, year: i32) -> (CertificateDer<'static>, PrivateKeyDer<'static>, String) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (certificate.der().clone(), private, certificate.pem())
}

#[test]
fn a_certificate_that_is_itself_in_the_ca_file_is_trusted_for_its_names_and_dates() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("self.pem");
    let check = |pem: &str, address: SocketAddr| {
        std::fs::write(&file, pem).unwrap();
        patient(&json!({"url": format!("https://{address}/"), "ca_file": file}))
    };
    let (certificate, key, pem) = self_signed("127.0.0.1", 2040);
    let address = serve_tls(certificate, key);
    assert_healthy(&check(&pem, address));
    let (_, _, another) = self_signed("127.0.0.1", 2040);
    assert_eq!(check(&another, address).status(), Status::Unhealthy);

    let (certificate, key, pem) = self_signed("shop.example", 2040);
    assert_unhealthy(
        &check(&pem, serve_tls(certificate, key)),
        "not for 127.0.0.1",
    );
    let (certificate, key, pem) = self_signed("127.0.0.1", 2020);
    assert_unhealthy(&check(&pem, serve_tls(certificate, key)), "expired");
}

#[test]
fn a_body_that_ends_with_an_unannounced_end_of_tls_is_complete() {
    let authority = Authority::new();
    let config = authority.config("127.0.0.1");
    let address = listen(move |stream| {
        let tls = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        if !read_head(&mut stream).is_empty() {
            // Dropped without close_notify.
            let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\nall of it");
        }
    });
    let url = format!("https://{address}/");
    let config = json!({"url": url, "ca_file": authority.file, "contains": "all of it"});
    assert_healthy(&patient(&config));
}
