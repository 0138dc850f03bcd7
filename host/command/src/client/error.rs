//! The reasons why a client cannot talk to a host.

use std::path::PathBuf;

use conductor_http::{FailureReason, TrustError, UrlError};
use conductor_library::file_reader::ReadError;

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
    #[error("{0} (--ca-file names the CAs to trust)")]
    Trust(#[source] TrustError),
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
    Url(UrlError),
    #[error("its scheme is neither http nor https")]
    Scheme,
    #[error("it has a query")]
    Query,
}

/// Returns the reason of a failed request, with the cure that the command line has for it.
pub(super) fn cure(reason: &FailureReason) -> String {
    match reason {
        FailureReason::Connect(error) => {
            format!("{error}; is `conductor run` running there? (--address selects another host)")
        }
        FailureReason::UnknownCa => {
            "its certificate is from an unknown CA: name the CA with --ca-file".to_owned()
        }
        _ => reason.to_string(),
    }
}
