//! Whom to trust, and what is wrong with a server that is not to be trusted.

use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use conductor_plugin_api::Failure;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        CertificateError, ClientConfig, Error, RootCertStore,
        client::Resumption,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use x509_cert::{Certificate, der::Decode};

use crate::{
    obstacle::Obstacle,
    progress::{Progress, Step},
};

/// Trust in the CAs of this system, read at the first use and shared by all probes from then on.
pub(crate) fn system() -> Result<Arc<ClientConfig>, Failure> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = SYSTEM.get() {
        return Ok(config.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    let config = trusting(found.certs).ok_or_else(|| no_system_roots(&errors))?;
    Ok(SYSTEM.get_or_init(|| config).clone())
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

/// Trust in the CAs of one file alone.
pub(crate) fn of_file(path: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let refuse = |why: String| Failure::config(format!("key `ca_file`: {path:?}: {why}"));
    // Read by ourselves: the reason why a file cannot be read is then the system's own.
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

/// Reads a regular file of a size that CA certificates can have; a device or a pipe might never end.
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
        // The author of a plugin cannot declare what an operator will name.
        io::ErrorKind::PermissionDenied => format!(
            "{error}; make it readable by the host's user, and let the plugin read it: add `read {}` to `[plugin.http] allow`, as in allow = [\"network\", \"read {}\"]",
            path.display(),
            path.display()
        ),
        _ => error.to_string(),
    }
}

/// `None` when there is nobody to trust.
fn trusting(certificates: Vec<CertificateDer<'static>>) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return None;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring offers the cipher suites of the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would not show its certificate again.
    config.resumption = Resumption::disabled();
    Some(Arc::new(config))
}

/// Shakes hands with the server at the other end of `stream`, which must prove to be `host`.
pub(crate) async fn shake_hands(
    stream: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
    progress: &mut Progress<'_>,
) -> Result<TlsStream<TcpStream>, Obstacle> {
    progress.enter(Step::Tls);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Obstacle::Platform(format!(
            "{host} is not a name that a certificate can be for"
        ))
    })?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| judge(host, &error))?;
    let leaf = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    if let Some(expiry) = leaf.and_then(|leaf| expiry(leaf)) {
        progress.set("certificate_expiry_timestamp_seconds", expiry);
    }
    Ok(stream)
}

/// Unix time until which a certificate is valid.
pub(crate) fn expiry(certificate: &[u8]) -> Option<f64> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let not_after = certificate.tbs_certificate().validity().not_after;
    Some(not_after.to_unix_duration().as_secs_f64())
}

fn judge(host: &str, error: &io::Error) -> Obstacle {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    let what = match cause {
        Some(Error::InvalidCertificate(error)) => untrusted(host, error),
        Some(error @ (Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes)) => {
            return Obstacle::Ours(Failure::new(format!("cannot do TLS here: {error}")));
        }
        Some(Error::InvalidMessage(_)) => {
            format!("{host} does not speak TLS on this port, or not soundly ({error})")
        }
        Some(error) => format!("the TLS handshake failed: {error}"),
        None => return Obstacle::of("the TLS handshake failed", error),
    };
    Obstacle::Platform(what)
}

fn untrusted(host: &str, error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / SECONDS_PER_DAY;
            format!("the certificate of {host} expired {days} days ago")
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let days = not_before.as_secs().saturating_sub(time.as_secs()) / SECONDS_PER_DAY;
            format!("the certificate of {host} only becomes valid in {days} days")
        }
        CertificateError::UnknownIssuer => format!(
            "the certificate of {host} is from an issuer that is not trusted here; if it should be, name its CA in `ca_file`"
        ),
        CertificateError::BadSignature => format!(
            "the certificate of {host} is signed with another key than that of the trusted CA of this name"
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            // rustls writes them as DnsName("shop.example").
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
