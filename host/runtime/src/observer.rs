//! The interface to observe what a plugin returns, before the host corrects it.
//!
//! The host corrects what it can and stays silent: an operator cannot fix a plugin. Its author can, so the validator
//! opens libraries with an observer. A host has none.

use super::{CallFailure, CheckReport, SetError, SetValues};

/// An observer of what a plugin returns. Called from the plugin's threads.
pub trait CallObserver: Send + Sync {
    /// Called with each report.
    fn report(
        &self,
        status: u8,
        message: &[u8],
        measurements: &[(&[u8], f64)],
        declared: &SetValues,
    );

    /// Called for each value of a declared metric, with its labels as the plugin gave them, and the reason if the value is
    /// not kept.
    fn set(&self, metric: &[u8], labels: &[&[u8]], result: Result<(), &SetError>);

    /// Called with the message of each failure, except for panics, whose text may have several lines.
    fn failure(&self, message: &[u8]);

    /// Called for each call in which the plugin breaks the contract of the C header.
    fn misuse(&self, misuse: ContractViolation);
}

/// A violation of the contract of the C header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ContractViolation {
    /// A check that ended without a report or a failure.
    NoReport,
    /// A `create` that returned NULL without a failure.
    NoProbe,
    /// A failure without a message.
    NoReason,
    /// A failure of a kind other than those of [`AbiFailureKind`](conductor_plugin_api::abi::AbiFailureKind).
    UnknownKind,
    /// A completion of a check that was over or not begun.
    NotBegun,
    /// A state that is too long to be stored.
    LongState,
}

impl CheckReport {
    /// Shows the plugin's findings to the observer, if any, and [fills](Self::fill) them in.
    ///
    /// # Errors
    /// When the status is unknown to this host.
    pub(crate) fn fill_observed<'a>(
        &mut self,
        observer: Option<&dyn CallObserver>,
        status: u8,
        message: &[u8],
        measurements: impl Iterator<Item = (&'a [u8], f64)>,
    ) -> Result<(), CallFailure> {
        let Some(observer) = observer else {
            return self.fill(status, message, measurements);
        };
        let measurements: Vec<_> = measurements.collect();
        observer.report(status, message, &measurements, &self.declared);
        self.fill(status, message, measurements.into_iter())
    }
}
