//! What the two doors into a library have in common: the Rust door (`rust_abi`) with its layout check, and the C door
//! (`c_abi`), where each struct says its size.

use std::path::Path;

use conductor_plugin_api::manifest::{Door as Kind, Manifest};

use super::{
    Description, Failure, LoadError, ProbeSpec, Report,
    c_abi::CDoor,
    call_data::{Begun, CallData},
    rust_abi::RustDoor,
};

/// A library that was opened and whose ABI fits.
pub trait Door: Send + Sync {
    /// What the plugin says of itself.
    fn description(&self) -> &Description;

    /// Creates a probe; part of the call it is created for.
    ///
    /// # Errors
    /// What the plugin says, a caught panic included.
    fn create(&self, spec: &ProbeSpec, call: &CallData) -> Result<Box<dyn Probe>, Failure>;
}

/// A probe, as the plugin owns it. One call at a time, from any thread.
pub trait Probe: Send {
    /// Runs a check and writes what it found into `report`.
    ///
    /// # Errors
    /// What the plugin says, a caught panic included.
    fn check(&mut self, call: &CallData, report: &mut Report) -> Result<(), Failure>;

    /// Begins a check that goes on by itself, of a plugin that is [asynchronous](Description::asynchronous).
    ///
    /// # Errors
    /// When it could not be begun; it is over then.
    fn begin(&mut self, call: Begun) -> Result<(), Failure>;

    /// Asks for the early end of a check that was begun.
    fn cancel(&mut self, call: Begun);

    /// Drops what the author wrote; the last call before the drop.
    ///
    /// # Errors
    /// When that panics.
    fn close(&mut self, call: &CallData) -> Result<(), Failure>;
}

/// Opens the private copy at `path`, which `manifest` was read from; `origin` is where the operator put it.
///
/// Runs the library's constructors: one that crashes or hangs takes this process with it.
///
/// # Errors
/// When the loader refuses it or its ABI does not fit.
pub fn open(path: &Path, origin: &Path, manifest: &Manifest) -> Result<Box<dyn Door>, LoadError> {
    match manifest.door {
        Kind::Rust => Ok(Box::new(RustDoor::open(path, origin, manifest)?)),
        Kind::C => Ok(Box::new(CDoor::open(path, origin, manifest)?)),
    }
}
