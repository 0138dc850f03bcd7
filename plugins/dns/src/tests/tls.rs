//! Queries over TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer,
};

use super::*;
use crate::CERTIFICATE_EXPIRY;

/// Starts a server whose certificate is for 127.0.0.1 and valid until 1 January of `year`; returns its CA's file too.
fn tls_server(year: i32) -> (SocketAddr, tempfile::NamedTempFile) {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&ca_file, ca.self_signed(&ca_key).unwrap().pem()).unwrap();

    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
    let config = Arc::new(config.unwrap());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut size = [0; 2];
            if stream.read_exact(&mut size).is_err() {
                continue;
            }
            let mut query = vec![0; u16::from_be_bytes(size).into()];
            stream.read_exact(&mut query).unwrap();
            let response = response(&query, &|message| {
                message.add_answers(addresses([1]));
            });
            let size = u16::try_from(response.len()).unwrap();
            let _ = stream.write_all(&[&size.to_be_bytes(), &*response].concat());
        }
    });
    (address, ca_file)
}

#[test]
fn a_query_over_tls_measures_the_handshake_and_the_certificate() {
    let (address, ca_file) = tls_server(2040);
    let config = with(query(address), "protocol", "tls");
    let config = with(config, "tls", json!({"ca_file": ca_file.path()}));
    let report = patient(&config);
    assert_healthy(&report, "1 record");
    let label = address.to_string();
    for phase in ["connect", "tls", "response"] {
        assert!(report.value(&PHASE, [&label, phase]).is_some(), "{phase}");
    }
    let seconds_to_2040 = 2_208_988_800.0;
    assert_eq!(
        report.value(&CERTIFICATE_EXPIRY, [&label]),
        Some(seconds_to_2040)
    );
}

#[test]
fn an_expired_certificate_is_unhealthy() {
    let (address, ca_file) = tls_server(2020);
    let config = with(query(address), "protocol", "tls");
    let report = patient(&with(config, "tls", json!({"ca_file": ca_file.path()})));
    assert_unhealthy(&report, "the certificate of 127.0.0.1 expired ");
    assert!(
        report
            .value(&CERTIFICATE_EXPIRY, [&address.to_string()])
            .is_some()
    );
}
