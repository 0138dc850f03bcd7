//! The Rust ABI: opens a library, checks its ABI structurally, and calls its probes.
//!
//! `abi_stable`'s own loading is not used: it loads one library per process and refuses old plugins on newer hosts.
//! Here the layout check runs from the older to the newer API, so that either side may be newer within a major version.
#![expect(
    unsafe_code,
    reason = "opening a library and giving it the address of the call under way cannot be checked by the compiler"
)]

use std::{
    mem::ManuallyDrop,
    path::Path,
    sync::{Arc, LazyLock, OnceLock},
};

use abi_stable::{
    StableAbi,
    library::{AbiHeaderRef, ROOT_MODULE_LOADER_NAME_WITH_NUL},
    prefix_type::PrefixTypeTrait,
    std_types::{RResult, RSlice, RStr, RVec},
};
use conductor_library::printable;
use conductor_plugin_api::{
    abi::{
        AbiCall, AbiFailure, AbiFailureKind, AbiHost, AbiHostHandle, AbiHostRef, AbiLabel,
        AbiLevel, AbiLogRecord, AbiPluginRef, AbiProbeBox, AbiReport,
    },
    manifest::{ApiVersion, Manifest},
    metric::DeclarationError,
};
use conductor_types::ErrorType;
use tracing::level_filters::LevelFilter;

use super::{
    CallFailure, CheckReport, ConfigSchema, DeclaredMetrics, LoadError, PluginDescription,
    ProbeSpec, SchemaTextError,
    call_context::{self, CallContext, CallNumber},
    door::{self, HostFunctions, HostSide},
    layout,
    observer::CallObserver,
    probe_state, set_message,
};

mod newer;

/// A library that was opened and passed the ABI check.
pub(super) struct RustLibrary {
    module: AbiPluginRef,
    host: AbiHostHandle,
    description: PluginDescription,
    observer: Option<Arc<dyn CallObserver>>,
}

impl RustLibrary {
    /// Opens the private copy at `path`, which `manifest` was read from; `origin` is the operator's file.
    ///
    /// Runs the library's constructors, which can crash or hang this process.
    pub(super) fn open(
        path: &Path,
        origin: &Path,
        manifest: &Manifest,
        host: HostSide,
    ) -> Result<Self, LoadError> {
        let file = printable::path(origin);
        let error = |message: String| LoadError {
            kind: ErrorType::Load,
            message: format!("{file}: {message}"),
            detail: None,
        };
        // SAFETY: the library was vetted, and the operator trusts it to run in this process; no further check is
        // possible.
        let library =
            unsafe { open_now(path) }.map_err(|e| error(format!("cannot be loaded: {e}")))?;
        // Never closed: abi_stable keeps pointers into it, and its threads may still run.
        let library = ManuallyDrop::new(library);
        // SAFETY: this symbol belongs to abi_stable; `upgrade` checks its target before use.
        let header = unsafe {
            library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes())
        }
        .map_err(|e| {
            error(format!(
                "has a manifest but does not export the module it announces ({}); end its source with export_plugin!",
                chain(&e)
            ))
        })?;
        let header = header.upgrade().map_err(|e| LoadError {
            kind: ErrorType::Abi,
            message: format!(
                "{file}: was built with another version of abi_stable; rebuild it with conductor-plugin-api {}.x",
                ApiVersion::CURRENT.major
            ),
            detail: Some(e.to_string()),
        })?;
        let theirs = header.layout().ok_or_else(|| {
            error("carries no layout to check; end its source with export_plugin!".to_owned())
        })?;
        let ours = (<AbiPluginRef as StableAbi>::LAYOUT, ApiVersion::CURRENT);
        layout::check(ours, (theirs, manifest.api)).map_err(|refused| LoadError {
            kind: ErrorType::Abi,
            message: format!(
                "{file}: {}; rebuild it with conductor-plugin-api {}.x",
                refused.line,
                ApiVersion::CURRENT.major
            ),
            detail: Some(refused.detail),
        })?;
        // SAFETY: the layouts were just found compatible, in the direction that matters.
        let module: AbiPluginRef = unsafe { header.init_root_module_with_unchecked_layout() }
            .map_err(|e| {
                error(format!(
                    "its module did not start: {}",
                    one_line(&e.to_string())
                ))
            })?;
        Self::start(module, manifest, host).map_err(|e| error(e.to_string()))
    }

    fn start(
        module: AbiPluginRef,
        manifest: &Manifest,
        HostSide {
            observer,
            functions,
        }: HostSide,
    ) -> Result<Self, ModuleError> {
        let (id, version) = (module.id().to_string(), module.version().to_string());
        if (&id, &version) != (&manifest.id, &manifest.version) {
            return Err(ModuleError::Identity {
                module: format!("{id} {version}"),
                manifest: format!("{} {}", manifest.id, manifest.version),
            });
        }
        // Lives as long as the library, which is never closed.
        let owner: &'static CallingPlugin = Box::leak(Box::new(CallingPlugin {
            id: id.clone(),
            metrics: OnceLock::new(),
            observer: observer.clone(),
        }));
        let host = AbiHostHandle {
            functions: match functions {
                HostFunctions::Current => *FUNCTIONS,
                HostFunctions::NextMinor => newer::functions(),
            },
            plugin: std::ptr::from_ref(owner).expose_provenance(),
        };
        module.init()(host);
        let schema = module.config_schema()();
        let config_schema = ConfigSchema::new(&schema)?;
        // Appended to the module in API 1.1.
        let metrics = match module.metrics() {
            Some(metrics) => Arc::new(DeclaredMetrics::new(&metrics())?),
            None => Arc::default(),
        };
        let _ = owner.metrics.set(Arc::clone(&metrics));
        Ok(Self {
            module,
            host,
            description: PluginDescription {
                // Appended to the module: without it, all checks run within their calls.
                asynchronous: module.asynchronous().unwrap_or(false),
                id,
                version,
                api: manifest.api,
                config_schema,
                metrics,
            },
            observer,
        })
    }
}

impl door::OpenedLibrary for RustLibrary {
    fn description(&self) -> &PluginDescription {
        &self.description
    }

    fn create(
        &self,
        spec: &ProbeSpec,
        call: &CallContext,
    ) -> Result<Box<dyn door::PluginProbe>, CallFailure> {
        let call = AbiCall {
            host: self.host,
            call: call.address(),
        };
        match self.module.create()(RStr::from_str(&spec.config), &call) {
            RResult::ROk(probe) => Ok(Box::new(RustProbe {
                probe,
                host: self.host,
                observer: self.observer.clone(),
            })),
            RResult::RErr(error) => Err(failure(&error, self.observer.as_deref())),
        }
    }
}

/// A probe, owned by the plugin.
struct RustProbe {
    probe: AbiProbeBox,
    host: AbiHostHandle,
    observer: Option<Arc<dyn CallObserver>>,
}

impl RustProbe {
    fn call(&self, call: usize) -> AbiCall {
        let host = self.host;
        AbiCall { host, call }
    }

    fn failure(&self, error: &AbiFailure) -> CallFailure {
        failure(error, self.observer.as_deref())
    }
}

impl door::PluginProbe for RustProbe {
    fn check(&mut self, call: &CallContext, report: &mut CheckReport) -> Result<(), CallFailure> {
        match self.probe.check(&self.call(call.address())) {
            RResult::ROk(found) => {
                report.declared = call.take_set();
                take(report, &found, self.observer.as_deref())
            }
            RResult::RErr(error) => Err(self.failure(&error)),
        }
    }

    fn begin(&mut self, call: CallNumber) -> Result<(), CallFailure> {
        if let Some(observer) = &self.observer {
            call_context::observe(call, observer);
        }
        match self.probe.begin(&self.call(call.0)) {
            RResult::ROk(()) => Ok(()),
            RResult::RErr(error) => Err(self.failure(&error)),
        }
    }

    fn cancel(&mut self, call: CallNumber) {
        self.probe.cancel(&self.call(call.0));
    }

    fn close(&mut self, call: &CallContext) -> Result<(), CallFailure> {
        match self.probe.close(&self.call(call.address())) {
            RResult::ROk(()) => Ok(()),
            RResult::RErr(error) => Err(self.failure(&error)),
        }
    }
}

/// The host functions' data about the plugin that calls them.
struct CallingPlugin {
    id: String,
    /// Set once the library has declared them.
    metrics: OnceLock<Arc<DeclaredMetrics>>,
    observer: Option<Arc<dyn CallObserver>>,
}

/// The reason why a module with a compatible layout is not used.
#[derive(Debug, thiserror::Error)]
enum ModuleError {
    #[error("says it is {module}, its manifest says {manifest}; rebuild it from clean sources")]
    Identity { module: String, manifest: String },
    #[error(transparent)]
    Schema(#[from] SchemaTextError),
    #[error(transparent)]
    Metrics(#[from] DeclarationError),
}

/// The refusal of a library by the OS's loader.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", chain(.0), self.explanation().map_or_else(String::new, |found| format!(" ({found})")))]
pub struct OpenError(#[source] libloading::Error);

impl OpenError {
    /// Returns what the library's `DllMain` did, if that is why Windows refuses the library.
    #[must_use]
    pub fn dll_main(&self) -> Option<&'static str> {
        dll_main(self.code()?)
    }

    fn explanation(&self) -> Option<&'static str> {
        let code = self.code()?;
        dll_main(code).or_else(|| (code == ERROR_MOD_NOT_FOUND).then_some(MISSING_DLL))
    }

    /// Returns the error code of Windows.
    fn code(&self) -> Option<u32> {
        let libloading::Error::LoadLibraryExW { source } = &self.0 else {
            return None;
        };
        // It is shown, but not readable otherwise.
        format!("{source:?}").parse().ok()
    }
}

/// The loader does not name the DLL.
const ERROR_MOD_NOT_FOUND: u32 = 126;
const MISSING_DLL: &str = "a DLL that it needs is not installed: `conductor plugin inspect` lists those it needs; link it statically, with mingw by -static";

/// Returns what a `DllMain` did for the loader to fail with this code: the loader catches its exceptions.
fn dll_main(code: u32) -> Option<&'static str> {
    match code {
        // ERROR_NOACCESS
        998 => Some("its DllMain or a static initializer crashes with an access violation"),
        // ERROR_STACK_OVERFLOW
        1001 => Some("its DllMain or a static initializer overflows the stack"),
        // ERROR_DLL_INIT_FAILED
        1114 => Some("its DllMain returns FALSE, or a static initializer fails"),
        _ => None,
    }
}

/// Opens the library at `path` permanently and does nothing else with it; for measuring the effect of that alone.
#[cfg(any(target_os = "linux", windows))]
pub fn open_only(path: &Path) -> Result<(), OpenError> {
    // SAFETY: as in `RustLibrary::open`.
    let library = unsafe { open_now(path) }?;
    std::mem::forget(library);
    Ok(())
}

/// Opens a library with all its symbols bound, invisible to other libraries.
///
/// # Safety
/// Its constructors run.
#[cfg(unix)]
pub(super) unsafe fn open_now(path: &Path) -> Result<libloading::Library, OpenError> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: the caller's contract.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    opened.map(Into::into).map_err(OpenError)
}

/// Opens a library.
///
/// # Safety
/// Its constructors run.
#[cfg(not(unix))]
pub(super) unsafe fn open_now(path: &Path) -> Result<libloading::Library, OpenError> {
    // SAFETY: the caller's contract.
    unsafe { libloading::Library::new(path) }.map_err(OpenError)
}

/// Copies a report into the host's; refuses an unknown status.
fn take(
    report: &mut CheckReport,
    found: &AbiReport,
    observer: Option<&dyn CallObserver>,
) -> Result<(), CallFailure> {
    let measurements = found.measurements.iter();
    report.fill_observed(
        observer,
        found.status.0,
        found.message.as_bytes(),
        measurements.map(|measured| (measured.name.as_bytes(), measured.value)),
    )
}

fn failure(error: &AbiFailure, observer: Option<&dyn CallObserver>) -> CallFailure {
    let kind = match error.kind {
        AbiFailureKind::PANIC => ErrorType::Panic,
        AbiFailureKind::CONFIG => ErrorType::Config,
        AbiFailureKind::TIMEOUT => ErrorType::Timeout,
        _ => ErrorType::Error,
    };
    if kind != ErrorType::Panic
        && let Some(observer) = observer
    {
        observer.failure(error.message.as_bytes());
    }
    CallFailure::new(kind, &*error.message)
}

/// Formats an error with its causes; libloading's own text leaves them out.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    one_line(&text)
}

pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    set_message(&mut line, text.trim().as_bytes());
    line
}

static FUNCTIONS: LazyLock<AbiHostRef> = LazyLock::new(|| {
    AbiHost {
        max_level,
        log,
        remaining_ns,
        is_cancelled,
        platform,
        complete,
        interval_ns,
        labels,
        set,
        state,
        store_state,
    }
    .leak_into_prefix()
});

fn owner(plugin: usize) -> &'static CallingPlugin {
    // SAFETY: `plugin` is the address of the `CallingPlugin` that `OpenedLibrary::start` leaked; a plugin passes it back unchanged.
    unsafe { &*std::ptr::with_exposed_provenance(plugin) }
}

extern "C" fn max_level(_plugin: usize) -> AbiLevel {
    AbiLevel(log_level())
}

/// Returns the log level of this process, in the plugins' and workers' numbering: 0 nothing, 1 errors, to 5 everything.
pub(super) fn log_level() -> u8 {
    match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        LevelFilter::TRACE => 5,
    }
}

extern "C" fn log(plugin: usize, call: usize, record: &AbiLogRecord<'_>) {
    let plugin = &owner(plugin).id;
    let mut text = String::new();
    set_message(&mut text, record.message.as_bytes());
    for field in record.fields.iter() {
        let mut value = String::new();
        set_message(&mut value, field.value.as_bytes());
        text.push_str(&format!(" {}={value}", one_line(field.name.as_str())));
    }
    let platform = call_context::with(call, |data| Arc::clone(&data.terms.spec.platform));
    let platform = platform.as_deref();
    // The macros require a constant level.
    macro_rules! emit {
        ($level:ident) => {
            tracing::event!(target: "plugin", tracing::Level::$level, plugin, platform, "{text}")
        };
    }
    match record.level {
        AbiLevel::WARN => emit!(WARN),
        AbiLevel::INFO => emit!(INFO),
        AbiLevel::DEBUG => emit!(DEBUG),
        AbiLevel::TRACE => emit!(TRACE),
        _ => emit!(ERROR),
    }
}

extern "C" fn remaining_ns(call: usize) -> u64 {
    let remaining = call_context::with(call, |data| data.terms.remaining()).unwrap_or_default();
    u64::try_from(remaining.as_nanos()).unwrap_or(u64::MAX)
}

extern "C" fn is_cancelled(call: usize) -> bool {
    call_context::with(call, |data| data.terms.is_cancelled()).unwrap_or(false)
}

extern "C" fn platform(call: usize) -> RStr<'static> {
    RStr::from_str(call_context::platform(call))
}

extern "C" fn interval_ns(call: usize) -> u64 {
    let interval = call_context::with(call, |data| data.terms.spec.interval);
    u64::try_from(interval.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

extern "C" fn labels(call: usize) -> RVec<AbiLabel> {
    let labels = call_context::with(call, |data| data.terms.spec.labels.clone());
    let labels = labels.unwrap_or_default().into_iter();
    labels
        .map(|(name, value)| AbiLabel {
            name: name.into(),
            value: value.into(),
        })
        .collect()
}

extern "C" fn set(
    plugin: usize,
    call: usize,
    metric: RStr<'_>,
    labels: RSlice<'_, RStr<'_>>,
    value: f64,
) {
    let owner = owner(plugin);
    let Some(metrics) = owner.metrics.get() else {
        return;
    };
    let labels = labels.iter().map(|label| label.as_str().as_bytes());
    call_context::with(call, |data| {
        // Counted, and logged once.
        let set = metrics.set(&mut data.set(), metric.as_bytes(), labels.clone(), value);
        if let Some(observer) = &owner.observer {
            let labels: Vec<_> = labels.collect();
            observer.set(metric.as_bytes(), &labels, set.as_ref().copied());
        }
    });
}

extern "C" fn state(call: usize) -> RVec<u8> {
    let spec = call_context::with(call, |data| Arc::clone(&data.terms.spec));
    spec.map_or_else(RVec::new, |spec| spec.states.load(&spec.platform).into())
}

extern "C" fn store_state(call: usize, state: RSlice<'_, u8>) -> bool {
    let spec = call_context::with(call, |data| Arc::clone(&data.terms.spec));
    match spec {
        Some(spec) if probe_state::is_storable(state.len()) => {
            spec.states.store(&spec.platform, state.as_slice());
            true
        }
        _ => false,
    }
}

extern "C" fn complete(call: usize, result: RResult<AbiReport, AbiFailure>) {
    let Some(call) = call_context::take(call) else {
        tracing::warn!("a plugin completed a check that had ended or was not requested");
        return;
    };
    let result = match result {
        RResult::ROk(found) => {
            let mut report = CheckReport::empty();
            report.declared = call.take_set();
            take(&mut report, &found, call.observer()).map(|()| report)
        }
        RResult::RErr(error) => Err(failure(&error, call.observer())),
    };
    call.end(result);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_whose_dll_main_fails_is_told_from_one_that_lacks_a_library() {
        assert!(dll_main(998).is_some_and(|found| found.contains("access violation")));
        assert!(dll_main(1114).is_some_and(|found| found.contains("FALSE")));
        // ERROR_MOD_NOT_FOUND
        assert_eq!(dll_main(126), None);
    }
}
