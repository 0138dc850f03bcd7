//! The log of a host under test, collected while it runs.

use std::{
    io::Read,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// A host's log.
#[derive(Default)]
pub(super) struct HostLog(Arc<Mutex<LogBuffer>>);

#[derive(Default)]
struct LogBuffer {
    /// The beginning, up to a limit.
    kept: Vec<u8>,
    /// Total size, in bytes.
    size: usize,
}

impl HostLog {
    /// Collects the output of a host, in a thread that ends with its last writer.
    pub(super) fn follow(&self, mut from: impl Read + Send + 'static) {
        let log = Self(Arc::clone(&self.0));
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                let mut collected = log.collected();
                collected.size += read;
                if collected.kept.len() < LIMIT {
                    collected.kept.extend_from_slice(&buffer[..read]);
                }
            }
        });
    }

    /// Returns the log, up to the limit.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.collected().kept).into_owned()
    }

    /// Returns its total size, in bytes.
    pub(super) fn size(&self) -> usize {
        self.collected().size
    }

    fn collected(&self) -> MutexGuard<'_, LogBuffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Limit of a stored log, in bytes.
const LIMIT: usize = 2 << 20;
