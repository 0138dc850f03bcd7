//! The host's interface for a probe during one call.

use std::{
    fmt,
    time::{Duration, Instant},
};

use abi_stable::std_types::RStr;

use crate::abi::{AbiCall, AbiLevel, AbiLogRecord};

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
