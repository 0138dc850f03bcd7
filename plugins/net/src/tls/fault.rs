//! Errors of a TLS handshake, as the fault of the platform or of this machine.

use std::io;

use conductor_plugin_api::Failure;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, OtherError};

use super::pin::PinMismatch;
use crate::check_error::CheckError;

/// Judges the error of a handshake with `host`.
pub(super) fn judge(host: &str, error: &io::Error) -> CheckError {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    let what = match cause {
        Some(Error::InvalidCertificate(error)) => untrusted(host, error),
        Some(error @ (Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes)) => {
            return CheckError::Host(Failure::new(format!("cannot set up TLS: {error}")));
        }
        Some(Error::InvalidMessage(_)) => {
            format!("{host} does not speak valid TLS on this port ({error})")
        }
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            format!("{host} requires a client certificate; name one in `tls.client_cert`")
        }
        Some(error) => format!("the TLS handshake failed: {error}"),
        None => return CheckError::of("the TLS handshake failed", error),
    };
    CheckError::Platform(what)
}

/// Returns `true` if a handshake ended like one with a server that has none of the offered cipher suites: by its alert, or by
/// closing the connection, as some do.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    use AlertDescription as Alert;
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match cause {
        Some(Error::AlertReceived(alert)) => matches!(
            alert,
            Alert::HandshakeFailure | Alert::InsufficientSecurity | Alert::ProtocolVersion
        ),
        Some(_) => false,
        None => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        ),
    }
}

fn untrusted(host: &str, error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / SECONDS_PER_DAY;
            format!("the certificate of {host} expired {days} days ago")
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let days = not_before.as_secs().saturating_sub(time.as_secs()) / SECONDS_PER_DAY;
            format!("the certificate of {host} becomes valid in {days} days")
        }
        CertificateError::UnknownIssuer => format!(
            "the certificate of {host} is from an unknown CA; to trust it, name the CA in `ca_file`"
        ),
        CertificateError::BadSignature => {
            format!("the certificate of {host} names a trusted CA, but is signed with another key")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            // rustls formats them as DnsName("shop.example").
            let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
            let names: Vec<_> = presented.iter().take(3).map(bare).collect();
            format!(
                "the certificate is not for {host} but for {}",
                names.join(", ")
            )
        }
        // Of ours: it has a verb.
        CertificateError::Other(OtherError(error)) if error.is::<PinMismatch>() => {
            format!("the certificate of {host} {error}")
        }
        error => format!("the certificate of {host} is not valid: {error}"),
    }
}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
