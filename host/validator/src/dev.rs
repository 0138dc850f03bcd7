//! `conductor plugin dev`: builds a plugin whenever its sources change, and prints what is different since the last build.
//!
//! The steps are this program's own commands, `plugin run`, `validate`, `diff` and `schema`, started as processes: a
//! plugin that crashes ends one of them, not the loop.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use conductor_command::{CliError, CommandExit, GlobalArgs, print};
use conductor_config::parse_duration;
use conductor_core::clock::Clock;
use conductor_library::printable;
use conductor_plugin_api::{config::Duration as ConfigDuration, manifest::Need};
use serde_json::Value;
use tempfile::TempDir;

use super::platform_args::PlatformArgs;

use self::{
    build::PluginProject,
    findings::{CheckFindings, DiffFindings, ValidationFindings},
    sources::SourceWatch,
};

mod build;
mod findings;
mod sources;

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct PluginDevArgs {
    /// Folder of the plugin: a Cargo package, or a folder with a Makefile
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Config of the platform, as JSON or as in conductor.toml: '{ url = "…" }'
    ///
    /// Without it, the first example of the plugin's schema is used.
    #[arg(long, value_name = "CONFIG")]
    config: Option<String>,
    /// Permission of the plugin, as for `plugin run`; may be repeated
    #[arg(long, value_name = "NEED", value_parser = super::run::need)]
    allow: Option<Vec<Need>>,
    #[command(flatten)]
    platform: PlatformArgs,
    /// Timeout of a check
    #[arg(long, default_value = "4s", value_parser = parse_duration)]
    timeout: Duration,
    /// Level of testing, as for `plugin validate`
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u8).range(1..=4))]
    strictness: u8,
    /// Library that the build makes [default: the package's, or the newest in the folder]
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// Build, run and validate once, and exit
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &PluginDevArgs, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let project = PluginProject::at(&args.folder, args.library.as_deref())
        .map_err(|error| CliError::Usage(error.to_string()))?;
    let failed = |error: io::Error| CliError::Other(error.to_string());
    let asked_to_stop = asked_to_stop().map_err(failed)?;
    let mut session = DevSession {
        args,
        global,
        program: std::env::current_exe().map_err(failed)?,
        folder: tempfile::tempdir().map_err(failed)?,
        clock: Clock::start(),
        last: LastBuild::default(),
    };
    let mut sources = SourceWatch::new(project.folder());
    loop {
        let exit = session.build_and_look(&project)?;
        sources.built();
        if args.once {
            return Ok(exit);
        }
        print(&format!(
            "watching {}; ctrl-c ends\n",
            printable::path(project.folder())
        ))?;
        let changed = loop {
            if asked_to_stop.load(Ordering::Relaxed) {
                return Ok(CommandExit::Ok);
            }
            let changed = sources.changed();
            if !changed.is_empty() {
                break changed;
            }
            thread::sleep(PERIOD);
        };
        print(&format!("\nchanged: {}\n", changed.join(", ")))?;
    }
}

/// The loop's state from build to build.
struct DevSession<'a> {
    args: &'a PluginDevArgs,
    global: &'a GlobalArgs,
    /// This program.
    program: PathBuf,
    /// Contains a copy of the last library.
    folder: TempDir,
    clock: Clock,
    last: LastBuild,
}

/// The results that the next ones are compared with.
#[derive(Default)]
struct LastBuild {
    /// The copy of the library, and its content.
    library: Option<(PathBuf, Vec<u8>)>,
    check: Option<CheckFindings>,
    validation: Option<ValidationFindings>,
}

impl DevSession<'_> {
    /// Builds the plugin and prints what is different; returns the exit code of `--once`.
    fn build_and_look(&mut self, project: &PluginProject) -> Result<CommandExit, CliError> {
        print(&format!("building with {}\n", project.tool()))?;
        let begun = self.clock.now();
        let library = match project.build() {
            Ok(library) => library,
            Err(error) => {
                print(&format!("build failed: {error}\n"))?;
                return Ok(CommandExit::Unhealthy);
            }
        };
        let took = (self.clock.now() - begun).as_secs_f64();
        let shown = printable::path(&library);
        let bytes = match fs::read(&library) {
            Ok(bytes) => bytes,
            Err(error) => {
                print(&format!(
                    "build failed: {shown} cannot be read: {error}; correct --library\n"
                ))?;
                return Ok(CommandExit::Unhealthy);
            }
        };
        print(&format!("built in {took:.1} s: {shown}\n"))?;
        match &self.last.library {
            Some((_, before)) if *before == bytes => {
                print("the library is unchanged\n")?;
                return Ok(CommandExit::Ok);
            }
            Some((before, _)) => {
                let changes = self.ask(&["diff"], &[before.as_path(), &library], &[])?;
                print(&DiffFindings::parse(&changes).text())?;
            }
            None => {}
        }
        let config = self.config(&library)?;
        let check = self.check(&library, &config)?;
        print(&check.differences(self.last.check.as_ref()))?;
        let validation = self.validation(&library)?;
        print(&validation.differences(self.last.validation.as_ref()))?;
        let is_well = check.is_well() && validation.is_well();
        // The build overwrites the library; `diff` needs the old one.
        let name = library.file_name().unwrap_or_default();
        let copy = self.folder.path().join(name);
        let kept = fs::write(&copy, &bytes);
        self.last = LastBuild {
            library: kept.is_ok().then_some((copy, bytes)),
            check: Some(check),
            validation: Some(validation),
        };
        Ok(match is_well {
            true => CommandExit::Ok,
            false => CommandExit::Unhealthy,
        })
    }

    fn check(&self, library: &Path, config: &str) -> Result<CheckFindings, CliError> {
        let timeout = format!("{}ms", self.args.timeout.as_millis());
        let mut options = vec!["--config".to_owned(), config.to_owned()];
        options.extend(["--timeout".to_owned(), timeout]);
        options.extend(self.platform());
        for need in self.args.allow.iter().flatten() {
            options.extend(["--allow".to_owned(), need.to_string()]);
        }
        let said = self.ask(&["run"], &[library], &options)?;
        Ok(CheckFindings::parse(&said))
    }

    fn validation(&self, library: &Path) -> Result<ValidationFindings, CliError> {
        let mut options = vec!["--strictness".to_owned(), self.args.strictness.to_string()];
        options.extend(self.platform());
        if let Some(config) = &self.args.config {
            options.extend(["--config".to_owned(), config.clone()]);
        }
        for need in self.args.allow.iter().flatten() {
            // The others are declared, or cannot be added.
            if matches!(need, Need::Read(_) | Need::Run(_)) {
                options.extend(["--allow".to_owned(), need.to_string()]);
            }
        }
        let said = self.ask(&["validate"], &[library], &options)?;
        Ok(ValidationFindings::parse(&said))
    }

    /// Returns the options for the platform, which `run` and `validate` share.
    fn platform(&self) -> impl Iterator<Item = String> {
        let PlatformArgs { interval, labels } = &self.args.platform;
        let interval = ConfigDuration::from(*interval).to_string();
        ["--interval".to_owned(), interval]
            .into_iter()
            .chain(labels.options())
    }

    /// Returns the config of the command line, or an example of the plugin's.
    fn config(&self, library: &Path) -> Result<String, CliError> {
        if let Some(config) = &self.args.config {
            return Ok(config.clone());
        }
        let schema = self.ask(&["schema"], &[library], &[])?;
        let schema = serde_json::from_str(&schema).unwrap_or(Value::Null);
        let config = super::validate::example_config(&schema).unwrap_or_else(|| "{}".to_owned());
        print(&format!("config {config}\n"))?;
        Ok(config)
    }

    /// Runs a command of this program, and returns what it prints as JSON; its errors are printed by itself.
    fn ask(
        &self,
        command: &[&str],
        files: &[&Path],
        options: &[String],
    ) -> Result<String, CliError> {
        let mut program = Command::new(&self.program);
        program.arg("plugin").args(command).args(files);
        program.args(["--output", "json"]).args(options);
        if let Some(file) = &self.global.config_file {
            let option: OsString = "--config.file".into();
            program.arg(option).arg(file);
        }
        let _ = io::stdout().flush();
        let output = program
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| {
                CliError::Other(format!("cannot start {}: {error}", self.program.display()))
            })?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Returns a flag set by any signal that asks to end.
#[cfg(unix)]
fn asked_to_stop() -> io::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&asked))?;
    }
    Ok(asked)
}

/// Returns a flag that is never set: ctrl-c ends the process.
#[cfg(not(unix))]
fn asked_to_stop() -> io::Result<Arc<AtomicBool>> {
    Ok(Arc::default())
}

/// Period at which the sources are looked at.
const PERIOD: Duration = Duration::from_millis(200);

const AFTER_HELP: &str = "\
Each build is followed by `plugin diff` with the last one, a check by `plugin run`, and `plugin validate`; only what is \
different is printed.

Exit codes of --once: 0 it was built, is healthy or degraded and passed all tests, 1 otherwise, 2 usage

Ignored are hidden files, the folder `target`, libraries, object files, and files that a build creates.";
