//! Trust in the certificates of hosts that use HTTPS.

use std::{io, path::Path, sync::Arc};

use conductor_library::file_reader;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, Error, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

/// Returns a TLS config that trusts the CAs of a file, or those of this system.
pub(super) fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let (certificates, from) = match ca_file {
        Some(file) => (read(file)?, file.display().to_string()),
        None => {
            // SSL_CERT_FILE may name a pipe, or a file on a mount that is down.
            let found = file_reader::within(Path::new("/etc/ssl"), file_reader::PATIENCE, || {
                rustls_native_certs::load_native_certs().certs
            });
            let found =
                found.map_err(|e| format!("cannot read the system's CA certificates: {e}"))?;
            let from = "this system (on Debian: install ca-certificates)".to_owned();
            (found, from)
        }
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(format!(
            "no CA certificates found in {from}: name a file with --ca-file"
        ));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("cannot set up TLS: {e}"))?;
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Returns the name that the host's certificate must be for.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host} is not a name that a certificate can be issued for"))
}

/// Returns the reason why the handshake failed, with the cure if there is one.
pub(super) fn explain(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        // A CA of the same name with another key is just as untrusted.
        Some(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "its certificate is from an unknown CA: name the CA with --ca-file".to_owned(),
        Some(Error::InvalidMessage(_)) => "it does not speak https (write http://)".to_owned(),
        _ => error.to_string(),
    }
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let refuse = |why: String| format!("cannot use the CA file {}: {why}", file.display());
    let pem = file_reader::read(file, LARGEST_BUNDLE).map_err(|e| refuse(e.to_string()))?;
    CertificateDer::pem_slice_iter(&pem.bytes)
        .collect::<Result<_, _>>()
        .map_err(|e| refuse(format!("not valid PEM: {e}")))
}

/// In bytes; all CAs of a system take some 200 kB.
const LARGEST_BUNDLE: u64 = 16 << 20;
