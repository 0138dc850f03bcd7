//! The reasons why a command about the service fails.

use std::io;

use conductor_command::{CliError, EXIT_CODES};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_FAILED_SERVICE_CONTROLLER_CONNECT, ERROR_INVALID_SERVICE_ACCOUNT,
    ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_EXISTS, ERROR_SERVICE_LOGON_FAILED,
    ERROR_SERVICE_MARKED_FOR_DELETE, ERROR_SERVICE_NOT_ACTIVE,
};

use super::manager::PATIENCE;

/// The reason why a command about a service failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceError {
    #[error(
        "access to the service {0} is denied: run this from a prompt opened with \"Run as administrator\""
    )]
    Denied(String),
    #[error(
        "there is no service {0}: install it with `conductor service install`, or select another one with --name"
    )]
    Missing(String),
    #[error(
        "there is a service {0} already: remove it with `conductor service uninstall`, or choose another name with --name"
    )]
    Exists(String),
    #[error(
        "the service {0} was removed, but a program still shows it: close the Services and Event Viewer windows, then run this again"
    )]
    Removing(String),
    #[error("the service {0} is not running: start it with `conductor service start`")]
    NotRunning(String),
    #[error(
        "the account of the service {0} cannot be used: give --account one that exists and has no password, such as \"NT AUTHORITY\\LocalService\""
    )]
    Account(String),
    #[error(
        "the service {name} ended with code {code}{}: its log, by default in the folder `logs` of its state folder, has the reason",
        meaning(*.code)
    )]
    Ended { name: String, code: u32 },
    #[error("the service {name} is still {state} after {} s: its log, by default in the folder `logs` of its state folder, may have the reason", PATIENCE.as_secs())]
    Slow { name: String, state: &'static str },
    #[error(
        "`conductor service run` is for the service manager alone: start the service with `conductor service start`, or run a host in this window with `conductor run`"
    )]
    NotAService,
    #[error("service {0}: {1}")]
    Other(String, String),
}

impl ServiceError {
    /// Returns the reason for an error about the service `name`.
    pub(super) fn of(name: &str, error: windows_service::Error) -> Self {
        match error {
            windows_service::Error::Winapi(error) => Self::of_system(name, &error),
            error => Self::Other(name.to_owned(), error.to_string()),
        }
    }

    /// Returns the reason for an error of the system's.
    pub(super) fn of_system(name: &str, error: &io::Error) -> Self {
        let name = name.to_owned();
        match error.raw_os_error().map(i32::cast_unsigned) {
            Some(ERROR_ACCESS_DENIED) => Self::Denied(name),
            Some(ERROR_SERVICE_DOES_NOT_EXIST) => Self::Missing(name),
            Some(ERROR_SERVICE_EXISTS) => Self::Exists(name),
            Some(ERROR_SERVICE_MARKED_FOR_DELETE) => Self::Removing(name),
            Some(ERROR_SERVICE_NOT_ACTIVE) => Self::NotRunning(name),
            Some(ERROR_INVALID_SERVICE_ACCOUNT | ERROR_SERVICE_LOGON_FAILED) => Self::Account(name),
            Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) => Self::NotAService,
            _ => Self::Other(name, error.to_string()),
        }
    }
}

impl From<ServiceError> for CliError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::NotAService => Self::Usage(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}

/// Returns the meaning of the program's exit code that a service reports, in parentheses.
fn meaning(code: u32) -> String {
    let known = EXIT_CODES
        .iter()
        .find(|(known, _)| u32::from(*known) == code);
    known.map_or_else(String::new, |(_, meaning)| format!(" ({meaning})"))
}
