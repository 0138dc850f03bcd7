//! The plugin that does nothing, loaded into workers by this process.

use std::{path::Path, time::Duration};

use conductor_core::clock::Clock;
use conductor_library::{Catalog, TrustPolicy, Vetted};
use conductor_runtime::worker::{Worker, WorkerSettings, use_program};
use conductor_sandbox::SandboxPolicy;

use crate::{
    built::{put_plugin, worker_program},
    machine::children,
};

/// Returns a catalog with the plugin `fault` of the build in `folder`. It has the private copy in `place`.
pub(crate) fn catalog(folder: &Path, place: &Path) -> Catalog {
    use_program(worker_program(folder));
    let (plugins, state) = (place.join("plugins"), place.join("state"));
    put_plugin(folder, &plugins);
    Catalog::open(&[plugins], false, TrustPolicy::none(), Some(&state)).unwrap()
}

/// Returns a worker that has loaded the plugin.
pub(crate) fn worker(vetted: &Vetted) -> Worker {
    let settings = WorkerSettings {
        call_threads: 4,
        policy: SandboxPolicy::default(),
        trials: false,
        load_timeout: Duration::from_secs(10),
    };
    Worker::load(vetted, &settings, Clock::start(), |_| {}).unwrap()
}

/// Waits, so that the remains of one benchmark do not slow down the next.
pub(crate) fn wait_for_children_to_end() {
    while !children().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
}
