//! Trusted CAs, and the errors of untrusted servers.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use conductor_net::CheckError;
use conductor_plugin_api::Failure;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
        SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::ring,
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    },
};
use x509_cert::{Certificate, der::Decode};

use crate::{
    exact_match::ExactOrIssued,
    progress::{CheckPhase, CheckProgress},
};

/// The CAs to trust.
#[derive(Clone, Debug)]
pub(crate) struct TrustAnchors(Arc<ExactOrIssued>);

/// Reads the CAs of this system.
pub(crate) fn system() -> Result<TrustAnchors, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    trusting(found.certs).ok_or_else(|| no_system_roots(&errors))
}

pub(crate) fn no_system_roots(errors: &[String]) -> Failure {
    let why = if errors.is_empty() {
        String::new()
    } else {
        format!(" ({})", errors.join("; "))
    };
    Failure::new(format!(
        "no CA certificates found on this system{why}; install them (on Debian: ca-certificates) or name a `ca_file`"
    ))
}

/// Returns trust in the CAs of one file alone.
pub(crate) fn of_file(path: &Path) -> Result<TrustAnchors, Failure> {
    let refuse = |why: String| Failure::config(format!("key `ca_file`: {path:?}: {why}"));
    // We read it, so that the reason of a failure is the system's own.
    let pem = read_small(path).map_err(refuse)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(format!("not valid PEM ({error}); replace the file")))?;
    let found = certificates.len();
    trusting(certificates).ok_or_else(|| {
        refuse(match found {
            0 => "it contains no certificate; it needs at least one PEM block of -----BEGIN CERTIFICATE-----".to_owned(),
            n => format!("none of its {n} certificates can be a trusted CA; export them again as X.509"),
        })
    })
}

/// Reads a regular file of a plausible size for CA certificates; a device or a pipe might never end.
fn read_small(path: &Path) -> Result<Vec<u8>, String> {
    let found = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if found.is_dir() {
        return Err("it is a folder; name the PEM file in it".to_owned());
    }
    if !found.is_file() {
        return Err("it is not a regular file; name a PEM file".to_owned());
    }
    if found.len() > MAX_CA_FILE {
        return Err(format!(
            "it has {} bytes, more than the {MAX_CA_FILE} that are read; name a file with the CA certificates alone",
            found.len()
        ));
    }
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{error}; create it, or correct the path"),
        // The author of a plugin cannot declare a path that an operator will choose.
        io::ErrorKind::PermissionDenied => format!(
            "{error}; make it readable by the host's user, and let the plugin read it: add `read {}` to `[plugin.http] allow`, as in allow = [\"network\", \"read {}\"]",
            path.display(),
            path.display()
        ),
        _ => error.to_string(),
    }
}

/// Returns `None` if there is no usable certificate.
fn trusting(certificates: Vec<CertificateDer<'static>>) -> Option<TrustAnchors> {
    let mut roots = RootCertStore::empty();
    // The verifier refuses an empty store.
    let _ = roots.add_parsable_certificates(certificates.iter().cloned());
    let verifier = ExactOrIssued::new(roots, certificates)?;
    Some(TrustAnchors(Arc::new(verifier)))
}

/// Returns the settings of one handshake, whose certificate `witness` records.
fn config(witness: Arc<ExpiryRecorder>) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring offers the cipher suites of the default versions")
        .dangerous()
        .with_custom_certificate_verifier(witness)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would not show its certificate again.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Verifies as [`TrustAnchors`] does, and records data of the server's certificate even if it is refused: for an expired one,
/// the operator wants to know the expiry date.
#[derive(Debug)]
struct ExpiryRecorder {
    trust: TrustAnchors,
    expiry: Mutex<Option<f64>>,
}

impl ExpiryRecorder {
    /// Returns the Unix time until which the server's certificate is valid.
    fn expiry(&self) -> Option<f64> {
        *self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for ExpiryRecorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.expiry.lock().unwrap_or_else(PoisonError::into_inner) = expiry(end_entity);
        let verifier = &self.trust.0;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.0.supported_verify_schemes()
    }
}

/// Performs the handshake with the server at the other end of `stream`, which must prove to be `host`.
pub(crate) async fn shake_hands(
    stream: TcpStream,
    host: &str,
    trust: TrustAnchors,
    progress: &mut CheckProgress<'_>,
) -> Result<TlsStream<TcpStream>, CheckError> {
    progress.enter(CheckPhase::Tls);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        CheckError::Platform(format!(
            "{host} is not a name that a certificate can be issued for"
        ))
    })?;
    let witness = Arc::new(ExpiryRecorder {
        trust,
        expiry: Mutex::default(),
    });
    let connector = TlsConnector::from(config(Arc::clone(&witness)));
    let connected = connector.connect(name, stream).await;
    if let Some(expiry) = witness.expiry() {
        progress.set("certificate_expiry_timestamp_seconds", expiry);
    }
    connected.map_err(|error| judge(host, &error))
}

/// Returns the Unix time until which a certificate is valid.
pub(crate) fn expiry(certificate: &[u8]) -> Option<f64> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let not_after = certificate.tbs_certificate().validity().not_after;
    Some(not_after.to_unix_duration().as_secs_f64())
}

fn judge(host: &str, error: &io::Error) -> CheckError {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    let what = match cause {
        Some(Error::InvalidCertificate(error)) => untrusted(host, error),
        Some(error @ (Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes)) => {
            return CheckError::Host(Failure::new(format!("cannot set up TLS: {error}")));
        }
        Some(Error::InvalidMessage(_)) => {
            format!("{host} does not speak valid TLS on this port ({error})")
        }
        Some(error) => format!("the TLS handshake failed: {error}"),
        None => return CheckError::of("the TLS handshake failed", error),
    };
    CheckError::Platform(what)
}

fn untrusted(host: &str, error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / SECONDS_PER_DAY;
            format!("the certificate of {host} expired {days} days ago")
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let days = not_before.as_secs().saturating_sub(time.as_secs()) / SECONDS_PER_DAY;
            format!("the certificate of {host} becomes valid in {days} days")
        }
        CertificateError::UnknownIssuer => format!(
            "the certificate of {host} is from an unknown CA; to trust it, name the CA in `ca_file`"
        ),
        CertificateError::BadSignature => {
            format!("the certificate of {host} names a trusted CA, but is signed with another key")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            // rustls formats them as DnsName("shop.example").
            let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
            let names: Vec<_> = presented.iter().take(3).map(bare).collect();
            format!(
                "the certificate is not for {host} but for {}",
                names.join(", ")
            )
        }
        error => format!("the certificate of {host} is not valid: {error}"),
    }
}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// Longest CA file that is read, in bytes; the largest bundles have some 300 kB.
const MAX_CA_FILE: u64 = 16 << 20;
