//! The common interface of the two ABIs of a library: the Rust ABI (`rust_abi`) with its layout check, and the C ABI
//! (`c_abi`), where each struct contains its size.

use std::{path::Path, sync::Arc};

use conductor_plugin_api::manifest::{Door as Kind, Manifest};

use super::{
    CallFailure, CheckReport, LoadError, PluginDescription, ProbeSpec,
    c_abi::CLibrary,
    call_context::{CallContext, CallNumber},
    observer::CallObserver,
    rust_abi::RustLibrary,
};

/// An opened library with a compatible ABI, ready to create probes.
pub trait OpenedLibrary: Send + Sync {
    /// Returns the plugin's description.
    fn description(&self) -> &PluginDescription;

    /// Creates a probe; part of the call that needs it.
    ///
    /// # Errors
    /// The plugin's failure, including a caught panic.
    fn create(
        &self,
        spec: &ProbeSpec,
        call: &CallContext,
    ) -> Result<Box<dyn PluginProbe>, CallFailure>;
}

/// A probe, owned by the plugin. One call at a time, from any thread.
pub trait PluginProbe: Send {
    /// Runs a check and writes the result into `report`.
    ///
    /// # Errors
    /// The plugin's failure, including a caught panic.
    fn check(&mut self, call: &CallContext, report: &mut CheckReport) -> Result<(), CallFailure>;

    /// Begins a check that continues by itself; for [asynchronous](PluginDescription::asynchronous) plugins.
    ///
    /// # Errors
    /// When it could not begin; it is over then.
    fn begin(&mut self, call: CallNumber) -> Result<(), CallFailure>;

    /// Asks a begun check to end early.
    fn cancel(&mut self, call: CallNumber);

    /// Drops the author's probe; the last call before the drop.
    ///
    /// # Errors
    /// When that panics.
    fn close(&mut self, call: &CallContext) -> Result<(), CallFailure>;
}

/// The host that a library meets; a real one by default.
#[derive(Clone, Default)]
pub struct HostSide {
    /// The observer of what the plugin returns, if any.
    pub observer: Option<Arc<dyn CallObserver>>,
    /// The functions that the plugin may call.
    pub functions: HostFunctions,
}

/// The version of the functions that a host provides to plugins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HostFunctions {
    /// Those of this host.
    #[default]
    Current,
    /// Those that a host of the next minor version would provide: the same, and one more at the end. A plugin must work
    /// with them.
    NextMinor,
}

/// Opens the private copy at `path`, which `manifest` was read from; `origin` is the operator's file.
///
/// Runs the library's constructors, which can crash or hang this process.
///
/// # Errors
/// When the loader refuses it or its ABI does not fit.
pub fn open(
    path: &Path,
    origin: &Path,
    manifest: &Manifest,
    host: HostSide,
) -> Result<Box<dyn OpenedLibrary>, LoadError> {
    match manifest.door {
        Kind::Rust => Ok(Box::new(RustLibrary::open(path, origin, manifest, host)?)),
        Kind::C => Ok(Box::new(CLibrary::open(path, origin, manifest, host)?)),
    }
}
