//! TLS, from the start and after STARTTLS.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer,
};

use super::*;
use crate::CERTIFICATE_EXPIRY;

/// Starts a server for 127.0.0.1 that talks by `before`, then within TLS by `within`; returns its certificate's file.
fn tls_server(
    before: impl Fn(&mut TcpStream) + Send + 'static,
    within: impl Fn(&mut StreamOwned<ServerConnection, TcpStream>) + Send + 'static,
) -> (SocketAddr, tempfile::NamedTempFile) {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2040, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, certificate.pem()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    let config = Arc::new(config.unwrap());
    let address = server(move |mut stream| {
        before(&mut stream);
        let connection = ServerConnection::new(config.clone()).unwrap();
        within(&mut StreamOwned::new(connection, stream));
    });
    (address, file)
}

#[test]
fn an_answer_within_tls_is_healthy_and_the_certificate_is_measured() {
    let (address, ca_file) = tls_server(
        |_| {},
        |stream| {
            let _ = stream.write_all(b"+PONG\r\n");
        },
    );
    let report = patient(&json!({
        "address": address.to_string(),
        "tls": {"ca_file": ca_file.path()},
        "expect": "+PONG",
    }));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert_eq!(
        phases(&report),
        ["connect", "tls", "first_byte", "response"]
    );
    let seconds_to_2040 = 2_208_988_800.0;
    assert_eq!(report.value(&CERTIFICATE_EXPIRY, []), Some(seconds_to_2040));
}

#[test]
fn a_conversation_continues_after_starttls() {
    let (address, ca_file) = tls_server(
        |stream| {
            stream.write_all(b"220 ready\r\n").unwrap();
            read_until(stream, b"EHLO conductor.invalid\r\n");
            stream.write_all(b"250 STARTTLS\r\n").unwrap();
            read_until(stream, b"STARTTLS\r\n");
            stream.write_all(b"220 go ahead\r\n").unwrap();
        },
        |stream| {
            let mut command = [0; 6];
            if stream.read_exact(&mut command).is_ok() {
                stream.write_all(b"221 bye\r\n").unwrap();
            }
        },
    );
    let config = |tls| {
        json!({
            "address": address.to_string(),
            "starttls": "smtp",
            "tls": tls,
            "script": [{"send": "QUIT\r\n"}, {"expect": "^221 "}],
        })
    };
    let report = patient(&config(json!({"ca_file": ca_file.path()})));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert_eq!(
        phases(&report),
        ["connect", "starttls", "tls", "first_byte", "response"]
    );

    let other = json!({"ca_file": ca_file.path(), "server_name": "mail.example"});
    assert_unhealthy(&patient(&config(other)), "mail.example");
}

#[test]
fn a_server_that_refuses_starttls_is_unhealthy() {
    let address = server(|mut stream| stream.write_all(b"* BYE busy\r\n").unwrap());
    let report = patient(&json!({
        "address": address.to_string(),
        "starttls": "imap",
        "tls": {"skip_verify": true},
    }));
    assert_unhealthy(
        &report,
        "cannot start TLS in IMAP: received \"* BYE busy\", expected \"* OK\"",
    );
}
