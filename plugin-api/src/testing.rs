//! Run a probe in a unit test, without a host.
//!
//! A [`TestHost`] treats a probe as a host does, on the test's own thread: it validates the config against the schema,
//! provides contexts with a deadline, catches panics, and records the log.
//!
//! ```
//! use conductor_plugin_api::{Context, Failure, Level, Probe, Report, schemars, testing::{self, TestHost}, tracing};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Queue {
//!     limit: u32,
//! }
//! impl Probe for Queue {
//!     type Config = Self;
//!     fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {
//!         Ok(config)
//!     }
//!     fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
//!         tracing::warn!(limit = self.limit, "the queue is full");
//!         Ok(Report::degraded(format!("{} is full", context.platform())).measure("length", 7.0))
//!     }
//! }
//!
//! let host = TestHost::new("shop");
//! let mut probe = host.create::<Queue>(r#"{ "limit": 7 }"#).unwrap();
//! let report = host.check(&mut probe).unwrap();
//! assert_eq!(report.message(), "shop is full");
//! assert_eq!(report.measurement("length"), Some(7.0));
//! testing::assert_legal(&report);
//!
//! let log = host.log();
//! assert_eq!((log[0].level, log[0].field("limit")), (Level::Warn, Some("7")));
//!
//! // What a host refuses is refused here, in much the same words.
//! let failure = host.create::<Queue>(r#"{ "limit": 7, "limits": 8 }"#).err().unwrap();
//! assert_eq!(failure.message(), "config has no key `limits`; its keys are `limit`");
//! ```
//!
//! An asynchronous probe runs the same way, in a plain `#[test]`, on the library's own runtime.
//!
#![cfg_attr(feature = "tokio", doc = "```")]
#![cfg_attr(not(feature = "tokio"), doc = "```ignore")]
//! use conductor_plugin_api::{AsyncProbe, Context, Failure, FailureKind, Report, schemars, testing::TestHost};
//! use std::time::Duration;
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Never {}
//! impl AsyncProbe for Never {
//!     type Config = Self;
//!     fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {
//!         Ok(config)
//!     }
//!     async fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
//!         std::future::pending().await
//!     }
//! }
//!
//! let host = TestHost::new("shop").timeout(Duration::from_millis(20));
//! let mut probe = host.create_async::<Never>("{}").unwrap();
//! let failure = host.check_async(&mut probe).unwrap_err();
//! assert_eq!(failure.kind(), FailureKind::Timeout);
//! ```
//!
//! Limits: it does not sandbox the probe, so a missing `needs` shows only in a worker, it ignores the `pattern` and
//! `format` of a schema, and it does not know which metrics [`export_plugin!`](crate::export_plugin) lists:
//! `conductor plugin run` and `validate` do.

#[cfg(feature = "tokio")]
mod asynchronous;
mod calls;
mod log;
mod report;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use self::calls::{TestCall, TestHostState, TestPlatform};
#[cfg(test)]
pub(crate) use self::schema::fault as schema_fault;
pub use self::{
    log::LogEntry,
    report::{assert_legal, objections},
};
use crate::{
    Context, Failure, Probe, Report,
    abi::AbiCall,
    export::{self, Blocking},
    logging, panic_barrier,
};

/// A test double of the host, with one platform.
///
/// Another thread may share it, to [cancel](Self::cancel) a running check.
#[derive(Debug)]
pub struct TestHost {
    platform: TestPlatform,
    timeout: Duration,
    cancel_after: Option<Duration>,
    shared: Arc<TestHostState>,
    overran: AtomicBool,
}

impl TestHost {
    /// Returns a host with one platform of this name, without labels, with an interval of five seconds, a timeout of four
    /// and no state.
    pub fn new(platform: &str) -> Self {
        Self {
            platform: TestPlatform {
                name: platform.to_owned(),
                interval: Duration::from_secs(5),
                labels: BTreeMap::new(),
            },
            timeout: Duration::from_secs(4),
            cancel_after: None,
            shared: TestHostState::new(),
            overran: AtomicBool::new(false),
        }
    }

    /// Sets the timeout of each call; with [`Duration::ZERO`] each deadline has already passed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the interval of the platform's checks; with [`Duration::ZERO`] the host does not tell it, as one of API 1.0.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.platform.interval = interval;
        self
    }

    /// Adds a label of the platform, which [`Context::labels`] returns.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.platform
            .labels
            .insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the platform's state, as an earlier process has stored it.
    #[must_use]
    pub fn with_state(self, state: &[u8]) -> Self {
        *self.shared.state() = state.to_vec();
        self
    }

    /// Returns the platform's state, as the last call has stored it.
    pub fn state(&self) -> Vec<u8> {
        self.shared.state().clone()
    }

    /// Makes the host give up on each call after `time`.
    #[must_use]
    pub fn cancel_after(mut self, time: Duration) -> Self {
        self.cancel_after = Some(time);
        self
    }

    /// Creates a probe from its config as JSON text, as the host would.
    ///
    /// # Errors
    /// An error in the config, a failure of the probe's `create`, or its panic.
    pub fn create<P: Probe>(&self, config: &str) -> Result<P, Failure> {
        schema::check::<P::Config>(&export::schema::<Blocking<P>>(), config)?;
        self.create_unchecked(config)
    }

    /// Creates a probe from a config that was not validated against its schema.
    ///
    /// Tests that the type and `create` themselves refuse invalid input: other hosts, validators among them, may pass
    /// anything.
    ///
    /// # Errors
    /// As [`create`](Self::create), except for the schema.
    pub fn create_unchecked<P: Probe>(&self, config: &str) -> Result<P, Failure> {
        self.call(|context| P::create(export::read_config(config)?, context))
    }

    /// Runs one check.
    ///
    /// # Errors
    /// A failure of the probe's `check`, or its panic; a host would now drop the probe and create it again.
    pub fn check<P: Probe>(&self, probe: &mut P) -> Result<Report, Failure> {
        self.call(|context| probe.check(context))
    }

    /// Drops the probe as a host does at the end.
    ///
    /// # Errors
    /// If its drop panics.
    pub fn close<P: Probe>(&self, probe: P) -> Result<(), Failure> {
        self.call(|_| {
            drop(probe);
            Ok(())
        })
    }

    /// Gives up on the current call and all that follow: `is_cancelled` returns `true`. From any thread.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// Returns `true` if the last call ended after its deadline; a host would have counted a timeout, whatever its
    /// result.
    pub fn overran(&self) -> bool {
        self.overran.load(Ordering::Relaxed)
    }

    /// Returns the log of all calls so far, written through contexts and through [`tracing`].
    ///
    /// Events of a probe's own threads go to the test's own subscriber, if it has one.
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.log()
    }

    /// Calls into a probe as the exported library does.
    fn call<T>(&self, f: impl FnOnce(&Context<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let call = self.begin();
        let result = within(call.abi(), f);
        self.ended(&call);
        result
    }

    fn begin(&self) -> TestCall {
        panic_barrier::install_hook_once_before_others();
        TestCall::begin(
            &self.shared,
            &self.platform,
            self.timeout,
            self.cancel_after,
        )
    }

    fn ended(&self, call: &TestCall) {
        self.overran.store(call.is_overdue(), Ordering::Relaxed);
    }
}

fn within<T>(
    call: &AbiCall,
    f: impl FnOnce(&Context<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    tracing::subscriber::with_default(logging::subscriber(call.host), || {
        logging::within(call, || panic_barrier::catch(|| f(&Context::new(call))))
    })
}
