//! The states of a worker's platforms: kept here for its plugin, and sent to the host, which owns them.

use std::sync::Arc;

use super::response_writer::ResponseWriter;
use crate::{MemoryStates, ProbeStates, protocol::messages::FromWorker};

/// The states of the platforms that a worker checks.
pub(super) struct WorkerStates {
    known: MemoryStates,
    writer: Arc<ResponseWriter>,
}

impl WorkerStates {
    pub(super) fn new(writer: Arc<ResponseWriter>) -> Self {
        Self {
            known: MemoryStates::default(),
            writer,
        }
    }

    /// Takes the state that the host has of a platform, unless the plugin has stored another one here.
    pub(super) fn open(&self, platform: &str, state: &[u8]) {
        if self.known.load(platform).is_empty() {
            self.known.store(platform, state);
        }
    }

    /// Replaces the state of a platform by what the host has written.
    pub(super) fn replace(&self, platform: &str, state: &[u8]) {
        self.known.store(platform, state);
    }
}

impl ProbeStates for WorkerStates {
    fn load(&self, platform: &str) -> Vec<u8> {
        self.known.load(platform)
    }

    fn store(&self, platform: &str, state: &[u8]) {
        if self.known.load(platform) == state {
            return;
        }
        self.known.store(platform, state);
        // It fits into a frame; a host that is gone stores nothing more.
        let _ = self.writer.say(&FromWorker::State {
            platform: platform.to_owned(),
            state: state.to_vec(),
        });
    }
}
