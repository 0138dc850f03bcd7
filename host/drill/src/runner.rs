//! One case, from setup to the check for leftovers.

use std::{thread, time::Duration};

use conductor_core::clock::Clock;
use conductor_types::Isolation;

use super::{
    case::{
        CONTROL_GROUP, FAULTY, FaultCase, FaultInjection, HostFault, PLUGIN, RequiredResponse,
        SIBLING,
    },
    fixtures::Fixtures,
    host_injection::{HostInjection, InjectionError},
    host_under_test::{HostError, HostUnderTest, PATIENCE, POLL},
    leftovers::libraries_in,
    losses,
    processes::StopRequest,
    report::{CaseResult, CaseVerdict},
    snapshot::HostSnapshot,
    stall_monitor::StallMonitor,
};

/// Data shared by all cases of a drill.
pub(super) struct DrillRunner {
    pub(super) fixtures: Fixtures,
    pub(super) clock: Clock,
    pub(super) monitor: StallMonitor,
}

impl DrillRunner {
    /// Runs a case; runs it again after a failure that a busy machine may have caused: a real fault repeats.
    pub(super) fn run(&self, case: &FaultCase, well: u32) -> CaseResult {
        let mut tries = 1;
        loop {
            let start = self.clock.now();
            let (mut row, late) = self.run_once(case, well);
            let stall = self.monitor.longest_since(start);
            row.tries = tries;
            row.seconds = (self.clock.now() - start).as_secs_f64();
            row.machine_stall_ms = stall.as_secs_f64() * 1000.0;
            let excused = late || stall >= losses::EXCUSE;
            if row.verdict != CaseVerdict::Failed || !excused || tries == TRIES {
                return row;
            }
            tries += 1;
        }
    }

    /// Returns the row, and `true` if only timing failed.
    fn run_once(&self, case: &FaultCase, well: u32) -> (CaseResult, bool) {
        let mut row = CaseResult::new(case);
        if let Some(reason) = case.skipped() {
            return (row.skipped(reason), false);
        }
        match self.run_case(case, well, &mut row) {
            Ok(()) => row.verdict = CaseVerdict::Passed,
            Err(CaseFailure::Skipped(reason)) => row = row.skipped(&reason),
            Err(CaseFailure::Failed(reason)) => row.reason = Some(reason),
            Err(CaseFailure::Late(reason)) => {
                row.reason = Some(reason);
                return (row, true);
            }
        }
        (row, false)
    }

    fn run_case(
        &self,
        case: &FaultCase,
        well: u32,
        row: &mut CaseResult,
    ) -> Result<(), CaseFailure> {
        let folder = HostUnderTest::create_folder()?;
        let mut injection = HostInjection::prepare(case, folder.path(), &self.fixtures)?;
        let mut host = HostUnderTest::start(folder, &self.fixtures, case, well, self.clock)?;
        let result = self.watch(case, &mut host, &mut injection, row);
        let left = self.shut_down(case, &mut host, result.is_ok());
        host.leftovers.kill();
        // Before removing the folder with the mount point.
        injection.end();
        result?;
        left?;
        Ok(())
    }

    /// Waits for the fault and for the host's response.
    fn watch(
        &self,
        case: &FaultCase,
        host: &mut HostUnderTest,
        injection: &mut HostInjection,
        row: &mut CaseResult,
    ) -> Result<(), CaseFailure> {
        let before = self.wait(host, |snapshot| {
            let begun = CONTROL_GROUP
                .iter()
                .all(|name| snapshot.healthy(name) >= 1.0);
            (!begun).then(|| "the control group has no report yet".to_owned())
        })?;
        // Take the counts of the plugin's other platforms before its worker is known.
        if matches!(case.fault.injection, FaultInjection::Host(_))
            && !case.is_host_fault(HostFault::FullDisk)
        {
            self.wait(host, |snapshot| {
                let begun = snapshot.healthy(SIBLING) >= 1.0;
                (!begun).then(|| "the plugin has no report yet".to_owned())
            })?;
        }
        host.leftovers.record_descendants();
        if matches!(case.fault.response, RequiredResponse::LeavesNothing) {
            return self.kill_the_host(host, row);
        }
        let at_injection = host.snapshot()?;
        injection.inject(host)?;
        let answered = self.wait(host, |snapshot| case.missing(snapshot, &at_injection))?;
        host.leftovers.record_descendants();
        row.host = response_text(&answered);
        row.message.clone_from(&host.last_message);
        injection.revert(host)?;
        let well_again = |snapshot: &HostSnapshot| {
            let more = snapshot.healthy(SIBLING) - answered.healthy(SIBLING);
            // The fault may occur again during the snapshot, while its successor is about to start.
            let between = case.isolation == Isolation::Process && snapshot.worker().is_none();
            (case.recovers() && (more < RECOVERED || between))
                .then(|| format!("{SIBLING}, of the same plugin, has not recovered"))
        };
        let went_on = |snapshot: &HostSnapshot| {
            let on = CONTROL_GROUP
                .iter()
                .all(|name| snapshot.healthy(name) >= answered.healthy(name) + 3.0);
            (!on).then(|| "the control group is no longer checked".to_owned())
        };
        let after = self.wait(host, |snapshot| {
            well_again(snapshot).or_else(|| went_on(snapshot))
        })?;
        row.host = response_text(&after);
        if let (RequiredResponse::FailsOrDies, Some(said)) = (case.fault.response, &row.message) {
            // The amount it got before it was stopped, and the reason.
            row.host.push_str(&format!(": {said}"));
        }
        host.leftovers.record_descendants();
        self.settle(case, host, (&before, &after), row)?;
        self.check_log(case, host)
    }

    /// Compares the losses of the others, and the plugin's isolation, with the promises.
    fn settle(
        &self,
        case: &FaultCase,
        host: &HostUnderTest,
        (before, after): (&HostSnapshot, &HostSnapshot),
        row: &mut CaseResult,
    ) -> Result<(), CaseFailure> {
        let stall = self.monitor.longest_since(before.at);
        let late = host.max_lateness;
        row.late_ms = Some((late * 1000.0).round());
        row.any_late_ms = Some(losses::worst_lateness(before, after) * 1000.0);
        if let Some(lost) = losses::control_group_losses(before, after, stall) {
            row.collateral.clone_from(&lost.description);
            let reason = format!("collateral damage: {}", lost.description);
            return Err(match lost.only_late {
                true => CaseFailure::Late(reason),
                false => CaseFailure::Failed(reason),
            });
        }
        "nothing".clone_into(&mut row.collateral);
        if late > losses::LATE + stall.as_secs_f64() {
            return Err(CaseFailure::Late(format!(
                "checks of the control group started up to {:.0} ms late, while the machine stalled for at most {} ms",
                late * 1000.0,
                stall.as_millis()
            )));
        }
        let message = after
            .platform(FAULTY, "message")
            .as_str()
            .unwrap_or_default();
        if message.len() > LONGEST_MESSAGE || message.contains(char::is_control) {
            return failed(format!(
                "a message of {} bytes is shown without cutting or escaping it: {:?}…",
                message.len(),
                message.chars().take(80).collect::<String>()
            ));
        }
        if case.isolation == Isolation::InProcess
            && case.recovers()
            && !matches!(case.fault.injection, FaultInjection::Host(_))
            && after.failed(SIBLING) > 0.0
        {
            // A busy machine can cause it as well: a library that takes too long to load in its throw-away worker.
            return Err(CaseFailure::Late(format!(
                "{SIBLING}: {} checks failed",
                after.failed(SIBLING)
            )));
        }
        if case.recovers() && case.isolation == Isolation::Process {
            let isolation = after.plugin("isolation").as_str().unwrap_or("unknown");
            if isolation != "process" || after.worker().is_none() {
                return failed(format!(
                    "the plugin does not run in a worker (isolation: {isolation})"
                ));
            }
        }
        Ok(())
    }

    /// Checks that the log has whole lines without control characters, names the failure, and is not flooded.
    fn check_log(&self, case: &FaultCase, host: &HostUnderTest) -> Result<(), CaseFailure> {
        let log = host.log().text();
        let of_the_plugin =
            |line: &str| (line.contains("WARN") || line.contains("ERROR")) && line.contains(PLUGIN);
        let is_failure = !matches!(
            case.fault.response,
            RequiredResponse::GoesOn | RequiredResponse::Sifts | RequiredResponse::Answers
        );
        if is_failure && !log.lines().any(of_the_plugin) {
            return failed("the log has no warning or error that names the plugin".to_owned());
        }
        if let Some(line) = log.lines().find(|line| line.contains(char::is_control)) {
            return failed(format!("the log has a control character: {line:?}"));
        }
        let size = host.log().size();
        if case.isolation == Isolation::Process && size > MOST_LOG {
            return failed(format!(
                "the log has {size} bytes, expected at most {MOST_LOG}"
            ));
        }
        Ok(())
    }

    /// Ends the host, and checks what it leaves behind.
    fn shut_down(
        &self,
        case: &FaultCase,
        host: &mut HostUnderTest,
        is_well: bool,
    ) -> Result<(), CaseFailure> {
        if matches!(case.fault.response, RequiredResponse::LeavesNothing) {
            return Ok(());
        }
        let stopped = is_well.then(|| host.stop());
        host.kill();
        if let Some(stopped) = stopped {
            self.wait_until_clean(host)?;
            if stopped? == StopRequest::Killed {
                return Ok(());
            }
            let copies = libraries_in(&host.state());
            if copies > 0 {
                return failed(format!(
                    "{copies} private copies of libraries are left behind"
                ));
            }
        }
        Ok(())
    }

    fn kill_the_host(
        &self,
        host: &mut HostUnderTest,
        row: &mut CaseResult,
    ) -> Result<(), CaseFailure> {
        let workers = host.leftovers.alive().len();
        if workers == 0 {
            return failed("the host has no worker".to_owned());
        }
        let killed = self.clock.now();
        host.kill();
        self.wait_until_clean(host)?;
        let took = self.clock.now() - killed;
        row.host = format!("{workers} workers ended within {} ms", took.as_millis());
        "only the killed host".clone_into(&mut row.collateral);
        Ok(())
    }

    /// Waits until none of the host's processes is left.
    fn wait_until_clean(&self, host: &HostUnderTest) -> Result<(), CaseFailure> {
        let start = self.clock.now();
        loop {
            let left = host.leftovers.alive();
            if left.is_empty() {
                return Ok(());
            }
            if self.clock.now() - start > CLEAN {
                return failed(format!("{} processes are left behind", left.len()));
            }
            thread::sleep(POLL);
        }
    }

    /// Takes snapshots until nothing is missing.
    fn wait(
        &self,
        host: &mut HostUnderTest,
        missing: impl Fn(&HostSnapshot) -> Option<String>,
    ) -> Result<HostSnapshot, CaseFailure> {
        let start = self.clock.now();
        loop {
            let snapshot = host.snapshot()?;
            let Some(missing) = missing(&snapshot) else {
                return Ok(snapshot);
            };
            if self.clock.now() - start > PATIENCE {
                return failed(format!(
                    "{missing} after {} s; response of the host: {}",
                    PATIENCE.as_secs(),
                    response_text(&snapshot)
                ));
            }
            thread::sleep(POLL);
        }
    }
}

/// The reason why a case did not pass.
enum CaseFailure {
    /// The host did not do what it must.
    Failed(String),
    /// A platform was late, which a busy machine can cause as well: a real fault repeats.
    Late(String),
    /// This machine cannot run the case.
    Skipped(String),
}

impl From<HostError> for CaseFailure {
    fn from(error: HostError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<InjectionError> for CaseFailure {
    fn from(error: InjectionError) -> Self {
        match error.is_unsupported() {
            true => Self::Skipped(error.to_string()),
            false => Self::Failed(error.to_string()),
        }
    }
}

fn failed<T>(reason: String) -> Result<T, CaseFailure> {
    Err(CaseFailure::Failed(reason))
}

/// Describes the host's response to the fault.
fn response_text(snapshot: &HostSnapshot) -> String {
    let mut parts = Vec::new();
    for error_type in [
        "error", "timeout", "panic", "crash", "load", "abi", "config", "protocol",
    ] {
        let count = snapshot.failures(FAULTY, error_type);
        if count > 0.0 {
            parts.push(format!("{} ({error_type})", counted(count, "failure")));
        }
    }
    if parts.is_empty() {
        parts.push("reports continue".to_owned());
    }
    for reason in ["crash", "hang", "limit", "protocol"] {
        let count = snapshot.restarts(reason);
        if count > 0.0 {
            parts.push(format!("{} ({reason})", counted(count, "restart")));
        }
    }
    if snapshot.plugin("quarantined") == true {
        parts.push("quarantined".to_owned());
    }
    parts.join(", ")
}

fn counted(count: f64, noun: &str) -> String {
    let plural = if count == 1.0 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Longest message that a host shows, in bytes: its limit and the truncation mark, including escapes.
const LONGEST_MESSAGE: usize = 2 * conductor_runtime::MAX_MESSAGE;
/// Number of reports that prove a recovery.
const RECOVERED: f64 = 3.0;
/// Largest number of runs of a case.
const TRIES: u32 = 3;
/// Time until a stopped host has left nothing behind.
const CLEAN: Duration = Duration::from_secs(3);
/// Limit of a log's growth in the few seconds of a case, in bytes.
const MOST_LOG: usize = 1 << 20;
