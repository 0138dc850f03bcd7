//! The faults, as data: the fault, its stages, and the host's required response.

use super::{
    case::{FaultInjection, FaultSpec, FaultStage, HostFault, InProcessUse, RequiredResponse},
    forged_frames,
    library_patch::LibraryPatch,
};

/// Every fault of the drill.
pub(super) const FAULTS: &[FaultSpec] = &[
    // Faults of a loaded library.
    load("constructor-aborts", LibraryPatch::Constructor("abort")),
    load("constructor-exits", LibraryPatch::Constructor("exit")),
    load("constructor-hangs", LibraryPatch::Constructor("hang")),
    load(
        "constructor-segfaults",
        LibraryPatch::Constructor("segfault"),
    ),
    load("missing-dependency", LibraryPatch::MissingDependency),
    load("undefined-symbol", LibraryPatch::UndefinedSymbol),
    load("truncated", LibraryPatch::Truncated),
    // The plugin's side of the ABI catches these.
    call(
        "error",
        CALLS,
        RequiredResponse::Fails(&["error", "panic"]),
        BOTH,
    ),
    call("panic", CALLS, RequiredResponse::Fails(&["panic"]), BOTH),
    call(
        "panic-payload",
        CALLS,
        RequiredResponse::Fails(&["panic"]),
        BOTH,
    ),
    // The process does not survive these.
    call("panic-abort", CALLS, RequiredResponse::Dies, FATAL),
    call("abort", CALLS, RequiredResponse::Dies, FATAL),
    call("exit-0", CALLS, RequiredResponse::Dies, FATAL),
    call("exit-7", CALLS, RequiredResponse::Dies, FATAL),
    call("segfault", CALLS, RequiredResponse::Dies, FATAL),
    call("illegal-instruction", CALLS, RequiredResponse::Dies, FATAL),
    call("stack-overflow", CALLS, RequiredResponse::Dies, FATAL),
    call("double-free", CALLS, RequiredResponse::Dies, FATAL),
    call("kill", CALLS, RequiredResponse::Dies, FATAL),
    // These do not return, or not in time.
    with(
        "sleep",
        CALLS,
        "millis = 350",
        RequiredResponse::Stalls,
        BOTH,
    ),
    call("hang", CALLS, RequiredResponse::Hangs, BOTH),
    call("spin", CALLS, RequiredResponse::Hangs, BOTH),
    call("deadlock", CALLS, RequiredResponse::Hangs, BOTH),
    // These take as much as they can. The limits are well above a worker's own.
    greedy("memory", "limit = 1_500_000_000"),
    greedy("files", "limit = 5_000"),
    greedy("threads", "limit = 600"),
    greedy("children", "limit = 300"),
    greedy("daemons", "limit = 300"),
    greedy("forks", "limit = 300"),
    // These print too much, or listen where they should not. A plugin that prints megabytes may have to wait for its
    // reader, and time out over it.
    with("stdout", CALLS, ONCE, RequiredResponse::Answers, BOTH),
    with("stderr", CALLS, ONCE, RequiredResponse::Answers, BOTH),
    with("stdin", CALLS, ONCE, RequiredResponse::GoesOn, BOTH),
    // These change state of the whole process.
    with("close-fds", CALLS, ONCE, RequiredResponse::Breaks, FATAL),
    with("chdir", CALLS, ONCE, RequiredResponse::GoesOn, BOTH),
    with(
        "environment",
        CALLS,
        ONCE,
        RequiredResponse::GoesOn,
        VANDALISM,
    ),
    with("locale", CALLS, ONCE, RequiredResponse::GoesOn, BOTH),
    with(
        "signal-handlers",
        CALLS,
        ONCE,
        RequiredResponse::GoesOn,
        VANDALISM,
    ),
    with("umask", CALLS, ONCE, RequiredResponse::GoesOn, VANDALISM),
    with(
        "block-signals",
        CALLS,
        ONCE,
        RequiredResponse::GoesOn,
        VANDALISM,
    ),
    // These report invalid content; before there is a report, they fail with such a message.
    message("long-message"),
    call("long-message", CHECK, RequiredResponse::GoesOn, BOTH),
    call("many-measurements", CHECK, RequiredResponse::Answers, BOTH),
    call("nan", CHECK, RequiredResponse::Sifts, BOTH),
    call("infinity", CHECK, RequiredResponse::Sifts, BOTH),
    message("invalid-utf8"),
    call("invalid-utf8", CHECK, RequiredResponse::GoesOn, BOTH),
    message("control-characters"),
    call("control-characters", CHECK, RequiredResponse::Sifts, BOTH),
    // Faults in a worker's messages to its host.
    call("wire-garbage", WIRE, RequiredResponse::Breaks, NO_WIRE),
    call("wire-half-frame", WIRE, RequiredResponse::Breaks, NO_WIRE),
    call("wire-torn-frame", WIRE, RequiredResponse::Breaks, NO_WIRE),
    call("wire-huge-frame", WIRE, RequiredResponse::Breaks, NO_WIRE),
    call("wire-closed", WIRE, RequiredResponse::Breaks, NO_WIRE),
    forged("unrequested-response", forged_frames::unrequested_response),
    forged("duplicate-response", forged_frames::duplicate_responses),
    // Faults of the host itself.
    host(
        "sigkill-of-the-host",
        HostFault::KillHost,
        RequiredResponse::LeavesNothing,
        NO_WORKER,
    ),
    host(
        "sigstop-of-a-worker",
        HostFault::StopWorker,
        RequiredResponse::Stalls,
        NO_WORKER,
    ),
    host(
        "sigsegv-to-a-worker",
        HostFault::CrashWorker,
        RequiredResponse::Restarts,
        NO_WORKER,
    ),
    host(
        "full-disk",
        HostFault::FullDisk,
        RequiredResponse::Unloadable,
        BOTH,
    ),
    host(
        "no-descriptors",
        HostFault::NoDescriptors,
        RequiredResponse::GoesOn,
        BOTH,
    ),
    host(
        "no-folder",
        HostFault::FolderGone,
        RequiredResponse::GoesOn,
        BOTH,
    ),
];

const fn load(name: &'static str, patch: LibraryPatch) -> FaultSpec {
    FaultSpec {
        name,
        stages: &[FaultStage::Load],
        injection: FaultInjection::Library(patch),
        response: RequiredResponse::Unloadable,
        in_process: BOTH,
    }
}

const fn call(
    name: &'static str,
    stages: &'static [FaultStage],
    response: RequiredResponse,
    in_process: InProcessUse,
) -> FaultSpec {
    with(name, stages, "", response, in_process)
}

const fn message(name: &'static str) -> FaultSpec {
    call(
        name,
        &[FaultStage::Create],
        RequiredResponse::Fails(&["error"]),
        BOTH,
    )
}

const fn greedy(name: &'static str, keys: &'static str) -> FaultSpec {
    with(name, CALLS, keys, RequiredResponse::FailsOrDies, GREEDY)
}

const fn with(
    name: &'static str,
    stages: &'static [FaultStage],
    keys: &'static str,
    response: RequiredResponse,
    in_process: InProcessUse,
) -> FaultSpec {
    FaultSpec {
        name,
        stages,
        injection: FaultInjection::Call(keys),
        response,
        in_process,
    }
}

const fn forged(name: &'static str, bytes: fn() -> Vec<u8>) -> FaultSpec {
    FaultSpec {
        name,
        stages: WIRE,
        injection: FaultInjection::Bytes(bytes),
        response: RequiredResponse::Breaks,
        in_process: NO_WIRE,
    }
}

const fn host(
    name: &'static str,
    fault: HostFault,
    response: RequiredResponse,
    in_process: InProcessUse,
) -> FaultSpec {
    FaultSpec {
        name,
        stages: &[FaultStage::Host],
        injection: FaultInjection::Host(fault),
        response,
        in_process,
    }
}

const CALLS: &[FaultStage] = &[FaultStage::Create, FaultStage::Check, FaultStage::Drop];
const CHECK: &[FaultStage] = &[FaultStage::Check];
const WIRE: &[FaultStage] = &[FaultStage::Protocol];
/// Once is enough; repeating it at each check would only take time.
const ONCE: &str = "times = 1";

/// The host survives it without a worker as well.
const BOTH: InProcessUse = InProcessUse::Contained;
const FATAL: InProcessUse = InProcessUse::Skipped("fatal in-process by definition");
const GREEDY: InProcessUse =
    InProcessUse::Skipped("no limits apply in-process: such a plugin is trusted fully");
const VANDALISM: InProcessUse =
    InProcessUse::Skipped("in-process it changes the host itself: such a plugin is trusted fully");
const NO_WIRE: InProcessUse = InProcessUse::Skipped("no protocol in-process");
const NO_WORKER: InProcessUse = InProcessUse::Skipped("no worker in-process");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_has_two_expectations_at_one_stage() {
        let mut seen = std::collections::HashSet::new();
        for fault in FAULTS {
            for &stage in fault.stages {
                assert!(seen.insert((fault.name, stage)), "{} twice", fault.name);
            }
        }
    }

    #[test]
    fn what_kills_a_process_is_never_run_in_the_hosts_own() {
        let fatal = |fault: &&FaultSpec| {
            matches!(
                fault.response,
                RequiredResponse::Dies | RequiredResponse::Breaks
            )
        };
        for fault in FAULTS.iter().filter(fatal) {
            assert!(
                matches!(fault.in_process, InProcessUse::Skipped(_)),
                "{}",
                fault.name
            );
        }
    }
}
