//! `conductor completions SHELL` and `conductor man-pages FOLDER`: what packages are made with, out of the commands themselves.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, CliError, Exit, print};

#[derive(clap::Args)]
pub(super) struct Completions {
    /// The shell to complete in
    shell: Shell,
}

#[derive(clap::Args)]
pub(super) struct ManPages {
    /// Where to write them; made if it is not there
    folder: PathBuf,
}

pub(super) fn completions(args: &Completions) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

pub(super) fn man_pages(args: &ManPages) -> Result<Exit, CliError> {
    let failed = |folder: &Path, error: std::io::Error| {
        CliError::Other(format!(
            "cannot write man pages to {}: {error}",
            folder.display()
        ))
    };
    std::fs::create_dir_all(&args.folder).map_err(|e| failed(&args.folder, e))?;
    clap_mangen::generate_to(Cli::command().name(NAME), &args.folder)
        .map_err(|e| failed(&args.folder, e))?;
    Ok(Exit::Ok)
}

const NAME: &str = "conductor";
