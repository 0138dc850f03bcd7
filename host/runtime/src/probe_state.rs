//! The states that plugins store for their platforms between checks.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use conductor_plugin_api::MAX_STATE;

/// Stores the states of one plugin's platforms. Called from the plugin's threads: it must not wait for anything.
pub trait ProbeStates: Send + Sync {
    /// Returns a platform's state; empty if there is none.
    fn load(&self, platform: &str) -> Vec<u8>;

    /// Replaces a platform's state of at most [`MAX_STATE`] bytes; an empty one removes it.
    fn store(&self, platform: &str, state: &[u8]);

    /// Returns `true` if the host writes a platform's state, and its plugin only reads it. A worker then gets it with each
    /// call; asked once per probe.
    fn is_written_by_host(&self, _platform: &str) -> bool {
        false
    }
}

/// States that are lost with the process.
#[derive(Default)]
pub struct MemoryStates(Mutex<HashMap<String, Vec<u8>>>);

impl MemoryStates {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProbeStates for MemoryStates {
    fn load(&self, platform: &str) -> Vec<u8> {
        self.lock().get(platform).cloned().unwrap_or_default()
    }

    fn store(&self, platform: &str, state: &[u8]) {
        let mut states = self.lock();
        if state.is_empty() {
            states.remove(platform);
        } else if let Some(known) = states.get_mut(platform) {
            state.clone_into(known);
        } else {
            states.insert(platform.to_owned(), state.to_vec());
        }
    }
}

/// Leaves out the states, which may contain secrets.
impl fmt::Debug for MemoryStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStates").finish_non_exhaustive()
    }
}

/// Returns `true` if a state of this length is stored.
pub(crate) fn is_storable(length: usize) -> bool {
    length <= MAX_STATE
}
