//! The C ABI: opens a library that exports the `conductor_plugin` of `conductor_plugin.h`, and calls its probes.
//!
//! There is no layout to check: each struct begins with its size, and only members within both sides' sizes are read. A
//! plugin identifies its [calls] by numbers that are looked up, so the number of a finished call matches nothing.
#![expect(
    unsafe_code,
    reason = "what a C library exports, and says of its functions, cannot be checked by the compiler"
)]

use std::{
    ffi::{CStr, CString, c_char, c_void},
    mem::ManuallyDrop,
    path::Path,
    ptr,
    sync::Arc,
};

use conductor_library::printable;
use conductor_plugin_api::{
    c,
    manifest::{ApiVersion, Manifest},
};
use conductor_types::ErrorType;

use self::{
    calls::{CallHandle, CallSubject},
    config::ProbeConfig,
    exported::{ExportError, PluginFunctions, read},
};
use super::{
    CallFailure, CheckReport, ConfigSchema, DeclaredMetrics, LoadError, PluginDescription,
    ProbeSpec,
    call_context::{CallContext, CallNumber},
    door::{self, HostSide},
    observer::{CallObserver, ContractViolation},
    rust_abi::{chain, one_line, open_now},
};

mod calls;
mod config;
mod exported;
mod functions;

/// An opened library with compatible structs.
pub(super) struct CLibrary {
    entries: PluginFunctions,
    description: PluginDescription,
    observer: Option<Arc<dyn CallObserver>>,
}

impl CLibrary {
    /// Opens the private copy at `path`, which `manifest` was read from; `origin` is the operator's file.
    ///
    /// Runs the library's constructors, which can crash or hang this process.
    pub(super) fn open(
        path: &Path,
        origin: &Path,
        manifest: &Manifest,
        host: HostSide,
    ) -> Result<Self, LoadError> {
        let error = |kind: ErrorType, message: String| LoadError {
            kind,
            message: format!("{}: {message}", printable::path(origin)),
            detail: None,
        };
        // SAFETY: the library was vetted, and the operator trusts it to run in this process; no further check is
        // possible.
        let library = unsafe { open_now(path) }
            .map_err(|e| error(ErrorType::Load, format!("cannot be loaded: {e}")))?;
        // Never closed: its threads may still run.
        let library = ManuallyDrop::new(library);
        // SAFETY: the symbol's address is that of a struct, which `read` reads only up to the size it states.
        let exported = unsafe { library.get::<*const c::Plugin>(c::SYMBOL) }.map_err(|e| {
            let why = chain(&e);
            error(
                ErrorType::Load,
                format!("has the manifest of a C plugin but does not export `{}` ({why}); end its source with CONDUCTOR_PLUGIN", c::SYMBOL),
            )
        })?;
        // SAFETY: by the manifest, the symbol has this type.
        let plugin = unsafe { read(*exported) }.map_err(|why| {
            let api = ApiVersion::CURRENT.major;
            error(
                ErrorType::Abi,
                format!("{why}; rebuild it with the conductor_plugin.h of API {api}.x"),
            )
        })?;
        // SAFETY: as above; by the header, the data it points to remains valid.
        unsafe { Self::start(&plugin, manifest, host) }
            .map_err(|why| error(ErrorType::Load, why.to_string()))
    }

    /// # Safety
    /// The texts of `plugin` are valid, and `host` may be written to.
    unsafe fn start(
        plugin: &c::Plugin,
        manifest: &Manifest,
        host: HostSide,
    ) -> Result<Self, ExportError> {
        let entries = PluginFunctions::of(plugin)?;
        let pointers = [
            ("id", plugin.id),
            ("version", plugin.version),
            ("config_schema", plugin.config_schema),
            ("host", plugin.host.cast_const().cast()),
        ];
        if let Some((missing, _)) = pointers.into_iter().find(|(_, pointer)| pointer.is_null()) {
            return Err(ExportError::Null(missing));
        }
        // SAFETY: not null, and valid texts by the caller's contract.
        let text = |pointer: *const c_char| unsafe { CStr::from_ptr(pointer) };
        let (id, version) = (text(plugin.id), text(plugin.version));
        if (id.to_bytes(), version.to_bytes())
            != (manifest.id.as_bytes(), manifest.version.as_bytes())
        {
            let says = format!("{} {}", id.to_string_lossy(), version.to_string_lossy());
            return Err(ExportError::Identity {
                export: one_line(&says),
                manifest: format!("{} {}", manifest.id, manifest.version),
            });
        }
        let config_schema = text(plugin.config_schema).to_str()?;
        let config_schema = ConfigSchema::new(config_schema)?;
        // Null in a library of API 1.0, and in one without declared metrics.
        let metrics = match plugin.metrics.is_null() {
            true => Arc::default(),
            false => Arc::new(DeclaredMetrics::new(text(plugin.metrics).to_str()?)?),
        };
        let table = functions::table(&manifest.id, host.functions);
        // SAFETY: not null, and reserved for it by the caller's contract; no code that could read it runs yet.
        unsafe { plugin.host.write_unaligned(table) };
        Ok(Self {
            entries,
            description: PluginDescription {
                id: manifest.id.clone(),
                version: manifest.version.clone(),
                api: manifest.api,
                config_schema,
                metrics,
                asynchronous: entries.begin.is_some(),
            },
            observer: host.observer,
        })
    }
}

impl door::OpenedLibrary for CLibrary {
    fn description(&self) -> &PluginDescription {
        &self.description
    }

    fn create(
        &self,
        spec: &ProbeSpec,
        call: &CallContext,
    ) -> Result<Box<dyn door::PluginProbe>, CallFailure> {
        let config = ProbeConfig::read(&spec.config)?;
        // JSON cannot contain the byte that ends a C string.
        let json = CString::new(&*spec.config).unwrap_or_default();
        let subject = CallSubject::new(spec, &self.description.metrics);
        let observer = self.observer.as_ref();
        let (probe, outcome) = calls::wait(call, &subject, Some(config), observer, |call| {
            // SAFETY: the header's contract: both are valid for the duration of the call.
            unsafe { (self.entries.create)(call, json.as_ptr()) }
        });
        if probe.is_null() {
            return Err(outcome.failure().unwrap_or_else(|| {
                if let Some(observer) = observer {
                    observer.misuse(ContractViolation::NoProbe);
                }
                CallFailure::new(
                    ErrorType::Error,
                    "`create` answered NULL and did not say why; it calls conductor_fail first",
                )
            }));
        }
        Ok(Box::new(CProbe {
            entries: self.entries,
            probe,
            subject,
            begun: None,
            observer: self.observer.clone(),
        }))
    }
}

/// A probe, owned by the plugin.
struct CProbe {
    entries: PluginFunctions,
    probe: *mut c_void,
    subject: Arc<CallSubject>,
    /// The last check that was begun.
    begun: Option<CallHandle>,
    observer: Option<Arc<dyn CallObserver>>,
}

// SAFETY: by the header, a probe is called from any thread, one call at a time.
unsafe impl Send for CProbe {}

impl door::PluginProbe for CProbe {
    fn check(&mut self, call: &CallContext, report: &mut CheckReport) -> Result<(), CallFailure> {
        let Some(check) = self.entries.check else {
            return Err(CallFailure::new(
                ErrorType::Error,
                "the plugin has no `check`, it only begins checks",
            ));
        };
        let observer = self.observer.as_ref();
        let ((), outcome) = calls::wait(call, &self.subject, None, observer, |call| {
            // SAFETY: the probe was returned by `create` and was not destroyed; the header's contract covers the rest.
            unsafe { check(self.probe, call) }
        });
        outcome.fill(report, self.observer.as_deref())
    }

    fn begin(&mut self, call: CallNumber) -> Result<(), CallFailure> {
        let Some(begin) = self.entries.begin else {
            return Err(CallFailure::new(
                ErrorType::Error,
                "the plugin has no `begin`, it makes its checks within the call",
            ));
        };
        let name = calls::begin(call, &self.subject, self.observer.as_ref());
        if let Some(before) = self.begun.replace(name) {
            calls::forget(before);
        }
        // SAFETY: as for `check`; the name is looked up, not dereferenced, however long it is used.
        unsafe { begin(self.probe, name.as_ptr()) };
        Ok(())
    }

    fn cancel(&mut self, call: CallNumber) {
        if let Some(cancel) = self.entries.cancel {
            // SAFETY: as for `begin`.
            unsafe { cancel(self.probe, CallHandle::of(call).as_ptr()) };
        }
    }

    fn close(&mut self, call: &CallContext) -> Result<(), CallFailure> {
        // A second call would access freed memory.
        let probe = std::mem::replace(&mut self.probe, ptr::null_mut());
        if probe.is_null() {
            return Ok(());
        }
        let observer = self.observer.as_ref();
        let ((), outcome) = calls::wait(call, &self.subject, None, observer, |call| {
            // SAFETY: as for `check`; the probe is not used afterwards.
            unsafe { (self.entries.destroy)(probe, call) }
        });
        if let Some(begun) = self.begun.take() {
            calls::forget(begun);
        }
        outcome.failure().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
