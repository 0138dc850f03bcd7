//! The one runtime of a library, made when it is first needed and never given up: its tasks end with the process.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    thread::available_parallelism,
};

use tokio::runtime::{Builder, Runtime};

use crate::{Failure, panic_barrier};

/// The runtime that all probes of this library share.
///
/// # Errors
/// When this machine has no threads or descriptors to spare for it; the next probe tries again.
pub(crate) fn get() -> Result<&'static Runtime, Failure> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    // Two of them would be one too many for the process's limits.
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    // tokio panics where it is refused a thread.
    let runtime = panic_barrier::catch(|| Ok(make()?)).map_err(|failure| {
        Failure::new(format!(
            "the runtime for asynchronous checks cannot be made: {failure}; allow the plugin more threads and open files"
        ))
    })?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

fn make() -> std::io::Result<Runtime> {
    let cores = available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.clamp(MIN_THREADS, MAX_THREADS))
        .max_blocking_threads(MAX_BLOCKING)
        .thread_name("async-checks")
        .enable_all()
        .build()
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static MAKING: Mutex<()> = Mutex::new(());

/// A check that blocks although it must not leaves one for the others.
const MIN_THREADS: usize = 2;
/// Waiting takes none, and what is there to compute belongs to the machine rather than to its watchman.
const MAX_THREADS: usize = 4;
/// What blocks is mostly the lookup of names: more of them at once would get no answers sooner.
const MAX_BLOCKING: usize = 64;
