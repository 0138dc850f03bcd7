//! The tests that this OS does not have, each with its reason.

use super::catalogue::PluginTest;

#[cfg(windows)]
pub(super) const NEEDS: &[PluginTest] = &[PluginTest::unavailable_here(
    3,
    "sandbox/needs",
    "It works with what its manifest declares, and no better without the sandbox.",
    "not available on Windows: a worker can use what its manifest does not declare",
)];

#[cfg(windows)]
pub(super) const SCARCITY: &[PluginTest] = &[
    PluginTest::unavailable_here(
        4,
        "stress/low-memory",
        "With 8 MiB of memory left a check fails or goes well, and does not abort.",
        "not available on Windows: a process cannot limit its own address space",
    ),
    PluginTest::unavailable_here(
        4,
        "stress/no-descriptors",
        "Without a free descriptor a check fails or goes well, and once there are some again it goes well.",
        "not available on Windows: handles have no limit that a process can set",
    ),
    PluginTest::unavailable_here(
        4,
        "stress/signals",
        "Signals that interrupt system calls change no result.",
        "not available on Windows: it has no signals that interrupt a call",
    ),
];

#[cfg(not(windows))]
pub(super) const RUNNING: &[PluginTest] = &[PluginTest::unavailable_here(
    2,
    "load/opens",
    "The loader opens it with every symbol resolved at once, in the sandbox that its manifest asks for.",
    "levels 2 to 4, which run the library, need Linux or Windows; --strictness 1 asks for the others",
)];

/// Runs `conductor plugin-test`, which no validator starts here.
#[cfg(not(windows))]
pub fn child_main() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
