//! The operator's requirements in addition to the rules of every host: pins and signatures.

use std::path::{Path, PathBuf};

use super::{
    LibraryHash, LibraryPins, RuleOutcome, Vetted, VettingRule,
    refusal::{RuleViolation, printable_path},
    signatures::{self, KeyId, TrustedSigner},
};

/// The lock file and the trusted signers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrustPolicy {
    /// The file that [`LibraryPins`] are read from at each scan; it need not exist.
    pub lock_file: Option<PathBuf>,
    /// The trusted signers; without any, signatures are not checked.
    pub signers: Vec<TrustedSigner>,
    /// `true` if a library without a signature is refused. With signers and without this, only a wrong signature is.
    pub require_signature: bool,
}

impl TrustPolicy {
    /// Returns a policy without additional requirements.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the pins.
    pub(super) fn terms(&self) -> PinnedPolicy<'_> {
        let pins = self.lock_file.as_deref();
        PinnedPolicy {
            policy: self,
            pins: pins.map_or_else(LibraryPins::none, LibraryPins::read),
        }
    }
}

/// A policy together with its pins.
#[derive(Debug)]
pub(super) struct PinnedPolicy<'a> {
    policy: &'a TrustPolicy,
    pub(super) pins: LibraryPins,
}

impl PinnedPolicy<'_> {
    /// Requires the pins to allow the file at `path` with this hash.
    pub(super) fn pin(&self, path: &Path, sha256: &LibraryHash) -> Result<(), RuleViolation> {
        self.pins.check(path, sha256)
    }

    /// Returns the signer of `bytes`, the content of the file at `path`, if the signature is sufficient.
    pub(super) fn signature(
        &self,
        path: &Path,
        bytes: &[u8],
    ) -> Result<Option<KeyId>, RuleViolation> {
        let TrustPolicy {
            signers,
            require_signature,
            ..
        } = self.policy;
        signatures::check(path, bytes, signers, *require_signature)
    }

    /// Describes why the pins did not refuse the library.
    pub(super) fn describe_pin(&self) -> (RuleOutcome, String) {
        match &self.policy.lock_file {
            Some(lock) if self.pins.are_present() => (
                RuleOutcome::Passed,
                format!("pinned in {}", printable_path(lock)),
            ),
            Some(lock) => (
                RuleOutcome::Open,
                format!("not checked: {} does not exist", printable_path(lock)),
            ),
            None => (
                RuleOutcome::Open,
                "not checked: no config names a plugins.lock (--config.file)".to_owned(),
            ),
        }
    }

    /// Describes why the signature rule did not refuse the library at `path`.
    pub(super) fn describe_signature(
        &self,
        path: &Path,
        signer: Option<KeyId>,
    ) -> (RuleOutcome, String) {
        if let Some(key) = signer {
            return (RuleOutcome::Passed, format!("signed by key {key}"));
        }
        let file = signatures::signature_file(path);
        let note = match (file.exists(), self.policy.signers.is_empty()) {
            (true, _) => format!(
                "{} not checked: no keys are configured ([trust].minisign_keys)",
                printable_path(&file)
            ),
            (false, true) => {
                "not signed; not checked: no keys are configured ([trust].minisign_keys)".to_owned()
            }
            (false, false) => {
                "not signed; [trust].require_signature is false, so it is loaded".to_owned()
            }
        };
        (RuleOutcome::Open, note)
    }

    /// Returns the reason why a previously accepted library must no longer be loaded, if any.
    ///
    /// An unreadable lock file admits nothing new, but withdraws nothing: it may be half-written.
    pub(super) fn withdraws(&self, library: &Vetted) -> Option<(VettingRule, RuleViolation)> {
        if self.pins.are_readable()
            && let Err(problem) = self.pins.check(&library.origin, &library.sha256)
        {
            return Some((VettingRule::Pin, problem));
        }
        let TrustPolicy {
            signers,
            require_signature,
            ..
        } = self.policy;
        let trusted = |id: KeyId| signers.iter().any(|signer| signer.id() == id);
        if *require_signature && !signers.is_empty() && !library.signed_by.is_some_and(trusted) {
            let by = match library.signed_by {
                Some(id) => format!("it was signed by {id}"),
                None => "it was not signed when it was taken".to_owned(),
            };
            let found = format!(
                "{by}, and this host trusts only {}",
                signatures::ids(signers)
            );
            return Some((
                VettingRule::Signature,
                RuleViolation::new(found, signatures::cure(&library.origin)),
            ));
        }
        None
    }
}
