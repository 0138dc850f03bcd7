//! One case, from setup to the check for leftovers.

use std::{thread, time::Duration};

use conductor_core::clock::Clock;
use conductor_types::Isolation;

use super::{
    account,
    canary::Canary,
    case::{BYSTANDERS, Case, Deed, HostFault, PLUGIN, Response, SINNER, TWIN},
    host_fault::{Strike, Unable},
    leftovers::libraries_in,
    report::{Row, Verdict},
    scene::{Cast, PATIENCE, POLL, Scene},
    seen::Seen,
};

/// Data shared by all trials of a drill.
pub(super) struct Drill {
    pub(super) cast: Cast,
    pub(super) clock: Clock,
    pub(super) canary: Canary,
}

impl Drill {
    /// Runs a case; runs it again after a failure that a busy machine may have caused: a real fault repeats.
    pub(super) fn run(&self, case: &Case, well: u32) -> Row {
        let mut tries = 1;
        loop {
            let start = self.clock.now();
            let (mut row, late) = self.run_once(case, well);
            let stall = self.canary.worst_since(start);
            row.tries = tries;
            row.seconds = (self.clock.now() - start).as_secs_f64();
            row.machine_stall_ms = stall.as_secs_f64() * 1000.0;
            let excused = late || stall >= account::EXCUSE;
            if row.verdict != Verdict::Failed || !excused || tries == TRIES {
                return row;
            }
            tries += 1;
        }
    }

    /// Returns the row, and `true` if only timing failed.
    fn run_once(&self, case: &Case, well: u32) -> (Row, bool) {
        let mut row = Row::new(case);
        if let Some(reason) = case.skipped() {
            return (row.skipped(reason), false);
        }
        match self.trial(case, well, &mut row) {
            Ok(()) => row.verdict = Verdict::Passed,
            Err(Short::Skipped(reason)) => row = row.skipped(&reason),
            Err(Short::Fell(reason)) => row.reason = Some(reason),
            Err(Short::Late(reason)) => {
                row.reason = Some(reason);
                return (row, true);
            }
        }
        (row, false)
    }

    fn trial(&self, case: &Case, well: u32, row: &mut Row) -> Result<(), Short> {
        let folder = Scene::folder()?;
        let mut strike = Strike::prepare(case, folder.path(), &self.cast)?;
        let mut scene = Scene::start(folder, &self.cast, case, well, self.clock)?;
        let result = self.watch(case, &mut scene, &mut strike, row);
        let left = self.leave(case, &mut scene, result.is_ok());
        scene.leftovers.kill();
        // Unmount before removing the folder with the mount point.
        drop(strike);
        result?;
        left?;
        Ok(())
    }

    /// Waits for the fault and for the host's response.
    fn watch(
        &self,
        case: &Case,
        scene: &mut Scene,
        strike: &mut Strike,
        row: &mut Row,
    ) -> Result<(), Short> {
        let before = self.wait(scene, |seen| {
            let begun = BYSTANDERS.iter().all(|name| seen.healthy(name) >= 1.0);
            (!begun).then(|| "the bystanders' first reports do not come".to_owned())
        })?;
        // Take the counts of the plugin's other platforms before its worker is known.
        if matches!(case.fault.deed, Deed::Host(_)) && !case.deed_is(HostFault::FullDisk) {
            self.wait(scene, |seen| {
                let begun = seen.healthy(TWIN) >= 1.0;
                (!begun).then(|| "the plugin's first reports do not come".to_owned())
            })?;
        }
        scene.leftovers.note();
        if matches!(case.fault.response, Response::LeavesNothing) {
            return self.kill_the_host(scene, row);
        }
        let struck = scene.look()?;
        strike.strike(scene)?;
        let answered = self.wait(scene, |seen| case.missing(seen, &struck))?;
        scene.leftovers.note();
        row.host = did(&answered);
        row.said.clone_from(&scene.said);
        strike.relieve(scene)?;
        let well_again = |seen: &Seen| {
            let more = seen.healthy(TWIN) - answered.healthy(TWIN);
            // The fault may strike again during the snapshot, while its successor is about to start.
            let between = case.isolation == Isolation::Process && seen.worker().is_none();
            (case.recovers() && (more < RECOVERED || between))
                .then(|| format!("{TWIN}, of the same plugin, is not well again"))
        };
        let went_on = |seen: &Seen| {
            let on = BYSTANDERS
                .iter()
                .all(|name| seen.healthy(name) >= answered.healthy(name) + 3.0);
            (!on).then(|| "the bystanders' checks do not go on".to_owned())
        };
        let after = self.wait(scene, |seen| well_again(seen).or_else(|| went_on(seen)))?;
        row.host = did(&after);
        if let (Response::FailsOrDies, Some(said)) = (case.fault.response, &row.said) {
            // The amount it got before it was stopped, and the reason.
            row.host.push_str(&format!(": {said}"));
        }
        scene.leftovers.note();
        self.settle(case, scene, (&before, &after), row)?;
        self.look_at_the_log(case, scene)
    }

    /// Compares the losses of the others, and the plugin's isolation, with the promises.
    fn settle(
        &self,
        case: &Case,
        scene: &Scene,
        (before, after): (&Seen, &Seen),
        row: &mut Row,
    ) -> Result<(), Short> {
        let stall = self.canary.worst_since(before.at);
        let late = scene.latest;
        row.late_ms = Some((late * 1000.0).round());
        row.any_late_ms = Some(account::worst_lateness(before, after) * 1000.0);
        if let Some(lost) = account::lost(before, after, stall) {
            row.collateral.clone_from(&lost.what);
            let reason = format!("others lost something: {}", lost.what);
            return Err(match lost.time_alone {
                true => Short::Late(reason),
                false => Short::Fell(reason),
            });
        }
        "nothing".clone_into(&mut row.collateral);
        if late > account::LATE + stall.as_secs_f64() {
            return Err(Short::Late(format!(
                "the bystanders' checks started up to {:.0} ms late, and the machine was late by {} ms at most",
                late * 1000.0,
                stall.as_millis()
            )));
        }
        let message = after
            .platform(SINNER, "message")
            .as_str()
            .unwrap_or_default();
        if message.len() > LONGEST_MESSAGE || message.contains(char::is_control) {
            return fell(format!(
                "a message of {} bytes is shown as it came: {:?}…",
                message.len(),
                message.chars().take(80).collect::<String>()
            ));
        }
        if case.isolation == Isolation::InProcess
            && case.recovers()
            && !matches!(case.fault.deed, Deed::Host(_))
            && after.failed(TWIN) > 0.0
        {
            return fell(format!("{TWIN}: {} checks failed", after.failed(TWIN)));
        }
        if case.recovers() && case.isolation == Isolation::Process {
            let said = after.plugin("isolation").as_str().unwrap_or("nowhere");
            if said != "process" || after.worker().is_none() {
                return fell(format!("the plugin runs {said}, not in a worker"));
            }
        }
        Ok(())
    }

    /// Checks that the log has whole lines without control characters, names the failure, and is not flooded.
    fn look_at_the_log(&self, case: &Case, scene: &Scene) -> Result<(), Short> {
        let log = scene.log();
        let of_the_plugin =
            |line: &str| (line.contains("WARN") || line.contains("ERROR")) && line.contains(PLUGIN);
        let is_failure = !matches!(
            case.fault.response,
            Response::GoesOn | Response::Sifts | Response::Answers
        );
        if is_failure && !log.lines().any(of_the_plugin) {
            return fell("the log does not name the plugin".to_owned());
        }
        if let Some(line) = log.lines().find(|line| line.contains(char::is_control)) {
            return fell(format!("the log has a control character: {line:?}"));
        }
        let size = scene.log_size();
        if case.isolation == Isolation::Process && size > MOST_LOG {
            return fell(format!("{size} bytes of a plugin's output flood the log"));
        }
        Ok(())
    }

    /// Ends the host, and checks what it leaves behind.
    fn leave(&self, case: &Case, scene: &mut Scene, is_well: bool) -> Result<(), Short> {
        if matches!(case.fault.response, Response::LeavesNothing) {
            return Ok(());
        }
        let stopped = if is_well { scene.stop() } else { Ok(()) };
        scene.kill();
        if is_well {
            self.is_clean(scene)?;
            stopped?;
            let copies = libraries_in(&scene.state());
            if copies > 0 {
                return fell(format!("{copies} private copies of libraries are left"));
            }
        }
        Ok(())
    }

    fn kill_the_host(&self, scene: &mut Scene, row: &mut Row) -> Result<(), Short> {
        let workers = scene.leftovers.alive().len();
        if workers == 0 {
            return fell("the host has no worker whose end could be watched".to_owned());
        }
        let killed = self.clock.now();
        scene.kill();
        self.is_clean(scene)?;
        let took = self.clock.now() - killed;
        row.host = format!("its {workers} workers ended within {} ms", took.as_millis());
        "nothing but their host".clone_into(&mut row.collateral);
        Ok(())
    }

    /// Waits until none of the host's processes is left.
    fn is_clean(&self, scene: &Scene) -> Result<(), Short> {
        let start = self.clock.now();
        loop {
            let left = scene.leftovers.alive();
            if left.is_empty() {
                return Ok(());
            }
            if self.clock.now() - start > CLEAN {
                return fell(format!("{} processes are left behind", left.len()));
            }
            thread::sleep(POLL);
        }
    }

    /// Takes snapshots until nothing is missing.
    fn wait(
        &self,
        scene: &mut Scene,
        missing: impl Fn(&Seen) -> Option<String>,
    ) -> Result<Seen, Short> {
        let start = self.clock.now();
        loop {
            let seen = scene.look()?;
            let Some(missing) = missing(&seen) else {
                return Ok(seen);
            };
            if self.clock.now() - start > PATIENCE {
                return fell(format!(
                    "{missing}, after {} s; the host: {}",
                    PATIENCE.as_secs(),
                    did(&seen)
                ));
            }
            thread::sleep(POLL);
        }
    }
}

/// The reason why a trial failed.
pub(super) enum Short {
    Fell(String),
    /// Other platforms were late, which a busy machine can cause as well: it must not repeat.
    Late(String),
    Skipped(String),
}

impl From<String> for Short {
    fn from(reason: String) -> Self {
        Self::Fell(reason)
    }
}

impl From<Unable> for Short {
    fn from(unable: Unable) -> Self {
        Self::Skipped(unable.0)
    }
}

fn fell<T>(reason: String) -> Result<T, Short> {
    Err(Short::Fell(reason))
}

/// Describes the host's response to the fault.
fn did(seen: &Seen) -> String {
    let mut did = Vec::new();
    for error_type in [
        "error", "timeout", "panic", "crash", "load", "abi", "config", "protocol",
    ] {
        let count = seen.failures(SINNER, error_type);
        if count > 0.0 {
            did.push(format!("{count} {error_type} counted"));
        }
    }
    if did.is_empty() {
        did.push("reports go on".to_owned());
    }
    for reason in ["crash", "hang", "limit", "protocol"] {
        let count = seen.restarts(reason);
        if count > 0.0 {
            did.push(format!("{count} new generations ({reason})"));
        }
    }
    if seen.plugin("quarantined") == true {
        did.push("quarantined".to_owned());
    }
    did.join(", ")
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
