//! OCSP responses by openssl: good, revoked, unknown, expired, forged, and those of a responder.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use rcgen::ExtendedKeyUsagePurpose;
use x509_cert::{Certificate, der::Decode as _};

use super::*;

/// A CA, its certificate for 127.0.0.1, and the folder of openssl's files.
struct Authority {
    folder: tempfile::TempDir,
    ca: Signed,
    own: Signed,
}

/// The status of a certificate in the list of a CA.
#[derive(Clone, Copy)]
enum Listed {
    Valid,
    Revoked,
    Missing,
}

impl Authority {
    fn new() -> Self {
        let ca = signed("our CA", 1000, true, None);
        let own = signed("127.0.0.1", 90, false, Some(&ca));
        let folder = tempfile::tempdir().unwrap();
        Self { folder, ca, own }
    }

    /// Returns the response to a request for the status of `own`, signed by `signer`.
    fn response(&self, listed: Listed, signer: &Signed) -> Vec<u8> {
        self.response_about(&self.own, &self.ca, listed, signer)
    }

    /// Returns the response to a request for the status of a certificate of `issuer`, signed by `signer`.
    fn response_about(
        &self,
        own: &Signed,
        issuer: &Signed,
        listed: Listed,
        signer: &Signed,
    ) -> Vec<u8> {
        let certificate = Certificate::from_der(&own.der).unwrap();
        let serial = certificate.tbs_certificate.serial_number;
        let serial: String = (serial.as_bytes().iter())
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let line = match listed {
            Listed::Valid => format!("V\t400101000000Z\t\t{serial}\tunknown\t/CN=127.0.0.1\n"),
            Listed::Revoked => format!(
                "R\t400101000000Z\t260101000000Z,keyCompromise\t{serial}\tunknown\t/CN=127.0.0.1\n"
            ),
            Listed::Missing => String::new(),
        };
        let file = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let index = file("index.txt", &line);
        let ca = file("ca.pem", &issuer.pem);
        let rsigner = file("signer.pem", &signer.pem);
        let rkey = file("signer.key", &signer.key.serialize_pem());
        let response = self.folder.path().join("response.der");
        let run = Command::new("openssl")
            .args(["ocsp", "-noverify", "-no_nonce", "-ndays", "7"])
            .arg("-index")
            .arg(index)
            .arg("-CA")
            .arg(&ca)
            .arg("-issuer")
            .arg(&ca)
            // After the issuer, which it needs.
            .arg("-serial")
            .arg(format!("0x{serial}"))
            .arg("-rsigner")
            .arg(rsigner)
            .arg("-rkey")
            .arg(rkey)
            .arg("-respout")
            .arg(&response)
            .output()
            .expect("openssl is not installed, or not in PATH: install it (on Debian: openssl)");
        assert!(run.status.success(), "{run:?}");
        fs::read(response).unwrap()
    }

    /// Checks a server that staples a response, and sends the CA along.
    fn check(&self, response: Vec<u8>, more: Value) -> Report {
        let address = serve(&self.own, &[&self.ca], Some(response), |_| {});
        trusted(address, &self.ca, more)
    }

    fn chain(&self) -> Vec<Vec<u8>> {
        vec![self.own.der.to_vec(), self.ca.der.to_vec()]
    }
}

fn required() -> Value {
    json!({"require_ocsp_staple": true})
}

#[test]
fn a_response_that_openssl_staples_is_read_and_verified() {
    let authority = Authority::new();
    let path = |name: &str| authority.folder.path().join(name);
    let write = |name: &str, text: &str| {
        fs::write(path(name), text).unwrap();
        path(name)
    };
    for (listed, status) in [(Listed::Valid, 0.0), (Listed::Revoked, 1.0)] {
        authority.response(listed, &authority.ca);
        let own = write("own.pem", &authority.own.pem);
        let key = write("own.key", &authority.own.key.serialize_pem());
        let (_server, address) = openssl_server(&[
            ("-cert", &own),
            ("-key", &key),
            ("-cert_chain", &path("ca.pem")),
            ("-status_file", &path("response.der")),
        ]);
        let report = trusted(address, &authority.ca, required());
        match listed {
            Listed::Valid => assert_report(&report, Status::Healthy, "is valid for 90 days"),
            _ => assert_report(&report, Status::Unhealthy, "the certificate was revoked "),
        }
        assert_eq!(report.value(&OCSP_STAPLE, []), Some(1.0));
        assert_eq!(report.value(&OCSP_STATUS, []), Some(status));
        assert_eq!(report.value(&OCSP_VERIFIED, []), Some(1.0));
        let left = report.value(&OCSP_NEXT_UPDATE, []).unwrap() - now().as_secs_f64();
        assert!((604_000.0..604_801.0).contains(&left), "{left}");
    }
}

/// Ends a server with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server of openssl, and returns its address.
fn openssl_server(files: &[(&str, &Path)]) -> (Killed, SocketAddr) {
    let mut command = Command::new("openssl");
    command.args(["s_server", "-accept", "127.0.0.1:0"]);
    for (flag, path) in files {
        command.arg(flag).arg(path);
    }
    let started = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Killed(started);
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let accepts = |line: String| line.strip_prefix("ACCEPT ")?.parse().ok();
    let address = lines.find_map(|line| accepts(line.unwrap())).unwrap();
    // The server ends when its output is closed.
    thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    (server, address)
}

#[test]
fn a_revoked_certificate_is_unhealthy() {
    let authority = Authority::new();
    let report = authority.check(
        authority.response(Listed::Revoked, &authority.ca),
        json!({}),
    );
    assert_report(&report, Status::Unhealthy, "the certificate was revoked ");
    assert_eq!(report.value(&OCSP_STATUS, []), Some(1.0));
}

#[test]
fn a_response_that_does_not_vouch_is_degraded_and_unhealthy_where_one_is_required() {
    let authority = Authority::new();
    let forger = signed("our CA", 1000, true, None);
    let sibling = signed("127.0.0.1", 90, false, Some(&authority.ca));
    let about = |own: &Signed, issuer: &Signed| {
        authority.response_about(own, issuer, Listed::Valid, &authority.ca)
    };
    let garbage = authority.response(Listed::Valid, &authority.ca)[..100].to_vec();
    for (response, message) in [
        (
            authority.response(Listed::Missing, &authority.ca),
            "the CA does not know the certificate",
        ),
        (
            authority.response(Listed::Valid, &forger),
            "is not signed by the CA of the certificate",
        ),
        (about(&sibling, &authority.ca), "is for another certificate"),
        (about(&authority.own, &forger), "is for another certificate"),
        (garbage, "the stapled OCSP response cannot be read"),
        (
            vec![0x30, 3, 0x0a, 1, 3],
            "is an error of the CA (TryLater)",
        ),
    ] {
        let report = authority.check(response.clone(), json!({}));
        assert_report(&report, Status::Degraded, message);
        assert_report(&report, Status::Degraded, "is valid for 90 days, until ");
        let report = authority.check(response, required());
        assert_report(&report, Status::Unhealthy, message);
    }
}

#[test]
fn a_responder_needs_a_certificate_of_the_ca_for_that_purpose() {
    let authority = Authority::new();
    let responder = |usage: &[ExtendedKeyUsagePurpose], issuer: &Signed| {
        let plain = signed("responder", 90, false, None);
        let mut params = plain.params;
        params.extended_key_usages = usage.to_vec();
        let ca = Issuer::from_params(&issuer.params, &issuer.key);
        let certificate = params.signed_by(&plain.key, &ca).unwrap();
        Signed {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            params,
            key: plain.key,
        }
    };
    let signing = [ExtendedKeyUsagePurpose::OcspSigning];
    let response = |responder: &Signed| authority.response(Listed::Valid, responder);
    let allowed = response(&responder(&signing, &authority.ca));
    let report = authority.check(allowed, required());
    assert_report(&report, Status::Healthy, "");
    assert_eq!(report.value(&OCSP_VERIFIED, []), Some(1.0));
    let forger = signed("our CA", 1000, true, None);
    for refused in [
        responder(&[ExtendedKeyUsagePurpose::ServerAuth], &authority.ca),
        responder(&[], &authority.ca),
        responder(&signing, &forger),
    ] {
        let report = authority.check(response(&refused), required());
        assert_report(&report, Status::Unhealthy, "is not signed by the CA");
    }
}

#[test]
fn a_response_has_a_beginning_and_an_end() {
    let authority = Authority::new();
    let response = authority.response(Listed::Valid, &authority.ca);
    let facts = OcspFacts::read(&response, &authority.chain(), now()).unwrap();
    let fault = |now| facts.fault(now).map(|fault| fault.to_string());
    let day = Duration::from_secs(DAY);
    assert_eq!(fault(now()), None);
    assert_eq!(fault(now() + 6 * day), None);
    let expired = fault(now() + 10 * day).unwrap();
    assert!(expired.contains("expired 3 days ago"), "{expired}");
    let early = fault(now() - 3 * day).unwrap();
    assert!(early.contains("becomes valid in 3 days"), "{early}");
    // The clock of the CA may be ahead a little.
    assert_eq!(fault(now() - Duration::from_secs(60)), None);
}

#[test]
fn without_the_issuer_the_signature_is_not_verified() {
    let authority = Authority::new();
    let response = authority.response(Listed::Valid, &authority.ca);
    let address = serve(&authority.own, &[], Some(response), |_| {});
    let report = trusted(address, &authority.ca, required());
    assert_report(&report, Status::Healthy, "");
    assert_eq!(report.value(&OCSP_VERIFIED, []), Some(0.0));
    assert_eq!(report.value(&OCSP_STATUS, []), Some(0.0));
}
