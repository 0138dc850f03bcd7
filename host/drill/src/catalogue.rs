//! The faults, as data: the fault, its stages, and the host's required response.

use super::{
    case::{Deed, Fault, HostFault, InProcess, Response, Stage},
    forgery,
    library::Patch,
};

/// Every fault of the drill.
pub(super) const FAULTS: &[Fault] = &[
    // Faults of a loaded library.
    load("constructor-aborts", Patch::Constructor("abort")),
    load("constructor-exits", Patch::Constructor("exit")),
    load("constructor-hangs", Patch::Constructor("hang")),
    load("constructor-segfaults", Patch::Constructor("segfault")),
    load("missing-dependency", Patch::MissingDependency),
    load("undefined-symbol", Patch::UndefinedSymbol),
    load("truncated", Patch::Truncated),
    // The plugin's side of the ABI catches these.
    call("error", CALLS, Response::Fails(&["error", "panic"]), BOTH),
    call("panic", CALLS, Response::Fails(&["panic"]), BOTH),
    call("panic-payload", CALLS, Response::Fails(&["panic"]), BOTH),
    // The process does not survive these.
    call("panic-abort", CALLS, Response::Dies, FATAL),
    call("abort", CALLS, Response::Dies, FATAL),
    call("exit-0", CALLS, Response::Dies, FATAL),
    call("exit-7", CALLS, Response::Dies, FATAL),
    call("segfault", CALLS, Response::Dies, FATAL),
    call("illegal-instruction", CALLS, Response::Dies, FATAL),
    call("stack-overflow", CALLS, Response::Dies, FATAL),
    call("double-free", CALLS, Response::Dies, FATAL),
    call("kill", CALLS, Response::Dies, FATAL),
    // These do not return, or not in time.
    with("sleep", CALLS, "millis = 350", Response::Stalls, BOTH),
    call("hang", CALLS, Response::Hangs, BOTH),
    call("spin", CALLS, Response::Hangs, BOTH),
    call("deadlock", CALLS, Response::Hangs, BOTH),
    // These take as much as they can. The limits are well above a worker's own.
    greedy("memory", "limit = 1_500_000_000"),
    greedy("files", "limit = 5_000"),
    greedy("threads", "limit = 600"),
    greedy("children", "limit = 300"),
    greedy("daemons", "limit = 300"),
    greedy("forks", "limit = 300"),
    // These print too much, or listen where they should not. A plugin that prints megabytes may have to wait for its
    // reader, and time out over it.
    with("stdout", CALLS, ONCE, Response::Answers, BOTH),
    with("stderr", CALLS, ONCE, Response::Answers, BOTH),
    with("stdin", CALLS, ONCE, Response::GoesOn, BOTH),
    // These change state of the whole process.
    with("close-fds", CALLS, ONCE, Response::Breaks, FATAL),
    with("chdir", CALLS, ONCE, Response::GoesOn, BOTH),
    with("environment", CALLS, ONCE, Response::GoesOn, VANDALISM),
    with("locale", CALLS, ONCE, Response::GoesOn, BOTH),
    with("signal-handlers", CALLS, ONCE, Response::GoesOn, VANDALISM),
    with("umask", CALLS, ONCE, Response::GoesOn, VANDALISM),
    with("block-signals", CALLS, ONCE, Response::GoesOn, VANDALISM),
    // These report invalid content; before there is a report, they fail with such a message.
    message("long-message"),
    call("long-message", CHECK, Response::GoesOn, BOTH),
    call("many-measurements", CHECK, Response::Answers, BOTH),
    call("nan", CHECK, Response::Sifts, BOTH),
    call("infinity", CHECK, Response::Sifts, BOTH),
    message("invalid-utf8"),
    call("invalid-utf8", CHECK, Response::GoesOn, BOTH),
    message("control-characters"),
    call("control-characters", CHECK, Response::Sifts, BOTH),
    // Faults in a worker's messages to its host.
    call("wire-garbage", WIRE, Response::Breaks, NO_WIRE),
    call("wire-half-frame", WIRE, Response::Breaks, NO_WIRE),
    call("wire-torn-frame", WIRE, Response::Breaks, NO_WIRE),
    call("wire-huge-frame", WIRE, Response::Breaks, NO_WIRE),
    call("wire-closed", WIRE, Response::Breaks, NO_WIRE),
    forged("unasked-answer", forgery::unasked_answer),
    forged("two-answers", forgery::two_answers),
    // Faults of the host itself.
    host(
        "sigkill-of-the-host",
        HostFault::KillHost,
        Response::LeavesNothing,
        NO_WORKER,
    ),
    host(
        "sigstop-of-a-worker",
        HostFault::StopWorker,
        Response::Stalls,
        NO_WORKER,
    ),
    host(
        "sigsegv-to-a-worker",
        HostFault::CrashWorker,
        Response::Restarts,
        NO_WORKER,
    ),
    host("full-disk", HostFault::FullDisk, Response::Unloadable, BOTH),
    host(
        "no-descriptors",
        HostFault::NoDescriptors,
        Response::GoesOn,
        BOTH,
    ),
    host("no-folder", HostFault::FolderGone, Response::GoesOn, BOTH),
];

const fn load(name: &'static str, patch: Patch) -> Fault {
    Fault {
        name,
        stages: &[Stage::Load],
        deed: Deed::Library(patch),
        response: Response::Unloadable,
        in_process: BOTH,
    }
}

const fn call(
    name: &'static str,
    stages: &'static [Stage],
    response: Response,
    in_process: InProcess,
) -> Fault {
    with(name, stages, "", response, in_process)
}

const fn message(name: &'static str) -> Fault {
    call(name, &[Stage::Create], Response::Fails(&["error"]), BOTH)
}

const fn greedy(name: &'static str, keys: &'static str) -> Fault {
    with(name, CALLS, keys, Response::FailsOrDies, GREEDY)
}

const fn with(
    name: &'static str,
    stages: &'static [Stage],
    keys: &'static str,
    response: Response,
    in_process: InProcess,
) -> Fault {
    Fault {
        name,
        stages,
        deed: Deed::Call(keys),
        response,
        in_process,
    }
}

const fn forged(name: &'static str, bytes: fn() -> Vec<u8>) -> Fault {
    Fault {
        name,
        stages: WIRE,
        deed: Deed::Bytes(bytes),
        response: Response::Breaks,
        in_process: NO_WIRE,
    }
}

const fn host(
    name: &'static str,
    fault: HostFault,
    response: Response,
    in_process: InProcess,
) -> Fault {
    Fault {
        name,
        stages: &[Stage::Host],
        deed: Deed::Host(fault),
        response,
        in_process,
    }
}

const CALLS: &[Stage] = &[Stage::Create, Stage::Check, Stage::Drop];
const CHECK: &[Stage] = &[Stage::Check];
const WIRE: &[Stage] = &[Stage::Protocol];
/// Once is enough; repeating it at each check would only take time.
const ONCE: &str = "times = 1";

/// The host survives it without a worker as well.
const BOTH: InProcess = InProcess::Contained;
const FATAL: InProcess = InProcess::Skipped("fatal in-process by definition");
const GREEDY: InProcess =
    InProcess::Skipped("in-process nothing bounds it: such a plugin is trusted fully");
const VANDALISM: InProcess =
    InProcess::Skipped("in-process it is done to the host: such a plugin is trusted fully");
const NO_WIRE: InProcess = InProcess::Skipped("in-process there is no protocol");
const NO_WORKER: InProcess = InProcess::Skipped("in-process there is no worker");

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
        let fatal = |fault: &&Fault| matches!(fault.response, Response::Dies | Response::Breaks);
        for fault in FAULTS.iter().filter(fatal) {
            assert!(
                matches!(fault.in_process, InProcess::Skipped(_)),
                "{}",
                fault.name
            );
        }
    }
}
