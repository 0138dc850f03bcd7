//! Pinned keys and certificates.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

/// The SHA-256 hash of a public key or of a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PinnedHash {
    Key([u8; SHA256_OUTPUT_LEN]),
    Certificate([u8; SHA256_OUTPUT_LEN]),
}

/// A text that is not a hash.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a SHA-256 hash; write that of the public key in 44 characters of base64, or that of the certificate in 64 hex digits"
)]
pub(super) struct PinError;

impl FromStr for PinnedHash {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let encoded = text.strip_prefix("sha256//").unwrap_or(text);
        if let Ok(key) = BASE64_STANDARD.decode(encoded)
            && let Ok(key) = key.try_into()
        {
            return Ok(Self::Key(key));
        }
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let hash: Option<Vec<u8>> = digits.chunks(2).map(hex).collect();
        let hash = hash.ok_or(PinError)?.try_into().map_err(|_| PinError)?;
        Ok(Self::Certificate(hash))
    }
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The certificate has none of the pinned hashes.
#[derive(Debug, thiserror::Error)]
pub(super) struct PinMismatch {
    /// The hash of its public key; `None` if it cannot be read.
    found: Option<PinnedHash>,
}

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("has none of the hashes in `pin_sha256`")?;
        match self.found {
            Some(PinnedHash::Key(hash)) => {
                write!(f, "; its key has sha256//{}", BASE64_STANDARD.encode(hash))
            }
            _ => Ok(()),
        }
    }
}

/// Checks that a certificate has one of the pinned hashes; without any, every certificate passes.
pub(super) fn verify(pins: &[PinnedHash], certificate: &[u8]) -> Result<(), PinMismatch> {
    if pins.is_empty() {
        return Ok(());
    }
    let found = hash_of_key(certificate).map(PinnedHash::Key);
    let whole = PinnedHash::Certificate(sha256(certificate));
    let is_pinned = |pin: &PinnedHash| Some(*pin) == found || *pin == whole;
    if pins.iter().any(is_pinned) {
        Ok(())
    } else {
        Err(PinMismatch { found })
    }
}

fn hash_of_key(certificate: &[u8]) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let key = certificate.tbs_certificate().subject_public_key_info();
    Some(sha256(&key.to_der().ok()?))
}

fn sha256(bytes: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_as_curl_and_openssl_write_them() {
        let base64 = BASE64_STANDARD.encode([7; 32]);
        let key = PinnedHash::Key([7; 32]);
        assert_eq!(base64.parse::<PinnedHash>().unwrap(), key);
        let with_prefix = format!("sha256//{base64}");
        assert_eq!(with_prefix.parse::<PinnedHash>().unwrap(), key);
        let certificate = PinnedHash::Certificate([0xab; 32]);
        for hex in ["ab".repeat(32), vec!["AB"; 32].join(":")] {
            assert_eq!(hex.parse::<PinnedHash>().unwrap(), certificate);
        }
        for wrong in ["", "ab", "sha256//", "+a".repeat(32).as_str(), "ä"] {
            assert!(wrong.parse::<PinnedHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_certificate_without_a_pinned_hash_is_refused_with_its_own() {
        let mismatch = verify(&[PinnedHash::Key([7; 32])], b"no certificate").unwrap_err();
        assert!(mismatch.to_string().contains("`pin_sha256`"), "{mismatch}");
        let whole = PinnedHash::Certificate(sha256(b"no certificate"));
        assert!(verify(&[whole], b"no certificate").is_ok());
        assert!(verify(&[], b"no certificate").is_ok());
    }
}
