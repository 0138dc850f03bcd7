//! Trusted CAs: the system's, or those of a file.

use std::{io, path::Path, sync::Arc};

use conductor_plugin_api::Failure;
use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::exact_match::ExactOrIssued;

/// The CAs to trust.
#[derive(Clone, Debug)]
pub(crate) struct TrustAnchors(pub(super) Arc<ExactOrIssued>);

/// Reads the CAs of this system.
pub(crate) fn system() -> Result<TrustAnchors, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    trusting(found.certs).ok_or_else(|| no_system_roots(&errors))
}

fn no_system_roots(errors: &[String]) -> Failure {
    let why = if errors.is_empty() {
        String::new()
    } else {
        format!(" ({})", errors.join("; "))
    };
    Failure::new(format!(
        "no CA certificates found on this system{why}; install them (on Debian: ca-certificates) or name a `ca_file`"
    ))
}

/// Returns trust in the CAs of one file alone.
///
/// `plugin` is the id of the plugin, which messages name.
pub(crate) fn of_file(path: &Path, plugin: &str) -> Result<TrustAnchors, Failure> {
    let refuse = |why: String| Failure::config(format!("key `ca_file`: {path:?}: {why}"));
    // We read it, so that the reason of a failure is the system's own.
    let pem = read_small(path, plugin).map_err(refuse)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(format!("not valid PEM ({error}); replace the file")))?;
    let found = certificates.len();
    trusting(certificates).ok_or_else(|| {
        refuse(match found {
            0 => "it contains no certificate; it needs at least one PEM block of -----BEGIN CERTIFICATE-----".to_owned(),
            n => format!("none of its {n} certificates can be a trusted CA; export them again as X.509"),
        })
    })
}

/// Reads a regular file of a plausible size for certificates; a device or a pipe might never end.
pub(super) fn read_small(path: &Path, plugin: &str) -> Result<Vec<u8>, String> {
    let found = std::fs::metadata(path).map_err(|error| unreadable(path, plugin, &error))?;
    if found.is_dir() {
        return Err("it is a folder; name the PEM file in it".to_owned());
    }
    if !found.is_file() {
        return Err("it is not a regular file; name a PEM file".to_owned());
    }
    if found.len() > MAX_CA_FILE {
        return Err(format!(
            "it has {} bytes, more than the {MAX_CA_FILE} that are read; name a file with the certificates alone",
            found.len()
        ));
    }
    std::fs::read(path).map_err(|error| unreadable(path, plugin, &error))
}

fn unreadable(path: &Path, plugin: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{error}; create it, or correct the path"),
        // The author of a plugin cannot declare a path that an operator will choose.
        io::ErrorKind::PermissionDenied => format!(
            "{error}; make it readable by the host's user, and let the plugin read it: add `read {}` to `[plugin.{plugin}] allow`, as in allow = [\"network\", \"read {}\"]",
            path.display(),
            path.display()
        ),
        _ => error.to_string(),
    }
}

/// Returns `None` if there is no usable certificate.
fn trusting(certificates: Vec<CertificateDer<'static>>) -> Option<TrustAnchors> {
    let mut roots = RootCertStore::empty();
    // The verifier refuses an empty store.
    let _ = roots.add_parsable_certificates(certificates.iter().cloned());
    let verifier = ExactOrIssued::new(roots, certificates)?;
    Some(TrustAnchors(Arc::new(verifier)))
}

/// Longest CA file that is read, in bytes; the largest bundles have some 300 kB.
const MAX_CA_FILE: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use conductor_plugin_api::FailureKind;

    use super::*;

    #[test]
    fn a_ca_file_that_the_plugin_may_not_read_is_reported_with_the_cure() {
        let denied = io::ErrorKind::PermissionDenied.into();
        let message = unreadable("/x/ca.pem".as_ref(), "ldap", &denied);
        assert!(message.starts_with("permission denied"), "{message}");
        for part in [
            "`[plugin.ldap] allow`",
            r#"allow = ["network", "read /x/ca.pem"]"#,
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_system_without_cas_is_a_failure_with_a_cure() {
        let failure = no_system_roots(&["cannot read /etc/ssl".to_owned()]);
        assert_eq!(failure.kind(), FailureKind::Error);
        for part in ["cannot read /etc/ssl", "ca-certificates", "`ca_file`"] {
            assert!(failure.message().contains(part), "{failure}");
        }
    }
}
