//! Closed sets of values, each with its name in labels, in the config and in the JSON.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares the enums; the text after each value is its label.
macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl $name {
            /// All values, in display order.
            pub const ALL: &'static [Self] = &[$(Self::$value,)+];

            /// Returns the value's label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.label())
            }
        }

        impl LabelValue for $name {
            const ALL: &'static [Self] = Self::ALL;

            fn label(self) -> &'static str {
                self.label()
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}

labels! {
    /// The result of a check that ran.
    Status {
        /// The report says healthy.
        Healthy = "healthy",
        /// The report says degraded.
        Degraded = "degraded",
        /// The report says unhealthy.
        Unhealthy = "unhealthy",
        /// The plugin could not report; the [`ErrorType`] gives the reason.
        Failed = "failed",
    }

    /// The reason why a plugin could not report.
    ErrorType {
        /// It returned an error.
        Error = "error",
        /// It did not return by its deadline.
        Timeout = "timeout",
        /// It panicked, and the panic barrier caught it.
        Panic = "panic",
        /// Its worker ended during the call.
        Crash = "crash",
        /// Its library could not be loaded, or its probe could not be created.
        Load = "load",
        /// Its library was built for an incompatible ABI.
        Abi = "abi",
        /// It rejected the platform's config.
        Config = "config",
        /// Its worker violated the protocol.
        Protocol = "protocol",
    }

    /// An in-memory object that the host counts, per platform or config entry.
    Tracked {
        /// Scheduled platforms, and removed ones whose last call is still running.
        Platform = "platform",
        /// Probes that exist in workers or in the host.
        Probe = "probe",
        /// Plugins that platforms use, and others whose library or last calls still exist.
        Plugin = "plugin",
        /// Platforms with metric series.
        Series = "series",
        /// Removed platforms whose counters are kept in case they return.
        RetiredSeries = "retired_series",
        /// Plugins with metric series.
        PluginSeries = "plugin_series",
        /// Removed plugins whose counters are kept in case they return.
        RetiredPluginSeries = "retired_plugin_series",
        /// Platforms with log lines.
        LogTail = "log_tail",
        /// Secrets that are redacted from plugin output.
        Secret = "secret",
    }

    /// The reason why a due check did not run.
    SkipReason {
        /// The breaker refused the call.
        BreakerOpen = "breaker_open",
        /// The platform's previous check was still running.
        Overlap = "overlap",
        /// Its slot had passed, after a stall or a suspend.
        Missed = "missed",
        /// No thread was free for it.
        Saturated = "saturated",
        /// The host is in degraded mode and skipped the check.
        Degraded = "degraded",
        /// The host was shutting down.
        Shutdown = "shutdown",
        /// A maintenance window pauses the platform's checks.
        Maintenance = "maintenance",
    }

    /// A resource of the machine.
    Resource {
        /// Memory.
        Ram = "ram",
        /// Processor time.
        Cpu = "cpu",
        /// Disk space.
        Disk = "disk",
    }

    /// The state of a breaker; the gauge's value is its index in this list, from 0.
    BreakerState {
        /// Calls pass.
        Closed = "closed",
        /// Calls are refused.
        Open = "open",
        /// One trial may pass.
        HalfOpen = "half_open",
    }

    /// The degree of degraded mode; the gauge's value is its index in this list, from 0.
    DegradedMode {
        /// Everything runs as configured.
        Normal = "normal",
        /// Checks are stretched.
        Degraded = "degraded",
        /// Checks are stretched further or paused.
        Critical = "critical",
    }

    /// The reason why a plugin's worker was replaced.
    RestartReason {
        /// It exited, or was killed by a signal.
        Crash = "crash",
        /// It was stopped because calls were stuck in it.
        Hang = "hang",
        /// It exceeded its limits.
        Limit = "limit",
        /// A new library replaced its library.
        Replace = "replace",
    }

    /// Isolation of a plugin.
    #[derive(Default, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    Isolation {
        /// In a worker process, so that a crash affects only this plugin.
        #[default]
        Process = "process",
        /// In the host's process; only for fully trusted plugins.
        InProcess = "in-process",
    }

    /// Priority of a platform's checks when the machine is short of resources.
    #[derive(Default, Deserialize, JsonSchema, Ord, PartialOrd)]
    #[serde(rename_all = "kebab-case")]
    Priority {
        /// Never stretched or skipped.
        Critical = "critical",
        /// Stretched when the machine is degraded.
        #[default]
        Normal = "normal",
        /// Stretched most, and paused when the machine is critical.
        Low = "low",
    }

    /// Checks during a maintenance window.
    #[derive(Default, Deserialize, JsonSchema, Ord, PartialOrd, Serialize)]
    #[serde(rename_all = "kebab-case")]
    Checks {
        /// They continue.
        #[default]
        GoOn = "go-on",
        /// The schedule starts none; each due check counts as skipped.
        Pause = "pause",
    }
}

/// A label with a closed set of values.
pub trait LabelValue: Copy + 'static {
    /// All values, in display order.
    const ALL: &'static [Self];
    /// Returns the value's name.
    fn label(self) -> &'static str;
    /// Returns the value's index in [`ALL`](Self::ALL).
    fn index(self) -> usize;
}
