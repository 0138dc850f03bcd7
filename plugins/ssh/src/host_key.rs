//! Host keys: their types, their fingerprints as OpenSSH prints them, and their signatures.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use conductor_plugin_api::schemars;
use ring::{
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
        VerificationAlgorithm,
    },
};
use serde::Deserialize;

use crate::encoding::PacketReader;

/// Type of a host key.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HostKeyType {
    /// Ed25519.
    Ed25519,
    /// ECDSA with NIST P-256 or P-384.
    Ecdsa,
    /// RSA, with signatures by SHA-2.
    Rsa,
}

impl HostKeyType {
    /// Returns the signature algorithms, in the order of preference.
    pub(crate) fn algorithms(self) -> &'static [&'static str] {
        match self {
            Self::Ed25519 => &["ssh-ed25519"],
            Self::Ecdsa => &["ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"],
            Self::Rsa => &["rsa-sha2-512", "rsa-sha2-256"],
        }
    }

    /// The signature algorithms of all types, in the order of preference.
    pub(crate) const ALL: [Self; 3] = [Self::Ed25519, Self::Ecdsa, Self::Rsa];
}

impl fmt::Display for HostKeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "ED25519",
            Self::Ecdsa => "ECDSA",
            Self::Rsa => "RSA",
        })
    }
}

/// The SHA-256 hash of a host key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fingerprint([u8; SHA256_OUTPUT_LEN]);

/// A text that is not a fingerprint.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a fingerprint; write it as `ssh-keygen -lf FILE` prints it: SHA256: and 43 characters of base64"
)]
pub(crate) struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let encoded = text.strip_prefix("SHA256:").ok_or(FingerprintError)?;
        let encoded = encoded.trim_end_matches('=');
        let hash = BASE64_STANDARD_NO_PAD.decode(encoded);
        let hash = hash.map_err(|_| FingerprintError)?;
        hash.try_into().map(Self).map_err(|_| FingerprintError)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", BASE64_STANDARD_NO_PAD.encode(self.0))
    }
}

/// A public key as a server sends it.
pub(crate) struct HostKey<'a>(pub(crate) &'a [u8]);

/// The reason why a server does not prove that it has its host key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    #[error("the host key is not one of the algorithm {0}")]
    Key(&'static str),
    #[error("the RSA host key has {0} bits, expected at least 2048")]
    Short(usize),
    #[error("the signature of the host key is wrong: the server does not have this key")]
    Signature,
}

impl HostKey<'_> {
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, self.0).as_ref());
        Fingerprint(hash)
    }

    /// Verifies that the owner of this key signed the exchange, with the algorithm that was agreed on.
    pub(crate) fn verify(
        &self,
        algorithm: &'static str,
        exchange: &[u8],
        signature: &[u8],
    ) -> Result<(), ProofError> {
        let mut signature = PacketReader(signature);
        if signature.text() != Some(algorithm) {
            return Err(ProofError::Signature);
        }
        let signature = signature.string().ok_or(ProofError::Signature)?;
        let mut key = PacketReader(self.0);
        let name = key.text().ok_or(ProofError::Key(algorithm))?;
        let wrong = ProofError::Key(algorithm);
        match algorithm {
            "ssh-ed25519" if name == algorithm => {
                let point = key.string().ok_or(wrong)?;
                verify_point(&ED25519, point, exchange, signature)
            }
            "ecdsa-sha2-nistp256" if name == algorithm => {
                let point = key.string().and_then(|_| key.string()).ok_or(wrong)?;
                let signature = fixed(signature, 32).ok_or(ProofError::Signature)?;
                verify_point(&ECDSA_P256_SHA256_FIXED, point, exchange, &signature)
            }
            "ecdsa-sha2-nistp384" if name == algorithm => {
                let point = key.string().and_then(|_| key.string()).ok_or(wrong)?;
                let signature = fixed(signature, 48).ok_or(ProofError::Signature)?;
                verify_point(&ECDSA_P384_SHA384_FIXED, point, exchange, &signature)
            }
            "rsa-sha2-256" if name == "ssh-rsa" => {
                verify_rsa(key, &RSA_PKCS1_2048_8192_SHA256, exchange, signature).ok_or(wrong)?
            }
            "rsa-sha2-512" if name == "ssh-rsa" => {
                verify_rsa(key, &RSA_PKCS1_2048_8192_SHA512, exchange, signature).ok_or(wrong)?
            }
            _ => Err(wrong),
        }
    }
}

fn verify_point(
    algorithm: &'static dyn VerificationAlgorithm,
    point: &[u8],
    exchange: &[u8],
    signature: &[u8],
) -> Result<(), ProofError> {
    let key = UnparsedPublicKey::new(algorithm, point);
    let verified = key.verify(exchange, signature);
    verified.map_err(|_| ProofError::Signature)
}

/// Verifies with an RSA key; `None` if it is none.
fn verify_rsa(
    mut key: PacketReader<'_>,
    parameters: &'static RsaParameters,
    exchange: &[u8],
    signature: &[u8],
) -> Option<Result<(), ProofError>> {
    let (e, n) = (key.integer()?, key.integer()?);
    let unused = n.first()?.leading_zeros();
    let bits = n.len() * 8 - usize::try_from(unused).ok()?;
    if bits < MIN_RSA_BITS {
        return Some(Err(ProofError::Short(bits)));
    }
    let key = RsaPublicKeyComponents { n, e };
    let verified = key.verify(parameters, exchange, signature);
    Some(verified.map_err(|_| ProofError::Signature))
}

/// Returns the two integers of an ECDSA signature side by side, each with the same number of bytes.
fn fixed(signature: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut reader = PacketReader(signature);
    let mut both = Vec::new();
    for _ in 0..2 {
        let integer = reader.integer()?;
        both.resize(both.len() + size.checked_sub(integer.len())?, 0);
        both.extend_from_slice(integer);
    }
    Some(both)
}

/// The least that `ring` verifies, and that current servers accept.
const MIN_RSA_BITS: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        // `ssh-keygen -lf` of this key: 256 SHA256:… (ED25519).
        let text = "AAAAC3NzaC1lZDI1NTE5AAAAIBTGUAgnGUtRJllRptNTXceLJyUm2sMkaEpfT37wLDLp";
        let key = BASE64_STANDARD_NO_PAD.decode(text).unwrap();
        let shown = "SHA256:syUTB/Tk6rsxllYaS9M2xfdRgxCXWWSDA71BZ5QIJcM";
        let found = HostKey(&key).fingerprint();
        assert_eq!(found.to_string(), shown);
        assert_eq!(shown.parse::<Fingerprint>().unwrap(), found);
        for wrong in [
            "",
            "SHA256:",
            "MD5:00:11",
            "syUTB/Tk6rsxllYaS9M2xfdRgxCXWWSDA71BZ5QIJcM",
            "SHA256:syUTB",
        ] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn integers_of_a_signature_are_filled_up() {
        let signature = [0, 0, 0, 1, 5, 0, 0, 0, 2, 0, 0x80];
        assert_eq!(fixed(&signature, 2), Some(vec![0, 5, 0, 0x80]));
        assert_eq!(fixed(&signature[..5], 2), None);
        assert_eq!(fixed(&[0, 0, 0, 3, 1, 1, 1, 0, 0, 0, 0], 2), None);
    }
}
