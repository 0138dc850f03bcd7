//! The author's side of asynchronous plugins: an [`AsyncProbe`], whose checks wait without occupying a thread.
//!
//! The library has one [runtime] for all its probes. A check that the host begins becomes a task there; its [place]
//! keeps the probe between checks, and makes sure that each check is completed exactly once, however the task ends.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    Context, Failure, Report,
    abi::{AbiCall, AbiProbeBox},
    export::ExportableProbe,
};

mod check;
mod place;
mod runtime;
#[cfg(test)]
mod tests;

pub(crate) use self::{check::run, runtime::get as runtime};

/// A [`Probe`](crate::Probe) whose checks are asynchronous: thousands of them wait on a few threads.
///
/// The host calls `create` once per platform, then `check` at each of the platform's slots. A probe gets at most one
/// call at a time. A probe that panicked is dropped and created again before its next check.
///
/// Everything runs on a tokio runtime that all probes of the library share, so timers, sockets and `tokio::spawn` work;
/// `create` and drop run within it as well.
pub trait AsyncProbe: Sized + Send + 'static {
    /// The platform's `config = { … }` table, as for a [`Probe`](crate::Probe::Config).
    type Config: DeserializeOwned + JsonSchema;

    /// Creates the probe of one platform. It runs on a thread that may block for a moment, for example to read a file.
    ///
    /// # Errors
    /// A [`Failure`] counts against the platform's circuit breaker; the host tries again on the breaker's schedule.
    fn create(config: Self::Config, context: &Context<'_>) -> Result<Self, Failure>;

    /// Checks the platform once; write it as `async fn check(&mut self, context: &Context<'_>)`.
    ///
    /// It must not block: move blocking work into `tokio::task::spawn_blocking`. Once its [deadline](Context::deadline)
    /// has passed, or the host no longer needs the result, it is dropped at the `await` where it waits. Changes it has
    /// made to the probe by then stay.
    ///
    /// # Errors
    /// A [`Failure`] means that the probe *could not tell*, as for a [`Probe`](crate::Probe::check).
    fn check(
        &mut self,
        context: &Context<'_>,
    ) -> impl Future<Output = Result<Report, Failure>> + Send;
}

/// The exportable form of an [`AsyncProbe`].
pub struct Asynchronous<P>(PhantomData<P>);

impl<P: AsyncProbe> ExportableProbe for Asynchronous<P> {
    type Config = P::Config;
    const ASYNCHRONOUS: bool = true;

    fn create(config: P::Config, call: &AbiCall) -> Result<AbiProbeBox, Failure> {
        let _runtime = runtime()?.enter();
        let probe = P::create(config, &Context::new(call))?;
        Ok(place::probe_of(probe))
    }
}
