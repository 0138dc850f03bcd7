//! Closed sets of values, each with its name in labels, in the config and in the JSON.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares the enums; the text beside each value is how it is written in a label.
macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl $name {
            /// Every value, in the order they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$value,)+];

            /// How the value is written in a label.
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

        impl Label for $name {
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
    /// What became of a check that ran.
    Status {
        /// The report says healthy.
        Healthy = "healthy",
        /// The report says degraded.
        Degraded = "degraded",
        /// The report says unhealthy.
        Unhealthy = "unhealthy",
        /// The plugin could not report; an [`ErrorType`] says why.
        Failed = "failed",
    }

    /// Why a plugin could not report.
    ErrorType {
        /// It returned an error.
        Error = "error",
        /// It was not done by its deadline.
        Timeout = "timeout",
        /// It panicked, and the panic barrier caught it.
        Panic = "panic",
        /// Its worker ended during the call.
        Crash = "crash",
        /// Its library or its probe could not be brought to life.
        Load = "load",
        /// Its library was built for another ABI.
        Abi = "abi",
        /// It refused the platform's config.
        Config = "config",
        /// Its worker did not keep to the protocol.
        Protocol = "protocol",
    }

    /// What the host keeps in memory for each platform or for what its config holds.
    Tracked {
        /// Platforms on the schedule, and removed ones whose last call is under way.
        Platform = "platform",
        /// Probes that are open in workers or inside the host.
        Probe = "probe",
        /// Plugins that platforms name, and others whose library or last calls are still there.
        Plugin = "plugin",
        /// Platforms with series.
        Series = "series",
        /// Removed platforms whose counters are kept in case they come back.
        RetiredSeries = "retired_series",
        /// Plugins with series.
        PluginSeries = "plugin_series",
        /// Removed plugins whose counters are kept in case they come back.
        RetiredPluginSeries = "retired_plugin_series",
        /// Platforms with lines of the log.
        LogTail = "log_tail",
        /// Texts that are taken out of what plugins say.
        Secret = "secret",
    }

    /// Why a check that was due did not run.
    SkipReason {
        /// The breaker refused the call.
        BreakerOpen = "breaker_open",
        /// The platform's last check was still running.
        Overlap = "overlap",
        /// Its slot had passed, after a stall or a suspend.
        Missed = "missed",
        /// No thread was free for it.
        Saturated = "saturated",
        /// The host is in degraded mode and stretched or shed it.
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

    /// The state of a breaker; the gauge shows its place in this list, from 0.
    BreakerState {
        /// Calls pass.
        Closed = "closed",
        /// Calls are refused.
        Open = "open",
        /// One trial may pass.
        HalfOpen = "half_open",
    }

    /// How far the host is easing off; the gauge shows its place in this list, from 0.
    DegradedMode {
        /// Everything runs as configured.
        Normal = "normal",
        /// Checks are stretched.
        Degraded = "degraded",
        /// Checks are stretched further or paused.
        Critical = "critical",
    }

    /// Why a plugin's worker was replaced by a new one.
    RestartReason {
        /// It ended by itself or was killed by a signal.
        Crash = "crash",
        /// It was ended because calls were stuck in it.
        Hang = "hang",
        /// It used more than its limits allow.
        Limit = "limit",
        /// A new library took its place.
        Replace = "replace",
    }

    /// Where a plugin runs.
    #[derive(Default, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    Isolation {
        /// In a process of its own, which it can bring down alone.
        #[default]
        Process = "process",
        /// In the host's process: only for a plugin that is trusted fully.
        InProcess = "in-process",
    }

    /// How important a platform's checks are when the machine is short of resources.
    #[derive(Default, Deserialize, JsonSchema, Ord, PartialOrd)]
    #[serde(rename_all = "kebab-case")]
    Priority {
        /// Never stretched or left out.
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
        /// They go on.
        #[default]
        GoOn = "go-on",
        /// None is begun by the schedule; each that was due counts as skipped.
        Pause = "pause",
    }
}

/// A label with a closed set of values.
pub trait Label: Copy + 'static {
    /// Every value, in the order in which they are shown.
    const ALL: &'static [Self];
    /// The value's name.
    fn label(self) -> &'static str;
    /// The value's place in [`ALL`](Self::ALL).
    fn index(self) -> usize;
}
