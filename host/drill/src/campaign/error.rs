//! The reasons why a campaign cannot start or continue.

use std::io;

use super::super::{host_under_test::HostError, library_patch::PatchError};

/// The reason why a campaign cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CampaignError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Patch(#[from] PatchError),
    #[error("cannot install a plugin: {0}")]
    Install(#[source] io::Error),
    #[error("cannot write the config: {0}")]
    WriteConfig(#[source] io::Error),
    #[error("cannot replace a library: {0}")]
    ReplaceLibrary(#[source] io::Error),
    #[error("the campaign has no plugin {0}")]
    UnknownPlugin(String),
    #[error("the host has not loaded the new library of {plugin} after {seconds} s")]
    NotReplaced { plugin: String, seconds: u64 },
    #[error("{expected} after {seconds} s")]
    TimedOut {
        expected: &'static str,
        seconds: u64,
    },
}
