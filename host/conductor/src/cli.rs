//! The command line: one file per command.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{
    CommandFactory as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use conductor_command::{EXIT_CODES, GlobalArgs};
#[cfg(any(target_os = "linux", windows))]
use conductor_drill as drill;
use conductor_runtime::{schema::compile_for_trials, worker};
use conductor_validator as plugin;

use crate::{allocator, inherited};

mod breaker;
mod check;
mod config;
mod generate;
mod history;
mod maintenance;
mod reload;
mod run;
mod schedule;
mod selection;
mod service;
mod shard;
mod status;
mod top;

/// Returns the parser of the command line, for man pages, completions and the reference.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command the process was started with.
pub fn main() -> ExitCode {
    inherited::reset_signals();
    // Before the first thread, which would get an arena of its own.
    allocator::share_arenas();
    inherited::enlarge_stacks();
    // Only the host needs this. Workers start often, and building the command line costs each of them memory and time.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|name| name == "worker")
    {
        return worker::child_main(Some(compile_for_trials));
    }
    // Only the validator needs this.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|name| name == "plugin-test")
    {
        return plugin::test_main();
    }
    generate::complete(command);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match check::nagios::usage_error(&error) {
            Some(exit) => return exit,
            None => with_config_tip(error).exit(),
        },
    };
    let result = match cli.command {
        CliCommand::Run(args) => run::run(args, &cli.global),
        CliCommand::Config { command } => config::run(&command, &cli.global),
        CliCommand::Plugin { command } => plugin::run(&command, &cli.global),
        CliCommand::Schedule(args) => schedule::run(&args, &cli.global),
        CliCommand::Status(args) => status::run(&args),
        CliCommand::Top(args) => top::run(&args),
        CliCommand::Check(args) if args.is_for_nagios() => return check::nagios::run(&args),
        CliCommand::Check(args) => check::run(&args),
        CliCommand::History(args) => history::run(&args),
        CliCommand::Breaker(args) => breaker::run(&args),
        CliCommand::Maintenance { command } => maintenance::run(&command),
        #[cfg(any(target_os = "linux", windows))]
        CliCommand::Drill(args) => drill::run(&args),
        CliCommand::Service { command } => service::run(command, &cli.global),
        CliCommand::Reload(args) => reload::run(&args),
        CliCommand::Completions(args) => generate::completions(&args),
        CliCommand::ManPages(args) => generate::man_pages(&args),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            error.print();
            error.exit().into()
        }
    }
}

/// Adds the right way to name a config file to the error about one that was given without its option.
fn with_config_tip(mut error: clap::Error) -> clap::Error {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) if error.kind() == ErrorKind::UnknownArgument => {
            argument.clone()
        }
        _ => return error,
    };
    let is_file = argument.ends_with(".toml") || Path::new(&argument).is_file();
    if is_file && !argument.starts_with('-') {
        let tip = format!("to read the config from it, write `--config.file {argument}`");
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// Monitors platforms through plugins that cannot crash the host.
#[derive(Parser)]
#[command(version, about, after_help = after_help(), max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Monitor the platforms of the config
    Run(run::RunArgs),
    /// Print the default config, validate a config, or print its schema
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Print the check schedule and its load on the machine
    Schedule(schedule::ScheduleArgs),
    /// Print the state of each platform of a running host
    Status(status::StatusArgs),
    /// Watch a running host in this terminal
    Top(top::TopArgs),
    /// Check platforms of a running host now, and print the results
    Check(check::PlatformCheckArgs),
    /// Print uptime and incidents of a running host, and export its history
    History(history::HistoryArgs),
    /// Hold breakers of a running host open or closed, release or reset them
    Breaker(breaker::BreakerArgs),
    /// Start, end and list maintenance windows of a running host
    Maintenance {
        #[command(subcommand)]
        command: maintenance::MaintenanceCommand,
    },
    /// List, inspect, create, run and validate plugins
    Plugin {
        #[command(subcommand)]
        command: plugin::PluginCommand,
    },
    /// Run the fault-injection drill: inject each known fault into test hosts and report what fails
    #[cfg(any(target_os = "linux", windows))]
    Drill(drill::DrillArgs),
    /// Install, start, stop and reload the host as a service (Windows)
    #[cfg_attr(not(windows), command(hide = true))]
    Service {
        #[command(subcommand)]
        command: service::ServiceCommand,
    },
    /// Make a host on this machine read its config again (Windows; elsewhere SIGHUP does)
    #[cfg_attr(not(windows), command(hide = true))]
    Reload(reload::ReloadArgs),
    /// Print a shell completion script, which also completes the platform names of a running host
    Completions(generate::CompletionArgs),
    /// Write the man pages of all commands
    #[command(hide = true)]
    ManPages(generate::ManPages),
}

#[derive(Clone, clap::Args)]
struct WebConfigFile {
    /// Web config file: TLS and passwords of the HTTP server, in the format of Prometheus's exporter-toolkit
    #[arg(
        id = "web_config_file",
        long = "web.config.file",
        value_name = "FILE",
        env = "CONDUCTOR_WEB_CONFIG_FILE"
    )]
    file: Option<PathBuf>,
}

/// Returns the list of exit codes.
fn after_help() -> String {
    let codes = EXIT_CODES.map(|(code, meaning)| format!("\n  {code}  {meaning}"));
    format!("Exit codes:{}", codes.concat())
}
