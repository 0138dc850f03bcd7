//! Turns a vetted copy of a library into probes that can be called.
//!
//! [`LoadedPlugin`] is the interface: the host passes [`AdmittedCall`]s and gets each result through its [`CallOwner`], whether
//! the library is loaded into this process ([`in_process`]) or into another. Only this crate opens libraries, only
//! private copies of vetted ones, and never closes them. Only the host's guard starts calls.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use conductor_library::printable::{escaped, steers as is_harmful};
use conductor_plugin_api::{Status, abi::AbiStatus, manifest::ApiVersion};
use conductor_types::ErrorType;
use serde::{Deserialize, Serialize};

use crate::schema::{SchemaViolation, ValueLocation};

mod c_abi;
pub mod call_context;
pub mod call_journal;
pub mod config_keys;
mod config_schema;
mod declared;
pub mod door;
pub mod in_process;
mod layout;
pub mod loader;
pub mod observer;
mod probe_state;
pub mod protocol;
pub mod quarantine;
pub mod redaction;
mod rust_abi;
pub mod schema;
mod secret_keys;
mod threads;
pub mod wording;
pub mod worker;

pub use config_schema::{ConfigSchema, SchemaTextError};
pub use declared::{
    DeclaredMetrics, DeclaredValue, MAX_DECLARED_VALUES, MAX_LABEL_VALUE, SetError, SetValues,
    series_name,
};
pub use probe_state::{MemoryStates, ProbeStates};
pub use rust_abi::OpenError;
#[cfg(any(target_os = "linux", windows))]
pub use rust_abi::open_only;
pub use threads::{RUST_STACKS, room_for_stacks};

/// One loaded instance of a plugin: a generation.
pub trait LoadedPlugin: Send + Sync {
    /// Returns the plugin's description.
    fn description(&self) -> &PluginDescription;

    /// Registers a platform's probe; its first call creates it.
    fn open(&self, spec: ProbeSpec) -> ProbeId;

    /// Drops a probe, once no call into it is in flight.
    fn close(&self, probe: ProbeId);

    /// Starts calls in the given order; leaves `calls` empty.
    ///
    /// Returns `true` if [`nudge`](Self::nudge) should be called a tick later, because some calls may be queued behind
    /// others. Calls not yet started when the plugin ends are dropped, and may be started elsewhere.
    fn start(&self, calls: &mut Vec<AdmittedCall>) -> bool;

    /// Gives queued calls more threads, if any are still queued; returns `true` to be called again.
    fn nudge(&self) -> bool;

    /// Notes that the host no longer waits for the call into this probe, whose thread may never return. Called under a
    /// guard's lock: it must not block or call back.
    fn abandoned(&self, probe: ProbeId);

    /// Returns the PID of its process, if it runs in its own.
    fn pid(&self) -> Option<u32> {
        None
    }

    /// Returns the restrictions that are not in force on its own process, a line each; none if it has no process.
    fn unconfined(&self) -> &[String] {
        &[]
    }

    /// Returns the number of open probes, if it is counted.
    fn open_probes(&self) -> usize {
        0
    }

    /// Drops the queued calls, which are started elsewhere; running ones continue.
    fn retire(&self);

    /// Ends it: probes are dropped, and its own process exits soon after. Calls still in flight end as failures.
    ///
    /// Does not wait for the end.
    fn end(&self);
}

/// The unexpected end of a generation in its own process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnexpectedExit {
    /// `Crash`, or `Protocol` if the host ended it because of an invalid message.
    pub kind: ErrorType,
    /// The cause, for example "was killed by signal 11 (SIGSEGV)".
    pub message: String,
    /// `true` if the host ended it because it far exceeded its limits.
    pub over_limit: bool,
}

/// The properties of a plugin, known once it is loaded.
#[derive(Clone, Debug)]
pub struct PluginDescription {
    /// The id that platforms use.
    pub id: String,
    /// Its own version.
    pub version: String,
    /// The API version it was built for.
    pub api: ApiVersion,
    /// The JSON Schema of a platform's `config` table.
    pub config_schema: ConfigSchema,
    /// Its declared metrics.
    pub metrics: Arc<DeclaredMetrics>,
    /// `true` if its checks continue without a thread once begun.
    pub asynchronous: bool,
}

/// The data needed to create a probe.
#[derive(Clone)]
pub struct ProbeSpec {
    /// The platform to check.
    pub platform: Arc<str>,
    /// The platform's config as JSON text, including secrets.
    pub config: Arc<str>,
    /// The time between the starts of its checks.
    pub interval: Duration,
    /// The platform's labels.
    pub labels: BTreeMap<String, String>,
    /// The store of its state.
    pub states: Arc<dyn ProbeStates>,
    /// The trial to run in place of checks, if any.
    pub trial: Option<Arc<ConfigTrial>>,
}

impl ProbeSpec {
    /// Returns the spec of a probe that checks a platform: without labels, each five seconds, with a state in memory.
    pub fn new(platform: impl Into<Arc<str>>, config: impl Into<Arc<str>>) -> Self {
        Self {
            platform: platform.into(),
            config: config.into(),
            interval: Duration::from_secs(5),
            labels: BTreeMap::new(),
            states: Arc::new(MemoryStates::default()),
            trial: None,
        }
    }
}

/// A trial of a config, in place of a check: a call validates it against the plugin's schema, and may create a probe
/// with it and drop that immediately. Only workers do that, and only those [started for it](worker::WorkerSettings::trials).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConfigTrial {
    /// The config's place, and its secrets.
    pub subject: ValueLocation,
    /// `true` to create a probe with it, and drop that.
    pub creates: bool,
}

/// Leaves out the config, which may contain secrets.
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

impl ProbeId {
    /// Returns the probe that has this number in messages to a worker.
    #[expect(clippy::cast_possible_truncation, reason = "asserted not to")]
    pub(crate) fn from_number(number: u64) -> Self {
        const { assert!(usize::BITS >= u64::BITS, "a number takes 64 bits") };
        Self(number as usize)
    }

    /// Returns its number in messages to a worker.
    pub(crate) fn number(self) -> u64 {
        self.0 as u64
    }
}

/// A call admitted by the guard; it ends in exactly one [`CallOwner::finished`].
pub struct AdmittedCall {
    /// The probe.
    pub probe: ProbeId,
    /// The caller, which also sets the deadline.
    pub caller: Arc<dyn CallOwner>,
    /// The sequence number among the caller's calls.
    pub sequence: u64,
}

/// The owner of a call, informed of its start and its end.
pub trait CallOwner: Send + Sync {
    /// Called when the call is about to run; returns its deadline, or `None` if it is no longer wanted.
    fn started(&self, sequence: u64, now: Duration) -> Option<Duration>;

    /// Called when the call is over; returns whether its result was still wanted.
    fn finished(
        &self,
        sequence: u64,
        now: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome;

    /// Called instead of [`finished`](Self::finished) if the call ends with a report equal to the one that was
    /// [kept](DeliveryOutcome::Kept), which was the result of the caller's previous call.
    ///
    /// Never called for callers that keep no reports.
    fn finished_same(&self, _sequence: u64, _now: Duration) -> DeliveryOutcome {
        DeliveryOutcome::No
    }

    /// Returns `true` if the caller has given up on the call.
    fn is_cancelled(&self, sequence: u64) -> bool;
}

/// The outcome of delivering a result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeliveryOutcome {
    /// The result was accepted.
    Yes,
    /// The report was accepted, and the caller keeps it until its next call ends: an equal one need not be repeated.
    Kept,
    /// The host had already given up on the call; the result was dropped.
    No,
}

/// The result of a check, within the host's limits.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// The state of the platform.
    pub status: Status,
    /// One readable line, at most [`MAX_MESSAGE`] bytes, without control characters.
    pub message: String,
    /// Names and values, as given by the plugin.
    pub measurements: Vec<(String, f64)>,
    /// Values of declared metrics.
    pub declared: SetValues,
}

impl CheckReport {
    /// Returns a report for a call to fill in; calls on one thread share one, so that a check allocates nothing.
    pub fn empty() -> Self {
        Self {
            status: Status::Healthy,
            message: String::new(),
            measurements: Vec::new(),
            declared: SetValues::default(),
        }
    }

    /// Returns `true` if every part equals that of `other`; values are compared bit by bit.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let Self {
            status,
            message,
            measurements,
            declared,
        } = self;
        let measured = measurements.iter().zip(&other.measurements);
        *status == other.status
            && *message == other.message
            && declared.is_same(&other.declared)
            && measurements.len() == other.measurements.len()
            && measured.into_iter().all(|((name, value), (other, is))| {
                name == other && value.to_bits() == is.to_bits()
            })
    }

    /// Copies `other` into the memory of this report.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        let Self {
            status,
            message,
            measurements,
            declared,
        } = self;
        *status = other.status;
        other.message.clone_into(message);
        declared.clone_from(&other.declared);
        let measured = other.measurements.iter();
        replace_measurements(
            measurements,
            measured.map(|(name, value)| (name.as_str(), *value)),
            |text, name| name.clone_into(text),
        );
    }

    /// Fills in the plugin's findings, cut to the host's limits.
    ///
    /// # Errors
    /// When the status is unknown to this host.
    pub(crate) fn fill<'a>(
        &mut self,
        status: u8,
        message: &[u8],
        measurements: impl Iterator<Item = (&'a [u8], f64)>,
    ) -> Result<(), CallFailure> {
        self.status = match AbiStatus(status) {
            AbiStatus::HEALTHY => Status::Healthy,
            AbiStatus::DEGRADED => Status::Degraded,
            AbiStatus::UNHEALTHY => Status::Unhealthy,
            AbiStatus(other) => {
                return Err(CallFailure::new(
                    ErrorType::Protocol,
                    format!(
                        "the probe reported status {other}; known are 0 healthy, 1 degraded and 2 unhealthy"
                    ),
                ));
            }
        };
        set_message(&mut self.message, message);
        let measurements = measurements.take(MAX_MEASUREMENTS);
        replace_measurements(&mut self.measurements, measurements, set_message);
        Ok(())
    }
}

/// Replaces a list of measurements, in the memory of the old ones; `set` sets a name.
pub fn replace_measurements<N>(
    list: &mut Vec<(String, f64)>,
    measurements: impl Iterator<Item = (N, f64)>,
    set: impl Fn(&mut String, N),
) {
    let mut filled = 0;
    for (name, value) in measurements {
        if filled == list.len() {
            list.push((String::new(), 0.0));
        }
        let (text, number) = &mut list[filled];
        set(text, name);
        *number = value;
        filled += 1;
    }
    list.truncate(filled);
}

/// The reason why a check produced no report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallFailure {
    /// The error type that is counted.
    pub kind: ErrorType,
    /// The error message; under the same limits as a report's message.
    pub message: String,
    /// Violations of the plugin's schema that a [`ConfigTrial`] found.
    pub violations: Vec<SchemaViolation>,
}

impl CallFailure {
    /// Returns a failure with a message, cut to the limits.
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

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The reason why a library could not be loaded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    /// `Load`, or `Abi` if the layouts differ; `Crash`, `Timeout` or `Protocol` if its worker ended while loading it.
    pub kind: ErrorType,
    /// One line: the file, the problem, the fix.
    pub message: String,
    /// The full details, for `--verbose`.
    pub detail: Option<String>,
}

/// Maximum length of a report's or failure's message, in bytes; the rest is cut off.
pub const MAX_MESSAGE: usize = 2048;

/// The end of a message that was cut.
pub const CUT: &str = " … (cut)";

/// Maximum number of measurements of a report that are looked at; further ones are ignored.
pub const MAX_MEASUREMENTS: usize = 1000;

/// Sets `text` to a plugin's message: valid UTF-8, one line, at most [`MAX_MESSAGE`] bytes, without secrets.
fn set_message(text: &mut String, message: &[u8]) {
    text.clear();
    // Before cutting, which could leave part of a secret.
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
        // A character cut in half by the limit is not the plugin's fault.
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
