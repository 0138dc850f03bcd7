//! The certificates that a server presents, also those that are refused.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use x509_cert::{Certificate, der::Decode};

use super::{
    pin::{self, PinnedHash},
    trust::TrustAnchors,
    version1,
};

/// The certificates that a server presented, trusted or not.
#[derive(Clone, Debug)]
pub struct PresentedChain {
    /// The server's own certificate, then the others in the order of the server.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The stapled OCSP response, as DER; empty without one.
    pub ocsp_response: Vec<u8>,
    /// `None` if the chain is not trusted, or need not be.
    verified: Option<VerifiedChain>,
}

/// The verification that a chain has passed.
#[derive(Clone, Debug)]
struct VerifiedChain {
    trust: TrustAnchors,
    server_name: ServerName<'static>,
    now: UnixTime,
}

impl PresentedChain {
    /// Returns the Unix time until which the server's own certificate is valid.
    pub fn expiry(&self) -> Option<f64> {
        expiry(self.certificates.first()?)
    }

    /// Returns the server's own certificate, then those of issuers without which it would not be trusted.
    ///
    /// A server may send more: a certificate that leads to a former CA, or one of no use. If the chain is not trusted,
    /// need not be, or has an unusual length, all of its certificates are returned.
    pub fn needed(&self) -> Vec<CertificateDer<'static>> {
        let (Some(verified), [own, others @ ..]) = (&self.verified, &*self.certificates) else {
            return self.certificates.clone();
        };
        if others.len() > MAX_OTHERS {
            return self.certificates.clone();
        }
        // The first to expire is left out first: the rest lasts longest.
        let mut by_expiry: Vec<_> = others.iter().collect();
        by_expiry.sort_by(|one, two| {
            let of = |der: &CertificateDer<'_>| expiry(der).unwrap_or(f64::NEG_INFINITY);
            of(one).total_cmp(&of(two))
        });
        let mut needed = others.to_vec();
        for candidate in by_expiry {
            let rest: Vec<_> = needed
                .iter()
                .filter(|der| *der != candidate)
                .cloned()
                .collect();
            if verified.trusts(own, &rest) {
                needed = rest;
            }
        }
        [vec![own.clone()], needed].concat()
    }
}

impl VerifiedChain {
    fn trusts(&self, own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> bool {
        let TrustAnchors(verifier) = &self.trust;
        verifier
            .verify_server_cert(own, others, &self.server_name, &[], self.now)
            .is_ok()
    }
}

/// Returns the Unix time until which a certificate is valid.
fn expiry(certificate: &[u8]) -> Option<f64> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let not_after = certificate.tbs_certificate().validity().not_after;
    Some(not_after.to_unix_duration().as_secs_f64())
}

/// Verifies as its trust and its pins say, and records what the server presents even if it is refused: for an expired
/// certificate, the operator wants to know the expiry date.
#[derive(Debug)]
pub(super) struct ChainRecorder {
    /// `None` to trust any certificate.
    trust: Option<TrustAnchors>,
    pins: Arc<[PinnedHash]>,
    algorithms: WebPkiSupportedAlgorithms,
    presented: Mutex<Option<PresentedChain>>,
}

impl ChainRecorder {
    pub(super) fn new(trust: Option<TrustAnchors>, pins: Arc<[PinnedHash]>) -> Self {
        Self {
            trust,
            pins,
            algorithms: ring::default_provider().signature_verification_algorithms,
            presented: Mutex::default(),
        }
    }

    /// Returns the server's certificates; `None` if the handshake ended before they came.
    pub(super) fn presented(&self) -> Option<PresentedChain> {
        self.update(Option::take)
    }

    fn update<T>(&self, change: impl FnOnce(&mut Option<PresentedChain>) -> T) -> T {
        change(
            &mut self
                .presented
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl ServerCertVerifier for ChainRecorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = [end_entity].into_iter().chain(intermediates);
        let presented = PresentedChain {
            certificates: chain.map(|der| der.clone().into_owned()).collect(),
            ocsp_response: ocsp_response.to_vec(),
            verified: None,
        };
        self.update(|recorded| *recorded = Some(presented));
        if let Some(TrustAnchors(verifier)) = &self.trust {
            verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            )?;
            let verified = VerifiedChain {
                trust: TrustAnchors(verifier.clone()),
                server_name: server_name.to_owned(),
                now,
            };
            self.update(|recorded| {
                if let Some(chain) = recorded {
                    chain.verified = Some(verified);
                }
            });
        }
        pin::verify(&self.pins, end_entity).map_err(|mismatch| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(mismatch))))
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match version1::parse(cert) {
            Some(cert) => version1::verify_handshake(message, &cert, dss, &self.algorithms),
            None => verify_tls12_signature(message, cert, dss, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match version1::parse(cert) {
            Some(cert) if version1::is_of_tls13(dss.scheme) => {
                version1::verify_handshake(message, &cert, dss, &self.algorithms)
            }
            _ => verify_tls13_signature(message, cert, dss, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Most certificates that are tried out in addition to the server's own; a usual chain has one to three.
const MAX_OTHERS: usize = 10;

#[cfg(test)]
mod tests {
    use super::expiry;

    #[test]
    fn bytes_that_are_no_certificate_have_no_expiry() {
        assert_eq!(expiry(b"no certificate"), None);
    }
}
