//! The error that ends a check: the platform's fault, or this machine's.

use std::{fmt, io};

use conductor_plugin_api::{Failure, Report};

/// The reason why a check could not continue.
///
/// It is not a [`std::error::Error`]: `?` would then turn a bad platform into a [`Failure`].
#[derive(Debug)]
pub enum CheckError {
    /// The platform is bad; the message becomes that of an unhealthy report.
    Platform(String),
    /// The platform works, as far as it could be checked; the message becomes that of a degraded report.
    Degraded(String),
    /// This machine could not tell.
    Host(Failure),
}

impl CheckError {
    /// Judges the error of a socket; `what` was attempted, as in "cannot send".
    pub fn of(what: impl fmt::Display, error: &io::Error) -> Self {
        if is_platforms(error) {
            Self::Platform(format!("{what}: {}", error.kind()))
        } else {
            Self::Host(Failure::new(format!("{what}: {error}")))
        }
    }

    /// Returns the report of a check that ended with this error: unhealthy or degraded, if it is the platform's.
    ///
    /// # Errors
    /// The failure, if this machine could not tell.
    pub fn into_report(self) -> Result<Report, Failure> {
        match self {
            Self::Platform(message) => Ok(Report::unhealthy(message)),
            Self::Degraded(message) => Ok(Report::degraded(message)),
            Self::Host(failure) => Err(failure),
        }
    }
}

/// Returns true if the other side caused this error. All others are this machine's: no route, no network, no
/// descriptors, no ports, no permission.
fn is_platforms(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::HostUnreachable
            | Kind::TimedOut
            | Kind::BrokenPipe
            | Kind::NotConnected
            | Kind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind as Kind;

    use super::*;

    #[test]
    fn errors_of_this_machine_are_failures_and_those_of_the_platform_are_not() {
        for kind in [
            Kind::ConnectionRefused,
            Kind::ConnectionReset,
            Kind::HostUnreachable,
            Kind::BrokenPipe,
            Kind::UnexpectedEof,
        ] {
            let error = CheckError::of("x", &kind.into());
            assert!(matches!(error, CheckError::Platform(_)), "{kind}");
        }
        for kind in [
            Kind::NetworkUnreachable,
            Kind::NetworkDown,
            Kind::PermissionDenied,
            Kind::AddrNotAvailable,
            Kind::OutOfMemory,
        ] {
            let error = CheckError::of("x", &kind.into());
            assert!(matches!(error, CheckError::Host(_)), "{kind}");
        }
        #[cfg(target_os = "linux")]
        {
            const EMFILE: i32 = 24;
            let error = CheckError::of("cannot connect", &io::Error::from_raw_os_error(EMFILE));
            assert!(
                matches!(&error, CheckError::Host(f) if f.message().contains("Too many open files")),
                "{error:?}"
            );
        }
    }
}
