//! Verification of a server's certificate: issued by a trusted CA, or itself among the trusted certificates.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_cert::{
    Certificate,
    der::{Decode, asn1::ObjectIdentifier},
};

use super::version1;

/// The usual verification, and if that fails, an exact match with one of the trusted certificates.
///
/// A self-signed certificate from `openssl req -x509` is marked as a CA, which the usual verification rejects for a
/// server, even if that exact certificate is trusted. Its names and dates are still checked.
#[derive(Debug)]
pub(crate) struct ExactOrIssued {
    issued: Arc<WebPkiServerVerifier>,
    trusted: HashSet<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ExactOrIssued {
    /// Trusts certificates issued by one of `roots`, and the certificates `trusted`; `None` without any root.
    pub(crate) fn new(roots: RootCertStore, trusted: Vec<CertificateDer<'static>>) -> Option<Self> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let issued = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Some(Self {
            algorithms,
            issued: issued.build().ok()?,
            trusted: trusted.into_iter().collect(),
        })
    }
}

impl ServerCertVerifier for ExactOrIssued {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .issued
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        let Err(error) = verified else {
            return verified;
        };
        if let Some(parsed) = version1::parse(certificate) {
            let is_trusted = self.trusted.contains(certificate)
                || version1::is_issued_by_one(self.trusted.iter(), &parsed, &self.algorithms);
            if !is_trusted {
                return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
            }
            verify_dates(certificate, now).map_err(Error::InvalidCertificate)?;
            if !has_only_common_name(certificate, name) {
                return Err(Error::InvalidCertificate(
                    CertificateError::NotValidForNameContext {
                        expected: name.to_owned(),
                        presented: common_name(certificate).into_iter().collect(),
                    },
                ));
            }
            return Ok(ServerCertVerified::assertion());
        }
        // The issuer and the dates are verified before the name.
        let is_for_another_name = matches!(
            error,
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
        );
        if is_for_another_name && has_only_common_name(certificate, name) {
            return Ok(ServerCertVerified::assertion());
        }
        // The usual verification has better messages for names and dates.
        let has_other_fault = matches!(
            error,
            Error::InvalidCertificate(
                CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYetContext { .. }
                    | CertificateError::NotValidForNameContext { .. }
            )
        );
        if has_other_fault || !self.trusted.contains(certificate) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        verify_dates(certificate, now).map_err(Error::InvalidCertificate)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}

/// Returns `true` if a certificate without alternative names has this name as its subject's common name, as those that
/// private CAs issued for long; curl still accepts them.
fn has_only_common_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let Ok(parsed) = Certificate::from_der(certificate) else {
        return false;
    };
    let parsed = parsed.tbs_certificate();
    let mut extensions = parsed.extensions().into_iter().flatten();
    let Some(common_name) = common_name(certificate) else {
        return false;
    };
    let name = name.to_str();
    let name = name.strip_suffix('.').unwrap_or(&name);
    extensions.all(|extension| extension.extn_id != SUBJECT_ALT_NAME)
        && common_name.eq_ignore_ascii_case(name)
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let common_name = parsed.tbs_certificate().subject().common_name().ok()??;
    Some(common_name.value().to_string())
}

fn verify_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let parsed = Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let validity = parsed.tbs_certificate().validity();
    let time = |duration: Duration| UnixTime::since_unix_epoch(duration);
    let not_before = time(validity.not_before.to_unix_duration());
    let not_after = time(validity.not_after.to_unix_duration());
    if now < not_before {
        return Err(CertificateError::NotValidYetContext {
            time: now,
            not_before,
        });
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext {
            time: now,
            not_after,
        });
    }
    Ok(())
}

/// RFC 5280, section 4.2.1.6.
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
