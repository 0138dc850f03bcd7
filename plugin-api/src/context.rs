//! The host's interface for a probe during one call.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use abi_stable::std_types::{RSlice, RStr};

use crate::{
    Failure,
    abi::{AbiCall, AbiLevel, AbiLogRecord},
};

/// The current call: its platform, its deadline and its log.
///
/// It lives as long as the call and cannot be kept. Code that outlives a call (the plugin's own threads) logs through
/// [`tracing`], which then carries the plugin's name without a platform.
pub struct Context<'a> {
    call: &'a AbiCall,
}

impl<'a> Context<'a> {
    #[doc(hidden)]
    pub fn new(call: &'a AbiCall) -> Self {
        Self { call }
    }

    /// Returns the platform's name in the host's config.
    pub fn platform(&self) -> &str {
        let name: RStr<'_> = self.call.host.functions.platform()(self.call.call);
        name.as_str()
    }

    /// Returns the time left for the call; zero once the deadline has passed.
    pub fn remaining(&self) -> Duration {
        Duration::from_nanos(self.call.host.functions.remaining_ns()(self.call.call))
    }

    /// Returns the instant by which the call must be over.
    ///
    /// The host stops waiting at this instant and counts a timeout. A probe that gives up a little earlier can report
    /// what it was waiting for.
    pub fn deadline(&self) -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "the deadline is handed in as a remaining time, so that no clock's value crosses"
        )]
        let now = Instant::now();
        now + self.remaining()
    }

    /// Returns the time between the starts of the platform's checks; `None` from a host of API 1.0.
    pub fn interval(&self) -> Option<Duration> {
        let nanos = self.call.host.functions.interval_ns()?(self.call.call);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Returns the platform's labels in the host's config, by name; none from a host of API 1.0.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let Some(labels) = self.call.host.functions.labels() else {
            return BTreeMap::new();
        };
        let labels = labels(self.call.call).into_iter();
        labels
            .map(|label| (label.name.into(), label.value.into()))
            .collect()
    }

    /// Returns the state that [`store_state`](Self::store_state) has stored for the platform, in this process or an
    /// earlier one; empty if there is none, and from a host of API 1.0.
    pub fn state(&self) -> Vec<u8> {
        match self.call.host.functions.state() {
            Some(state) => state(self.call.call).into(),
            None => Vec::new(),
        }
    }

    /// Stores the platform's state in place of the last one: at most [`MAX_STATE`] bytes, none to forget it.
    ///
    /// The host owns it: it survives the replacement of the plugin, its crash and the host's restart, except for what
    /// was stored within the last second before a host that was killed. A platform that gets another plugin loses it.
    ///
    /// # Errors
    /// When it is too long, and on a host of API 1.0, which stores nothing.
    pub fn store_state(&self, state: &[u8]) -> Result<(), Failure> {
        let Some(store) = self.call.host.functions.store_state() else {
            return Err(Failure::new(
                "this host, of API 1.0, stores no state: run a newer host",
            ));
        };
        match store(self.call.call, RSlice::from_slice(state)) {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "the host does not store a state of {} bytes; at most {MAX_STATE} are allowed",
                state.len()
            ))),
        }
    }

    /// Returns `true` once the host has given up on this call; check it in long loops.
    pub fn is_cancelled(&self) -> bool {
        self.call.host.functions.is_cancelled()(self.call.call)
    }

    /// Writes a line to the host's log, with plugin and platform; [`tracing`]'s macros do the same.
    pub fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Error => AbiLevel::ERROR,
            Level::Warn => AbiLevel::WARN,
            Level::Info => AbiLevel::INFO,
            Level::Debug => AbiLevel::DEBUG,
            Level::Trace => AbiLevel::TRACE,
        };
        let record = AbiLogRecord {
            level,
            target: RStr::from_str("plugin"),
            message: RStr::from_str(message),
            fields: [].as_slice().into(),
        };
        self.call.host.functions.log()(self.call.host.plugin, self.call.call, &record);
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("platform", &self.platform())
            .field("remaining", &self.remaining())
            .finish()
    }
}

/// Maximum length of a platform's state, in bytes.
pub const MAX_STATE: usize = 64 << 10;

/// The severity of a log line.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something looks wrong.
    Warn,
    /// Something changed.
    Info,
    /// For debugging.
    Debug,
    /// Everything.
    Trace,
}
