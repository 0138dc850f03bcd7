//! `conductor drill`: injects every fault of the fault plugin into a test host, and reports the host's response.
//!
//! Each case starts a host with one faulty platform, another one of the same plugin, and two of another plugin, and
//! monitors all of them from outside as an operator would. The platforms of the other plugin must lose nothing; the one
//! of the same plugin must recover.

use std::{
    collections::VecDeque,
    io::{IsTerminal as _, Write as _},
    sync::{Mutex, PoisonError},
    thread,
};

use case::FaultCase;
use clap::ValueEnum;
use conductor_command::{CliError, CommandExit, OutputFormat, json, print, program_folder};
use conductor_core::{clock::Clock, random::SplitMix64};
use conductor_types::Isolation;
use fixtures::Fixtures;
use report::{CaseResult, CaseVerdict, DrillReport};
use runner::DrillRunner;
use stall_monitor::StallMonitor;

#[cfg(target_os = "linux")]
mod campaign;
mod case;
mod catalog;
mod fixtures;
mod forged_frames;
mod host_injection;
mod host_log;
mod host_under_test;
mod leftovers;
mod library_patch;
mod losses;
mod processes;
mod report;
mod runner;
mod snapshot;
mod stall_monitor;
#[cfg(not(target_os = "linux"))]
mod unavailable;

#[derive(clap::Args)]
/// Options of the drill.
pub struct DrillArgs {
    /// Only faults whose name, or a part of it, starts with TEXT, for example check/segfault/process; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Isolation of the faulty plugin
    #[arg(long, default_value = "both")]
    isolation: IsolationChoice,
    /// Output format
    #[arg(long, default_value = "table")]
    output: OutputFormat,
    /// Seed of the order and of the number of good checks before each fault
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Number of hosts that run at the same time [default: three per core]
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,
    /// Run a campaign instead: at least NUMBER faults at random times, on one host with many platforms
    #[cfg(target_os = "linux")]
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["only", "isolation", "jobs"])]
    campaign: Option<u64>,
    /// Number of platforms of the campaign's host
    #[cfg(target_os = "linux")]
    #[arg(long, value_name = "NUMBER", default_value_t = 200, requires = "campaign", value_parser = clap::value_parser!(u16).range(60..=5000))]
    platforms: u16,
}

#[derive(Clone, Copy, ValueEnum)]
enum IsolationChoice {
    Process,
    InProcess,
    Both,
}

/// Runs the drill, or a campaign.
///
/// # Errors
/// If a test host cannot be set up.
pub fn run(args: &DrillArgs) -> Result<CommandExit, CliError> {
    let cases = cases(args)?;
    let fixtures =
        Fixtures::find(&program_folder()?).map_err(|e| CliError::Other(e.to_string()))?;
    // Hosts are meant to die here.
    processes::without_core_dumps();
    #[cfg(target_os = "linux")]
    if let Some(faults) = args.campaign {
        return run_campaign(faults, args, &fixtures);
    }
    let clock = Clock::start();
    let drill = DrillRunner {
        fixtures,
        clock,
        monitor: StallMonitor::new(clock),
    };
    let rows = run_all(&drill, cases, args);
    let report = DrillReport::new(args.seed, rows);
    print(&match args.output {
        OutputFormat::Json => json(&report)?,
        OutputFormat::Table => report.text(),
    })?;
    Ok(match report.failed {
        0 => CommandExit::Ok,
        _ => CommandExit::Unhealthy,
    })
}

#[cfg(target_os = "linux")]
fn run_campaign(
    faults: u64,
    args: &DrillArgs,
    fixtures: &Fixtures,
) -> Result<CommandExit, CliError> {
    let settings = campaign::CampaignSettings {
        faults,
        platforms: args.platforms.into(),
        seed: args.seed,
    };
    let report = campaign::run(&settings, fixtures).map_err(|e| CliError::Other(e.to_string()))?;
    print(&match args.output {
        OutputFormat::Json => json(&report)?,
        OutputFormat::Table => report.text(),
    })?;
    Ok(match report.failures.is_empty() {
        true => CommandExit::Ok,
        false => CommandExit::Unhealthy,
    })
}

fn cases(args: &DrillArgs) -> Result<Vec<FaultCase>, CliError> {
    let mut cases = FaultCase::all(match args.isolation {
        IsolationChoice::Process => &[Isolation::Process],
        IsolationChoice::InProcess => &[Isolation::InProcess],
        IsolationChoice::Both => &[Isolation::Process, Isolation::InProcess],
    });
    cases.retain(|case| {
        let name = format!("/{case}");
        let is_called = |only: &String| name.contains(&format!("/{only}"));
        args.only.is_empty() || args.only.iter().any(is_called)
    });
    if cases.is_empty() {
        return Err(CliError::Usage(format!(
            "no fault matches --only {}: names look like check/segfault/process",
            args.only.join(" or ")
        )));
    }
    Ok(cases)
}

/// Runs the cases in the seed's order, several at a time; returns them in the catalog's order.
fn run_all(drill: &DrillRunner, cases: Vec<FaultCase>, args: &DrillArgs) -> Vec<CaseResult> {
    let jobs = args.jobs.unwrap_or_else(|| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        cores * 3
    });
    let mut rng = SplitMix64::new(args.seed);
    let mut queue: Vec<_> = cases
        .iter()
        .map(|case| (rng.next_number(), *case))
        .collect();
    queue.sort_by_key(|(order, _)| *order);
    let queue = Mutex::new(VecDeque::from(queue));
    let rows = Mutex::new(Vec::new());
    thread::scope(|threads| {
        threads.spawn(|| drill.monitor.run());
        let work = || {
            loop {
                let next = queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                let Some((order, case)) = next else {
                    return;
                };
                // The first one to three checks are good.
                let row = drill.run(&case, 1 + u32::try_from(order % 3).unwrap_or_default());
                print_progress(&case, &row);
                rows.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((case.number, row));
            }
        };
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| threads.spawn(work)).collect();
        for worker in workers {
            // A trial that panicked leaves its row out, and the scope passes the panic on.
            let _ = worker.join();
        }
        drill.monitor.stop();
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(number, _)| *number);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Prints the progress on a terminal: a drill takes a minute or two.
fn print_progress(case: &FaultCase, row: &CaseResult) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() && row.verdict != CaseVerdict::Skipped {
        let verdict = if row.verdict == CaseVerdict::Passed {
            "passed"
        } else {
            "FAILED"
        };
        let _ = writeln!(terminal, "{verdict:<8}  {case}");
    }
}
