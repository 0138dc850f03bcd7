//! minisign signatures: `FILE.minisig` next to a library names the signer of exactly these bytes.
//!
//! Only public keys are known here. A signature covers content, not names: an older library signed by the same key is
//! valid as well; pins prevent that.

use std::{
    ffi::OsString,
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use minisign_verify::{PublicKey, Signature};

use super::refusal::{RuleViolation, printable_path, quoted};
use crate::file_reader;

/// A trusted signer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustedSigner {
    id: KeyId,
    key: PublicKey,
}

/// A minisign key id; its `Display` is 16 hexadecimal digits, as minisign prints them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyId([u8; 8]);

impl TrustedSigner {
    /// Parses a public key: the line that begins with `RW`, or the whole text of the file minisign writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines.find(|line| !line.starts_with(COMMENT))?;
        let key = PublicKey::from_base64(line).ok()?;
        Some(Self {
            id: KeyId::of(line)?,
            key,
        })
    }

    /// Returns the key's id.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

impl KeyId {
    /// Reads it from bytes 2 to 9 of the line of a key or a signature.
    fn of(line: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(12);
        for group in line.as_bytes().get(..16)?.chunks(4) {
            let mut bits = 0_u32;
            for digit in group {
                let value = BASE64.iter().position(|known| known == digit)?;
                bits = bits << 6 | u32::try_from(value).ok()?;
            }
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
        }
        bytes.get(2..10)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

/// Returns the one of `signers` that signed `bytes`, the content of `library`; `None` if it has no signature and needs
/// none.
pub(super) fn check(
    library: &Path,
    bytes: &[u8],
    signers: &[TrustedSigner],
    required: bool,
) -> Result<Option<KeyId>, RuleViolation> {
    if signers.is_empty() {
        return Ok(None);
    }
    let file = signature_file(library);
    let refused = |found: String| RuleViolation::new(found, cure(library));
    let unreadable = |why: String| {
        refused(format!(
            "its signature {} cannot be read: {why}",
            printable_path(&file)
        ))
    };
    let bytes_of_file = match file_reader::read(&file, MAX_SIZE) {
        Ok(content) => content.bytes,
        Err(error) if error.kind() == ErrorKind::NotFound && !required => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(refused(format!(
                "it has no signature ({} is not there), and this host loads only what is signed by {}",
                printable_path(&file),
                ids(signers)
            )));
        }
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let text = String::from_utf8_lossy(&bytes_of_file);
    let (Ok(signature), Some(by)) = (
        Signature::decode(&text),
        text.lines().nth(1).and_then(KeyId::of),
    ) else {
        return Err(unreadable("it is no minisign signature".to_owned()));
    };
    let mut of_this_id = signers.iter().filter(|signer| signer.id == by).peekable();
    if of_this_id.peek().is_none() {
        return Err(refused(format!(
            "it is signed by {by}, and this host trusts only {}",
            ids(signers)
        )));
    }
    // minisign before 0.10 signed the bytes themselves instead of their hash, and the bytes are available.
    let legacy = true;
    if of_this_id.any(|signer| signer.key.verify(bytes, &signature, legacy).is_ok()) {
        return Ok(Some(by));
    }
    Err(RuleViolation::new(
        format!(
            "its signature {}, by {by}, is of other content",
            printable_path(&file)
        ),
        format!(
            "put the library back that was signed, or sign this one (minisign -Sm {})",
            quoted(library)
        ),
    ))
}

/// Returns the path of a library's signature.
pub(super) fn signature_file(library: &Path) -> PathBuf {
    let mut name = OsString::from(library);
    name.push(".minisig");
    name.into()
}

/// Lists the ids of keys, for messages.
pub(super) fn ids(signers: &[TrustedSigner]) -> String {
    let ids: Vec<_> = signers.iter().map(|signer| signer.id.to_string()).collect();
    match ids.as_slice() {
        [only] => format!("key {only}"),
        several => format!("one of the keys {}", several.join(", ")),
    }
}

/// Returns the fix for a missing signature.
pub(super) fn cure(library: &Path) -> String {
    format!(
        "sign it (minisign -Sm {}), or add its signer's key to [trust].minisign_keys",
        quoted(library)
    )
}

const COMMENT: &str = "untrusted comment:";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// A signature has about 300 bytes; comments can be longer.
const MAX_SIZE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with minisign 0.11: a new key, and its signature of the four bytes `test`.
    const KEY: &str = "RWQWLKdVEKgw2yGKCi0iQMHQ+U2wjoCMzquuYJaRmcnXTo1WRkk9yNc4";
    const ID: &str = "DB30A81055A72C16";
    const SIGNATURE: &str = "untrusted comment: signature of a test\nRUQWLKdVEKgw2z80V5rgyfyxDJfo6zkr+nqrhvmi8FMpq4YYnfIT8puPF/1ox9vYqmj0W/rgbwJ9vm9d8a1/ARXxBX5NEoehLgk=\ntrusted comment: a test\npPrHqHvr/AKve6Vc6idZhwR/H2cu2dW9YC5ojUbvQCqMC2sIWy0WeSHiC0AExosT+/H3CkFEEgNwSt/HRWyICg==\n";
    /// Another key, from minisign's readme.
    const OTHER: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    fn said(signature: Option<&str>, bytes: &[u8], keys: &[&str], required: bool) -> String {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("x.so");
        if let Some(signature) = signature {
            std::fs::write(signature_file(&library), signature).unwrap();
        }
        let signers: Vec<_> = keys
            .iter()
            .map(|key| TrustedSigner::parse(key).unwrap())
            .collect();
        match check(&library, bytes, &signers, required) {
            Ok(None) => "not signed".into(),
            Ok(Some(by)) => format!("signed by {by}"),
            Err(problem) => format!("{}; {}", problem.found, problem.cure)
                .replace(folder.path().to_str().unwrap(), "DIR")
                .replace(r"DIR\", "DIR/"),
        }
    }

    #[test]
    fn a_key_is_read_from_its_line_or_its_file_and_called_as_minisign_calls_it() {
        let file = format!("untrusted comment: minisign public key {ID}\n{KEY}\n");
        for text in [KEY, &file, &format!("{KEY}\r\n")] {
            assert_eq!(TrustedSigner::parse(text).unwrap().id().to_string(), ID);
        }
        assert_eq!(
            TrustedSigner::parse(OTHER).unwrap().id().to_string(),
            "E7620F1842B4E81F"
        );
        for text in ["", "keys/minisign.pub", &KEY[..55], "untrusted comment: x"] {
            assert!(TrustedSigner::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_library_passes_that_one_of_the_keys_signed() {
        assert_eq!(
            said(Some(SIGNATURE), b"test", &[OTHER, KEY], true),
            format!("signed by {ID}")
        );
        assert_eq!(
            said(Some(SIGNATURE), b"test", &[KEY], false),
            format!("signed by {ID}")
        );
    }

    #[test]
    fn without_keys_nothing_is_looked_at_and_without_the_demand_only_what_is_there() {
        assert_eq!(said(Some("garbage"), b"test", &[], false), "not signed");
        assert_eq!(said(None, b"test", &[KEY], false), "not signed");
        assert_ne!(said(Some("garbage"), b"test", &[KEY], false), "not signed");
    }

    #[test]
    fn what_nobody_trusted_signed_is_refused_with_the_ids_and_the_cure() {
        insta::assert_snapshot!(said(None, b"test", &[OTHER], true), @"it has no signature (DIR/x.so.minisig is not there), and this host loads only what is signed by key E7620F1842B4E81F; sign it (minisign -Sm DIR/x.so), or add its signer's key to [trust].minisign_keys");
        insta::assert_snapshot!(said(Some(SIGNATURE), b"test", &[OTHER], true), @"it is signed by DB30A81055A72C16, and this host trusts only key E7620F1842B4E81F; sign it (minisign -Sm DIR/x.so), or add its signer's key to [trust].minisign_keys");
        insta::assert_snapshot!(said(Some(SIGNATURE), b"tesT", &[OTHER, KEY], true), @"its signature DIR/x.so.minisig, by DB30A81055A72C16, is of other content; put the library back that was signed, or sign this one (minisign -Sm DIR/x.so)");
        insta::assert_snapshot!(said(Some("garbage \u{1b}[2J"), b"test", &[KEY], true), @"its signature DIR/x.so.minisig cannot be read: it is no minisign signature; sign it (minisign -Sm DIR/x.so), or add its signer's key to [trust].minisign_keys");
        insta::assert_snapshot!(said(Some(&"x".repeat(70_000)), b"test", &[KEY], true), @"its signature DIR/x.so.minisig cannot be read: it is larger than 65536 bytes; sign it (minisign -Sm DIR/x.so), or add its signer's key to [trust].minisign_keys");
    }
}
