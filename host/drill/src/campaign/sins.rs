//! The faults of a campaign, as data: what a platform does wrong again and again, and what that is counted by.
//!
//! The catalogue of the drill says what a host must make of each of them; here it matters that each is counted.

use super::super::case::Stage;

/// What a platform does wrong, and how often.
#[derive(Debug)]
pub(super) struct Sin {
    /// The fault plugin's name for it.
    pub(super) fault: &'static str,
    /// The call it is done in.
    pub(super) stage: Stage,
    /// Further keys.
    pub(super) keys: &'static str,
    /// How many of a thousand calls go wrong, about.
    pub(super) permille: u64,
    /// What one of them is counted by.
    pub(super) counted: Counted,
}

/// What a fault is counted by in the host's metrics.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counted {
    /// A failure of the platform of one of these types.
    Failures(&'static [&'static str]),
    /// A report: each one that comes is a fault that was committed.
    Reports,
}

/// Those that end the worker. A plugin has one platform of these, so that each crash it counts is its own doing.
pub(super) const DEADLY: &[Sin] = &[
    deadly("panic-abort", ""),
    deadly("abort", ""),
    deadly("exit-0", ""),
    deadly("exit-7", ""),
    deadly("segfault", ""),
    deadly("illegal-instruction", ""),
    deadly("stack-overflow", ""),
    deadly("double-free", ""),
    deadly("kill", ""),
    deadly("memory", "limit = 1_500_000_000"),
    deadly("close-fds", ""),
    deadly("wire-garbage", ""),
    deadly("wire-half-frame", ""),
    deadly("wire-torn-frame", ""),
    deadly("wire-huge-frame", ""),
    deadly("wire-closed", ""),
];

/// Those that do not come back in time.
pub(super) const SLOW: &[Sin] = &[
    fails("sleep", Stage::Check, "millis = 400", 400, TIMEOUT),
    fails("hang", Stage::Check, "", 300, TIMEOUT),
    fails("spin", Stage::Check, "", 150, TIMEOUT),
    fails("deadlock", Stage::Check, "", 300, TIMEOUT),
];

/// Those that fail, and leave the worker alive.
///
/// None fails while its probe is created or dropped: the host refuses to reload a config with such a platform.
pub(super) const FAILING: &[Sin] = &[
    fails("error", Stage::Check, "", 600, ERROR),
    fails("panic", Stage::Check, "", 600, PANIC),
    fails("panic-payload", Stage::Check, "", 600, PANIC),
    fails("files", Stage::Check, "limit = 5_000", 400, REFUSED),
    fails("threads", Stage::Check, "limit = 600", 400, REFUSED),
    fails("children", Stage::Check, "limit = 300", 400, REFUSED),
    fails("forks", Stage::Check, "limit = 300", 400, REFUSED),
];

/// Those that report as if nothing had happened.
pub(super) const LYING: &[Sin] = &[
    reports("nan", ""),
    reports("infinity", ""),
    reports("invalid-utf8", ""),
    reports("control-characters", ""),
    reports("long-message", ""),
    reports("stdout", "limit = 50_000"),
    reports("stderr", "limit = 50_000"),
    reports("stdin", ""),
    reports("log", ""),
    reports("chdir", ""),
    reports("environment", ""),
    reports("locale", ""),
    reports("signal-handlers", ""),
    reports("umask", ""),
    reports("block-signals", ""),
];

impl Sin {
    /// The config table of a platform that commits it, with chances drawn from `seed`.
    pub(super) fn config(&self, seed: u64) -> String {
        let Self { fault, keys, .. } = self;
        let comma = if keys.is_empty() { "" } else { ", " };
        let chance = format!("permille = {}, seed = {}", self.permille, seed >> 1);
        format!("{{ check = {{ fault = \"{fault}\"{comma}{keys}, {chance} }} }}")
    }
}

const fn deadly(fault: &'static str, keys: &'static str) -> Sin {
    fails(fault, Stage::Check, keys, 500, DEATH)
}

const fn fails(
    fault: &'static str,
    stage: Stage,
    keys: &'static str,
    permille: u64,
    types: &'static [&'static str],
) -> Sin {
    Sin {
        fault,
        stage,
        keys,
        permille,
        counted: Counted::Failures(types),
    }
}

const fn reports(fault: &'static str, keys: &'static str) -> Sin {
    Sin {
        fault,
        stage: Stage::Check,
        keys,
        permille: 1000,
        counted: Counted::Reports,
    }
}

const ERROR: &[&str] = &["error"];
const PANIC: &[&str] = &["panic"];
const TIMEOUT: &[&str] = &["timeout"];
/// What takes too much is refused more, or dies of it.
const REFUSED: &[&str] = &["error", "crash", "timeout"];
/// Whoever breaks the conversation may be waited for in vain before it ends.
const DEATH: &[&str] = &["crash", "protocol", "timeout"];
