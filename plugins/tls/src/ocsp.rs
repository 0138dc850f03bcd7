//! Stapled OCSP responses (RFC 6960): the status of the server's certificate, by its CA.

use std::time::Duration;

use conductor_plugin_api::Report;
use ring::digest::{self, digest};
use tokio_rustls::rustls::crypto::ring::default_provider;
use x509_cert::{
    Certificate,
    der::{
        Decode, Encode, Error, Reader as _, SliceReader,
        asn1::{AnyRef, BitString},
        oid::{AssociatedOid as _, ObjectIdentifier},
    },
    ext::pkix::ExtendedKeyUsage,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};
use x509_ocsp::{BasicOcspResponse, CertId, CertStatus, OcspResponse, OcspResponseStatus};

use crate::{OCSP_NEXT_UPDATE, OCSP_STATUS, OCSP_VERIFIED, verdict::whole_days};

/// The response about one certificate.
#[derive(Clone, Debug)]
pub(crate) struct OcspFacts {
    status: RevocationStatus,
    /// Since 1970.
    this_update: Duration,
    next_update: Option<Duration>,
    /// `false` if the server does not send the certificate of the CA, or the algorithm of the signature is not known.
    is_verified: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RevocationStatus {
    Good,
    /// Since 1970.
    Revoked(Duration),
    Unknown,
}

/// The reason why a response does not vouch for the certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum OcspFault {
    #[error("the stapled OCSP response cannot be read")]
    Malformed,
    #[error(
        "the stapled OCSP response is an error of the CA ({0:?}); restart the server or renew it"
    )]
    Refused(OcspResponseStatus),
    #[error("the stapled OCSP response is for another certificate")]
    OtherCertificate,
    #[error("the stapled OCSP response is not signed by the CA of the certificate")]
    Signature,
    #[error("the certificate was revoked {0} ago, by the stapled OCSP response")]
    Revoked(String),
    #[error("the CA does not know the certificate, by the stapled OCSP response")]
    Unknown,
    #[error("the stapled OCSP response becomes valid in {0}; correct the clock")]
    Early(String),
    #[error("the stapled OCSP response expired {0} ago; the server must renew it")]
    Expired(String),
}

impl OcspFacts {
    /// Reads a response to the first certificate of `chain`, and verifies its signature if the chain has the issuer.
    ///
    /// # Errors
    /// If the response cannot be read, is for another certificate, or is signed by another CA.
    pub(crate) fn read(
        response: &[u8],
        chain: &[Vec<u8>],
        now: Duration,
    ) -> Result<Self, OcspFault> {
        let parsed: Vec<_> = chain
            .iter()
            .filter_map(|der| Certificate::from_der(der).ok())
            .collect();
        let own = parsed.first().ok_or(OcspFault::OtherCertificate)?;
        let issuer = parsed
            .iter()
            .find(|other| other.tbs_certificate.subject == own.tbs_certificate.issuer);
        let bytes = basic_response(response)?;
        let malformed = |_: Error| OcspFault::Malformed;
        let basic = BasicOcspResponse::from_der(&bytes).map_err(malformed)?;
        let responses = &basic.tbs_response_data.responses;
        let single = responses
            .iter()
            .find(|single| is_about(&single.cert_id, own, issuer));
        let single = single.ok_or(OcspFault::OtherCertificate)?;
        let is_verified = match issuer {
            Some(issuer) => verify(&bytes, &basic, issuer, now)?,
            None => false,
        };
        Ok(Self {
            status: match single.cert_status {
                CertStatus::Good(_) => RevocationStatus::Good,
                CertStatus::Revoked(info) => {
                    RevocationStatus::Revoked(info.revocation_time.0.to_unix_duration())
                }
                CertStatus::Unknown(_) => RevocationStatus::Unknown,
            },
            this_update: single.this_update.0.to_unix_duration(),
            next_update: single.next_update.map(|time| time.0.to_unix_duration()),
            is_verified,
        })
    }

    /// Returns the reason why the response does not vouch for the certificate at a time since 1970.
    pub(crate) fn fault(&self, now: Duration) -> Option<OcspFault> {
        // A revocation does not expire.
        if let RevocationStatus::Revoked(since) = self.status {
            return Some(OcspFault::Revoked(whole_days(now.saturating_sub(since))));
        }
        if self.this_update > now + MAX_SKEW {
            return Some(OcspFault::Early(whole_days(self.this_update - now)));
        }
        if let Some(end) = self.next_update.filter(|end| *end < now) {
            return Some(OcspFault::Expired(whole_days(now - end)));
        }
        (self.status == RevocationStatus::Unknown).then_some(OcspFault::Unknown)
    }

    /// Adds the status and its validity to the report.
    pub(crate) fn measure(&self, report: Report) -> Report {
        let status = match self.status {
            RevocationStatus::Good => 0.0,
            RevocationStatus::Revoked(_) => 1.0,
            RevocationStatus::Unknown => 2.0,
        };
        let is_verified = f64::from(u8::from(self.is_verified));
        let report = report
            .set(&OCSP_STATUS, [], status)
            .set(&OCSP_VERIFIED, [], is_verified);
        match self.next_update {
            Some(end) => report.set(&OCSP_NEXT_UPDATE, [], end.as_secs_f64()),
            None => report,
        }
    }
}

/// Returns the part of a response that is signed, with its signature.
fn basic_response(response: &[u8]) -> Result<Vec<u8>, OcspFault> {
    let response = OcspResponse::from_der(response).map_err(|_| OcspFault::Malformed)?;
    match (response.response_status, response.response_bytes) {
        (OcspResponseStatus::Successful, Some(bytes))
            if bytes.response_type == BasicOcspResponse::OID =>
        {
            Ok(bytes.response.into_bytes())
        }
        (OcspResponseStatus::Successful, _) => Err(OcspFault::Malformed),
        (refused, _) => Err(OcspFault::Refused(refused)),
    }
}

/// Returns `true` if a response is about this certificate: its number, and the name and key of its issuer.
fn is_about(id: &CertId, own: &Certificate, issuer: Option<&Certificate>) -> bool {
    let algorithm = match id.hash_algorithm.oid {
        SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        SHA256 => &digest::SHA256,
        SHA384 => &digest::SHA384,
        SHA512 => &digest::SHA512,
        _ => return false,
    };
    let is_hash_of = |hash: &[u8], bytes: &[u8]| digest(algorithm, bytes).as_ref() == hash;
    let own = &own.tbs_certificate;
    let name = own.issuer.to_der();
    let has_key = |issuer: &Certificate| {
        let key = &issuer.tbs_certificate.subject_public_key_info;
        let key = key.subject_public_key.raw_bytes();
        is_hash_of(id.issuer_key_hash.as_bytes(), key)
    };
    id.serial_number == own.serial_number
        && name.is_ok_and(|name| is_hash_of(id.issuer_name_hash.as_bytes(), &name))
        && issuer.is_none_or(has_key)
}

/// Verifies a response that the issuer signed, or a responder to which it issued a certificate for that purpose.
///
/// Returns `false` if the algorithm of the signature is not known.
fn verify(
    bytes: &[u8],
    basic: &BasicOcspResponse,
    issuer: &Certificate,
    now: Duration,
) -> Result<bool, OcspFault> {
    let message = signed_part(bytes).map_err(|_| OcspFault::Malformed)?;
    let key = &issuer.tbs_certificate.subject_public_key_info;
    let responders = basic.certs.iter().flatten();
    let responders = responders
        .filter(|certificate| is_responder(certificate, issuer, now))
        .map(|certificate| &certificate.tbs_certificate.subject_public_key_info);
    let mut is_known = false;
    for key in [key].into_iter().chain(responders) {
        let algorithm = &basic.signature_algorithm;
        match is_signed(message, algorithm, &basic.signature, key) {
            Some(true) => return Ok(true),
            Some(false) => is_known = true,
            None => {}
        }
    }
    match is_known {
        true => Err(OcspFault::Signature),
        false => Ok(false),
    }
}

/// Returns `true` if a certificate allows to sign responses for this issuer: RFC 6960, section 4.2.2.2.
fn is_responder(certificate: &Certificate, issuer: &Certificate, now: Duration) -> bool {
    let tbs = &certificate.tbs_certificate;
    let begin = tbs.validity.not_before.to_unix_duration();
    let end = tbs.validity.not_after.to_unix_duration();
    let may_sign = match tbs.get::<ExtendedKeyUsage>() {
        Ok(Some((_, usage))) => usage.0.contains(&OCSP_SIGNING),
        _ => false,
    };
    let key = &issuer.tbs_certificate.subject_public_key_info;
    let is_issued = certificate.to_der().is_ok_and(|der| {
        signed_part(&der).is_ok_and(|message| {
            let algorithm = &certificate.signature_algorithm;
            is_signed(message, algorithm, &certificate.signature, key) == Some(true)
        })
    });
    (begin..end).contains(&now) && may_sign && is_issued
}

/// Returns the first element of a sequence, as it is encoded.
fn signed_part(sequence: &[u8]) -> Result<&[u8], Error> {
    let content = AnyRef::from_der(sequence)?.value();
    SliceReader::new(content)?.tlv_bytes()
}

/// Returns `None` if the algorithm is not known for this key.
fn is_signed(
    message: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    signature: &BitString,
    key: &SubjectPublicKeyInfoOwned,
) -> Option<bool> {
    let (algorithm, key_algorithm) = (algorithm.to_der().ok()?, key.algorithm.to_der().ok()?);
    let algorithm = AnyRef::from_der(&algorithm).ok()?.value();
    let key_algorithm = AnyRef::from_der(&key_algorithm).ok()?.value();
    let key = key.subject_public_key.raw_bytes();
    let provider = default_provider();
    let known = provider.signature_verification_algorithms.all.iter();
    let known = known.filter(|known| {
        known.signature_alg_id().as_ref() == algorithm
            && known.public_key_alg_id().as_ref() == key_algorithm
    });
    known
        .map(|known| known.verify_signature(key, message, signature.raw_bytes()))
        .map(|verified| verified.is_ok())
        .reduce(|one, other| one || other)
}

const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// The purpose of a responder's certificate.
const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");

/// Clocks of CAs may be ahead by this much.
const MAX_SKEW: Duration = Duration::from_secs(5 * 60);
