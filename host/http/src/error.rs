//! The reasons why a request has no response.

use std::{io, path::PathBuf, time::Duration};

use conductor_library::file_reader::ReadError;
use tokio_rustls::rustls::{self, CertificateError, pki_types::pem};

/// A mistake in a URL.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It cannot be parsed.
    #[error(transparent)]
    Uri(#[from] hyper::http::uri::InvalidUri),
    /// Its scheme is another.
    #[error("its scheme is not http, https or unix")]
    Scheme,
    /// It names no host.
    #[error("it has no host")]
    NoHost,
    /// It contains a user and perhaps a password.
    #[error("it contains a user and password: send them as a header")]
    Credentials,
    /// Its port is no number.
    #[error("its port is not a number from 0 to 65535")]
    Port,
    /// It names no absolute path of a socket.
    #[error("it names no socket: write unix:///path/of/socket")]
    NoSocket,
}

/// A mistake in the settings of TLS.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file of certificates or keys cannot be read.
    #[error("cannot use the {what} {}: {source}", .file.display())]
    File {
        /// The role of the file.
        what: &'static str,
        /// Its path.
        file: PathBuf,
        /// The reason.
        source: ReadError,
    },
    /// Such a file is not valid PEM.
    #[error("cannot use the {what} {}: not valid PEM: {source}", .file.display())]
    Pem {
        /// The role of the file.
        what: &'static str,
        /// Its path.
        file: PathBuf,
        /// The reason.
        source: pem::Error,
    },
    /// The system's CAs cannot be read.
    #[error("cannot read the system's CA certificates: {0}")]
    SystemCas(#[source] ReadError),
    /// The file contains no CA certificate.
    #[error("no CA certificates found in {}", .0.display())]
    NoCa(PathBuf),
    /// The system has no CA certificate.
    #[error(
        "no CA certificates found in this system (on Debian: install ca-certificates): name a file of CAs"
    )]
    NoSystemCa,
    /// The certificate and the key of the client do not belong together, for example.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A request without a response.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {reason}")]
pub struct HttpError {
    /// The server, without the path of the URL.
    pub address: String,
    /// The reason.
    pub reason: FailureReason,
}

/// The reason why a request has no response.
#[derive(Debug, thiserror::Error)]
pub enum FailureReason {
    /// No connection was made.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The system has no Unix sockets.
    #[error("this system has no Unix sockets")]
    NoUnixSockets,
    /// The client was made without TLS.
    #[error("the client has no TLS settings")]
    NoTls,
    /// The host's name cannot be in a certificate.
    #[error("{0} is not a name that a certificate can be issued for")]
    ServerName(String),
    /// The server's certificate is not from a CA that the client trusts.
    #[error("its certificate is from an unknown CA: name the CA with ca_file")]
    UnknownCa,
    /// The server does not speak TLS.
    #[error("it does not speak https (write http://)")]
    NotTls,
    /// TLS failed in another way.
    #[error("TLS: {0}")]
    Handshake(#[source] io::Error),
    /// The connection ended before the response, or the response is not HTTP.
    #[error("{source}{hint}")]
    Exchange {
        /// The reason.
        source: hyper::Error,
        /// The cure, if there is a likely one.
        hint: &'static str,
    },
    /// The request cannot be written as HTTP.
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    /// The body ended early.
    #[error("the response is not whole: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The body is longer than the request allows.
    #[error("the response is longer than {0} bytes")]
    TooLong(usize),
    /// The deadline came first.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// A redirect cannot be followed.
    #[error("it redirects, {0}")]
    Redirect(&'static str),
}

impl FailureReason {
    /// Returns the reason why a TLS handshake failed.
    pub(crate) fn of_handshake(error: io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            // A CA of the same name with another key is just as untrusted.
            Some(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => Self::UnknownCa,
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            _ => Self::Handshake(error),
        }
    }
}
