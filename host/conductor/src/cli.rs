//! The command line: one file per command, and the exit codes they share.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | it went well; `run` was asked to stop |
//! | 1 | a platform is unhealthy or failing, or the command itself failed |
//! | 2 | the command line is wrong |
//! | 3 | the config is wrong |
//! | 4 | a plugin was refused |
//! | 5 | the host did not answer, or not as a host does |

use std::{
    io::IsTerminal as _, path::PathBuf, process::ExitCode, sync::Arc, thread, time::Duration,
};

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
use tracing_subscriber::{
    filter::LevelFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

#[cfg(target_os = "linux")]
use crate::journal::{Journal, Socket};
use crate::{allocator, inherited};
use conductor_config::{Config, ConfigError, OwnAddress, Reading};
use conductor_engine::{
    log_text::{LogJson, LogText},
    tail::Tail,
};
use conductor_library as library;
use conductor_library::printable;
use conductor_runtime::worker;

mod breaker;
mod check;
mod client;
mod config;
#[cfg(target_os = "linux")]
mod drill;
mod generate;
mod maintenance;
mod plugin;
mod run;
mod schedule;
mod selection;
mod status;
mod top;

/// Runs the command the process was started with.
pub fn main() -> ExitCode {
    inherited::reset_signals();
    inherited::enlarge_stacks();
    allocator::share_arenas();
    // For the host alone. Workers start often, and building the command line of all others costs each memory and time.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|name| name == "worker")
    {
        return worker::child_main();
    }
    // For the validator alone.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|name| name == "plugin-test")
    {
        return plugin::test_main();
    }
    generate::complete(Cli::command);
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => run::run(args, &cli.global),
        Command::Config { command } => config::run(&command, &cli.global),
        Command::Plugin { command } => plugin::run(&command, &cli.global),
        Command::Schedule(args) => schedule::run(&args, &cli.global),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Breaker(args) => breaker::run(&args),
        Command::Maintenance { command } => maintenance::run(&command),
        #[cfg(target_os = "linux")]
        Command::Drill(args) => drill::run(&args),
        Command::Completions(args) => generate::completions(&args),
        Command::ManPages(args) => generate::man_pages(&args),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            error.print();
            error.exit().into()
        }
    }
}

/// Monitors platforms through plugins that cannot crash it.
#[derive(Parser)]
#[command(version, about, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Monitor the platforms of the config
    Run(run::Args),
    /// Print the default config, validate a config, or print its schema
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Print the check schedule and its load on the machine
    Schedule(schedule::Args),
    /// Print the state of each platform of a running host
    Status(status::Args),
    /// Watch a running host in this terminal
    Top(top::Args),
    /// Check platforms of a running host now, and print the results
    Check(check::Args),
    /// Hold breakers of a running host open or closed, release or reset them
    Breaker(breaker::Args),
    /// Start, end and list maintenance windows of a running host
    Maintenance {
        #[command(subcommand)]
        command: maintenance::Command,
    },
    /// List, inspect, create, run and validate plugins
    Plugin {
        #[command(subcommand)]
        command: plugin::Command,
    },
    /// Run the fault-injection drill: inject each known fault into test hosts and report what fails
    #[cfg(target_os = "linux")]
    Drill(drill::Args),
    /// Print a shell completion script, which also completes the platform names of a running host
    Completions(generate::Completions),
    /// Write the man pages of all commands
    #[command(hide = true)]
    ManPages(generate::ManPages),
}

#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Config file [default: the built-in config, see `conductor config default`]
    #[arg(
        long = "config.file",
        value_name = "FILE",
        env = "CONDUCTOR_CONFIG_FILE",
        global = true
    )]
    config_file: Option<PathBuf>,
    /// Minimum log level
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        env = "CONDUCTOR_LOG_LEVEL",
        default_value = "info",
        global = true
    )]
    log_level: LogLevel,
    /// Log format; the log goes to standard error
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        env = "CONDUCTOR_LOG_FORMAT",
        default_value = "text",
        global = true
    )]
    log_format: LogFormat,
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

#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// One readable line per event
    Text,
    /// One JSON object per line
    Json,
    /// systemd's journal, with the fields PLATFORM, PLUGIN and PRIORITY; text on standard error if there is no journal
    #[cfg(target_os = "linux")]
    Journal,
}

/// Form of a command's output.
#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// Table
    Table,
    /// JSON
    Json,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Exit {
    Ok = 0,
    Unhealthy = 1,
    Config = 3,
    Refused = 4,
    Unreachable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, for the person who started it.
#[derive(Debug)]
enum CliError {
    Config(ConfigError),
    /// The host did not answer, or not as a host does.
    Unreachable(String),
    Other(String),
}

impl CliError {
    fn exit(&self) -> Exit {
        match self {
            Self::Config(_) => Exit::Config,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Other(_) => Exit::Unhealthy,
        }
    }

    fn print(&self) {
        use std::io::Write as _;
        let text = match self {
            Self::Config(error) => error.to_plain(),
            Self::Unreachable(message) | Self::Other(message) => format!("error: {message}"),
        };
        // A failed write to standard error cannot be reported anywhere.
        let _ = writeln!(std::io::stderr(), "{}", printable::lines(text.trim_end()));
    }
}

/// Prints a warning to standard error.
fn warn(text: &str) {
    use std::io::Write as _;
    // A failed write to standard error cannot be reported anywhere.
    let _ = writeln!(std::io::stderr(), "warning: {}", printable::lines(text));
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl Global {
    /// The config that was asked for, or the built-in one.
    fn config(&self) -> Result<Arc<Config>, CliError> {
        self.config_for(&OwnAddress::default())
    }

    /// The same, for a host that serves at `own`.
    fn config_for(&self, own: &OwnAddress) -> Result<Arc<Config>, CliError> {
        Ok(Arc::new(match &self.config_file {
            Some(file) => Config::read_for(file, own)?,
            None => Config::builtin_for(&program_folder()?, own),
        }))
    }

    /// The config that was asked for, or the built-in one, as far as it makes sense; for a host that serves at `own`.
    fn reading_for(&self, own: &OwnAddress) -> Result<Reading, CliError> {
        Ok(match &self.config_file {
            Some(file) => Reading::of(file, own),
            None => Config::builtin_for(&program_folder()?, own).into(),
        })
    }

    /// Sends the log to standard error, for as long as what is returned lives.
    ///
    /// A thread writes it, and lines that it cannot take are lost: a terminal that was stopped, or a reader that is gone,
    /// must not hold up the checks.
    ///
    /// `tail` is told the lines about each platform as well.
    fn start_log(&self, tail: Tail) -> WorkerGuard {
        let level = match self.log_level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        #[cfg(target_os = "linux")]
        let no_journal = match self.log_format {
            LogFormat::Journal => match Socket::open() {
                Ok(journal) => {
                    let (writer, guard) = tracing_appender::non_blocking(journal);
                    say_losses(writer.error_counter());
                    let subscriber = tracing_subscriber::registry().with(level);
                    subscriber.with(Journal(writer)).with(tail).init();
                    return guard;
                }
                Err(error) => Some(error),
            },
            LogFormat::Text | LogFormat::Json => None,
        };
        let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
        say_losses(writer.error_counter());
        let builder = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(writer)
            // A failed write would be reported on standard error too, by a macro that panics if that fails.
            .log_internal_errors(false);
        let builder = builder
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
        match self.log_format {
            LogFormat::Json => {
                let builder = builder.json().map_event_format(LogJson);
                builder.finish().with(tail).init();
            }
            _ => builder.event_format(LogText).finish().with(tail).init(),
        }
        #[cfg(target_os = "linux")]
        if let Some(error) = no_journal {
            tracing::warn!(
                "the log goes to standard error: systemd's journal cannot be reached: {error}"
            );
        }
        guard
    }
}

/// Logs how many lines the log's reader was too slow for, once it reads again.
fn say_losses(counter: ErrorCounter) {
    let watch = move || {
        let mut said = 0;
        loop {
            thread::sleep(LOSSES_PERIOD);
            let lost = counter.dropped_lines();
            if lost > said {
                let lines = lost - said;
                tracing::warn!("{lines} log lines were lost: their reader is too slow");
                said = lost;
            }
        }
    };
    // Losses are not logged without the thread.
    let _ = thread::Builder::new()
        .name("log losses".to_owned())
        .spawn(watch);
}

/// Time between two looks for lost lines.
const LOSSES_PERIOD: Duration = Duration::from_secs(5);

/// The folder this program lies in, where `cargo build` puts the bundled plugins as well.
fn program_folder() -> Result<PathBuf, CliError> {
    library::program_folder()
        .map_err(|e| CliError::Other(format!("cannot tell where this program lies: {e}")))
}

/// A table without lines, as wide as its content.
fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    format!("{}\n", table.trim_fmt())
}

/// A value as JSON for programs.
fn json(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(value)
        .map(|json| format!("{}\n", printable::json(&json)))
        .map_err(|e| CliError::Other(format!("cannot print as JSON: {e}")))
}

/// Prints a command's output, escaped where it could steer a terminal; one that is cut short by its reader (`| head`) is
/// no error.
fn print(text: &str) -> Result<(), CliError> {
    print_styled(&printable::lines(text))
}

/// Prints JSON text of foreign origin, such as a host's answer.
fn print_json(text: &str) -> Result<(), CliError> {
    print(&format!("{}\n", printable::json(text.trim_end())))
}

/// Prints output that has escape sequences of this program's own in it; all else in it was made safe before.
fn print_styled(text: &str) -> Result<(), CliError> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::Other(format!("cannot print: {e}")))
        }
        _ => Ok(()),
    }
}

/// Loopback only, and the port Prometheus users find next to their other exporters.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9750";

const AFTER_HELP: &str = "Exit codes: 0 ok, 1 unhealthy or failed, 2 usage, 3 config, 4 plugin refused, 5 host unreachable";
