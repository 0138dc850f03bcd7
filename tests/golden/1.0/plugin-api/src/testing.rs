//! Run a probe in a unit test, without a host.
//!
//! ```
//! use conductor_plugin_api::{Context, Failure, Probe, Report, schemars, testing::TestHost};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Always;
//! impl Probe for Always {
//!     type Config = Self;
//!     fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {
//!         Ok(config)
//!     }
//!     fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
//!         Ok(Report::healthy(format!("{} is there", context.platform())))
//!     }
//! }
//!
//! let host = TestHost::new("shop");
//! let mut probe = host.create::<Always>("null").unwrap();
//! assert_eq!(host.check(&mut probe).unwrap().message(), "shop is there");
//! ```
#![expect(
    unsafe_code,
    reason = "the host's functions get the address of their data as a number"
)]

use std::{
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use abi_stable::{
    prefix_type::PrefixTypeTrait,
    std_types::{RResult, RStr},
};

use crate::{
    Context, Failure, Probe, Report,
    abi::{
        AbiCall, AbiFailure, AbiHost, AbiHostHandle, AbiHostRef, AbiLevel, AbiLogRecord, AbiReport,
    },
};

/// A stand-in for the host: hands out contexts and keeps what the probe logs through them.
///
/// What a probe logs through `tracing` goes to the test's own subscriber, if there is one.
#[derive(Debug)]
pub struct TestHost {
    platform: String,
    timeout: Duration,
    cancelled: AtomicBool,
    log: Mutex<Vec<String>>,
}

impl TestHost {
    /// A host with one platform of this name and a timeout of four seconds.
    pub fn new(platform: &str) -> Self {
        Self {
            platform: platform.to_owned(),
            timeout: Duration::from_secs(4),
            cancelled: AtomicBool::new(false),
            log: Mutex::default(),
        }
    }

    /// The same host with another timeout for each call.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Creates a probe from its config as JSON text, as the host would.
    ///
    /// # Errors
    /// What the probe's `create` says, or what is wrong with the config.
    pub fn create<P: Probe>(&self, config: &str) -> Result<P, Failure> {
        let config =
            serde_json::from_str(config).map_err(|error| Failure::config(error.to_string()))?;
        self.call(|context| P::create(config, context))
    }

    /// Runs one check.
    ///
    /// # Errors
    /// What the probe's `check` says.
    pub fn check<P: Probe>(&self, probe: &mut P) -> Result<Report, Failure> {
        self.call(|context| probe.check(context))
    }

    /// Makes `is_cancelled` answer yes from now on.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// The lines logged through contexts so far.
    pub fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn call<T>(&self, f: impl FnOnce(&Context<'_>) -> T) -> T {
        #[expect(
            clippy::disallowed_methods,
            reason = "stands in for the driver that reads the clock"
        )]
        let deadline = Instant::now() + self.timeout;
        let call = Call {
            host: self,
            deadline,
        };
        f(&Context::new(&AbiCall {
            host: AbiHostHandle {
                functions: *FUNCTIONS,
                plugin: 0,
            },
            call: (&raw const call).expose_provenance(),
        }))
    }
}

static FUNCTIONS: LazyLock<AbiHostRef> = LazyLock::new(|| {
    AbiHost {
        max_level,
        log,
        remaining_ns,
        is_cancelled,
        platform,
        complete,
    }
    .leak_into_prefix()
});

struct Call<'a> {
    host: &'a TestHost,
    deadline: Instant,
}

fn data<'a>(call: usize) -> &'a Call<'a> {
    // SAFETY: `call` is the address of the `Call` that `TestHost::call` holds until the context is gone.
    unsafe { &*std::ptr::with_exposed_provenance::<Call<'_>>(call) }
}

extern "C" fn max_level(_: usize) -> AbiLevel {
    AbiLevel::TRACE
}

extern "C" fn log(_: usize, call: usize, record: &AbiLogRecord<'_>) {
    let mut log = data(call)
        .host
        .log
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    log.push(record.message.to_string());
}

extern "C" fn remaining_ns(call: usize) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "stands in for the driver that reads the clock"
    )]
    let remaining = data(call)
        .deadline
        .saturating_duration_since(Instant::now());
    u64::try_from(remaining.as_nanos()).unwrap_or(u64::MAX)
}

extern "C" fn is_cancelled(call: usize) -> bool {
    data(call).host.cancelled.load(Ordering::Relaxed)
}

extern "C" fn platform(call: usize) -> RStr<'static> {
    RStr::from_str(&data(call).host.platform)
}

extern "C" fn complete(_: usize, _: RResult<AbiReport, AbiFailure>) {
    // Nothing is begun here: checks are awaited on the test's own thread.
}
