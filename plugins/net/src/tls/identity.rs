//! The client certificate of a probe, read again for each handshake.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use conductor_plugin_api::{Failure, tracing};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::trust::read_small;

/// The files of a client certificate, and what was last read from them.
#[derive(Debug)]
pub(super) struct ClientIdentity {
    certificate: PathBuf,
    key: Option<PathBuf>,
    plugin: &'static str,
    last: Mutex<LastRead>,
}

#[derive(Debug, Default)]
struct LastRead {
    identity: Option<Arc<CertifiedClient>>,
    /// `true` if the files have changed since then and cannot be used.
    is_stale: bool,
}

/// A client certificate with its key.
#[derive(Debug)]
pub(super) struct CertifiedClient {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    pub(super) fn new(certificate: &Path, key: Option<&Path>, plugin: &'static str) -> Arc<Self> {
        Arc::new(Self {
            certificate: certificate.to_owned(),
            key: key.map(Path::to_owned),
            plugin,
            last: Mutex::default(),
        })
    }

    /// Returns the certificate currently in the files; if they cannot be used, for example while they are being
    /// replaced, the previous one.
    pub(super) fn read(&self) -> Result<Arc<CertifiedClient>, Failure> {
        let found = self.read_files();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (found, &last.identity) {
            (Ok(found), _) => {
                let found = Arc::new(found);
                last.identity = Some(found.clone());
                last.is_stale = false;
                Ok(found)
            }
            (Err(failure), None) => Err(failure),
            (Err(failure), Some(previous)) => {
                let previous = previous.clone();
                if !last.is_stale {
                    tracing::warn!(
                        "cannot use the changed client certificate, keeping the previous one: {}",
                        failure.message()
                    );
                }
                last.is_stale = true;
                Ok(previous)
            }
        }
    }

    fn read_files(&self) -> Result<CertifiedClient, Failure> {
        let certificate = self.file("client_cert", &self.certificate)?;
        let refuse = |key: &str, path: &Path, rule: String| {
            Failure::config(format!("key `tls.{key}`: {path:?}: {rule}"))
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| {
                let rule = format!("not valid PEM ({error}); replace the file");
                refuse("client_cert", &self.certificate, rule)
            })?;
        if chain.is_empty() {
            let rule =
                "it contains no certificate; it needs a PEM block of -----BEGIN CERTIFICATE-----";
            return Err(refuse("client_cert", &self.certificate, rule.to_owned()));
        }
        let (name, path, pem) = match &self.key {
            Some(path) => ("client_key", path, self.file("client_key", path)?),
            None => ("client_cert", &self.certificate, certificate),
        };
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            let rule = "it contains no private key that can be used; it needs a PEM block of -----BEGIN PRIVATE KEY-----, without a password, or name its file in `tls.client_key`";
            refuse(name, path, rule.to_owned())
        })?;
        Ok(CertifiedClient { chain, key })
    }

    fn file(&self, key: &str, path: &Path) -> Result<Vec<u8>, Failure> {
        read_small(path, self.plugin)
            .map_err(|rule| Failure::config(format!("key `tls.{key}`: {path:?}: {rule}")))
    }
}
