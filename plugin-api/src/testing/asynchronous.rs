//! The test host's calls into asynchronous probes.

#[cfg(test)]
mod tests;

use super::{TestHost, schema};
use crate::{AsyncProbe, Failure, Report, asynchronous, export, logging};

impl TestHost {
    /// Creates an asynchronous probe from its config as JSON text, as the host would.
    ///
    /// # Errors
    /// What is wrong with the config, what the probe's `create` says, or its panic.
    pub fn create_async<P: AsyncProbe>(&self, config: &str) -> Result<P, Failure> {
        schema::check::<P::Config>(&export::schema::<asynchronous::Asynchronous<P>>(), config)?;
        self.create_async_unchecked(config)
    }

    /// Creates an asynchronous probe from a config that was not held against its schema, as
    /// [`create_unchecked`](Self::create_unchecked) does.
    ///
    /// # Errors
    /// As [`create_async`](Self::create_async), but for the schema.
    pub fn create_async_unchecked<P: AsyncProbe>(&self, config: &str) -> Result<P, Failure> {
        let _runtime = asynchronous::runtime()?.enter();
        self.call(|context| P::create(export::read_config(config)?, context))
    }

    /// Runs one check of an asynchronous probe: to its end, to the timeout, or until it is
    /// [cancelled](Self::cancel), from another thread or [after a time](Self::cancel_after).
    ///
    /// # Errors
    /// What the probe's `check` says, or its panic; that the time was up, or that the check was cancelled.
    ///
    /// # Panics
    /// Within another runtime, such as in a `#[tokio::test]`: write a plain `#[test]`.
    pub fn check_async<P: AsyncProbe>(&self, probe: &mut P) -> Result<Report, Failure> {
        let runtime = asynchronous::runtime()?;
        let cancelled = async {
            match self.cancel_after {
                // Both ways of it come to the same.
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
