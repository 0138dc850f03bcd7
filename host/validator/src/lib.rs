//! `conductor plugin list|inspect|schema|new|dev|run|validate|diff|pin|clear`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use conductor_command::{
    CliError, CommandExit, GlobalArgs, OutputFormat, facts, json, print, table,
};
use conductor_config::ConductorConfig;
use conductor_library as library;
use conductor_library::{Catalog, LibraryPins, Store, TrustPolicy, printable};
use conductor_runtime::{config_keys::ConfigKeys, quarantine::QuarantineFile};

mod call_harness;
mod dev;
mod diff;
mod list;
mod new;
mod platform_args;
mod report_lint;
mod run;
mod schema;
mod validate;

pub use validate::child_main as test_main;

/// A command about plugins.
#[derive(Subcommand)]
pub enum PluginCommand {
    /// List the plugins in the plugin folders, and the reason for each one that is refused
    ///
    /// Each plugin is loaded once, in a temporary worker. If a running host answers, its generation, process and resource
    /// usage are shown as well.
    List(list::PluginListArgs),
    /// Allow only the libraries that are in the plugin folders now
    ///
    /// Writes their SHA-256 to plugins.lock next to the config. A running host reads that file each time it looks for a
    /// library; remove it to allow all libraries again.
    Pin {
        /// Output format
        #[arg(long, default_value = "table")]
        output: OutputFormat,
    },
    /// Clear the quarantine of an in-process plugin
    ///
    /// A plugin that was being called when its host crashed is quarantined: it runs in a worker until it is cleared. A
    /// running host applies this when it next loads the plugin, at the latest at a reload.
    Clear {
        /// Id of the plugin
        #[arg(value_name = "NAME")]
        id: String,
        /// Output format
        #[arg(long, default_value = "table")]
        output: OutputFormat,
    },
    /// Create a plugin project that builds, has a test and passes the validator
    New(new::PluginNewArgs),
    /// Build a plugin whenever its sources change, run and validate it, and print what is different
    ///
    /// Cargo packages are built by cargo, folders with a Makefile by make. After a failed build, the next change is waited
    /// for.
    Dev(dev::PluginDevArgs),
    /// Run a plugin's probe one or more times, as a host does
    Run(run::PluginRunArgs),
    /// Test a library: file, loading, behaviour and robustness
    Validate(validate::PluginValidateArgs),
    /// Compare two versions of a plugin, and print the version step that the changes require
    ///
    /// Exits with 1 if the new version number is too low. Both libraries are loaded once, in temporary workers.
    Diff(diff::PluginDiffArgs),
    /// Print the manifest of a library, the result of each rule, and the config keys and metrics of its plugin
    ///
    /// To read the keys, the library is loaded once, in a temporary worker without any of its `needs`. With --no-load, no
    /// code of the library runs.
    ///
    /// `needs` lists the permissions that the plugin declares, in addition to those that every plugin has: `network` for
    /// TCP and ICMP, `unix-sockets` for the Unix sockets of this machine, `read PATH` for a file or a folder and its
    /// content, `run PATH` for a program or the programs in a folder, within the same limits. `allow` in [plugin.ID]
    /// replaces them.
    ///
    /// Pins and signatures are checked against the config that --config.file names; without it, they are reported as not
    /// checked.
    Inspect {
        /// Library file, or id of a plugin in the plugin folders
        #[arg(value_name = "FILE|ID")]
        file: PathBuf,
        /// Output format
        #[arg(long, default_value = "table")]
        output: OutputFormat,
        /// Do not load the library; its keys are not printed
        #[arg(long)]
        no_load: bool,
    },
    /// Print the keys of a plugin's config: type, default and meaning of each
    ///
    /// The library is loaded in a temporary worker.
    Schema(schema::PluginSchemaArgs),
}

/// Runs a command about plugins.
///
/// # Errors
/// If the config is wrong, or a required file is not found.
pub fn run(command: &PluginCommand, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    match command {
        PluginCommand::List(args) => list::run(args, global),
        PluginCommand::New(args) => new::run(args),
        PluginCommand::Dev(args) => dev::run(args, global),
        PluginCommand::Diff(args) => diff::run(args, global),
        PluginCommand::Inspect {
            file,
            output,
            no_load,
        } => inspect(file, *output, *no_load, global),
        PluginCommand::Schema(args) => schema::run(args, global),
        PluginCommand::Run(args) => run::run(args, global),
        PluginCommand::Validate(args) => validate::run(args),
        PluginCommand::Pin { output } => pin(*output, global),
        PluginCommand::Clear { id, output } => clear(id, *output, global),
    }
}

fn pin(output: OutputFormat, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let config = global.config()?;
    let Some(lock_file) = &config.lock_file else {
        return Err(CliError::Usage(
            "the built-in config has no folder for plugins.lock: name a file with --config.file (`conductor config default` prints one)"
                .to_owned(),
        ));
    };
    let host = &config.host;
    let catalog = Catalog::open(
        &host.plugin_dirs,
        host.plugin_dirs_are_default,
        // The command accepts libraries that are not pinned yet, but not unsigned ones.
        TrustPolicy {
            lock_file: None,
            ..config.policy()
        },
        host.state_dir.as_deref(),
    )
    .map_err(|refusal| CliError::Other(refusal.to_string()))?;
    let (libraries, refused) = (catalog.libraries(), catalog.refused());
    if libraries.is_empty() {
        // A folder that is not mounted must not cost the pins of its libraries.
        let reasons: String = refused.iter().map(|r| format!("\n{r}")).collect();
        return Err(CliError::Other(format!(
            "the plugin folders hold no library to pin; {} stays as it is{reasons}",
            printable::path(lock_file)
        )));
    }
    let pins = LibraryPins::read(lock_file);
    let changes = pins.replace(&libraries).map_err(|e| {
        CliError::Other(format!(
            "{}: cannot be written: {e}",
            printable::path(pins.file())
        ))
    })?;
    let rows = changes
        .into_iter()
        .map(|(path, change)| [change.name().to_owned(), path]);
    match output {
        OutputFormat::Json => {
            let pins: Vec<_> = rows
                .map(|[change, file]| serde_json::json!({ "change": change, "file": file }))
                .collect();
            let refused: Vec<_> = refused.iter().map(ToString::to_string).collect();
            let pinned = serde_json::json!({ "pins": pins, "refused": refused });
            print(&json(&pinned)?)?;
        }
        OutputFormat::Table => {
            let mut text = table(["PIN", "FILE"], rows);
            for refusal in &refused {
                text.push_str(&format!("\nnot pinned: {refusal}\n"));
            }
            print(&text)?;
        }
    }
    Ok(if refused.is_empty() {
        CommandExit::Ok
    } else {
        CommandExit::Refused
    })
}

fn clear(id: &str, output: OutputFormat, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let config = global.config()?;
    let quarantine = quarantine(&config);
    let failed = |error: &dyn std::fmt::Display| CliError::Other(error.to_string());
    let Some(entry) = quarantine.clear(id).map_err(|e| failed(&e))? else {
        let held: Vec<_> = quarantine
            .all()
            .map_err(|e| failed(&e))?
            .into_keys()
            .collect();
        let held = match &*held {
            [] => "no plugin is".to_owned(),
            held => format!("quarantined are {}", held.join(", ")),
        };
        return Err(CliError::Other(format!(
            "plugin {id} is not quarantined; {held}"
        )));
    };
    match output {
        OutputFormat::Json => {
            let cleared = serde_json::json!({
                "plugin": id,
                "quarantined_since": entry.since,
                "reason": entry.reason,
            });
            print(&json(&cleared)?)?;
        }
        OutputFormat::Table => print(&format!(
            "{id} is cleared; it was quarantined since {}: {}\nA running host notices when it next loads the plugin or its config.\n",
            entry.since, entry.reason
        ))?,
    }
    Ok(CommandExit::Ok)
}

/// Returns the quarantine of the hosts with this config.
fn quarantine(config: &ConductorConfig) -> QuarantineFile {
    let state_dir = config.host.state_dir.clone();
    QuarantineFile::open(&state_dir.unwrap_or_else(Store::default_base))
}

fn inspect(
    file: &Path,
    output: OutputFormat,
    no_load: bool,
    global: &GlobalArgs,
) -> Result<CommandExit, CliError> {
    let found = match schema::as_id(file).map(|id| schema::file_of_id(id, global)) {
        None => None,
        Some(Ok(found)) => Some(found),
        Some(Err(schema::DescribeError::Config(error))) => return Err(error),
        Some(Err(schema::DescribeError::Refused(why))) => {
            CliError::Other(why).print();
            return Ok(CommandExit::Refused);
        }
    };
    let file = found.as_deref().unwrap_or(file);
    let inspection = match &global.config_file {
        None => library::inspect_under(file, &TrustPolicy::none()),
        Some(_) => {
            let config = global.config()?;
            let file = as_found(file, &config.host.plugin_dirs);
            library::inspect_under(&file, &config.policy())
        }
    };
    let refused = inspection.refusal().is_some();
    // Without the plugin's needs: inspecting a file must not give it network access.
    let described = (!refused && !no_load).then(|| schema::of_file(file, global, Some(Vec::new())));
    match output {
        OutputFormat::Json => {
            let mut inspection = serde_json::to_value(&inspection)
                .map_err(|e| CliError::Other(format!("cannot print as JSON: {e}")))?;
            if let Some(Ok(description)) = described {
                inspection["config_schema"] = description.config_schema.value();
                inspection["metrics"] = serde_json::to_value(description.metrics.as_slice())
                    .map_err(|e| CliError::Other(format!("cannot print as JSON: {e}")))?;
            }
            print(&json(&inspection)?)?;
        }
        OutputFormat::Table => {
            let gap = [String::new(), String::new()];
            let rows = inspection.facts().into_iter().chain([gap]);
            print(&facts(rows.chain(inspection.outcomes())))?;
            match described {
                Some(Ok(description)) => {
                    let keys = ConfigKeys::of(&description.config_schema.value());
                    print(&format!("\n{}", schema::to_table(&keys)))?;
                    print(&schema::metrics_table(&description))?;
                }
                Some(Err(schema::DescribeError::Config(error))) => return Err(error),
                Some(Err(schema::DescribeError::Refused(why))) => print(&format!(
                    "\nits config keys and metrics cannot be read: {why}; `conductor plugin schema` loads it with what it needs\n"
                ))?,
                None => {}
            }
        }
    }
    Ok(if refused {
        CommandExit::Refused
    } else {
        CommandExit::Ok
    })
}

/// Returns the path by which a host finds the file in its plugin folders, if it is in one: pins use that path.
fn as_found(file: &Path, dirs: &[PathBuf]) -> PathBuf {
    let (Some(name), Ok(absolute)) = (file.file_name(), std::path::absolute(file)) else {
        return file.to_owned();
    };
    let folder = |path: &Path| path.canonicalize().ok();
    let own = absolute.parent().and_then(folder);
    dirs.iter()
        .find(|dir| own.is_some() && folder(dir) == own)
        .map_or_else(|| file.to_owned(), |dir| dir.join(name))
}
