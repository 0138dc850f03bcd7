//! The messages between a host and a worker.
//!
//! Texts are `S`: owned by the sender, and borrowed from the frame by the receiver. Times are nanoseconds of the host's
//! clock, which both sides read. The receiver checks numbers that encode one of several values, so that it can
//! report an invalid number.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use conductor_plugin_api::manifest::{ApiVersion, Door, Manifest};
use conductor_sandbox::SandboxPolicy;
use serde::{Deserialize, Serialize};

use crate::{ConfigTrial, DeclaredValue, schema::SchemaViolation};

/// A message from a host to its worker.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum ToWorker {
    /// The first message: the library to load, and its settings.
    Hello(Box<HelloMessage>),
    /// A platform's probe, created by its first call.
    Open {
        /// The host's number for it, never reused.
        probe: u64,
        /// The platform's name.
        platform: String,
        /// The platform's config as JSON text.
        config: String,
        /// Its secrets, for the worker to redact from the plugin's output before cutting it.
        secrets: Vec<String>,
        /// The time between the starts of its checks, in nanoseconds.
        interval: u64,
        /// The platform's labels.
        labels: BTreeMap<String, String>,
        /// The platform's state; empty if there is none.
        state: Vec<u8>,
        /// The trial to run in place of checks, if any.
        trial: Option<ConfigTrial>,
    },
    /// Drops the probe.
    Close {
        /// The host's number for it.
        probe: u64,
    },
    /// A call to make; calls are made in the order of their requests.
    Call(CallRequest),
    /// The host no longer waits for a call.
    Cancel {
        /// The call's probe.
        probe: u64,
        /// The call.
        call: u64,
    },
    /// Drops all probes and exits.
    End,
    /// Replaces a platform's state, which the host writes.
    State {
        /// The platform's name.
        platform: String,
        /// The state.
        state: Vec<u8>,
    },
}

/// The first message to a worker.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HelloMessage {
    /// The host's process; the worker exits with it.
    pub host: i32,
    /// The private copy of the library.
    pub path: OsString,
    /// The operator's library; for messages.
    pub origin: OsString,
    /// The facts from the manifest, which the host has read.
    pub manifest: ManifestFacts,
    /// The worker's permissions and limits.
    pub policy: SandboxPolicy,
    /// `true` to compile the plugin's config schema, for trials of configs.
    pub trials: bool,
    /// Maximum number of concurrent calls.
    pub call_threads: u32,
    /// The host's log level: 0 none, 1 errors, … 5 everything.
    pub log_level: u8,
    /// The origin of the host's clock, see [`Clock::anchor`](conductor_core::clock::Clock::anchor).
    pub clock: Duration,
}

/// The facts of a manifest that are needed to load a library.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ManifestFacts {
    /// The API version the library was built for: major, minor and patch.
    pub api: (u16, u16, u16),
    /// `true` for the C ABI, `false` for the Rust one.
    pub c_abi: bool,
    /// `true` if its panics unwind.
    pub panics_unwind: bool,
    /// The plugin's id.
    pub id: String,
    /// The plugin's own version.
    pub version: String,
    /// Its display name.
    pub name: String,
}

impl ManifestFacts {
    /// Extracts the facts of a manifest.
    pub fn of(manifest: &Manifest) -> Self {
        let ApiVersion {
            major,
            minor,
            patch,
        } = manifest.api;
        Self {
            api: (major, minor, patch),
            c_abi: manifest.door == Door::C,
            panics_unwind: manifest.panics_unwind,
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            name: manifest.name.clone(),
        }
    }

    /// Returns the manifest with these facts.
    pub fn manifest(&self) -> Manifest {
        let (major, minor, patch) = self.api;
        Manifest {
            api: ApiVersion {
                major,
                minor,
                patch,
            },
            door: if self.c_abi { Door::C } else { Door::Rust },
            panics_unwind: self.panics_unwind,
            id: self.id.clone(),
            version: self.version.clone(),
            name: self.name.clone(),
            // The policy already reflects them.
            needs: Vec::new(),
            description: String::new(),
            author: String::new(),
            licence: String::new(),
        }
    }
}

/// A call to make.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CallRequest {
    /// The host's number for it, never reused.
    pub call: u64,
    /// The probe.
    pub probe: u64,
    /// The deadline.
    pub deadline: u64,
    /// `true` if the host still has the report of the probe's last call, so that [`CallResult::Same`] can refer to it.
    pub known: bool,
}

/// A message from a worker to its host. A report is `R`: [`WireReport`], or the sender's [`ReportView`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum FromWorker<S, R = WireReport<S>> {
    /// The first message after a successful load, apart from `Opened`.
    Loaded {
        /// The JSON Schema of a platform's `config` table.
        schema: S,
        /// The declared metrics as JSON text.
        metrics: S,
        /// `true` if its checks take no thread while they wait.
        asynchronous: bool,
        /// Restrictions that the kernel cannot enforce on the worker.
        unconfined: Vec<S>,
    },
    /// The first message after a failed load; the worker exits.
    Refused {
        /// The index of the error type in [`ErrorType::ALL`](conductor_types::ErrorType::ALL).
        kind: u8,
        /// One line.
        message: S,
        /// The full details.
        detail: Option<S>,
    },
    /// A call that is over.
    Answer(CallResponse<S, R>),
    /// A line for the host's log.
    Log {
        /// The level: 1 an error, … 5 a trace.
        level: u8,
        /// The platform it concerns.
        platform: Option<S>,
        /// The text.
        text: S,
    },
    /// The library is open, and its config schema is being compiled.
    Opened,
    /// The plugin has stored a platform's state.
    State {
        /// The platform's name.
        platform: S,
        /// The state; empty to remove it.
        state: Vec<u8>,
    },
    /// Log lines that the worker did not send, because they exceeded its limit; each line is counted once.
    Dropped {
        /// Number of lines, including errors.
        lines: u64,
        /// Number of lines of level ERROR.
        errors: u64,
    },
}

/// The end of a call.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CallResponse<S, R = WireReport<S>> {
    /// The host's number for it.
    pub call: u64,
    /// The time of its end.
    pub ended: u64,
    /// The plugin's running time.
    pub took: u64,
    /// The result.
    pub result: CallResult<S, R>,
}

/// The result of a call.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum CallResult<S, R = WireReport<S>> {
    /// A report.
    Report(R),
    /// A failure.
    Failure(WireFailure<S>),
    /// The report of the probe's last call again; only for a request with [`known`](CallRequest::known).
    Same,
}

/// The result of a check.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct WireReport<S> {
    /// 0 healthy, 1 degraded, 2 unhealthy.
    pub status: u8,
    /// One readable line.
    pub message: S,
    /// Names and values.
    pub measurements: Vec<(S, f64)>,
    /// Values of declared metrics: index, values of the labels, value.
    pub declared: Vec<(u16, Vec<S>, f64)>,
    /// The number of values of declared metrics that were not kept.
    pub dropped: u64,
}

/// A [`WireReport`] in the memory of its sender: the same fields in the same order.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ReportView<'a> {
    /// See [`WireReport::status`].
    pub status: u8,
    /// See [`WireReport::message`].
    pub message: &'a str,
    /// See [`WireReport::measurements`].
    pub measurements: &'a [(String, f64)],
    /// See [`WireReport::declared`].
    pub declared: &'a [DeclaredValue],
    /// See [`WireReport::dropped`].
    pub dropped: u64,
}

/// The reason why a check produced no report.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct WireFailure<S> {
    /// The index of the error type in [`ErrorType::ALL`](conductor_types::ErrorType::ALL).
    pub kind: u8,
    /// The error message.
    pub message: S,
    /// Violations of the plugin's schema.
    pub violations: Vec<SchemaViolation>,
}

/// Converts a time to its transfer format.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
