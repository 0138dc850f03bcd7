//! From a vetted copy of a library to probes that can be called.
//!
//! [`LoadedPlugin`] is the seam: the host hands over [`Call`]s and gets each one's end through its [`Caller`], whether
//! the library is loaded into this process ([`in_process`]) or into another. Only this room opens libraries, only
//! private copies of vetted ones, and never closes them. Only the host's guard starts calls.

use std::{fmt, sync::Arc, time::Duration};

use conductor_library::printable::{escaped, steers as is_harmful};
use conductor_plugin_api::{Status, abi::AbiStatus, manifest::ApiVersion};
use conductor_types::ErrorType;
use serde::{Deserialize, Serialize};

use crate::schema::{Subject, Violation};

mod c_abi;
pub mod call_data;
pub mod call_journal;
pub mod config_keys;
mod config_schema;
pub mod door;
pub mod in_process;
pub mod irregular;
mod layout;
pub mod loader;
pub mod protocol;
pub mod quarantine;
pub mod redaction;
mod rust_abi;
pub mod schema;
mod threads;
pub mod wording;
#[cfg(unix)]
pub mod worker;
#[cfg(not(unix))]
#[path = "worker/elsewhere.rs"]
pub mod worker;

pub use config_schema::{ConfigSchema, SchemaTextError};
#[cfg(target_os = "linux")]
pub use rust_abi::{newer, open_only};
pub use threads::RUST_STACKS;

/// One loaded instance of a plugin: a generation.
pub trait LoadedPlugin: Send + Sync {
    /// What the plugin says of itself.
    fn description(&self) -> &Description;

    /// Announces a platform's probe; it is created by its first call.
    fn open(&self, spec: ProbeSpec) -> ProbeId;

    /// Drops a probe, once no call into it is under way.
    fn close(&self, probe: ProbeId);

    /// Starts calls, which arrive in the order they are to start in; leaves `calls` empty.
    ///
    /// Says whether [`nudge`](Self::nudge) wants to be called a tick later: some calls may be waiting behind others. Those
    /// that were not started when the plugin ends are forgotten, and may be started elsewhere.
    fn start(&self, calls: &mut Vec<Call>) -> bool;

    /// Gives waiting calls more threads, if they are still waiting; says whether to come back.
    fn nudge(&self) -> bool;

    /// Notes that the host no longer waits for the call into this probe, whose thread is not to be counted on. Called
    /// under a guard's lock: it must not block, and must not call back.
    fn abandoned(&self, probe: ProbeId);

    /// The process it runs in, where that is one of its own.
    fn pid(&self) -> Option<u32> {
        None
    }

    /// Number of probes that are open, where that is counted.
    fn open_probes(&self) -> usize {
        0
    }

    /// Forgets the calls that it has not started, which are started elsewhere; those that run go on.
    fn retire(&self);

    /// Ends it: probes are dropped, and a process of its own is gone soon after. Calls still under way end as failures.
    ///
    /// Does not wait for that.
    fn end(&self);
}

/// How a generation in a process of its own came to its end without having been asked to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// `Crash`, or `Protocol` where the host ended it for what it said.
    pub kind: ErrorType,
    /// What happened, as in "was killed by signal 11 (SIGSEGV)".
    pub message: String,
    /// The host ended it because it used far more than its limits allow.
    pub over_limit: bool,
}

/// What a plugin says of itself once it is loaded.
#[derive(Clone, Debug)]
pub struct Description {
    /// What platforms call it by.
    pub id: String,
    /// Its own version.
    pub version: String,
    /// The API version it was built for.
    pub api: ApiVersion,
    /// The JSON Schema of a platform's `config` table.
    pub config_schema: ConfigSchema,
    /// Whether its checks go on by themselves once begun, and take no thread while they wait.
    pub asynchronous: bool,
}

/// What it takes to create a probe.
#[derive(Clone)]
pub struct ProbeSpec {
    /// The platform it is for.
    pub platform: Arc<str>,
    /// The platform's config as JSON text, with secrets in it.
    pub config: Arc<str>,
    /// A trial to make in place of checks.
    pub trial: Option<Arc<Trial>>,
}

impl ProbeSpec {
    /// A probe that checks a platform.
    pub fn new(platform: impl Into<Arc<str>>, config: impl Into<Arc<str>>) -> Self {
        Self {
            platform: platform.into(),
            config: config.into(),
            trial: None,
        }
    }
}

/// A try of a config, in place of a check: a call holds it against the plugin's schema, and may create a probe with it
/// and drop that at once. Only workers do that, and only those that were [started for it](worker::Settings::trials).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Trial {
    /// Where the config is, and what in it must not be shown.
    pub subject: Subject,
    /// Create a probe with it, and drop that.
    pub creates: bool,
}

/// Leaves out the config, which may hold secrets.
impl fmt::Debug for ProbeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeSpec")
            .field("platform", &self.platform)
            .finish_non_exhaustive()
    }
}

/// A probe within one loaded plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProbeId(pub usize);

/// One call that the guard has admitted; it ends in exactly one [`Caller::finished`].
pub struct Call {
    /// Which probe.
    pub probe: ProbeId,
    /// Who wants to know; also says how long it may take.
    pub caller: Arc<dyn Caller>,
    /// Which of the caller's calls this is.
    pub sequence: u64,
}

/// Whoever started a call.
pub trait Caller: Send + Sync {
    /// The call is about to run; answers its deadline, or `None` when it is no longer wanted.
    fn started(&self, sequence: u64, now: Duration) -> Option<Duration>;

    /// The call is over; answers whether anybody was still waiting for it.
    fn finished(&self, sequence: u64, now: Duration, result: Result<&Report, Failure>) -> Waiting;

    /// Whether the caller has given up on the call.
    fn is_cancelled(&self, sequence: u64) -> bool;
}

/// Whether somebody waited for the end of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// The result was taken.
    Yes,
    /// The host had given up on the call before; the result was dropped.
    No,
}

/// What a check found, within the host's limits.
#[derive(Clone, Debug)]
pub struct Report {
    /// How the platform is doing.
    pub status: Status,
    /// One line for people, at most [`MAX_MESSAGE`] bytes, without control characters.
    pub message: String,
    /// Names and values, as the plugin gave them.
    pub measurements: Vec<(String, f64)>,
}

impl Report {
    /// A report for a call to fill in; calls on one thread share one, so that a check allocates nothing.
    pub fn empty() -> Self {
        Self {
            status: Status::Healthy,
            message: String::new(),
            measurements: Vec::new(),
        }
    }

    /// Takes in what a plugin says it found, made to keep the host's limits.
    ///
    /// # Errors
    /// When the status is one this host does not know.
    pub(crate) fn fill<'a>(
        &mut self,
        status: u8,
        message: &[u8],
        measurements: impl Iterator<Item = (&'a [u8], f64)>,
    ) -> Result<(), Failure> {
        if irregular::is_observed() {
            let measurements: Vec<_> = measurements.collect();
            irregular::note(status, message, &measurements);
            return self.take(status, message, measurements.into_iter());
        }
        self.take(status, message, measurements)
    }

    fn take<'a>(
        &mut self,
        status: u8,
        message: &[u8],
        measurements: impl Iterator<Item = (&'a [u8], f64)>,
    ) -> Result<(), Failure> {
        self.status = match AbiStatus(status) {
            AbiStatus::HEALTHY => Status::Healthy,
            AbiStatus::DEGRADED => Status::Degraded,
            AbiStatus::UNHEALTHY => Status::Unhealthy,
            AbiStatus(other) => {
                return Err(Failure::new(
                    ErrorType::Protocol,
                    format!(
                        "the probe reported status {other}; known are 0 healthy, 1 degraded and 2 unhealthy"
                    ),
                ));
            }
        };
        set_message(&mut self.message, message);
        let mut filled = 0;
        for (name, value) in measurements.take(MAX_MEASUREMENTS) {
            if filled == self.measurements.len() {
                self.measurements.push((String::new(), 0.0));
            }
            set_message(&mut self.measurements[filled].0, name);
            self.measurements[filled].1 = value;
            filled += 1;
        }
        self.measurements.truncate(filled);
        Ok(())
    }
}

/// Why a check could not report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What sort of failure, as it is counted.
    pub kind: ErrorType,
    /// What went wrong, for people; under the same limits as a report's message.
    pub message: String,
    /// Violations of the plugin's schema that a [`Trial`] found.
    pub violations: Vec<Violation>,
}

impl Failure {
    /// A failure with a message, cut to the limits.
    pub fn new(kind: ErrorType, message: impl AsRef<str>) -> Self {
        let mut text = String::new();
        set_message(&mut text, message.as_ref().as_bytes());
        Self {
            kind,
            message: text,
            violations: Vec::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why a library could not be loaded.
#[derive(Clone, Debug)]
pub struct LoadError {
    /// `Load`, or `Abi` where the layouts differ; `Crash`, `Timeout` or `Protocol` where its worker came to an end over it.
    pub kind: ErrorType,
    /// One line: the file, what was found, what to do.
    pub message: String,
    /// All there is to say, for `--verbose`.
    pub detail: Option<String>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LoadError {}

/// The longest message of a report or a failure that is kept, in bytes; the rest is cut off.
pub const MAX_MESSAGE: usize = 2048;

/// Closes a message that was cut.
const CUT: &str = " … (cut)";

/// More measurements of one report than this are not even looked at.
const MAX_MEASUREMENTS: usize = 1000;

/// Replaces `text` by a plugin's message: valid UTF-8, one line, at most [`MAX_MESSAGE`] bytes, without secrets.
fn set_message(text: &mut String, message: &[u8]) {
    text.clear();
    // Before it is cut, which would leave a part of one.
    let redacted = redaction::redact(message);
    let message = redacted.as_deref().unwrap_or(message);
    let cut = &message[..message.len().min(MAX_MESSAGE)];
    if message.len() <= MAX_MESSAGE
        && let Ok(clean) = str::from_utf8(cut)
        && !clean.contains(is_harmful)
    {
        text.push_str(clean);
        return;
    }
    for chunk in cut.utf8_chunks() {
        text.extend(chunk.valid().chars().map(escaped));
        // A character cut in half by the limit is no fault of the plugin's.
        let is_cut = message.len() > MAX_MESSAGE
            && chunk.invalid().as_ptr_range().end == cut.as_ptr_range().end;
        if !chunk.invalid().is_empty() && !is_cut {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    if message.len() > MAX_MESSAGE {
        text.push_str(CUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        let mut text = "what was there before".to_owned();
        set_message(&mut text, bytes);
        text
    }

    #[test]
    fn messages_are_made_fit_for_log_and_metrics() {
        assert_eq!(message("all well, 3 µs".as_bytes()), "all well, 3 µs");
        assert_eq!(message(b"two\nlines\x1b[31m"), "two\\nlines\\u{1b}[31m");
        assert_eq!(message("exe.\u{202e}gpj".as_bytes()), "exe.\\u{202e}gpj");
        assert_eq!(message(b"bad \xff byte"), "bad \u{fffd} byte");
        assert_eq!(message(b"caf\xe9"), "caf\u{fffd}");
        let long = message("ä".repeat(2000).as_bytes());
        assert!(long.ends_with("ä … (cut)"), "{}", &long[long.len() - 20..]);
        assert!(long.len() < MAX_MESSAGE + 20);
    }
}
