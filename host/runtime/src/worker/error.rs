//! Violations of the protocol by a worker, and workers of other builds.

use conductor_plugin_api::metric::DeclarationError;
use conductor_types::ErrorType;

use super::program;
use crate::{
    LoadError, SchemaTextError, SetError,
    protocol::{BUILD, OtherBuild, ProtocolViolation},
};

/// A message that no worker of this host sends; reads on after "its worker".
#[derive(Debug, thiserror::Error)]
pub(super) enum MessageError {
    #[error(transparent)]
    Frame(#[from] ProtocolViolation),
    #[error("answered call {0} twice")]
    AnsweredTwice(u64),
    #[error("answered call {0}, which was never made")]
    NeverMade(u64),
    #[error("answered call {call} with status {status}")]
    Status { call: u64, status: u8 },
    #[error("answered call {0} with the last report, which the host does not have")]
    NothingTheSame(u64),
    #[error("answered call {call} with error type {kind}")]
    ErrorType { call: u64, kind: u8 },
    #[error("said twice whether its library is loaded")]
    LoadedTwice,
    #[error("refused its library with error type {0}")]
    Refusal(u8),
    #[error("sent a wrong config schema: {0}")]
    Schema(#[from] SchemaTextError),
    #[error("sent wrong declarations: {0}")]
    Metrics(#[from] DeclarationError),
    #[error("answered call {call} with a value of a metric that is not kept: {why}")]
    Declared { call: u64, why: SetError },
    #[error("stored a state of {0} bytes, at most {max} are allowed", max = conductor_plugin_api::MAX_STATE)]
    State(usize),
}

impl From<OtherBuild> for LoadError {
    fn from(other: OtherBuild) -> Self {
        let program = program::shown();
        Self {
            kind: ErrorType::Load,
            message: format!(
                "the worker program {program} is {other}, but this host is conductor {BUILD}: install both programs \
                 from the same release, then restart the host"
            ),
            detail: None,
        }
    }
}
