//! `conductor completions SHELL` and `conductor man-pages FOLDER`: generate files for packages from the commands
//! themselves.

use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use clap_complete::{CompleteEnv, Shell, env::Shells};
use conductor_command::{CliError, CommandExit, print};

use super::command;

#[derive(clap::Args)]
pub(super) struct CompletionArgs {
    /// Shell to complete in
    shell: Shell,
}

#[derive(clap::Args)]
pub(super) struct ManPages {
    /// Folder to write them to; created if it does not exist
    folder: PathBuf,
}

/// Responds to a shell that completes a command line, and exits; returns if no shell has started this process for that.
pub(super) fn complete(command: fn() -> clap::Command) {
    CompleteEnv::with_factory(command)
        .var(COMPLETE_VARIABLE)
        .complete();
}

pub(super) fn completions(args: &CompletionArgs) -> Result<CommandExit, CliError> {
    let shell = args.shell.to_possible_value();
    let shells = Shells::builtins();
    let completer = shell
        .as_ref()
        .and_then(|shell| shells.completer(shell.get_name()));
    let completer =
        completer.ok_or_else(|| CliError::Usage(format!("no completions for {}", args.shell)))?;
    let mut script = Vec::new();
    completer
        .write_registration(COMPLETE_VARIABLE, NAME, NAME, NAME, &mut script)
        .map_err(|e| CliError::Other(format!("cannot write the completions: {e}")))?;
    print(&String::from_utf8_lossy(&script))?;
    Ok(CommandExit::Ok)
}

pub(super) fn man_pages(args: &ManPages) -> Result<CommandExit, CliError> {
    let failed = |folder: &Path, error: std::io::Error| {
        CliError::Other(format!(
            "cannot write man pages to {}: {error}",
            folder.display()
        ))
    };
    std::fs::create_dir_all(&args.folder).map_err(|e| failed(&args.folder, e))?;
    clap_mangen::generate_to(command().name(NAME), &args.folder)
        .map_err(|e| failed(&args.folder, e))?;
    Ok(CommandExit::Ok)
}

const NAME: &str = "conductor";
/// Set by the completion scripts when they start this program to complete a command line.
const COMPLETE_VARIABLE: &str = "CONDUCTOR_COMPLETE";
