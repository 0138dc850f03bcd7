//! Trust in the certificates of servers, and the client's own certificate.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use conductor_library::file_reader;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

use super::error::TrustError;

/// The settings of TLS. The default trusts the CAs of the system.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsSettings {
    /// The CAs to trust instead of the system's (PEM).
    pub ca_file: Option<PathBuf>,
    /// The certificate by which the client shows who it is.
    pub identity: Option<ClientIdentity>,
    /// Trusts every certificate.
    pub skip_verify: bool,
}

/// The client's own certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientIdentity {
    /// The certificate and its chain (PEM).
    pub cert_file: PathBuf,
    /// Its key (PEM).
    pub key_file: PathBuf,
}

/// Returns the TLS config of these settings; reads the files, each within a bounded time.
pub(crate) fn config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if settings.skip_verify {
        let verifier = Arc::new(AnyCertificate(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
    } else {
        builder.with_root_certificates(roots(settings.ca_file.as_deref())?)
    };
    let config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates("client certificate", &identity.cert_file)?;
            builder.with_client_auth_cert(chain, key(&identity.key_file)?)?
        }
    };
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let found = match ca_file {
        Some(file) => certificates("CA file", file)?,
        // SSL_CERT_FILE may name a pipe, or a file on a mount that is down.
        None => file_reader::within(Path::new("/etc/ssl"), file_reader::PATIENCE, || {
            rustls_native_certs::load_native_certs().certs
        })
        .map_err(TrustError::SystemCas)?,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found);
    match ca_file {
        _ if added > 0 => Ok(roots),
        Some(file) => Err(TrustError::NoCa(file.to_owned())),
        None => Err(TrustError::NoSystemCa),
    }
}

fn certificates(
    what: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    CertificateDer::pem_slice_iter(&read(what, file)?)
        .collect::<Result<_, _>>()
        .map_err(|source| TrustError::Pem {
            what,
            file: file.to_owned(),
            source,
        })
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TrustError> {
    let what = "client key";
    PrivateKeyDer::from_pem_slice(&read(what, file)?).map_err(|source| TrustError::Pem {
        what,
        file: file.to_owned(),
        source,
    })
}

fn read(what: &'static str, file: &Path) -> Result<Vec<u8>, TrustError> {
    let pem = file_reader::read(file, LARGEST_BUNDLE);
    let pem = pem.map_err(|source| TrustError::File {
        what,
        file: file.to_owned(),
        source,
    })?;
    Ok(pem.bytes)
}

/// Accepts every certificate, for `skip_verify`; the server still has to own its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// In bytes; all CAs of a system take some 200 kB.
const LARGEST_BUNDLE: u64 = 16 << 20;
