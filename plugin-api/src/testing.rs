//! Run a probe in a unit test, without a host.
//!
//! A [`TestHost`] does to a probe what a host does, on the test's own thread: it holds the config against the schema,
//! hands out contexts with a deadline, catches panics, and keeps what was logged.
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
//! An asynchronous probe is run the same way, in a plain `#[test]`: the library's own runtime is there for it.
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
//! What it does not do: it closes nothing to the probe, so a missing `needs` shows only in a worker, and it does not
//! look at the `pattern` and `format` of a schema.

#[cfg(feature = "tokio")]
mod asynchronous;
mod calls;
mod log;
mod report;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use self::calls::{Call, Shared};
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

/// A stand-in for the host, with one platform.
///
/// It may be shared with another thread, which [cancels](Self::cancel) a check that is under way.
#[derive(Debug)]
pub struct TestHost {
    platform: String,
    timeout: Duration,
    cancel_after: Option<Duration>,
    shared: Arc<Shared>,
    overran: AtomicBool,
}

impl TestHost {
    /// A host with one platform of this name and a timeout of four seconds.
    pub fn new(platform: &str) -> Self {
        Self {
            platform: platform.to_owned(),
            timeout: Duration::from_secs(4),
            cancel_after: None,
            shared: Shared::new(),
            overran: AtomicBool::new(false),
        }
    }

    /// The same host with another timeout for each call; with [`Duration::ZERO`] each deadline has passed already.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same host, which gives up on each call once it has lasted so long.
    #[must_use]
    pub fn cancel_after(mut self, time: Duration) -> Self {
        self.cancel_after = Some(time);
        self
    }

    /// Creates a probe from its config as JSON text, as the host would.
    ///
    /// # Errors
    /// What is wrong with the config, what the probe's `create` says, or its panic.
    pub fn create<P: Probe>(&self, config: &str) -> Result<P, Failure> {
        schema::check::<P::Config>(&export::schema::<Blocking<P>>(), config)?;
        self.create_unchecked(config)
    }

    /// Creates a probe from a config that was not held against its schema.
    ///
    /// For a test that the type and `create` refuse by themselves what they cannot work with: other hosts, validators
    /// among them, may hand over anything.
    ///
    /// # Errors
    /// As [`create`](Self::create), but for the schema.
    pub fn create_unchecked<P: Probe>(&self, config: &str) -> Result<P, Failure> {
        self.call(|context| P::create(export::read_config(config)?, context))
    }

    /// Runs one check.
    ///
    /// # Errors
    /// What the probe's `check` says, or its panic; a host would now drop the probe and create it again.
    pub fn check<P: Probe>(&self, probe: &mut P) -> Result<Report, Failure> {
        self.call(|context| probe.check(context))
    }

    /// Drops the probe as a host does at the end.
    ///
    /// # Errors
    /// When its drop panics.
    pub fn close<P: Probe>(&self, probe: P) -> Result<(), Failure> {
        self.call(|_| {
            drop(probe);
            Ok(())
        })
    }

    /// Gives up on the call under way and all that follow: `is_cancelled` answers yes. From any thread.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// Whether the last call ended after its deadline; a host would have counted a timeout, whatever it came back with.
    pub fn overran(&self) -> bool {
        self.overran.load(Ordering::Relaxed)
    }

    /// What was logged during calls so far, through contexts and through [`tracing`].
    ///
    /// Events of a probe's own threads go to the test's own subscriber, if it has one.
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.log()
    }

    /// Calls into a probe as a library does when the host calls it.
    fn call<T>(&self, f: impl FnOnce(&Context<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let call = self.begin();
        let result = within(call.abi(), f);
        self.ended(&call);
        result
    }

    fn begin(&self) -> Call {
        panic_barrier::install_hook_once_before_others();
        Call::begin(
            &self.shared,
            &self.platform,
            self.timeout,
            self.cancel_after,
        )
    }

    fn ended(&self, call: &Call) {
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
