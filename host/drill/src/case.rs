//! One fault at one stage under one isolation: the unit for which a drill runs a host.

use std::fmt;

use conductor_types::Isolation;

use super::{catalog::FAULTS, library_patch::LibraryPatch, snapshot::HostSnapshot};

/// A fault, and the host's required response.
#[derive(Debug)]
pub(super) struct FaultSpec {
    /// Its name; for [`FaultInjection::Call`], the fault plugin's.
    pub(super) name: &'static str,
    /// The stages at which it can happen.
    pub(super) stages: &'static [FaultStage],
    /// The way to cause it.
    pub(super) injection: FaultInjection,
    /// The host's required response.
    pub(super) response: RequiredResponse,
    /// Its use without a worker.
    pub(super) in_process: InProcessUse,
}

/// The stage of a fault.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum FaultStage {
    Load,
    Create,
    Check,
    Drop,
    Protocol,
    Host,
}

/// The way to cause a fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum FaultInjection {
    /// The config of the fault plugin, with these further keys.
    Call(&'static str),
    /// The fault plugin sends these bytes to the host, when it creates its first probe.
    Bytes(fn() -> Vec<u8>),
    /// A modified library.
    Library(LibraryPatch),
    /// An external action on the host.
    Host(HostFault),
}

/// An external action on a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HostFault {
    /// It is killed while its workers are busy.
    KillHost,
    /// A worker is stopped, and continued later.
    StopWorker,
    /// A worker gets a signal it dies of.
    CrashWorker,
    /// There is temporarily no room for the private copy of the plugin's library.
    FullDisk,
    /// The host can open no more files for a while, and a worker dies meanwhile.
    NoDescriptors,
    /// The plugin folder is missing for a while.
    FolderGone,
}

/// The host's required response to a fault, beyond sparing all other platforms.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequiredResponse {
    /// Count a failure of one of these types, and call the same generation again.
    Fails(&'static [&'static str]),
    /// Count a crash, and start a new generation for it.
    Dies,
    /// Count a timeout, and replace the worker that holds the call; in-process, keep the thread and go on.
    Hangs,
    /// Count a timeout.
    Stalls,
    /// Keep reporting.
    GoesOn,
    /// As `GoesOn`, and drop and count the measurements that cannot be shown.
    Sifts,
    /// Complete the check, with a report or a failure of any type.
    Answers,
    /// Count a failure of any type.
    FailsOrDies,
    /// End the worker that broke the protocol, and start a new generation.
    Breaks,
    /// Start a new generation for a crash, even without a call in flight.
    Restarts,
    /// Count a failure to load, by name.
    Unloadable,
    /// Leave no process behind.
    LeavesNothing,
}

/// The result of a fault without a worker.
#[derive(Clone, Copy, Debug)]
pub(super) enum InProcessUse {
    /// The host survives it as well.
    Contained,
    /// It makes no sense, for this reason.
    Skipped(&'static str),
}

/// One row of the drill.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultCase {
    /// Its index in the catalog.
    pub(super) number: usize,
    pub(super) fault: &'static FaultSpec,
    pub(super) stage: FaultStage,
    pub(super) isolation: Isolation,
}

impl FaultCase {
    /// Returns every case, in the order of the catalog.
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

    /// Returns the reason why it is not run.
    pub(super) fn skipped(&self) -> Option<&'static str> {
        #[cfg(not(target_os = "linux"))]
        if let Some(reason) = super::unavailable::reason(self.fault) {
            return Some(reason);
        }
        match (self.isolation, self.fault.in_process) {
            (Isolation::InProcess, InProcessUse::Skipped(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Returns the config table of the faulty platform, which fails after `well` good calls.
    ///
    /// A probe is dropped after a panic, so a fault in drop begins with a panic. `mark` is the lifetime of the
    /// processes it leaves behind, in milliseconds, which identifies them.
    pub(super) fn config(&self, well: u32, mark: u64) -> String {
        let keys = match self.fault.injection {
            FaultInjection::Call(keys) => keys,
            FaultInjection::Bytes(bytes) => {
                let bytes = bytes();
                return format!("{{ create = {{ fault = \"wire-bytes\", bytes = {bytes:?} }} }}");
            }
            // Make sure that calls are in flight most of the time.
            FaultInjection::Host(HostFault::KillHost | HostFault::CrashWorker) => {
                return "{ check = { fault = \"sleep\", millis = 100 } }".to_owned();
            }
            FaultInjection::Host(_) | FaultInjection::Library(_) => return "{}".to_owned(),
        };
        let mut keys: Vec<_> = vec![keys.to_owned()];
        keys.retain(|keys| !keys.is_empty());
        keys.insert(0, format!("fault = \"{}\"", self.fault.name));
        if LEAVE_SOMETHING.contains(&self.fault.name) {
            keys.push(format!("millis = {mark}"));
        }
        let injection = keys.join(", ");
        match self.stage {
            FaultStage::Create => format!("{{ create = {{ {injection} }} }}"),
            FaultStage::Drop => format!(
                "{{ check = {{ fault = \"panic\", after = {well}, times = 1 }}, drop = {{ {injection} }} }}"
            ),
            _ => format!("{{ check = {{ {injection}, after = {well} }} }}"),
        }
    }

    /// Returns the host's missing response, if any.
    pub(super) fn missing(&self, snapshot: &HostSnapshot, since: &HostSnapshot) -> Option<String> {
        let counted = |types: &[&str]| {
            let any = types.iter().any(|t| snapshot.failures(FAULTY, t) > 0.0);
            (!any).then(|| format!("no failure of type {} was counted", types.join(" or ")))
        };
        let replaced = |reasons: &[&str]| {
            let any = reasons.iter().any(|r| snapshot.restarts(r) > 0.0);
            (!any && self.isolation == Isolation::Process)
                .then(|| format!("no restart for reason {}", reasons.join(" or ")))
        };
        // A drop comes after a panic, which is counted as such unless the call itself does not end.
        let dropped = self.stage == FaultStage::Drop;
        // A throw-away worker creates and drops each probe before the library is loaded into the host.
        let judged = matches!(self.stage, FaultStage::Create | FaultStage::Drop)
            && self.isolation == Isolation::InProcess;
        match self.fault.response {
            RequiredResponse::Hangs if judged => counted(&["config", "timeout"]),
            RequiredResponse::Fails(_) if dropped => counted(&["panic"]),
            RequiredResponse::Fails(types) => counted(types),
            RequiredResponse::Dies => counted(&["crash"]).or_else(|| replaced(&["crash"])),
            RequiredResponse::Hangs => counted(&["timeout"]).or_else(|| replaced(&["hang"])),
            RequiredResponse::Stalls => counted(&["timeout"]),
            RequiredResponse::FailsOrDies => counted(ANY_FAILURE),
            RequiredResponse::Breaks => {
                counted(ANY_FAILURE).or_else(|| replaced(&["crash", "protocol", "hang", "limit"]))
            }
            RequiredResponse::Restarts => replaced(&["crash"]),
            RequiredResponse::Unloadable => counted(UNLOADED),
            RequiredResponse::Answers => {
                let answered = snapshot.failed(FAULTY) + snapshot.healthy(FAULTY);
                (answered < since.failed(FAULTY) + since.healthy(FAULTY) + ANSWERS)
                    .then(|| "its checks were not counted".to_owned())
            }
            RequiredResponse::GoesOn => self.reports(snapshot, since),
            RequiredResponse::Sifts => self.reports(snapshot, since).or_else(|| {
                (snapshot.dropped(FAULTY) == 0.0)
                    .then(|| "no measurement was counted as dropped".to_owned())
            }),
            RequiredResponse::LeavesNothing => None,
        }
    }

    /// Returns the reason if reports do not continue without a failure.
    fn reports(&self, snapshot: &HostSnapshot, since: &HostSnapshot) -> Option<String> {
        if snapshot.healthy(FAULTY) - since.healthy(FAULTY) < REPORTS {
            return Some("it no longer reports".to_owned());
        }
        let mut failures = snapshot.failed(FAULTY);
        if self.stage == FaultStage::Drop {
            failures -= snapshot.failures(FAULTY, "panic");
        }
        // A host that can open nothing starts no worker: only the plugin's own platforms may suffer.
        let may_fail = self.is_host_fault(HostFault::NoDescriptors);
        (failures > 0.0 && !may_fail).then(|| "its checks failed".to_owned())
    }

    /// Returns `true` if the faulty plugin must recover in the end.
    pub(super) fn recovers(&self) -> bool {
        !matches!(self.fault.injection, FaultInjection::Library(_))
    }

    /// Returns `true` if the fault is this action on the host.
    pub(super) fn is_host_fault(&self, fault: HostFault) -> bool {
        matches!(self.fault.injection, FaultInjection::Host(f) if f == fault)
    }
}

impl fmt::Display for FaultCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.stage, self.fault.name, self.isolation)
    }
}

impl fmt::Display for FaultStage {
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

/// The faulty platform.
pub(super) const FAULTY: &str = "faulty";
/// A platform of the same plugin, which is affected too and must recover.
///
/// Its name comes after the other's, so that the fault's call is the first one.
pub(super) const SIBLING: &str = "sibling";
/// Platforms of another plugin, which must lose nothing.
pub(super) const CONTROL_GROUP: [&str; 2] = ["control-1", "control-2"];
/// The faulty plugin, and that of the control group.
pub(super) const PLUGIN: &str = "fault";
pub(super) const CONTROL_PLUGIN: &str = "disk";

/// A library that kills its worker is counted as what it did.
const UNLOADED: &[&str] = &["load", "abi", "crash", "timeout", "protocol"];
/// Number of reports that prove that reports continue.
const REPORTS: f64 = 3.0;
/// Number of counted checks that prove that each is counted, including the good ones at first.
const ANSWERS: f64 = 5.0;
/// The faults that leave processes behind.
const LEAVE_SOMETHING: [&str; 3] = ["children", "daemons", "forks"];
const ANY_FAILURE: &[&str] = &["error", "timeout", "panic", "crash", "load", "protocol"];
