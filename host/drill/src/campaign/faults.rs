//! The faults of a campaign, as data: a platform's repeated misbehaviour, and the metric that counts it.
//!
//! The catalog of the drill defines the host's response to each of them; here each must be counted.

use super::super::case::FaultStage;

/// A platform's misbehaviour and its frequency.
#[derive(Debug)]
pub(super) struct RepeatedFault {
    /// The fault plugin's name for it.
    pub(super) fault: &'static str,
    /// The call in which it happens.
    pub(super) stage: FaultStage,
    /// Further keys.
    pub(super) keys: &'static str,
    /// The approximate number of failing calls per thousand.
    pub(super) permille: u64,
    /// The metric that counts it.
    pub(super) counted: CountedBy,
}

/// The metric that counts a fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum CountedBy {
    /// A failure of the platform with one of these types.
    Failures(&'static [&'static str]),
    /// A report: each report means that the fault was committed.
    Reports,
}

/// Faults that end the worker. A plugin has one platform of these, so that it causes each crash it counts.
pub(super) const DEADLY: &[RepeatedFault] = &[
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

/// Faults that do not return in time.
pub(super) const SLOW: &[RepeatedFault] = &[
    fails("sleep", FaultStage::Check, "millis = 400", 400, TIMEOUT),
    fails("hang", FaultStage::Check, "", 300, TIMEOUT),
    fails("spin", FaultStage::Check, "", 150, TIMEOUT),
    fails("deadlock", FaultStage::Check, "", 300, TIMEOUT),
];

/// Faults that fail and leave the worker alive.
///
/// None fails in create or drop: the host refuses to reload a config with such a platform.
pub(super) const FAILING: &[RepeatedFault] = &[
    fails("error", FaultStage::Check, "", 600, ERROR),
    fails("panic", FaultStage::Check, "", 600, PANIC),
    fails("panic-payload", FaultStage::Check, "", 600, PANIC),
    fails("files", FaultStage::Check, "limit = 5_000", 400, REFUSED),
    fails("threads", FaultStage::Check, "limit = 600", 400, REFUSED),
    fails("children", FaultStage::Check, "limit = 300", 400, REFUSED),
    fails("forks", FaultStage::Check, "limit = 300", 400, REFUSED),
];

/// Faults that report as if nothing had happened.
pub(super) const LYING: &[RepeatedFault] = &[
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

impl RepeatedFault {
    /// Returns the config table of a platform that commits it, with random choices drawn from `seed`.
    pub(super) fn config(&self, seed: u64) -> String {
        let Self { fault, keys, .. } = self;
        let comma = if keys.is_empty() { "" } else { ", " };
        let rng = format!("permille = {}, seed = {}", self.permille, seed >> 1);
        format!("{{ check = {{ fault = \"{fault}\"{comma}{keys}, {rng} }} }}")
    }
}

const fn deadly(fault: &'static str, keys: &'static str) -> RepeatedFault {
    fails(fault, FaultStage::Check, keys, 500, DEATH)
}

const fn fails(
    fault: &'static str,
    stage: FaultStage,
    keys: &'static str,
    permille: u64,
    types: &'static [&'static str],
) -> RepeatedFault {
    RepeatedFault {
        fault,
        stage,
        keys,
        permille,
        counted: CountedBy::Failures(types),
    }
}

const fn reports(fault: &'static str, keys: &'static str) -> RepeatedFault {
    RepeatedFault {
        fault,
        stage: FaultStage::Check,
        keys,
        permille: 1000,
        counted: CountedBy::Reports,
    }
}

const ERROR: &[&str] = &["error"];
const PANIC: &[&str] = &["panic"];
const TIMEOUT: &[&str] = &["timeout"];
/// A greedy plugin is refused more, or dies of it.
const REFUSED: &[&str] = &["error", "crash", "timeout"];
/// A plugin that breaks the protocol may time out before it ends.
const DEATH: &[&str] = &["crash", "protocol", "timeout"];
