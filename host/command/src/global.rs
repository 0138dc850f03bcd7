//! The options that every command takes: config and log.

use std::{
    error::Error as _,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use clap::ValueEnum;
use conductor_config::{ConductorConfig, ConfigReadResult, OwnAddress};
use conductor_engine::{
    log_tail::LogTail,
    log_text::{LogJson, LogText},
};
use tracing_appender::{
    non_blocking::{ErrorCounter, WorkerGuard},
    rolling::{RollingFileAppender, Rotation},
};
use tracing_subscriber::{
    filter::LevelFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

#[cfg(target_os = "linux")]
use crate::journal::{JournalLayer, JournalSocket};
use crate::{CliError, program_folder};

/// The options that every command takes.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Config file [default: the built-in config, see `conductor config default`]
    #[arg(
        long = "config.file",
        value_name = "FILE",
        env = "CONDUCTOR_CONFIG_FILE",
        global = true
    )]
    pub config_file: Option<PathBuf>,
    /// Minimum log level
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        env = "CONDUCTOR_LOG_LEVEL",
        default_value = "info",
        global = true
    )]
    pub log_level: LogLevel,
    /// Log format
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        env = "CONDUCTOR_LOG_FORMAT",
        default_value = "text",
        global = true
    )]
    pub log_format: LogFormat,
    /// Folder to write the log to, one file per day of UTC, of which the newest 14 are kept [default: the log goes to standard error]
    #[arg(
        long = "log.dir",
        value_name = "FOLDER",
        env = "CONDUCTOR_LOG_DIR",
        global = true
    )]
    pub log_dir: Option<PathBuf>,
}

/// Minimum level of the log.
#[derive(Clone, Copy, ValueEnum)]
#[expect(
    missing_docs,
    reason = "the names say it, and help shows documentation"
)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// Returns the name that the option `--log.level` takes.
    #[must_use]
    pub fn name(self) -> String {
        name_of(&self)
    }
}

/// Format of the log.
#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// One readable line per event
    Text,
    /// One JSON object per line
    Json,
    /// systemd's journal, with the fields PLATFORM, PLUGIN and PRIORITY; text on standard error if there is no journal
    #[cfg(target_os = "linux")]
    Journal,
}

impl LogFormat {
    /// Returns the name that the option `--log.format` takes.
    #[must_use]
    pub fn name(self) -> String {
        name_of(&self)
    }
}

fn name_of(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The source of a host's config.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// A file.
    File(PathBuf),
    /// The built-in config.
    Builtin {
        /// The folder that the bundled plugins are searched from.
        program_folder: PathBuf,
    },
}

impl ConfigSource {
    /// Reads the config as far as it is valid; for a host that serves at `own`.
    pub fn read(&self, own: &OwnAddress) -> ConfigReadResult {
        match self {
            Self::File(file) => ConfigReadResult::of(file, own),
            Self::Builtin { program_folder } => {
                ConductorConfig::builtin_for(program_folder, own).into()
            }
        }
    }
}

impl GlobalArgs {
    /// Returns the config named on the command line, or the built-in one.
    ///
    /// # Errors
    /// If it cannot be read or has errors.
    pub fn config(&self) -> Result<Arc<ConductorConfig>, CliError> {
        self.config_for(&OwnAddress::default())
    }

    /// Returns the same, for a host that serves at `own`.
    ///
    /// # Errors
    /// If it cannot be read or has errors.
    pub fn config_for(&self, own: &OwnAddress) -> Result<Arc<ConductorConfig>, CliError> {
        Ok(Arc::new(match &self.config_file {
            Some(file) => ConductorConfig::read_for(file, own)?,
            None => ConductorConfig::builtin_for(&program_folder()?, own),
        }))
    }

    /// Returns the source of the config: the file named on the command line, or the built-in one.
    ///
    /// # Errors
    /// If the built-in config cannot be built, because the program's folder is not known.
    pub fn config_source(&self) -> Result<ConfigSource, CliError> {
        Ok(match &self.config_file {
            Some(file) => ConfigSource::File(file.clone()),
            None => ConfigSource::Builtin {
                program_folder: program_folder()?,
            },
        })
    }

    /// Sends the log to standard error, or to files, until the returned guard is dropped.
    ///
    /// A thread writes it, and drops lines if it falls behind: a stopped terminal or a reader that has gone must not
    /// delay the checks.
    ///
    /// `tail` also gets the lines about each platform.
    ///
    /// # Errors
    /// If the log is to go to files, and none can be created, or the format is that of the journal.
    pub fn start_log(&self, tail: LogTail) -> Result<WorkerGuard, CliError> {
        let level = match self.log_level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        let files = self.log_dir.as_deref().map(daily_files).transpose()?;
        #[cfg(target_os = "linux")]
        let no_journal = match self.log_format {
            LogFormat::Journal if files.is_some() => {
                let text =
                    "--log.format journal writes no files: choose text or json for --log.dir";
                return Err(CliError::Usage(text.to_owned()));
            }
            LogFormat::Journal => match JournalSocket::open() {
                Ok(journal) => {
                    let (writer, guard) = tracing_appender::non_blocking(journal);
                    say_losses(writer.error_counter());
                    let subscriber = tracing_subscriber::registry().with(level);
                    subscriber.with(JournalLayer(writer)).with(tail).init();
                    return Ok(guard);
                }
                Err(error) => Some(error),
            },
            LogFormat::Text | LogFormat::Json => None,
        };
        let has_colours = files.is_none()
            && std::io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none();
        let (writer, guard) = match files {
            Some(files) => tracing_appender::non_blocking(files),
            None => tracing_appender::non_blocking(std::io::stderr()),
        };
        say_losses(writer.error_counter());
        let builder = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(writer)
            // A failed write would be reported on standard error too, by a macro that panics if that fails.
            .log_internal_errors(false)
            .with_ansi(has_colours);
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
                "cannot connect to systemd's journal, so the log goes to standard error: {error}"
            );
        }
        Ok(guard)
    }
}

/// Returns a writer to `conductor.DATE.log` in a folder, which is created if it does not exist.
fn daily_files(folder: &Path) -> Result<RollingFileAppender, CliError> {
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("conductor")
        .filename_suffix("log")
        .max_log_files(LOG_FILES)
        .build(folder)
        .map_err(|error| {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            CliError::Other(format!(
                "cannot write the log to {}{cause}; set --log.dir to a folder that this user may write to",
                folder.display()
            ))
        })
}

/// Logs the number of lines that were dropped because the log's reader was too slow, once it reads again.
fn say_losses(counter: ErrorCounter) {
    let watch = move || {
        let mut said = 0;
        loop {
            thread::sleep(LOSSES_PERIOD);
            let lost = counter.dropped_lines();
            if lost > said {
                let lines = lost - said;
                tracing::warn!("{lines} log lines were lost: the reader of the log is too slow");
                said = lost;
            }
        }
    };
    // Without the thread, lost lines are not logged.
    let _ = thread::Builder::new()
        .name("log losses".to_owned())
        .spawn(watch);
}

/// Number of days whose log is kept.
const LOG_FILES: usize = 14;
/// Period of the check for lost lines.
const LOSSES_PERIOD: Duration = Duration::from_secs(5);
