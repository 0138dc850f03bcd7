//! The keys of `tls`.

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use super::*;

/// A self-signed certificate, with its key.
struct Own {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    pem: String,
}

fn own(name: &str) -> Own {
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Own {
        certificate: certificate.der().clone(),
        pem: certificate.pem(),
        key: key.serialize_der(),
    }
}

fn serve_tls(
    own: &Own,
    clients: Option<CertificateDer<'static>>,
    versions: &[&'static SupportedProtocolVersion],
) -> SocketAddr {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority).unwrap();
            let provider = Arc::new(ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(own.key.clone()).unwrap();
    let config = builder
        .with_single_cert(vec![own.certificate.clone()], key)
        .unwrap();
    let config = Arc::new(config);
    listen(move |stream| {
        let tls = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        if !read_head(&mut stream).is_empty() {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    })
}

const ALL: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

fn with(address: SocketAddr, tls: &Value) -> Report {
    patient(&json!({"url": format!("https://{address}/"), "tls": tls}))
}

/// Returns the pin that openssl and curl print for a certificate's key.
fn pin_of(own: &Own) -> String {
    let report = with(
        serve_tls(own, None, ALL),
        &json!({"skip_verify": true, "pin_sha256": ["00".repeat(32)]}),
    );
    assert_unhealthy(
        &report,
        "has none of the hashes in `pin_sha256`; its key has sha256//",
    );
    let (_, pin) = report.message().split_once("its key has ").unwrap();
    pin.to_owned()
}

#[test]
fn any_certificate_is_accepted_where_verification_is_skipped() {
    let address = serve_tls(&own("other.example"), None, ALL);
    assert_healthy(&with(address, &json!({"skip_verify": true})));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, own("x").pem).unwrap();
    let report = with(address, &json!({"ca_file": file}));
    assert_unhealthy(&report, "but is signed with another key");
}

#[test]
fn a_pinned_key_is_required_also_without_verification() {
    let own = own("127.0.0.1");
    let (address, pin) = (serve_tls(&own, None, ALL), pin_of(&own));
    for pins in [vec![pin.clone()], vec!["ab".repeat(32), pin]] {
        let tls = json!({"skip_verify": true, "pin_sha256": pins});
        assert_healthy(&with(address, &tls));
    }
}

#[test]
fn the_server_name_is_requested_and_verified_instead_of_the_hosts() {
    let own = own("shop.example");
    let address = serve_tls(&own, None, ALL);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &own.pem).unwrap();
    let report = with(address, &json!({"ca_file": file}));
    assert_unhealthy(&report, "not for 127.0.0.1 but for shop.example");
    assert_healthy(&with(
        address,
        &json!({"ca_file": file, "server_name": "shop.example"}),
    ));
    let report = with(
        address,
        &json!({"ca_file": file, "server_name": "www.example"}),
    );
    assert_unhealthy(&report, "not for www.example but for shop.example");
}

#[test]
fn an_older_version_than_the_least_is_unhealthy() {
    let address = serve_tls(&own("x"), None, &[&TLS12]);
    assert_healthy(&with(address, &json!({"skip_verify": true})));
    let report = with(address, &json!({"skip_verify": true, "min_version": "1.3"}));
    assert_unhealthy(&report, "the TLS handshake failed: ");
}

#[test]
fn a_client_certificate_is_presented_where_it_is_required() {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(["probe".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (pem, key) = (certificate.pem(), key.serialize_pem());
    let (cert, key_file) = (file("cert.pem", &pem), file("key.pem", &key));
    let both = file("both.pem", &(pem + &key));

    for versions in [&[&TLS12][..], &[&TLS13]] {
        let server = own("127.0.0.1");
        let address = serve_tls(&server, Some(authority.der().clone()), versions);
        let report = with(address, &json!({"skip_verify": true}));
        assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
        for keys in [
            json!({"skip_verify": true, "client_cert": cert, "client_key": key_file}),
            json!({"skip_verify": true, "client_cert": both}),
        ] {
            assert_healthy(&with(address, &keys));
        }
    }
    let host = TestHost::new("shop");
    let config = json!({"url": "https://shop.example/", "tls": {"client_cert": cert}});
    let failure = host
        .create_async::<HttpProbe>(&config.to_string())
        .err()
        .unwrap();
    assert!(failure.message().contains("no private key"), "{failure}");
    let other = file("other.pem", &KeyPair::generate().unwrap().serialize_pem());
    let config =
        json!({"url": "https://shop.example/", "tls": {"client_cert": cert, "client_key": other}});
    let failure = host
        .create_async::<HttpProbe>(&config.to_string())
        .err()
        .unwrap();
    assert!(
        failure.message().contains("replace both files"),
        "{failure}"
    );
}
