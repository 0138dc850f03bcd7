//! Real servers on loopback, and files, with certificates that are valid, expiring, expired and for another name.

#[cfg(target_os = "linux")]
mod ocsp;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use conductor_plugin_api::{
    Failure, FailureKind, Report, Status,
    testing::{TestHost, assert_legal},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::ResolvesServerCert,
    sign::CertifiedKey,
};

use super::*;

const DAY: u64 = 24 * 60 * 60;

/// A certificate and its key.
struct Signed {
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
    pem: String,
}

/// Returns a certificate that is valid for `days` more days, issued by `issuer` or by itself.
fn signed(name: &str, days: i64, is_ca: bool, issuer: Option<&Signed>) -> Signed {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let now = rcgen::date_time_ymd(1970, 1, 1) + now();
    let day = Duration::from_secs(DAY);
    params.not_before = now - 100 * day;
    // An hour more: the test itself takes time.
    let end = now + Duration::from_secs(3600);
    let distance = day * u32::try_from(days.unsigned_abs()).unwrap();
    params.not_after = if days < 0 {
        end - distance
    } else {
        end + distance
    };
    let key = KeyPair::generate().unwrap();
    let certificate = match issuer {
        Some(issuer) => {
            let issuer = Issuer::from_params(&issuer.params, &issuer.key);
            params.signed_by(&key, &issuer)
        }
        None => params.self_signed(&key),
    };
    let certificate = certificate.unwrap();
    Signed {
        der: certificate.der().clone(),
        pem: certificate.pem(),
        params,
        key,
    }
}

fn now() -> Duration {
    Duration::from_secs(UnixTime::now().as_secs())
}

/// A server's certificates, with an OCSP response or none.
#[derive(Debug)]
struct Stapled(Arc<CertifiedKey>);

impl ResolvesServerCert for Stapled {
    fn resolve(
        &self,
        _: tokio_rustls::rustls::server::ClientHello<'_>,
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Starts a server with a chain, which calls `before` on each connection ahead of the handshake.
fn serve(
    own: &Signed,
    others: &[&Signed],
    ocsp: Option<Vec<u8>>,
    before: impl Fn(&mut TcpStream) + Send + 'static,
) -> SocketAddr {
    let mut chain = vec![own.der.clone()];
    chain.extend(others.iter().map(|signed| signed.der.clone()));
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key.serialize_der()));
    let provider = Arc::new(ring::default_provider());
    let mut certified = CertifiedKey::from_der(chain, key, &provider).unwrap();
    certified.ocsp = ocsp;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Stapled(Arc::new(certified))));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            before(&mut stream);
            let connection = ServerConnection::new(config.clone()).unwrap();
            let _ = StreamOwned::new(connection, stream).read(&mut [0]);
        }
    });
    address
}

fn written(pems: &[&str]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, pems.concat()).unwrap();
    file
}

fn check(config: &Value) -> Result<Report, Failure> {
    let host = TestHost::new("shop").timeout(Duration::from_secs(60));
    let mut probe = host.create_async::<TlsProbe>(&config.to_string())?;
    let report = host.check_async(&mut probe)?;
    assert_legal(&report);
    Ok(report)
}

/// Checks a server that a CA is trusted to have issued.
fn trusted(address: SocketAddr, ca: &Signed, more: Value) -> Report {
    let file = written(&[&ca.pem]);
    let mut config = json!({"address": address.to_string(), "tls": {"ca_file": file.path()}});
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    check(&config).unwrap()
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

#[test]
fn the_time_to_the_end_decides() {
    let ca = signed("our CA", 1000, true, None);
    for (days, status, message) in [
        (
            100,
            Status::Healthy,
            "127.0.0.1 is valid for 100 days, until 20",
        ),
        (
            13,
            Status::Degraded,
            "the certificate 127.0.0.1 expires in 13 days, on 20",
        ),
        (13, Status::Degraded, "(`degraded_before` is 14 days)"),
        (2, Status::Unhealthy, "(`unhealthy_before` is 3 days)"),
        (
            -5,
            Status::Unhealthy,
            "the certificate of 127.0.0.1 expired 4 days ago",
        ),
    ] {
        let address = serve(
            &signed("127.0.0.1", days, false, Some(&ca)),
            &[],
            None,
            |_| {},
        );
        let report = trusted(address, &ca, json!({}));
        assert_report(&report, status, message);
        let expiry = report.value(&EXPIRY, []).unwrap();
        #[expect(clippy::cast_precision_loss, reason = "some thousand days")]
        let expected = now().as_secs_f64() + 3600.0 + (days * 86400) as f64;
        assert!((expiry - expected).abs() < 600.0, "{expiry} {expected}");
    }
    let address = serve(
        &signed("127.0.0.1", 13, false, Some(&ca)),
        &[],
        None,
        |_| {},
    );
    let relaxed = json!({"degraded_before": "10d", "unhealthy_before": "1d"});
    assert_report(
        &trusted(address, &ca, relaxed),
        Status::Healthy,
        "issued by our CA",
    );
}

#[test]
fn an_intermediate_that_expires_first_decides() {
    let ca = signed("our CA", 1000, true, None);
    let intermediate = signed("our issuer", 10, true, Some(&ca));
    let own = signed("127.0.0.1", 90, false, Some(&intermediate));
    let report = trusted(serve(&own, &[&intermediate], None, |_| {}), &ca, json!({}));
    assert_report(
        &report,
        Status::Degraded,
        "the certificate our issuer expires in 10 days",
    );
    assert_eq!(report.value(&CHAIN_CERTIFICATES, []), Some(2.0));
    assert!(report.value(&CHAIN_EXPIRY, []) < report.value(&EXPIRY, []));

    // Without the intermediate, clients do not trust the server.
    let report = trusted(serve(&own, &[], None, |_| {}), &ca, json!({}));
    assert_report(&report, Status::Unhealthy, "from an unknown CA");
}

#[test]
fn a_certificate_that_no_client_needs_does_not_count() {
    let root = signed("our CA", 1000, true, None);
    let intermediate = signed("our issuer", 500, true, Some(&root));
    let own = signed("127.0.0.1", 90, false, Some(&intermediate));
    // Our CA, as a former CA vouched for it while clients did not know ours yet.
    let former = signed("former CA", -5, true, None);
    let params = signed("our CA", 2, true, None).params;
    let issuer = Issuer::from_params(&former.params, &former.key);
    let cross = params.signed_by(&root.key, &issuer).unwrap();
    let cross = Signed {
        der: cross.der().clone(),
        pem: cross.pem(),
        params,
        key: KeyPair::generate().unwrap(),
    };
    let stranger = signed("stranger", 1, true, Some(&former));
    let others = [&intermediate, &cross, &former, &stranger];
    let report = trusted(serve(&own, &others, None, |_| {}), &root, json!({}));
    assert_report(
        &report,
        Status::Healthy,
        "127.0.0.1 is valid for 90 days, until ",
    );
    assert_eq!(report.value(&CHAIN_CERTIFICATES, []), Some(5.0));
    assert_eq!(report.value(&CHAIN_EXPIRY, []), report.value(&EXPIRY, []));

    // Clients that know the former CA alone need the certificate that it signed.
    let known = signed("former CA", 1000, true, None);
    let issuer = Issuer::from_params(&known.params, &known.key);
    let bridge = cross.params.signed_by(&root.key, &issuer).unwrap();
    let bridge = Signed {
        der: bridge.der().clone(),
        ..cross
    };
    let address = serve(&own, &[&intermediate, &bridge], None, |_| {});
    assert_report(
        &trusted(address, &known, json!({})),
        Status::Unhealthy,
        "the certificate our CA expires in 2 days",
    );
}

#[test]
fn the_connection_is_measured() {
    let ca = signed("our CA", 1000, true, None);
    let address = serve(
        &signed("127.0.0.1", 90, false, Some(&ca)),
        &[],
        None,
        |_| {},
    );
    let report = trusted(address, &ca, json!({}));
    assert_eq!(report.value(&PROTOCOL_VERSION, []), Some(1.3));
    assert_eq!(report.value(&OCSP_STAPLE, []), Some(0.0));
    for phase in ["connect", "tls"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
}

#[test]
fn a_slow_handshake_is_degraded_or_unhealthy_by_phase_and_in_total() {
    let ca = signed("our CA", 1000, true, None);
    let address = serve(
        &signed("127.0.0.1", 90, false, Some(&ca)),
        &[],
        None,
        |_| {},
    );
    // No check takes less than a nanosecond.
    let report = trusted(address, &ca, json!({"degraded_after": "1ns"}));
    assert_report(&report, Status::Degraded, ", but the check took ");
    let by_phase = json!({"unhealthy_after": {"tls": "1ns", "starttls": "1ns", "connect": "60s"}});
    let report = trusted(address, &ca, by_phase);
    assert_report(&report, Status::Unhealthy, ", but tls took ");
    let soon = json!({"degraded_before": "100d", "degraded_after": "1ns"});
    let report = trusted(address, &ca, soon);
    assert_report(
        &report,
        Status::Degraded,
        "(`degraded_before` is 100 days); the check took ",
    );
    let report = trusted(address, &ca, json!({"unhealthy_after": "60s"}));
    assert_report(&report, Status::Healthy, "");
}

#[test]
fn a_stapled_response_can_be_required() {
    let ca = signed("our CA", 1000, true, None);
    let own = signed("127.0.0.1", 90, false, Some(&ca));
    let required = json!({"require_ocsp_staple": true});
    let without = trusted(serve(&own, &[], None, |_| {}), &ca, required);
    assert_report(&without, Status::Unhealthy, "no OCSP response along");
    let without = trusted(serve(&own, &[], None, |_| {}), &ca, json!({}));
    assert_report(&without, Status::Healthy, "");
    assert_eq!(without.value(&OCSP_STAPLE, []), Some(0.0));
    assert_eq!(without.value(&OCSP_STATUS, []), None);
}

#[test]
fn the_certificate_must_have_every_name() {
    let ca = signed("our CA", 1000, true, None);
    let address = serve(
        &signed("127.0.0.1", 90, false, Some(&ca)),
        &[],
        None,
        |_| {},
    );
    let named = |names: Value| trusted(address, &ca, json!({"names": names}));
    assert_report(&named(json!(["127.0.0.1"])), Status::Healthy, "");
    assert_report(
        &named(json!(["127.0.0.1", "shop.example"])),
        Status::Unhealthy,
        "the certificate is not valid for shop.example",
    );
}

#[test]
fn tls_is_started_in_another_protocol() {
    let ca = signed("our CA", 1000, true, None);
    let own = signed("127.0.0.1", 90, false, Some(&ca));
    let address = serve(&own, &[], None, |stream| {
        stream.write_all(b"+OK ready\r\n").unwrap();
        let mut command = [0; 6];
        stream.read_exact(&mut command).unwrap();
        assert_eq!(&command, b"STLS\r\n");
        stream.write_all(b"+OK go ahead\r\n").unwrap();
    });
    let report = trusted(address, &ca, json!({"starttls": "pop3"}));
    assert_report(&report, Status::Healthy, "is valid for 90 days");
    assert!(report.value(&PHASE, ["starttls"]).is_some());
}

#[test]
fn without_verification_the_dates_are_still_judged() {
    let check = |days| {
        let own = signed("shop.example", days, false, None);
        let address = serve(&own, &[], None, |_| {});
        check(&json!({"address": address.to_string(), "tls": {"skip_verify": true}})).unwrap()
    };
    assert_report(&check(90), Status::Healthy, "valid for 90 days");
    assert_report(
        &check(-5),
        Status::Unhealthy,
        "the certificate shop.example expired 4 days ago",
    );
}

#[test]
fn the_certificates_of_a_file_are_judged() {
    let (far, near) = (
        signed("far", 900, true, None),
        signed("near", 5, true, None),
    );
    let leaf = signed("leaf", 5, false, Some(&far));
    let check = |file: &tempfile::NamedTempFile| check(&json!({"file": file.path()})).unwrap();
    assert_report(
        &check(&written(&[&far.pem])),
        Status::Healthy,
        "far is valid for 900 days",
    );
    assert_report(
        &check(&written(&[&near.pem])),
        Status::Degraded,
        "near expires in 5 days",
    );
    let report = check(&written(&[&far.pem, &leaf.pem]));
    assert_report(&report, Status::Degraded, "leaf expires in 5 days");
    assert_eq!(report.value(&PHASE, ["connect"]), None);
    assert_report(
        &check(&written(&["text"])),
        Status::Unhealthy,
        "contains no certificate",
    );
}

#[test]
fn a_file_that_cannot_be_read_is_a_failure_with_a_cure() {
    let failure = check(&json!({"file": "/nonexistent/ca.pem"})).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Error);
    assert!(
        failure.message().contains("no such file; create it"),
        "{failure}"
    );
    let failure = check(&json!({"file": "/dev"})).unwrap_err();
    assert!(
        failure.message().contains("not a regular file"),
        "{failure}"
    );
}

#[test]
fn a_port_without_a_server_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = near.local_addr().unwrap().to_string();
    let report = check(&json!({"address": address, "tls": {"skip_verify": true}})).unwrap();
    assert_report(&report, Status::Unhealthy, "cannot connect to ");
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (config, message) in [
        (json!({}), "key `address`: neither an address nor a `file`"),
        (
            json!({"address": "a", "file": "/a"}),
            "key `file`: the probe checks an address or a file",
        ),
        (
            json!({"address": "https://a"}),
            "key `address`: \"https://a\" has a scheme",
        ),
        (
            json!({"file": "/a", "starttls": "smtp"}),
            "key `starttls`: it applies to an `address`",
        ),
        (
            json!({"file": "/a", "degraded_after": "1s"}),
            "key `degraded_after`: it applies to an `address`",
        ),
        (
            json!({"address": "a", "degraded_after": "2s", "unhealthy_after": "1s"}),
            "key `degraded_after`: 2s for `total` is above `unhealthy_after`, 1s",
        ),
        (
            json!({"file": "/a", "degraded_before": "1d"}),
            "key `degraded_before`: 1day is shorter than `unhealthy_before`, 3days",
        ),
        (
            json!({"file": "/a", "names": ["a b"]}),
            "key `names[0]`: no certificate can be issued",
        ),
    ] {
        let host = TestHost::new("shop");
        let created = host.create_async_unchecked::<TlsProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
