//! What is said between a host and a worker.
//!
//! Texts are `S`: owned by whoever sends, and borrowed from the frame by whoever receives. Times are nanoseconds of the
//! host's clock, which both sides read. Numbers that stand for one of a few things are checked by the receiver, so that
//! it can say which number it was.

use std::{ffi::OsString, time::Duration};

use conductor_plugin_api::manifest::{ApiVersion, Door, Manifest};
use conductor_sandbox::Policy;
use serde::{Deserialize, Serialize};

use crate::{Trial, schema::Violation};

/// From a host to its worker.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum ToWorker {
    /// The first message: what to load, and how.
    Hello(Box<Hello>),
    /// A platform's probe, to be created by its first call.
    Open {
        /// The host's number for it, never used again.
        probe: u64,
        /// The platform's name.
        platform: String,
        /// The platform's config as JSON text.
        config: String,
        /// What in it is a secret, for the worker to take out of what the plugin says before it shortens that.
        secrets: Vec<String>,
        /// A trial to make in place of checks.
        trial: Option<Trial>,
    },
    /// The probe is to be dropped.
    Close {
        /// The host's number for it.
        probe: u64,
    },
    /// Calls to make, in the order they are to start in.
    Calls(Vec<Request>),
    /// The host no longer waits for a call.
    Cancel {
        /// The probe it is into.
        probe: u64,
        /// The call.
        call: u64,
    },
    /// Drop all probes, and leave.
    End,
}

/// What a worker is told first.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Hello {
    /// The host's process, which the worker does not outlive.
    pub host: i32,
    /// The private copy of the library.
    pub path: OsString,
    /// Where the operator put the library; for messages.
    pub origin: OsString,
    /// What the manifest says, which the host has read.
    pub manifest: ManifestFacts,
    /// What the worker may do.
    pub policy: Policy,
    /// Compile the plugin's config schema, for configs to be tried out.
    pub trials: bool,
    /// How many calls may run at once.
    pub call_threads: u32,
    /// The least important lines that the host logs: 0 none, 1 errors, … 5 everything.
    pub log_level: u8,
    /// Where the host's clock has its origin, see [`Clock::anchor`](conductor_core::clock::Clock::anchor).
    pub clock: Duration,
}

/// What of a manifest it takes to load a library.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ManifestFacts {
    /// The API version the library was built for: major, minor and patch.
    pub api: (u16, u16, u16),
    /// Whether it has the C door rather than the Rust one.
    pub c_abi: bool,
    /// Whether its panics unwind.
    pub panics_unwind: bool,
    /// The plugin's id.
    pub id: String,
    /// The plugin's own version.
    pub version: String,
    /// Its name for people.
    pub name: String,
}

impl ManifestFacts {
    /// Those of a manifest.
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

    /// The manifest they are from.
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
            // The policy says what came of them.
            needs: Vec::new(),
        }
    }
}

/// A call to make.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Request {
    /// The host's number for it, never used again.
    pub call: u64,
    /// The probe.
    pub probe: u64,
    /// When it must be over.
    pub deadline: u64,
}

/// From a worker to its host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum FromWorker<S> {
    /// The first message, but for `Opened`, where all went well.
    Loaded {
        /// The JSON Schema of a platform's `config` table.
        schema: S,
        /// Whether its checks take no thread while they wait.
        asynchronous: bool,
        /// What the kernel cannot hold the worker to.
        unconfined: Vec<S>,
    },
    /// The first message where it did not; the worker leaves.
    Refused {
        /// The place of the error type in [`ErrorType::ALL`](conductor_types::ErrorType::ALL).
        kind: u8,
        /// One line.
        message: S,
        /// All there is to say.
        detail: Option<S>,
    },
    /// Calls that are over.
    Answers(Vec<Answer<S>>),
    /// A line for the host's log.
    Log {
        /// 1 an error, … 5 a trace.
        level: u8,
        /// The platform it is about.
        platform: Option<S>,
        /// What it says.
        text: S,
    },
    /// The library is opened, and its config schema is being compiled.
    Opened,
    /// Log lines that the worker did not send, as they were above its limit; each line is counted once.
    Dropped {
        /// All of them, errors included.
        lines: u64,
        /// Those of level ERROR.
        errors: u64,
    },
}

/// The end of a call.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Answer<S> {
    /// The host's number for it.
    pub call: u64,
    /// When it was over.
    pub ended: u64,
    /// How long the plugin took.
    pub took: u64,
    /// What came of it.
    pub result: Result<Found<S>, Failed<S>>,
}

/// What a check found.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Found<S> {
    /// 0 healthy, 1 degraded, 2 unhealthy.
    pub status: u8,
    /// One line for people.
    pub message: S,
    /// Names and values.
    pub measurements: Vec<(S, f64)>,
}

/// Why a check could not report.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Failed<S> {
    /// The place of the error type in [`ErrorType::ALL`](conductor_types::ErrorType::ALL).
    pub kind: u8,
    /// What went wrong.
    pub message: S,
    /// Violations of the plugin's schema.
    pub violations: Vec<Violation>,
}

/// A time as it travels.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
