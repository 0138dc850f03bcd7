//! One fault at one stage under one isolation: what a drill runs a host for.

use std::fmt;

use conductor_types::Isolation;

use super::{catalogue::FAULTS, library::Patch, seen::Seen};

/// A way to go wrong, and what a host must make of it.
#[derive(Debug)]
pub(super) struct Fault {
    /// Its name; for [`Deed::Call`], the fault plugin's.
    pub(super) name: &'static str,
    /// Where it may happen.
    pub(super) stages: &'static [Stage],
    /// How it is brought about.
    pub(super) deed: Deed,
    /// What the host must do.
    pub(super) response: Response,
    /// Whether it makes sense without a worker.
    pub(super) in_process: InProcess,
}

/// Where a fault happens.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Stage {
    Load,
    Create,
    Check,
    Drop,
    Protocol,
    Host,
}

/// How a fault is brought about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    /// The fault plugin is told to, with these further keys.
    Call(&'static str),
    /// The fault plugin sends these bytes to the host, as it creates its first probe.
    Bytes(fn() -> Vec<u8>),
    /// The library is another one.
    Library(Patch),
    /// Something is done to the host.
    Host(HostFault),
}

/// What is done to a host from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HostFault {
    /// It is killed while its workers are busy.
    KillHost,
    /// A worker is stopped, and goes on later.
    StopWorker,
    /// A worker gets a signal it dies of.
    CrashWorker,
    /// There is no room for the private copy of the plugin's library; later there is.
    FullDisk,
    /// It can open nothing more for a while, and a worker dies meanwhile.
    NoDescriptors,
    /// The plugin folder is away for a while.
    FolderGone,
}

/// What a host must do about a fault, beyond letting nobody else notice.
#[derive(Clone, Copy, Debug)]
pub(super) enum Response {
    /// Count a failure of one of these types, and call the same generation again.
    Fails(&'static [&'static str]),
    /// Count a crash, and start a new generation for it.
    Dies,
    /// Count a timeout, and replace the worker that holds the call; in-process, keep the thread and go on.
    Hangs,
    /// Count a timeout.
    Stalls,
    /// Notice nothing that matters: reports go on.
    GoesOn,
    /// As `GoesOn`, and drop and count the measurements that cannot be shown.
    Sifts,
    /// Answer somehow, by a report or a failure of any type.
    Answers,
    /// Count a failure of any type.
    FailsOrDies,
    /// End the worker that broke the rules, and start a new generation.
    Breaks,
    /// Start a new generation for a crash, whether or not a call was under way.
    Restarts,
    /// Count a failure to load, by name.
    Unloadable,
    /// Leave no process behind.
    LeavesNothing,
}

/// What becomes of a fault without a worker.
#[derive(Clone, Copy, Debug)]
pub(super) enum InProcess {
    /// The host stands it as well.
    Contained,
    /// There is no point in it, for this reason.
    Skipped(&'static str),
}

/// One row of the drill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Its place in the catalogue.
    pub(super) number: usize,
    pub(super) fault: &'static Fault,
    pub(super) stage: Stage,
    pub(super) isolation: Isolation,
}

impl Case {
    /// Every case there is, in the order of the catalogue.
    pub(super) fn all(isolations: &[Isolation]) -> Vec<Self> {
        let mut cases = Vec::new();
        for fault in FAULTS {
            for &stage in fault.stages {
                for &isolation in isolations {
                    let number = cases.len();
                    cases.push(Self {
                        number,
                        fault,
                        stage,
                        isolation,
                    });
                }
            }
        }
        cases
    }

    /// Why it is not run.
    pub(super) fn skipped(&self) -> Option<&'static str> {
        match (self.isolation, self.fault.in_process) {
            (Isolation::InProcess, InProcess::Skipped(reason)) => Some(reason),
            _ => None,
        }
    }

    /// The config table of the platform that goes wrong, after `well` calls that go well.
    ///
    /// A probe is dropped when it panicked, so a fault in drop begins with a panic. `mark` is how long what it leaves
    /// behind would live, in milliseconds: it is told from others by that.
    pub(super) fn config(&self, well: u32, mark: u64) -> String {
        let keys = match self.fault.deed {
            Deed::Call(keys) => keys,
            Deed::Bytes(bytes) => {
                let bytes = bytes();
                return format!("{{ create = {{ fault = \"wire-bytes\", bytes = {bytes:?} }} }}");
            }
            // Calls are under way most of the time.
            Deed::Host(HostFault::KillHost | HostFault::CrashWorker) => {
                return "{ check = { fault = \"sleep\", millis = 100 } }".to_owned();
            }
            Deed::Host(_) | Deed::Library(_) => return "{}".to_owned(),
        };
        let mut keys: Vec<_> = vec![keys.to_owned()];
        keys.retain(|keys| !keys.is_empty());
        keys.insert(0, format!("fault = \"{}\"", self.fault.name));
        if LEAVE_SOMETHING.contains(&self.fault.name) {
            keys.push(format!("millis = {mark}"));
        }
        let deed = keys.join(", ");
        match self.stage {
            Stage::Create => format!("{{ create = {{ {deed} }} }}"),
            Stage::Drop => format!(
                "{{ check = {{ fault = \"panic\", after = {well}, times = 1 }}, drop = {{ {deed} }} }}"
            ),
            _ => format!("{{ check = {{ {deed}, after = {well} }} }}"),
        }
    }

    /// What the host has yet to do, or nothing if it did all it must.
    pub(super) fn missing(&self, seen: &Seen, since: &Seen) -> Option<String> {
        let counted = |types: &[&str]| {
            let any = types.iter().any(|t| seen.failures(SINNER, t) > 0.0);
            (!any).then(|| format!("no failure of type {} is counted", types.join(" or ")))
        };
        let replaced = |reasons: &[&str]| {
            let any = reasons.iter().any(|r| seen.restarts(r) > 0.0);
            (!any && self.isolation == Isolation::Process)
                .then(|| format!("no new generation for reason {}", reasons.join(" or ")))
        };
        // A drop comes after a panic, which is counted as such unless the call itself does not end.
        let dropped = self.stage == Stage::Drop;
        // A throw-away worker creates and drops each probe before the library is loaded into the host.
        let judged = matches!(self.stage, Stage::Create | Stage::Drop)
            && self.isolation == Isolation::InProcess;
        match self.fault.response {
            Response::Hangs if judged => counted(&["config", "timeout"]),
            Response::Fails(_) if dropped => counted(&["panic"]),
            Response::Fails(types) => counted(types),
            Response::Dies => counted(&["crash"]).or_else(|| replaced(&["crash"])),
            Response::Hangs => counted(&["timeout"]).or_else(|| replaced(&["hang"])),
            Response::Stalls => counted(&["timeout"]),
            Response::FailsOrDies => counted(ANY_FAILURE),
            Response::Breaks => {
                counted(ANY_FAILURE).or_else(|| replaced(&["crash", "protocol", "hang", "limit"]))
            }
            Response::Restarts => replaced(&["crash"]),
            Response::Unloadable => counted(UNLOADED),
            Response::Answers => {
                let answered = seen.failed(SINNER) + seen.healthy(SINNER);
                (answered < since.failed(SINNER) + since.healthy(SINNER) + ANSWERS)
                    .then(|| "nothing is counted for it".to_owned())
            }
            Response::GoesOn => self.reports(seen, since),
            Response::Sifts => self.reports(seen, since).or_else(|| {
                (seen.dropped(SINNER) == 0.0)
                    .then(|| "no measurement is counted as dropped".to_owned())
            }),
            Response::LeavesNothing => None,
        }
    }

    /// What is missing of reports that go on without a failure.
    fn reports(&self, seen: &Seen, since: &Seen) -> Option<String> {
        if seen.healthy(SINNER) - since.healthy(SINNER) < REPORTS {
            return Some("its reports do not go on".to_owned());
        }
        let mut failures = seen.failed(SINNER);
        if self.stage == Stage::Drop {
            failures -= seen.failures(SINNER, "panic");
        }
        // A host that can open nothing starts no worker: that costs the plugin's own platforms what it costs.
        let may_fail = self.deed_is(HostFault::NoDescriptors);
        (failures > 0.0 && !may_fail).then(|| "its checks fail".to_owned())
    }

    /// Whether the plugin that went wrong is to be well again in the end.
    pub(super) fn recovers(&self) -> bool {
        !matches!(self.fault.deed, Deed::Library(_))
    }

    /// Whether this is what is done to the host.
    pub(super) fn deed_is(&self, fault: HostFault) -> bool {
        matches!(self.fault.deed, Deed::Host(f) if f == fault)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.stage, self.fault.name, self.isolation)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Load => "load",
            Self::Create => "create",
            Self::Check => "check",
            Self::Drop => "drop",
            Self::Protocol => "protocol",
            Self::Host => "host",
        })
    }
}

/// The platform that goes wrong.
pub(super) const SINNER: &str = "sinner";
/// A platform of the same plugin, which shares its fate and is to be well again.
///
/// Its name comes after the other's, so that the fault's call is the first one.
pub(super) const TWIN: &str = "twin";
/// Platforms of another plugin, which must lose nothing.
pub(super) const BYSTANDERS: [&str; 2] = ["bystander-1", "bystander-2"];
/// The plugin that goes wrong.
pub(super) const PLUGIN: &str = "fault";

/// A library that takes its worker with it ends as what it did.
const UNLOADED: &[&str] = &["load", "abi", "crash", "timeout", "protocol"];
/// How many reports show that reports go on.
const REPORTS: f64 = 3.0;
/// How many counted checks show that each is counted, the ones that go well first among them.
const ANSWERS: f64 = 5.0;
/// The faults that leave processes behind.
const LEAVE_SOMETHING: [&str; 3] = ["children", "daemons", "forks"];
const ANY_FAILURE: &[&str] = &["error", "timeout", "panic", "crash", "load", "protocol"];
