//! Trust in the certificates of hosts that use HTTPS.

use std::{path::Path, sync::Arc};

use conductor_library::file_reader;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::error::{OptionError, RequestError};

/// Returns a TLS config that trusts the CAs of a file, or those of this system.
pub(super) fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, OptionError> {
    let (certificates, from) = match ca_file {
        Some(file) => (read(file)?, file.display().to_string()),
        None => {
            // SSL_CERT_FILE may name a pipe, or a file on a mount that is down.
            let found = file_reader::within(Path::new("/etc/ssl"), file_reader::PATIENCE, || {
                rustls_native_certs::load_native_certs().certs
            });
            let found = found.map_err(OptionError::SystemCas)?;
            let from = "this system (on Debian: install ca-certificates)".to_owned();
            (found, from)
        }
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(OptionError::NoCa(from));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Returns the name that the host's certificate must be for.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, RequestError> {
    ServerName::try_from(host.to_owned()).map_err(|_| RequestError::ServerName(host.to_owned()))
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, OptionError> {
    let pem = file_reader::read(file, LARGEST_BUNDLE).map_err(|source| OptionError::CaFile {
        file: file.to_owned(),
        source,
    })?;
    CertificateDer::pem_slice_iter(&pem.bytes)
        .collect::<Result<_, _>>()
        .map_err(|source| OptionError::CaText {
            file: file.to_owned(),
            source,
        })
}

/// In bytes; all CAs of a system take some 200 kB.
const LARGEST_BUNDLE: u64 = 16 << 20;
