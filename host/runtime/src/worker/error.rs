//! Violations of the protocol by a worker.

use crate::{SchemaTextError, protocol::ProtocolViolation};

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
    #[error("answered call {call} with error type {kind}")]
    ErrorType { call: u64, kind: u8 },
    #[error("said twice whether its library is loaded")]
    LoadedTwice,
    #[error("refused its library with error type {0}")]
    Refusal(u8),
    #[error("sent a wrong config schema: {0}")]
    Schema(#[from] SchemaTextError),
}
