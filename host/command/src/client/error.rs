//! The reasons why a client cannot talk to a host.

use std::{io, path::PathBuf, time::Duration};

use conductor_library::file_reader::ReadError;
use tokio_rustls::rustls::{self, CertificateError, pki_types::pem};

use crate::CliError;

/// An option of the command line that makes no connection possible.
#[derive(Debug, thiserror::Error)]
pub(super) enum OptionError {
    #[error(
        "{address:?} is not a host address: {why}; expected a URL such as http://127.0.0.1:9750, or HOST:PORT"
    )]
    Address { address: String, why: AddressError },
    #[error(
        "an address must not contain a user and password, which other users could see: use --user and --password-file"
    )]
    Credentials,
    #[error("--user needs a password: give --password-file, or set CONDUCTOR_PASSWORD")]
    NoPassword,
    #[error("cannot read the password file {}: {source}", .file.display())]
    PasswordFile { file: PathBuf, source: ReadError },
    #[error("cannot use the CA file {}: {source}", .file.display())]
    CaFile { file: PathBuf, source: ReadError },
    #[error("cannot use the CA file {}: not valid PEM: {source}", .file.display())]
    CaText { file: PathBuf, source: pem::Error },
    #[error("cannot read the system's CA certificates: {0}")]
    SystemCas(#[source] ReadError),
    #[error("no CA certificates found in {0}: name a file with --ca-file")]
    NoCa(String),
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl From<OptionError> for CliError {
    fn from(error: OptionError) -> Self {
        match error {
            OptionError::Address { .. } | OptionError::Credentials | OptionError::NoPassword => {
                Self::Usage(error.to_string())
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

/// A mistake in an address.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    #[error(transparent)]
    Uri(#[from] hyper::http::uri::InvalidUri),
    #[error("its scheme is neither http nor https")]
    Scheme,
    #[error("it has no host")]
    NoHost,
    #[error("it has a query")]
    Query,
    #[error("its port is not a number from 0 to 65535")]
    Port,
}

/// The failure of a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("{0}; is `conductor run` running there? (--address selects another host)")]
    Connect(#[source] io::Error),
    #[error("{0} is not a name that a certificate can be issued for")]
    ServerName(String),
    #[error("{}", explain(.0))]
    Handshake(#[source] io::Error),
    #[error("{source}{hint}")]
    Exchange {
        source: hyper::Error,
        hint: &'static str,
    },
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    #[error(transparent)]
    Body(#[from] Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// Returns the reason why a TLS handshake failed, with the cure if there is one.
fn explain(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        // A CA of the same name with another key is just as untrusted.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "its certificate is from an unknown CA: name the CA with --ca-file".to_owned(),
        Some(rustls::Error::InvalidMessage(_)) => {
            "it does not speak https (write http://)".to_owned()
        }
        _ => error.to_string(),
    }
}
