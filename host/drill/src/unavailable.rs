//! The faults that this OS does not have, each with its reason.

use super::case::{FaultInjection, FaultSpec, HostFault};

/// Returns the reason why a fault is left out here.
pub(super) fn reason(fault: &FaultSpec) -> Option<&'static str> {
    match fault.injection {
        FaultInjection::Bytes(_) => return Some(NO_WIRE),
        FaultInjection::Host(HostFault::FullDisk) => {
            return Some("mounting a small filesystem needs Linux");
        }
        FaultInjection::Host(HostFault::NoDescriptors) => {
            return Some("the descriptors of another process can be limited on Linux alone");
        }
        FaultInjection::Host(_) | FaultInjection::Library(_) => return None,
        FaultInjection::Call(_) => {}
    }
    if !cfg!(windows) {
        return None;
    }
    match fault.name {
        "kill" | "signal-handlers" | "block-signals" => Some("Windows has no signals"),
        "children" | "daemons" | "forks" => Some("Windows has no fork and no orphans"),
        "close-fds" => Some("Windows has no descriptors by number"),
        "umask" => Some("Windows has no umask"),
        "double-free" => Some("not every heap of Windows notices a block that is freed twice"),
        name if name.starts_with("wire-") => Some(NO_WIRE),
        _ => None,
    }
}

const NO_WIRE: &str = "a plugin does not find its worker's pipe on Windows";

#[cfg(all(test, windows))]
mod tests {
    use super::{super::catalog::FAULTS, *};

    #[test]
    fn every_fault_that_is_left_out_is_refused_by_the_fault_plugin_or_needs_linux() {
        let left_out = FAULTS.iter().filter(|fault| reason(fault).is_some());
        let names: std::collections::BTreeSet<_> = left_out.map(|fault| fault.name).collect();
        for name in ["kill", "forks", "wire-garbage", "umask", "full-disk"] {
            assert!(names.contains(name), "{name}");
        }
        for name in ["segfault", "abort", "hang", "memory", "constructor-aborts"] {
            assert!(!names.contains(name), "{name}");
        }
    }
}
