//! Code shared by all commands: exit codes, errors, options, output, and the client of a running host.

use std::{path::PathBuf, process::ExitCode};

use conductor_config::ConfigError;
use conductor_library as library;
use conductor_library::printable;

pub mod client;
mod global;
#[cfg(target_os = "linux")]
mod journal;
mod output;

pub use global::{ConfigSource, GlobalArgs, LogFormat, LogLevel};
pub use output::{
    OutputFormat, facts, json, note, print, print_json, print_styled, table, table_within,
    terminal_width, warn,
};

/// Every exit code with its meaning, as `conductor --help` lists them.
pub const EXIT_CODES: [(u8, &str); 6] = [
    (0, "success"),
    (
        1,
        "a platform is unhealthy, its last check failed, or the command failed",
    ),
    (2, "the command line is wrong"),
    (3, "the config is wrong"),
    (4, "a plugin was refused"),
    (
        5,
        "the host did not answer, or refused the user, password or certificate",
    ),
];

/// Exit code of a command, as in [`EXIT_CODES`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CommandExit {
    /// Success.
    Ok = 0,
    /// A platform is unhealthy, its last check failed, or the command itself failed.
    Unhealthy = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The config is wrong.
    Config = 3,
    /// A plugin was refused.
    Refused = 4,
    /// The host did not respond, or responded with something unexpected.
    Unreachable = 5,
}

impl From<CommandExit> for ExitCode {
    fn from(exit: CommandExit) -> Self {
        Self::from(exit as u8)
    }
}

/// Error of a command, for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is wrong, in a way that its parser cannot know.
    #[error("{0}")]
    Usage(String),
    /// The config is wrong.
    #[error("{}", .0.to_plain())]
    Config(#[from] ConfigError),
    /// The host did not respond, or responded with something unexpected.
    #[error("{0}")]
    Unreachable(String),
    /// Any other failure.
    #[error("{0}")]
    Other(String),
}

impl CliError {
    /// Returns the exit code for it.
    #[must_use]
    pub fn exit(&self) -> CommandExit {
        match self {
            Self::Usage(_) => CommandExit::Usage,
            Self::Config(_) => CommandExit::Config,
            Self::Unreachable(_) => CommandExit::Unreachable,
            Self::Other(_) => CommandExit::Unhealthy,
        }
    }

    /// Prints it to standard error.
    pub fn print(&self) {
        use std::io::Write as _;
        let text = match self {
            Self::Config(error) => error.to_plain(),
            error => format!("error: {error}"),
        };
        // A failed write to standard error cannot be reported anywhere.
        let _ = writeln!(std::io::stderr(), "{}", printable::lines(text.trim_end()));
    }
}

/// Returns the folder of this program, where `cargo build` also puts the bundled plugins.
///
/// # Errors
/// If the operating system does not provide the program's path.
pub fn program_folder() -> Result<PathBuf, CliError> {
    library::program_folder()
        .map_err(|e| CliError::Other(format!("cannot find the path of this program: {e}")))
}

/// Loopback only, on a port next to those of other Prometheus exporters.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9750";
