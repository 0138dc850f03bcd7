//! The library's runtime, created on first use and never shut down: its tasks end with the process.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    thread::available_parallelism,
};

use tokio::runtime::{Builder, Runtime};

use crate::{Failure, panic_barrier};

/// Returns the runtime that all probes of this library share.
///
/// # Errors
/// If no threads or file descriptors are available; the next probe tries again.
pub(crate) fn get() -> Result<&'static Runtime, Failure> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    // Creating two at once could exceed the process's limits.
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    // tokio panics if it cannot create a thread.
    let runtime = panic_barrier::catch(|| Ok(make()?)).map_err(|failure| {
        Failure::new(format!(
            "cannot create the runtime for asynchronous checks: {failure}; raise the limits of threads and open files of the plugin"
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

/// If one check blocks in breach of its contract, one thread remains for the others.
const MIN_THREADS: usize = 2;
/// Waiting occupies no thread, and the monitor should leave most of the CPU to the machine.
const MAX_THREADS: usize = 4;
/// Blocking work is mostly name lookup: more lookups at once would not finish sooner.
const MAX_BLOCKING: usize = 64;
