//! Everything that crosses between host and plugin. **Append only.**
//!
//! The slice of `abi_stable` used here is narrow: layout-checked structs, prefix types, one trait object, and the
//! `R…` copies of `String`, `Vec`, `str` and `Result`.
//!
//! # Version policy
//! This crate's version is the ABI's. Since 1.0 is final, everything in a released version stays for the life of its
//! major version: names, types, order and meaning of fields, methods and parameters, and the values of constants. Every
//! host of a major version works with every plugin of it, whichever is older. A new *minor* version appends, a new
//! *patch* version does not touch this module, and a new *major* version would break every existing plugin.
//!
//! # What may be appended, and how
//! | what | how | who reads it |
//! |---|---|---|
//! | a field of [`AbiPlugin`] | at the end, after `last_prefix_field`, which stays where it is | the host gets an `Option`: `None` from an older plugin |
//! | a function of [`AbiHost`] | the same | the plugin gets an `Option`: `None` from an older host |
//! | a method of [`AbiProbe`] | at the end, with a body | for an older plugin, the host runs that body |
//! | a property of a report or a failure | a key of [`AbiReport::extra`] or [`AbiFailure::extra`] | unknown keys are ignored |
//! | a status, a kind, a level | one more constant of [`AbiStatus`], [`AbiFailureKind`], [`AbiLevel`] | an unknown value is legal to receive |
//! | a field of the [manifest](crate::manifest) | after the last one, and its size raised | a shorter record lacks it |
//!
//! Structs passed by value can never grow ("host has 80 bytes, plugin has 112"). The side that has an appended item
//! must work without it, as the other side may be older. Raise the minor version, describe under "ABI" in the changelog
//! what each side does without the item, and let `tests/golden/freeze` store the new version next to the earlier ones.
//!
//! # Tests that guard it
//! | what fails | what it means |
//! |---|---|
//! | `what_earlier_versions_froze_is_unchanged` | something frozen was changed: take it back and append |
//! | `what_was_appended_is_part_of_a_new_minor_version` | something was appended: raise the minor version and freeze it |
//! | a row of the matrix, of a frozen plugin | it is refused, or does not work, though its layout is unchanged: a meaning was changed |
//! | a row of the matrix, of the next minor version | the addition breaks compatibility in one direction |
//! | the matrix's pinned refusals | a change that must be refused passes, or the message changed |
//! | a host, with "this host expects" | a plugin in the field was built against an unreleased API |
#![expect(
    unsafe_code,
    reason = "the derives of abi_stable expand to unsafe impls"
)]
#![expect(
    non_local_definitions,
    unused_qualifications,
    reason = "in what the derives of abi_stable expand to"
)]

use abi_stable::{
    StableAbi, declare_root_module_statics,
    library::RootModule,
    package_version_strings, sabi_trait,
    sabi_types::VersionStrings,
    std_types::{RBox, RResult, RSlice, RStr, RString, RVec},
};

/// The module a library exports: the host's access to the plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = AbiPluginRef, prefix_fields = AbiPluginPrefix)))]
pub struct AbiPlugin {
    /// The plugin's id; the same as in the manifest.
    pub id: RStr<'static>,
    /// The plugin's version; the same as in the manifest.
    pub version: RStr<'static>,
    /// Called once, before everything else: stores the host's functions, installs the panic hook and the `tracing`
    /// subscriber.
    pub init: extern "C" fn(AbiHostHandle),
    /// The JSON Schema of the config, as JSON text.
    pub config_schema: extern "C" fn() -> RString,
    /// Creates a probe from its config as JSON text. Any thread.
    #[sabi(last_prefix_field)]
    pub create: extern "C" fn(config: RStr<'_>, call: &AbiCall) -> RResult<AbiProbeBox, AbiFailure>,
    /// `true` if the host must [`begin`](AbiProbe::begin) this plugin's checks instead of calling `check`.
    pub asynchronous: bool,
    /// The declared metrics, as JSON text; see [`metric`](crate::metric). Since 1.1.
    pub metrics: extern "C" fn() -> RString,
}

impl RootModule for AbiPluginRef {
    declare_root_module_statics! {AbiPluginRef}
    const BASE_NAME: &'static str = "conductor_plugin";
    const NAME: &'static str = "conductor_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// A probe: one call at a time, from any thread.
#[sabi_trait]
pub trait AbiProbe: Send {
    /// Checks the platform once.
    fn check(&mut self, call: &AbiCall) -> RResult<AbiReport, AbiFailure>;

    /// Drops the author's probe and reports a failure of that drop; the last call before the drop.
    #[sabi(last_prefix_field)]
    fn close(&mut self, call: &AbiCall) -> RResult<(), AbiFailure>;

    /// Starts a check that continues after this has returned, and ends with one [`complete`](AbiHost::complete) of this
    /// call, from any thread; the call lives until then.
    ///
    /// If this fails, the check is over and must not be completed. It must not wait for anything.
    fn begin(&mut self, _call: &AbiCall) -> RResult<(), AbiFailure> {
        RResult::RErr(AbiFailure {
            kind: AbiFailureKind::ERROR,
            message: RString::from("the probe makes its checks within the call"),
            extra: RVec::new(),
        })
    }

    /// Asks a check that was begun to end early; it must still be completed. Ignored if the check is over.
    fn cancel(&mut self, _call: &AbiCall) {}
}

/// A probe as the host owns it.
pub type AbiProbeBox = AbiProbe_TO<'static, RBox<()>>;

/// The functions the host provides to its plugins; all may be called from any thread.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = AbiHostRef, prefix_fields = AbiHostPrefix)))]
pub struct AbiHost {
    /// The most detailed level the host's log keeps.
    pub max_level: extern "C" fn(plugin: usize) -> AbiLevel,
    /// Writes a line to the host's log; `call` is the current call on this thread, or 0.
    pub log: extern "C" fn(plugin: usize, call: usize, record: &AbiLogRecord<'_>),
    /// Nanoseconds until the call's deadline, 0 when it has passed.
    pub remaining_ns: extern "C" fn(call: usize) -> u64,
    /// Returns `true` once the host has given up on the call.
    pub is_cancelled: extern "C" fn(call: usize) -> bool,
    /// The name of the platform the call is for; lives as long as the call.
    #[sabi(last_prefix_field)]
    pub platform: extern "C" fn(call: usize) -> RStr<'static>,
    /// Ends a check that was [begun](AbiProbe::begin); the call is invalid from here on.
    pub complete: extern "C" fn(call: usize, result: RResult<AbiReport, AbiFailure>),
    /// Nanoseconds between the starts of the platform's checks, 0 if the call has no platform. Since 1.1.
    pub interval_ns: extern "C" fn(call: usize) -> u64,
    /// The platform's labels in the host's config, sorted by name. Since 1.1.
    pub labels: extern "C" fn(call: usize) -> RVec<AbiLabel>,
    /// Adds the value of a declared metric to the call's report: its name, and the values of its labels in the order of
    /// their declaration. Since 1.1.
    pub set: extern "C" fn(
        plugin: usize,
        call: usize,
        metric: RStr<'_>,
        labels: RSlice<'_, RStr<'_>>,
        value: f64,
    ),
    /// The state that the plugin has stored for the platform; empty if there is none. Since 1.1.
    pub state: extern "C" fn(call: usize) -> RVec<u8>,
    /// Stores the platform's state in place of the last one; `false` if it is too long. Since 1.1.
    pub store_state: extern "C" fn(call: usize, state: RSlice<'_, u8>) -> bool,
}

/// The host's functions and the value by which the host identifies the plugin.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct AbiHostHandle {
    /// Lives as long as the process.
    pub functions: AbiHostRef,
    /// Opaque to the plugin.
    pub plugin: usize,
}

/// One call from the host, for the duration of that call.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct AbiCall {
    /// The host that makes the call.
    pub host: AbiHostHandle,
    /// Opaque to the plugin; invalid once the call has returned, or was completed if it was begun.
    pub call: usize,
}

/// The result of a check.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiReport {
    /// The health of the platform.
    pub status: AbiStatus,
    /// One line for people.
    pub message: RString,
    /// In the order they were added.
    pub measurements: RVec<AbiMeasurement>,
    /// Reserved for later versions.
    pub extra: RVec<AbiPair>,
}

/// The reason why a probe could not report.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiFailure {
    /// The kind of failure.
    pub kind: AbiFailureKind,
    /// The error, for people.
    pub message: RString,
    /// Reserved for later versions.
    pub extra: RVec<AbiPair>,
}

/// A named number.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiMeasurement {
    /// The name, unit last, as in Prometheus.
    pub name: RString,
    /// In that unit.
    pub value: f64,
}

/// A label of a platform. Since 1.1.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiLabel {
    /// Its name.
    pub name: RString,
    /// Its value.
    pub value: RString,
}

/// A growth slot's entry.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiPair {
    /// The name of the extension.
    pub key: RString,
    /// Its content.
    pub value: RString,
}

/// A line for the host's log.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiLogRecord<'a> {
    /// The severity.
    pub level: AbiLevel,
    /// The module it comes from.
    pub target: RStr<'a>,
    /// The text.
    pub message: RStr<'a>,
    /// Structured fields.
    pub fields: RSlice<'a, AbiField<'a>>,
}

/// A structured field of a log line.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct AbiField<'a> {
    /// Its name.
    pub name: RStr<'a>,
    /// Its value as text.
    pub value: RStr<'a>,
}

/// The health of a platform; an open set.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, StableAbi)]
pub struct AbiStatus(pub u8);

impl AbiStatus {
    /// The platform works.
    pub const HEALTHY: Self = Self(0);
    /// The platform works, but needs attention.
    pub const DEGRADED: Self = Self(1);
    /// The platform does not work.
    pub const UNHEALTHY: Self = Self(2);
}

/// The kind of a failure; an open set, an unknown one counts as `ERROR`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, StableAbi)]
pub struct AbiFailureKind(pub u8);

impl AbiFailureKind {
    /// The probe reported an error.
    pub const ERROR: Self = Self(0);
    /// The barrier caught a panic.
    pub const PANIC: Self = Self(1);
    /// The config cannot work.
    pub const CONFIG: Self = Self(2);
    /// The probe gave up at its deadline.
    pub const TIMEOUT: Self = Self(3);
}

/// The severity of a log line; an open set, an unknown one counts as `ERROR`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, StableAbi)]
pub struct AbiLevel(pub u8);

impl AbiLevel {
    /// Something failed.
    pub const ERROR: Self = Self(1);
    /// Something looks wrong.
    pub const WARN: Self = Self(2);
    /// Something changed.
    pub const INFO: Self = Self(3);
    /// For debugging.
    pub const DEBUG: Self = Self(4);
    /// Everything.
    pub const TRACE: Self = Self(5);
}

#[cfg(test)]
mod tests {
    use abi_stable::library::ROOT_MODULE_LOADER_NAME;

    #[test]
    fn the_export_macro_uses_the_symbol_abi_stable_looks_for() {
        assert_eq!(ROOT_MODULE_LOADER_NAME, crate::export::ROOT_SYMBOL);
    }
}
