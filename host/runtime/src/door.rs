//! The common interface of the two ABIs of a library: the Rust ABI (`rust_abi`) with its layout check, and the C ABI
//! (`c_abi`), where each struct contains its size.

use std::{path::Path, sync::Arc};

use conductor_plugin_api::manifest::{Door as Kind, Manifest};

use super::{
    Description, Failure, LoadError, ProbeSpec, Report,
    c_abi::CDoor,
    call_context::{Begun, CallContext},
    observer::CallObserver,
    rust_abi::RustDoor,
};

/// An opened library with a compatible ABI.
pub trait Door: Send + Sync {
    /// Returns the plugin's description.
    fn description(&self) -> &Description;

    /// Creates a probe; part of the call that needs it.
    ///
    /// # Errors
    /// The plugin's failure, including a caught panic.
    fn create(&self, spec: &ProbeSpec, call: &CallContext) -> Result<Box<dyn Probe>, Failure>;
}

/// A probe, owned by the plugin. One call at a time, from any thread.
pub trait Probe: Send {
    /// Runs a check and writes the result into `report`.
    ///
    /// # Errors
    /// The plugin's failure, including a caught panic.
    fn check(&mut self, call: &CallContext, report: &mut Report) -> Result<(), Failure>;

    /// Begins a check that continues by itself; for [asynchronous](Description::asynchronous) plugins.
    ///
    /// # Errors
    /// When it could not begin; it is over then.
    fn begin(&mut self, call: Begun) -> Result<(), Failure>;

    /// Asks a begun check to end early.
    fn cancel(&mut self, call: Begun);

    /// Drops the author's probe; the last call before the drop.
    ///
    /// # Errors
    /// When that panics.
    fn close(&mut self, call: &CallContext) -> Result<(), Failure>;
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
) -> Result<Box<dyn Door>, LoadError> {
    match manifest.door {
        Kind::Rust => Ok(Box::new(RustDoor::open(path, origin, manifest, host)?)),
        Kind::C => Ok(Box::new(CDoor::open(path, origin, manifest, host)?)),
    }
}
