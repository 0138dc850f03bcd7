//! What authors of asynchronous plugins write: an [`AsyncProbe`], whose checks wait without keeping a thread.
//!
//! The library has one [runtime] for all its probes. A check that the host begins becomes a task there; its [place] keeps
//! the probe in between, and sees to it that each check is completed exactly once, whatever becomes of the task.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    Context, Failure, Report,
    abi::{AbiCall, AbiProbeBox},
    export::Exportable,
};

mod check;
mod place;
mod runtime;
#[cfg(test)]
mod tests;

pub(crate) use self::{check::run, runtime::get as runtime};

/// A [`Probe`](crate::Probe) whose checks are asynchronous: thousands of them wait on a few threads.
///
/// The host calls `create` once per platform, then `check` at each of the platform's slots. At most one call into a
/// probe is under way at a time. A probe that panicked is dropped and created again before its next check.
///
/// Everything runs on a tokio runtime that all probes of the library share, so that timers, sockets and
/// `tokio::spawn` are there to be used; `create` and drop are called within it as well.
pub trait AsyncProbe: Sized + Send + 'static {
    /// What stands in the platform's `config = { … }` table, as for a [`Probe`](crate::Probe::Config).
    type Config: DeserializeOwned + JsonSchema;

    /// Makes the probe of one platform. It is called on a thread that may block for a moment, such as to read a file.
    ///
    /// # Errors
    /// A [`Failure`] counts against the platform's circuit breaker; the host tries again on the breaker's schedule.
    fn create(config: Self::Config, context: &Context<'_>) -> Result<Self, Failure>;

    /// Looks at the platform once; write it as `async fn check(&mut self, context: &Context<'_>)`.
    ///
    /// It must not block: what does belongs into `tokio::task::spawn_blocking`. When its [deadline](Context::deadline)
    /// has come, or the host has no use for the result any more, it is dropped at the `await` where it waits. What it has
    /// changed in the probe by then stays.
    ///
    /// # Errors
    /// A [`Failure`] says that the probe *could not find out*, as for a [`Probe`](crate::Probe::check).
    fn check(
        &mut self,
        context: &Context<'_>,
    ) -> impl Future<Output = Result<Report, Failure>> + Send;
}

/// An [`AsyncProbe`] as something to export.
pub struct Asynchronous<P>(PhantomData<P>);

impl<P: AsyncProbe> Exportable for Asynchronous<P> {
    type Config = P::Config;
    const ASYNCHRONOUS: bool = true;

    fn create(config: P::Config, call: &AbiCall) -> Result<AbiProbeBox, Failure> {
        let _runtime = runtime()?.enter();
        let probe = P::create(config, &Context::new(call))?;
        Ok(place::probe_of(probe))
    }
}
