//! The test host's calls into asynchronous probes.

#[cfg(test)]
mod tests;

use super::{TestHost, schema};
use crate::{AsyncProbe, Failure, Report, asynchronous, export, logging};

impl TestHost {
    /// Creates an asynchronous probe from its config as JSON text, as the host would.
    ///
    /// # Errors
    /// An error in the config, a failure of the probe's `create`, or its panic.
    pub fn create_async<P: AsyncProbe>(&self, config: &str) -> Result<P, Failure> {
        schema::check::<P::Config>(&export::schema::<asynchronous::Asynchronous<P>>(), config)?;
        self.create_async_unchecked(config)
    }

    /// Creates an asynchronous probe from a config that was not validated against its schema, as
    /// [`create_unchecked`](Self::create_unchecked) does.
    ///
    /// # Errors
    /// As [`create_async`](Self::create_async), except for the schema.
    pub fn create_async_unchecked<P: AsyncProbe>(&self, config: &str) -> Result<P, Failure> {
        let _runtime = asynchronous::runtime()?.enter();
        self.call(|context| P::create(export::read_config(config)?, context))
    }

    /// Runs one check of an asynchronous probe: to its end, to the timeout, or until it is
    /// [cancelled](Self::cancel), from another thread or [after a time](Self::cancel_after).
    ///
    /// # Errors
    /// A failure of the probe's `check`, its panic, the timeout, or the cancellation.
    ///
    /// # Panics
    /// Inside another runtime, for example in a `#[tokio::test]`: write a plain `#[test]`.
    pub fn check_async<P: AsyncProbe>(&self, probe: &mut P) -> Result<Report, Failure> {
        let runtime = asynchronous::runtime()?;
        let cancelled = async {
            match self.cancel_after {
                // Both kinds of cancellation have the same effect.
                Some(after) => drop(tokio::time::timeout(after, self.shared.cancelled()).await),
                None => self.shared.cancelled().await,
            }
        };
        let call = self.begin();
        let result =
            tracing::subscriber::with_default(logging::subscriber(call.abi().host), || {
                runtime.block_on(asynchronous::run(probe, call.abi(), cancelled))
            });
        self.ended(&call);
        result
    }
}
