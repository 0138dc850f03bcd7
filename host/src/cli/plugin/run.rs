//! `conductor plugin run`: one library's probe, called as a host calls it, and told of in full.
//!
//! What the probe logs goes to standard error, as a host's log does, and what it found to standard output.

use std::{path::PathBuf, thread, time::Duration};

use clap::ValueEnum;
use serde_json::json;

use super::desk::{Desk, End};
use crate::{
    cli::{CliError, Exit, Global, Output, print},
    clock::Clock,
    config::InlineConfig,
    judge::{self, Candidate, Finding, Terms},
    library::{self, Policy, Store, Vetted},
    metrics::ErrorType,
    plugin::{
        Ended, Failure, LoadError, ProbeId, ProbeSpec,
        in_process::InProcess,
        sandbox,
        worker::{self, Worker},
    },
    schema::Violation,
    tail::Tail,
};

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(in crate::cli) struct Args {
    /// The library
    file: PathBuf,
    /// The platform's config, as JSON or as in conductor.toml: '{ url = "…" }'
    #[arg(long, value_name = "CONFIG", default_value = "{}")]
    config: String,
    /// How many checks to make of the one probe
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,
    /// From the start of one check to that of the next
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// The longest a check may take
    #[arg(long, default_value = "4s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Where to load it
    #[arg(long, default_value = "process")]
    isolation: Isolation,
    /// Form of the output; json is an object a line, one for each check
    #[arg(long, default_value = "table")]
    output: Output,
}

/// Where a library is loaded.
#[derive(Clone, Copy, ValueEnum)]
enum Isolation {
    /// In a worker that may do what the plugin declares, and nothing else
    Process,
    /// In this process, which it can take down
    InProcess,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, CliError> {
    let log = global.start_log(Tail::default());
    let result = checked(args, global);
    let exit = result.unwrap_or_else(|error| {
        error.print();
        error.exit()
    });
    drop(log);
    // A call that is stuck in the plugin, or what it does at exit, must not keep this process from leaving.
    signal_hook::low_level::exit(exit as i32)
}

fn checked(args: &Args, global: &Global) -> Result<Exit, CliError> {
    let config = InlineConfig::parse(&args.config)?;
    // The pins and signatures of a host, where one is named.
    let (policy, state_dir) = match &global.config_file {
        None => (Policy::none(), None),
        Some(_) => {
            let config = global.config()?;
            (config.policy(), config.host.state_dir.clone())
        }
    };
    let store = Store::open_or_default(state_dir.as_deref())
        .map_err(|refusal| CliError::Other(refusal.to_string()))?;
    let refused = |why: &dyn std::fmt::Display| {
        CliError::Other(why.to_string()).print();
        Ok(Exit::Refused)
    };
    let vetted = match library::vet(&args.file, &policy, &store) {
        Ok(vetted) => vetted,
        Err(refusal) => return refused(&refusal),
    };
    match violations(&vetted, &config) {
        Ok(violations) => config.check(violations)?,
        Err(error) => return refused(&error),
    }
    let mut session = match Session::start(args, &vetted, &config) {
        Ok(session) => session,
        Err(error) => return refused(&error),
    };
    let result = session.checks(args, &vetted, &config);
    session.desk.plugin.end();
    // Private copies go before the process does, which leaves without dropping what its caller has.
    drop((session, vetted));
    store.clear();
    result
}

/// A loaded plugin with its one probe.
struct Session {
    desk: Desk,
    probe: ProbeId,
    clock: Clock,
}

impl Session {
    fn start(args: &Args, vetted: &Vetted, config: &InlineConfig) -> Result<Self, LoadError> {
        let clock = Clock::start();
        let worker = start_worker(vetted, false, clock, |_| {})?;
        let desk = match args.isolation {
            Isolation::Process => Desk::new(worker, clock),
            Isolation::InProcess => {
                // As in a host: what would kill this process has killed that one.
                drop(worker);
                Desk::new(InProcess::load(vetted, 1, clock, None)?, clock)
            }
        };
        let spec = ProbeSpec::new(PLATFORM, config.value().to_string());
        let probe = desk.plugin.open(spec);
        Ok(Self { desk, probe, clock })
    }

    /// Makes the checks, on a lattice as in a host, and tells of each.
    fn checks(
        &mut self,
        args: &Args,
        vetted: &Vetted,
        config: &InlineConfig,
    ) -> Result<Exit, CliError> {
        let origin = self.clock;
        let (begun, mut exit) = (origin.now(), Exit::Ok);
        let mut stuck = None;
        for nth in 1..=args.repeat {
            let slots = u32::try_from(nth - 1).unwrap_or(u32::MAX);
            let slot = begun + args.interval.saturating_mul(slots);
            thread::sleep(slot.saturating_sub(origin.now()));
            let late = self.desk.wait(stuck.as_slice(), Duration::ZERO);
            if late.iter().any(Option::is_none) {
                print(&told_of_skipped(args.output, nth))?;
                continue;
            }
            let call = self.desk.start(&[self.probe], args.timeout)[0];
            let end = self.desk.wait(&[call], args.timeout).pop().flatten();
            stuck = end.is_none().then_some(call);
            let end = end.unwrap_or_else(|| {
                self.desk.give_up(call);
                End {
                    took: args.timeout,
                    result: Err(Failure::new(
                        ErrorType::Timeout,
                        format!("no answer within {:?}", args.timeout),
                    )),
                }
            });
            print(&match args.output {
                Output::Table => told(nth, &end),
                Output::Json => told_as_json(nth, &end),
            })?;
            exit = match &end.result {
                Ok(report) if report.status != conductor_plugin_api::Status::Unhealthy => Exit::Ok,
                _ => Exit::Unhealthy,
            };
            let crashed = end
                .result
                .is_err_and(|failure| failure.kind == ErrorType::Crash);
            if crashed && nth < args.repeat {
                *self = Self::start(args, vetted, config)
                    .map_err(|error| CliError::Other(error.to_string()))?;
                stuck = None;
            }
        }
        Ok(exit)
    }
}

/// Holds the config against the plugin's schema, in a worker of its own.
fn violations(vetted: &Vetted, config: &InlineConfig) -> Result<Vec<Violation>, LoadError> {
    let clock = Clock::start();
    let candidate = Candidate {
        platform: PLATFORM.into(),
        config: config.value().to_string().into(),
        subject: config.subject(),
    };
    let start = |ended| start_worker(vetted, true, clock, ended);
    let mut verdict = judge::judge(start, &[candidate], Terms::new(false, 1), clock)?;
    let error = |what: &str| {
        Err(LoadError {
            kind: ErrorType::Load,
            message: format!("its config schema {what}"),
            detail: None,
        })
    };
    match verdict.findings.pop().flatten() {
        None => Ok(Vec::new()),
        Some(Finding::Violations(violations)) => Ok(violations),
        Some(Finding::Create(failure)) => error(&format!("cannot be applied: {failure}")),
        Some(Finding::Killed(end)) => error(&format!("cannot be applied: its worker {end}")),
        Some(Finding::Stuck(_) | Finding::NotTried) => error("takes too long to apply"),
    }
}

fn start_worker(
    vetted: &Vetted,
    trials: bool,
    clock: Clock,
    ended: impl FnOnce(Ended) + Send + 'static,
) -> Result<Worker, LoadError> {
    let capabilities =
        sandbox::capabilities(&vetted.manifest.needs, None).map_err(|message| LoadError {
            kind: ErrorType::Load,
            message,
            detail: None,
        })?;
    let settings = worker::Settings {
        call_threads: 1,
        policy: sandbox::Policy {
            capabilities,
            ..sandbox::Policy::default()
        },
        trials,
        load_timeout: LOAD_TIMEOUT,
    };
    Worker::load(vetted, &settings, clock, ended)
}

fn told(nth: u64, end: &End) -> String {
    let ms = end.took.as_secs_f64() * 1000.0;
    match &end.result {
        Ok(report) => {
            let status = format!("{:?}", report.status).to_lowercase();
            let mut text = format!(
                "check {nth:<4} {status:<10} {ms:>8.1} ms  {}\n",
                report.message
            );
            for (name, value) in &report.measurements {
                text.push_str(&format!("           {name} = {value}\n"));
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

fn told_as_json(nth: u64, end: &End) -> String {
    let seconds = end.took.as_secs_f64();
    let object = match &end.result {
        Ok(report) => json!({
            "check": nth,
            "status": format!("{:?}", report.status).to_lowercase(),
            "seconds": seconds,
            "message": report.message,
            "measurements": report.measurements.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>(),
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

fn told_of_skipped(output: Output, nth: u64) -> String {
    match output {
        Output::Table => {
            format!("check {nth:<4} skipped: the one before is still under way\n")
        }
        Output::Json => format!(
            "{}\n",
            json!({ "check": nth, "status": "skipped", "reason": "overlap" })
        ),
    }
}

/// What the probe is told it is for.
const PLATFORM: &str = "run";
/// As in a host.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);
const AFTER_HELP: &str = "\
Exit codes: 0 the last check found the platform healthy or degraded, 1 unhealthy, or the check failed, 2 usage, \
3 the config does not keep to the plugin's schema, 4 the library was refused

What the probe logs goes to standard error; --log.level=debug shows more of it.";
