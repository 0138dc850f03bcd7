//! The options that every command takes: config and log.

use std::{io::IsTerminal as _, path::PathBuf, sync::Arc, thread, time::Duration};

use clap::ValueEnum;
use conductor_config::{ConductorConfig, ConfigReadResult, OwnAddress};
use conductor_engine::{
    log_tail::LogTail,
    log_text::{LogJson, LogText},
};
use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
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
    /// Log format; the log goes to standard error
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        env = "CONDUCTOR_LOG_FORMAT",
        default_value = "text",
        global = true
    )]
    pub log_format: LogFormat,
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

    /// Sends the log to standard error until the returned guard is dropped.
    ///
    /// A thread writes it, and drops lines if it falls behind: a stopped terminal or a reader that has gone must not
    /// delay the checks.
    ///
    /// `tail` also gets the lines about each platform.
    pub fn start_log(&self, tail: LogTail) -> WorkerGuard {
        let level = match self.log_level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        #[cfg(target_os = "linux")]
        let no_journal = match self.log_format {
            LogFormat::Journal => match JournalSocket::open() {
                Ok(journal) => {
                    let (writer, guard) = tracing_appender::non_blocking(journal);
                    say_losses(writer.error_counter());
                    let subscriber = tracing_subscriber::registry().with(level);
                    subscriber.with(JournalLayer(writer)).with(tail).init();
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
                "cannot connect to systemd's journal, so the log goes to standard error: {error}"
            );
        }
        guard
    }
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

/// Period of the check for lost lines.
const LOSSES_PERIOD: Duration = Duration::from_secs(5);
