//! Why a check got no further, and whose fault that is.

use std::{fmt, io};

use conductor_plugin_api::Failure;

#[derive(Debug)]
pub(crate) enum Obstacle {
    /// The platform is bad; the message becomes that of an unhealthy report.
    Platform(String),
    /// We could not find out.
    Ours(Failure),
}

impl Obstacle {
    /// Judges what a socket said when we did `what`.
    pub(crate) fn of(what: impl fmt::Display, error: &io::Error) -> Self {
        if is_platforms(error) {
            Self::Platform(format!("{what}: {}", error.kind()))
        } else {
            Self::Ours(Failure::new(format!("{what}: {error}")))
        }
    }
}

/// Whether the other side caused this error. What is not listed here is trouble of this machine: no route, no network,
/// no descriptors, no ports, no permission.
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
