//! The privileges of the process, and the access of other processes to it.

use std::fs;

use rustix::{
    io::Errno,
    process::{DumpableBehavior, set_dumpable_behavior},
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

use super::SandboxError;

/// Makes the OOM killer prefer a worker to the host.
pub(super) fn die_before_the_host() -> Option<String> {
    let error = fs::write("/proc/self/oom_score_adj", OOM_SCORE).err()?;
    Some(format!(
        "when memory runs out, the kernel may take the host before a worker: /proc/self/oom_score_adj: {error}"
    ))
}

/// Drops every capability and every way to regain one; closes the process to others unless core dumps are wanted.
///
/// A worker of a root host remains user root, who owns root's files: landlock closes those.
pub(super) fn drop_all(core_dumps: bool) -> Result<(), SandboxError> {
    let kept = |what: String, error: Errno| SandboxError::Capabilities {
        what,
        source: error.into(),
    };
    for capability in CapabilitySet::all() {
        match remove_capability_from_bounding_set(capability) {
            // Either a capability unknown to this kernel, or not root and so nothing to drop.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(error) => return Err(kept(format!("{capability:?}"), error)),
        }
    }
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(kept("ambient capabilities".to_owned(), error)),
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(|e| kept("capabilities".to_owned(), e))?;
    set_no_new_privs(true).map_err(|e| SandboxError::NoNewPrivileges(e.into()))?;
    if core_dumps {
        return Ok(());
    }
    close_to_others()
}

/// Closes this process to others of the same user.
pub(super) fn close_to_others() -> Result<(), SandboxError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| SandboxError::Dumpable(error.into()))
}

/// From -1000 (never) to 1000 (first); the default is 0.
const OOM_SCORE: &str = "500";
