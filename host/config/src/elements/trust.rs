//! `[trust]`: the signatures that a library needs to be loaded.

use std::path::Path;

use conductor_library::{
    TrustedSigner,
    file_reader::{self, ReadError},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::check::TableValidator;

/// The signatures that a library needs to be loaded; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustConfig {
    /// The trusted keys.
    pub minisign_keys: Vec<TrustedSigner>,
    /// `true` if a library without a signature is refused; requires keys.
    pub require_signature: bool,
}

/// `[trust]`, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Trust",
    description = "Signatures that a library needs to be loaded."
)]
pub(crate) struct RawTrustConfig {
    /// Trusted minisign keys: each a public key (`RW…`), or the file that contains it, relative to the config file.
    #[schemars(with = "Vec<String>", inner(length(min = 1)), extend("default" = []))]
    #[serde(default)]
    minisign_keys: Vec<String>,
    /// Refuse libraries without a signature by one of the keys; needs `minisign_keys`.
    #[schemars(with = "bool", extend("default" = false))]
    #[serde(default)]
    require_signature: bool,
}

impl RawTrustConfig {
    pub(super) fn resolve(self, base_dir: &Path, check: &mut TableValidator<'_>) -> TrustConfig {
        let written = self.minisign_keys.len();
        for key in &self.minisign_keys {
            check.path("minisign_keys", key);
        }
        let keys = self.minisign_keys.iter().enumerate();
        let keys = keys
            .filter_map(|(at, key)| match signer(key, base_dir) {
                Ok(signer) => Some(signer),
                Err(why) => {
                    let message = format!("{}[{at}]: {why}", check.name("minisign_keys"));
                    check.refuse("minisign_keys", message, HELP);
                    None
                }
            })
            .collect();
        if self.require_signature && written == 0 {
            let message = format!(
                "{} is true, but minisign_keys is empty: every library would be refused",
                check.name("require_signature")
            );
            check.refuse(
                "require_signature",
                message,
                "add the public key that your libraries are signed with to minisign_keys",
            );
        }
        TrustConfig {
            minisign_keys: keys,
            require_signature: self.require_signature,
        }
    }
}

/// The reason why an item of `minisign_keys` is refused.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("{written:?} is not a minisign key, and cannot be read as a file: {source}")]
    Unreadable { written: String, source: ReadError },
    #[error("the file {0:?} contains no minisign key")]
    NoKey(String),
}

fn signer(written: &str, base_dir: &Path) -> Result<TrustedSigner, KeyError> {
    if let Some(signer) = TrustedSigner::parse(written) {
        return Ok(signer);
    }
    let file = base_dir.join(written);
    let text =
        file_reader::read_text(&file, MAX_KEY_FILE).map_err(|source| KeyError::Unreadable {
            written: written.to_owned(),
            source,
        })?;
    TrustedSigner::parse(&text).ok_or_else(|| KeyError::NoKey(written.to_owned()))
}

const HELP: &str = "write the line of the .pub file that begins with RW, or the name of that file; `minisign -G` creates a key pair";
/// A minisign key file has a few hundred bytes.
const MAX_KEY_FILE: u64 = 64 << 10;
