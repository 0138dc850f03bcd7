//! The certificates of a file.

use std::{fs, io, path::PathBuf};

use conductor_net::CheckError;
use conductor_plugin_api::Failure;
use tokio::task::spawn_blocking;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::Presented;

/// A PEM file, read at each check.
pub(crate) struct CertificateFile {
    pub(crate) path: PathBuf,
}

/// The reason why a file cannot be read; the text follows its path.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("no such file; create it, or correct the key `file`")]
    Missing,
    #[error(
        "permission denied; make it readable by the host's user, and let the plugin read it: add `read {0}` to `[plugin.tls] allow`"
    )]
    Denied(String),
    #[error("is not a regular file of at most {MAX_FILE} bytes; name a PEM file")]
    NotPem,
    #[error("{0}")]
    Io(io::Error),
}

impl CertificateFile {
    /// Reads the certificates, without waiting for a disk on the runtime's thread.
    pub(crate) async fn read(&self) -> (Presented, Result<(), CheckError>) {
        let path = self.path.clone();
        let read = spawn_blocking(move || read_small(path)).await;
        let failed = |text: String| {
            let failure = Failure::new(format!("cannot read {:?}: {text}", self.path));
            (Presented::default(), Err(CheckError::Host(failure)))
        };
        let pem = match read {
            Ok(Ok(pem)) => pem,
            Ok(Err(error)) => return failed(error.to_string()),
            Err(error) => return failed(error.to_string()),
        };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let unhealthy = |text: String| {
            let message = format!("{:?} {text}", self.path);
            (Presented::default(), Err(CheckError::Platform(message)))
        };
        match certificates {
            Ok(found) if found.is_empty() => unhealthy("contains no certificate".to_owned()),
            Ok(found) => {
                let chain: Vec<_> = found.iter().map(|der| der.to_vec()).collect();
                (
                    Presented {
                        needed: chain.clone(),
                        chain,
                        ..Presented::default()
                    },
                    Ok(()),
                )
            }
            Err(error) => unhealthy(format!("is not valid PEM: {error}")),
        }
    }
}

fn read_small(path: PathBuf) -> Result<Vec<u8>, FileError> {
    let judge = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing,
        io::ErrorKind::PermissionDenied => FileError::Denied(path.display().to_string()),
        _ => FileError::Io(error),
    };
    let metadata = fs::metadata(&path).map_err(judge)?;
    // A device or a pipe might never end.
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(FileError::NotPem);
    }
    fs::read(&path).map_err(judge)
}

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;
