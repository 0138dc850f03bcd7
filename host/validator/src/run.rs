//! `conductor plugin run`: calls one library's probe as a host does, and prints all results.
//!
//! The probe's log goes to standard error, as a host's log does, and its results to standard output.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, thread, time::Duration};

use clap::ValueEnum;
use conductor_command::{CliError, CommandExit, GlobalArgs, OutputFormat, print};
use conductor_config::{InlineConfig, parse_duration};
use conductor_core::clock::Clock;
use conductor_engine::{
    judge::{self, ConfigCandidate, ConfigFinding, TrialSettings},
    log_tail::LogTail,
};
use conductor_library as library;
use conductor_library::{Store, TrustPolicy, Vetted};
use conductor_plugin_api::manifest::{Need, NotANeed};
use conductor_runtime::{
    CallFailure, CheckReport, LoadError, LoadedPlugin as _, ProbeId, ProbeSpec,
    loader::{self, GenerationSettings},
    schema::SchemaViolation,
    worker,
};
use conductor_sandbox::WorkerLimits;
use conductor_types::{ErrorType, Isolation, limits::MEASUREMENTS};
use serde_json::json;

use super::{
    call_harness::{CallHarness, FinishedCall},
    platform_args::LabelArgs,
    report_lint::{self, CounterValues, SeriesCount},
};

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct PluginRunArgs {
    /// Library file
    file: PathBuf,
    /// Config of the platform, as JSON or as in conductor.toml: '{ url = "…" }'
    #[arg(long, value_name = "CONFIG", default_value = "{}")]
    config: String,
    /// Number of checks
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,
    /// Time between the starts of two checks, which the probe sees as its platform's interval
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    #[command(flatten)]
    labels: LabelArgs,
    /// Timeout of a check
    #[arg(long, default_value = "4s", value_parser = parse_duration)]
    timeout: Duration,
    /// Permission of the plugin: network, unix-sockets, no-udp, 'read /PATH' or 'run /PATH'; may be repeated
    ///
    /// Replaces what the plugin declares, as `allow` in [plugin.ID] does. Without it, `allow` of the config applies if
    /// --config.file names one, else what the plugin declares.
    #[arg(long, value_name = "NEED", value_parser = need)]
    allow: Option<Vec<Need>>,
    /// Where to load the library [default: `isolation` in [plugin.ID] of the config, else process]
    #[arg(long)]
    isolation: Option<RunIsolation>,
    /// Output format; JSON is one object per line and check
    #[arg(long, default_value = "table")]
    output: OutputFormat,
}

/// Where a library is loaded.
#[derive(Clone, Copy, ValueEnum)]
enum RunIsolation {
    /// A worker with the plugin's permissions
    Process,
    /// This process, which the plugin can crash
    InProcess,
}

pub(super) fn need(text: &str) -> Result<Need, NotANeed> {
    text.parse()
}

pub(super) fn run(args: &PluginRunArgs, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let tail = LogTail::default();
    let log = global.start_log(tail.clone())?;
    let result = checked(args, global, &tail);
    let exit = result.unwrap_or_else(|error| {
        error.print();
        error.exit()
    });
    drop(log);
    // A call stuck in the plugin, or the plugin's exit handlers, must not delay the exit.
    worker::exit(exit as i32)
}

fn checked(
    args: &PluginRunArgs,
    global: &GlobalArgs,
    log: &LogTail,
) -> Result<CommandExit, CliError> {
    let config = InlineConfig::parse_to_check(&args.config)?;
    // The pins, signatures, limits and allow lists of a host, if a config is given.
    let of_host = match &global.config_file {
        None => None,
        Some(_) => Some(global.config()?),
    };
    let (policy, state_dir) = match &of_host {
        None => (TrustPolicy::none(), None),
        Some(config) => (config.policy(), config.host.state_dir.clone()),
    };
    let store = Store::open_or_default(state_dir.as_deref())
        .map_err(|refusal| CliError::Other(refusal.to_string()))?;
    let refused = |why: &dyn std::fmt::Display| {
        CliError::Other(why.to_string()).print();
        Ok(CommandExit::Refused)
    };
    let vetted = match library::vet(&args.file, &policy, &store) {
        Ok(vetted) => vetted,
        Err(refusal) => return refused(&refusal),
    };
    let how = match &of_host {
        Some(config) => config.how(&vetted.manifest.id),
        None => GenerationSettings {
            isolation: Isolation::Process,
            call_threads: 1,
            limits: WorkerLimits::default(),
            allow: None,
            no_udp: false,
            hidden: Vec::new(),
        },
    };
    let how = GenerationSettings {
        isolation: match args.isolation {
            None => how.isolation,
            Some(RunIsolation::Process) => Isolation::Process,
            Some(RunIsolation::InProcess) => Isolation::InProcess,
        },
        call_threads: 1,
        allow: args.allow.clone().or(how.allow),
        ..how
    };
    let platform = ProbeSpec {
        interval: args.interval,
        labels: args.labels.by_name(),
        ..ProbeSpec::new(PLATFORM, config.value().to_string())
    };
    match violations(&vetted, &how, &config, &platform) {
        Ok(violations) => config.check(violations)?,
        Err(error) => return refused(&error),
    }
    let session = match PluginSession::start(&vetted, &how, platform.clone()) {
        Ok(session) => session,
        Err(error) => return refused(&error),
    };
    let mut run = PluginRun {
        args,
        vetted: &vetted,
        how: &how,
        platform,
        session,
        lint: RunReportLint::default(),
    };
    let exit = run.checks()?;
    run.end(log)?;
    // Remove private copies first, as the process exits without dropping its caller's values.
    drop(run);
    drop(vetted);
    store.clear();
    Ok(exit)
}

/// A loaded plugin with its single probe.
struct PluginSession {
    harness: CallHarness,
    probe: ProbeId,
    clock: Clock,
    /// Returns `true` if an in-process library has no work left.
    is_idle: Option<Box<dyn Fn() -> bool>>,
}

impl PluginSession {
    fn start(
        vetted: &Vetted,
        how: &GenerationSettings,
        platform: ProbeSpec,
    ) -> Result<Self, LoadError> {
        let clock = Clock::start();
        let (harness, is_idle): (_, Option<Box<dyn Fn() -> bool>>) = match how.isolation {
            Isolation::Process => (
                CallHarness::new(loader::throw_away(vetted, how, clock)?, clock),
                None,
            ),
            Isolation::InProcess => {
                let plugin = Arc::new(loader::in_this_process(vetted, how, clock, None)?);
                let harness = CallHarness::of(Arc::clone(&plugin) as _, clock);
                let is_idle = move || {
                    plugin.nudge();
                    plugin.is_idle()
                };
                (harness, Some(Box::new(is_idle)))
            }
        };
        let probe = harness.plugin.open(platform);
        Ok(Self {
            harness,
            probe,
            clock,
            is_idle,
        })
    }

    /// Returns `true` if the probe is dropped, and the plugin's own process, if any, has ended.
    fn is_over(&self) -> bool {
        match &self.is_idle {
            Some(is_idle) => is_idle(),
            None => self.harness.plugin.pid().is_none_or(|pid| !is_alive(pid)),
        }
    }
}

/// One run of the command.
struct PluginRun<'a> {
    args: &'a PluginRunArgs,
    vetted: &'a Vetted,
    how: &'a GenerationSettings,
    /// The platform; its state outlives a crash, as in a host.
    platform: ProbeSpec,
    session: PluginSession,
    lint: RunReportLint,
}

impl PluginRun<'_> {
    /// Runs the checks, at fixed times as in a host, and prints the result of each.
    fn checks(&mut self) -> Result<CommandExit, CliError> {
        let (args, clock) = (self.args, self.session.clock);
        let (begun, mut exit) = (clock.now(), CommandExit::Ok);
        let mut stuck = None;
        for nth in 1..=args.repeat {
            let slots = u32::try_from(nth - 1).unwrap_or(u32::MAX);
            let slot = begun + args.interval.saturating_mul(slots);
            thread::sleep(slot.saturating_sub(clock.now()));
            let harness = &self.session.harness;
            let late = harness.wait(stuck.as_slice(), Duration::ZERO);
            if late.iter().any(Option::is_none) {
                print(&told_of_skipped(args.output, nth))?;
                continue;
            }
            let call = harness.start(&[self.session.probe], args.timeout)[0];
            let end = harness.wait(&[call], args.timeout).pop().flatten();
            stuck = end.is_none().then_some(call);
            let end = end.unwrap_or_else(|| {
                harness.give_up(call);
                FinishedCall {
                    took: args.timeout,
                    result: Err(CallFailure::new(
                        ErrorType::Timeout,
                        format!("no answer within {:?}", args.timeout),
                    )),
                }
            });
            let metrics = &self.session.harness.plugin.description().metrics;
            let declared = end
                .result
                .as_ref()
                .map(|report| metrics.named(&report.declared));
            let declared = declared.unwrap_or_default();
            let warnings = end.result.as_ref().map(|report| self.lint.look(report));
            let warnings = warnings.unwrap_or_default();
            print(&match args.output {
                OutputFormat::Table => {
                    let failure = end.result.as_ref().err();
                    let hint =
                        failure.and_then(|failure| hint(&failure.message, self.how, self.vetted));
                    let hint = self.lint.not_yet_said(hint.into_iter().collect());
                    told(nth, &end, &declared, &self.lint.not_yet_said(warnings)) + &hint.concat()
                }
                OutputFormat::Json => told_as_json(nth, &end, &declared, &warnings),
            })?;
            exit = match &end.result {
                Ok(report) if report.status != conductor_plugin_api::Status::Unhealthy => {
                    CommandExit::Ok
                }
                _ => CommandExit::Unhealthy,
            };
            let crashed = end
                .result
                .is_err_and(|failure| failure.kind == ErrorType::Crash);
            if crashed && nth < args.repeat {
                self.session = PluginSession::start(self.vetted, self.how, self.platform.clone())
                    .map_err(|error| CliError::Other(error.to_string()))?;
                stuck = None;
            }
        }
        Ok(exit)
    }

    /// Drops the probe and ends the plugin, as a host does at shutdown, and reports a drop that fails or takes long.
    fn end(&self, log: &LogTail) -> Result<(), CliError> {
        let PluginSession { harness, clock, .. } = &self.session;
        let before = log.lines(PLATFORM).len();
        let begun = clock.now();
        // This drops the probe; closing it first would lose the log of its drop.
        harness.plugin.end();
        while !self.session.is_over() && clock.now() - begun < DROP_TIMEOUT {
            thread::sleep(Duration::from_millis(5));
        }
        let took = clock.now() - begun;
        let lines = log.lines(PLATFORM);
        let failed = lines
            .iter()
            .skip(before.min(lines.len()))
            .find(|line| line.text.contains(DROP_FAILED));
        let said = match failed {
            Some(line) => line.text.clone(),
            None if took >= DROP_LIMIT => format!(
                "dropping the probe was not over after {} s; a host ends the plugin's process then",
                DROP_LIMIT.as_secs()
            ),
            None if took >= SLOW_DROP => format!(
                "dropping the probe took {} ms, during which it holds one of the plugin's threads",
                took.as_millis()
            ),
            None => return Ok(()),
        };
        print(&match self.args.output {
            OutputFormat::Table => format!("warning    {said}\n"),
            OutputFormat::Json => format!("{}\n", json!({ "drop": said })),
        })
    }
}

/// Validates the config against the plugin's schema, in a separate worker; the errors include those of `create`.
fn violations(
    vetted: &Vetted,
    how: &GenerationSettings,
    config: &InlineConfig,
    platform: &ProbeSpec,
) -> Result<Vec<SchemaViolation>, LoadError> {
    let clock = Clock::start();
    let candidate = ConfigCandidate {
        platform: PLATFORM.into(),
        config: Arc::clone(&platform.config),
        interval: platform.interval,
        labels: platform.labels.clone(),
        subject: config.subject(),
    };
    let start = |ended| loader::for_trials(vetted, how, clock, ended);
    let candidates = [candidate];
    let judge = |creates| judge::judge(start, &candidates, TrialSettings::new(creates), clock);
    let mut verdict = judge(false)?;
    let error = |what: &str| {
        Err(LoadError {
            kind: ErrorType::Load,
            message: format!("its config schema {what}"),
            detail: None,
        })
    };
    match verdict
        .findings
        .pop()
        .and_then(|found| found.into_iter().next())
    {
        None => Ok(Vec::new()),
        Some(ConfigFinding::Violations(mut violations)) => {
            // If only keys are wrong, also report the errors of `create` in the same round.
            let again = match config.is_complete() {
                true => judge(true).map_or_else(|_| Vec::new(), |verdict| verdict.findings),
                false => Vec::new(),
            };
            for finding in again.into_iter().flatten() {
                if let ConfigFinding::Create(failure) = finding {
                    violations.push(SchemaViolation {
                        path: config.subject().base,
                        at_key: false,
                        message: format!("config: the probe cannot be created: {failure}"),
                        help: None,
                    });
                }
            }
            Ok(violations)
        }
        Some(ConfigFinding::Create(failure)) => error(&format!("cannot be applied: {failure}")),
        Some(ConfigFinding::Killed(end)) => error(&format!("cannot be applied: its worker {end}")),
        Some(ConfigFinding::Stuck(_) | ConfigFinding::NotTried | ConfigFinding::NoTime(_)) => {
            error("takes too long to apply")
        }
    }
}

#[cfg(unix)]
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

#[cfg(not(unix))]
fn is_alive(_: u32) -> bool {
    false
}

/// Findings about a probe's reports that a host would drop.
#[derive(Default)]
struct RunReportLint {
    /// All measurements that the platform has ever had.
    names: BTreeSet<String>,
    series: SeriesCount,
    counters: CounterValues,
    said: BTreeSet<String>,
}

impl RunReportLint {
    fn look(&mut self, report: &CheckReport) -> Vec<String> {
        let mut found = report_lint::of_received(report);
        let (known, mut dropped) = (self.names.len(), None);
        for (name, value) in &report.measurements {
            if !value.is_finite() || self.names.contains(name) {
                continue;
            }
            if self.names.len() < MEASUREMENTS {
                self.names.insert(name.clone());
            } else {
                dropped = dropped.or(Some(name));
            }
        }
        if let (Some(name), true) = (dropped, known > 0) {
            found.push(format!(
                "the measurement {name:?}, which is dropped: a platform has {MEASUREMENTS} names in its life"
            ));
        }
        found.extend(self.series.look(&report.declared));
        found.extend(self.counters.look(&report.declared));
        found
    }

    /// Returns the warnings that have not been reported yet.
    fn not_yet_said(&mut self, mut warnings: Vec<String>) -> Vec<String> {
        warnings.retain(|warning| self.said.insert(warning.clone()));
        warnings
    }
}

fn told(nth: u64, end: &FinishedCall, declared: &[(String, f64)], warnings: &[String]) -> String {
    let ms = end.took.as_secs_f64() * 1000.0;
    match &end.result {
        Ok(report) => {
            let status = format!("{:?}", report.status).to_lowercase();
            let mut text = format!(
                "check {nth:<4} {status:<10} {ms:>8.1} ms  {}\n",
                report.message
            );
            for (name, value) in declared.iter().chain(&report.measurements) {
                text.push_str(&format!("           {name} = {value}\n"));
            }
            for warning in warnings {
                text.push_str(&format!("           warning: it reported {warning}\n"));
            }
            text
        }
        Err(failure) => {
            let kind = failure.kind.label();
            format!(
                "check {nth:<4} {:<10} {ms:>8.1} ms  {kind}: {failure}\n",
                "failed"
            )
        }
    }
}

/// Returns help for a failure that the sandbox may have caused.
fn hint(failure: &str, how: &GenerationSettings, vetted: &Vetted) -> Option<String> {
    let is_refusal = ["Operation not permitted", "Permission denied"]
        .iter()
        .any(|text| failure.contains(text));
    if !is_refusal || how.isolation != Isolation::Process {
        return None;
    }
    let needs: Vec<_> = match &how.allow {
        Some(allow) => allow.iter().map(ToString::to_string).collect(),
        None => vetted
            .manifest
            .needs
            .iter()
            .map(ToString::to_string)
            .collect(),
    };
    let has = match (needs.is_empty(), how.allow.is_some()) {
        (true, true) => "`allow` leaves it nothing".to_owned(),
        (true, false) => "it declares nothing".to_owned(),
        (false, true) => format!("`allow` leaves it {}", needs.join(", ")),
        (false, false) => format!("it declares {}", needs.join(", ")),
    };
    Some(format!(
        "           help: a worker refuses what the plugin does not declare in its `needs`, and {has}; `conductor plugin validate` with this config names what is missing\n"
    ))
}

fn told_as_json(
    nth: u64,
    end: &FinishedCall,
    declared: &[(String, f64)],
    warnings: &[String],
) -> String {
    let seconds = end.took.as_secs_f64();
    let object = match &end.result {
        Ok(report) => json!({
            "check": nth,
            "status": format!("{:?}", report.status).to_lowercase(),
            "seconds": seconds,
            "message": report.message,
            "measurements": declared.iter().chain(&report.measurements).map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>(),
            "warnings": warnings,
        }),
        Err(failure) => json!({
            "check": nth,
            "status": "failed",
            "seconds": seconds,
            "message": failure.message,
            "error_type": failure.kind.label(),
        }),
    };
    format!("{object}\n")
}

fn told_of_skipped(output: OutputFormat, nth: u64) -> String {
    match output {
        OutputFormat::Table => {
            format!("check {nth:<4} skipped: the one before is still under way\n")
        }
        OutputFormat::Json => format!(
            "{}\n",
            json!({ "check": nth, "status": "skipped", "reason": "overlap" })
        ),
    }
}

/// The platform's name for the probe.
const PLATFORM: &str = "run";
/// The host's log message for a failed drop.
const DROP_FAILED: &str = "dropping the probe";
/// A longer drop causes a warning.
const SLOW_DROP: Duration = Duration::from_secs(1);
/// Time that an ending worker gives its probes.
const DROP_LIMIT: Duration = Duration::from_secs(2);
/// Time that this command waits for a drop.
const DROP_TIMEOUT: Duration = Duration::from_secs(4);
const AFTER_HELP: &str = "\
Exit codes: 0 the last check found the platform healthy or degraded, 1 unhealthy, or the check failed, 2 usage, \
3 the config does not keep to the plugin's schema, 4 the library was refused

A warning names what a host would drop of a report, or a drop of the probe that fails or takes long. With --config.file, \
[plugin.ID] limits, allow and isolation of that config apply.

What the probe logs goes to standard error; --log.level=debug shows more of it.";
