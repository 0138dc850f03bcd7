//! Certificates of X.509 version 1, which `openssl x509 -req` makes unless it is given extensions.
//!
//! webpki refuses them. Other clients accept them from a server: without extensions they have no other purpose.

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, SignatureVerificationAlgorithm},
};
use x509_cert::{
    Certificate, Version,
    der::{Decode, Encode, asn1::AnyRef},
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};

/// Returns a certificate if it is of version 1.
pub(super) fn parse(certificate: &CertificateDer<'_>) -> Option<Certificate> {
    let parsed = Certificate::from_der(certificate).ok()?;
    (parsed.tbs_certificate().version() == Version::V1).then_some(parsed)
}

/// Returns `true` if one of these certificates has issued a certificate.
pub(super) fn is_issued_by_one<'a>(
    mut issuers: impl Iterator<Item = &'a CertificateDer<'static>>,
    certificate: &Certificate,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Ok(message) = certificate.tbs_certificate().to_der() else {
        return false;
    };
    let signature = certificate.signature().raw_bytes();
    issuers.any(|issuer| {
        let Ok(issuer) = Certificate::from_der(issuer) else {
            return false;
        };
        let issuer = issuer.tbs_certificate();
        let key = issuer.subject_public_key_info();
        let algorithm = contents(certificate.signature_algorithm());
        issuer.subject() == certificate.tbs_certificate().issuer()
            && algorithms
                .all
                .iter()
                .filter(|known| Some(known.signature_alg_id().as_ref()) == algorithm.as_deref())
                .any(|known| is_signed(*known, key, &message, signature))
    })
}

/// Verifies that the server has the key of its certificate of version 1.
pub(super) fn verify_handshake(
    message: &[u8],
    certificate: &Certificate,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = certificate.tbs_certificate().subject_public_key_info();
    let mut mapping = algorithms.mapping.iter();
    let known = mapping.find(|(scheme, _)| *scheme == signed.scheme);
    let mut known = known.into_iter().flat_map(|(_, known)| known.iter());
    match known.any(|known| is_signed(*known, key, message, signed.signature())) {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
    }
}

/// Returns `true` if TLS 1.3 has this scheme for handshakes.
pub(super) fn is_of_tls13(scheme: SignatureScheme) -> bool {
    !matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
    )
}

fn is_signed(
    algorithm: &dyn SignatureVerificationAlgorithm,
    key: &SubjectPublicKeyInfoOwned,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let key_algorithm = contents(&key.algorithm);
    Some(algorithm.public_key_alg_id().as_ref()) == key_algorithm.as_deref()
        && algorithm
            .verify_signature(key.subject_public_key.raw_bytes(), message, signature)
            .is_ok()
}

/// Returns an identifier without its outer sequence, as rustls has it.
fn contents(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let der = algorithm.to_der().ok()?;
    Some(AnyRef::from_der(&der).ok()?.value().to_vec())
}
