//! `conductor plugin diff`: the changes between two versions of a plugin, and the version step that they require.
//!
//! Most facts are read from the files; the schema of the config requires a load, and the names of measurements a check,
//! each in a throw-away worker.

use std::path::{Path, PathBuf};

use conductor_command::{CliError, CommandExit, GlobalArgs, OutputFormat, json, print, table};
use conductor_config::InlineConfig;
use conductor_engine::log_tail::LogTail;
use conductor_library::printable;
use conductor_runtime::ProbeSpec;
use semver::Version;
use serde::Serialize;

use super::platform_args::PlatformArgs;

use self::{
    compare::{VersionChange, VersionFacts},
    step::VersionStep,
};

mod compare;
mod look;
mod schema;
mod step;

#[derive(clap::Args)]
pub struct PluginDiffArgs {
    /// Library of the old version
    old: PathBuf,
    /// Library of the new version
    new: PathBuf,
    /// Config of a platform that both versions accept; each makes one check, and their measurements are compared
    ///
    /// As JSON, or as in conductor.toml: '{ url = "…" }'
    #[arg(long, value_name = "CONFIG")]
    config: Option<String>,
    #[command(flatten)]
    platform: PlatformArgs,
    /// Output format
    #[arg(long, default_value = "table")]
    output: OutputFormat,
}

pub(super) fn run(args: &PluginDiffArgs, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let _log = global.start_log(LogTail::default())?;
    let config = args
        .config
        .as_deref()
        .map(InlineConfig::parse)
        .transpose()?;
    let platform = config.map(|config| ProbeSpec {
        interval: args.platform.interval,
        labels: args.platform.labels.by_name(),
        ..ProbeSpec::new("diff", config.value().to_string())
    });
    let looked = [&args.old, &args.new].map(|file| look::at(file, platform.as_ref()));
    for error in looked.iter().filter_map(|looked| looked.as_ref().err()) {
        CliError::Other(error.to_string()).print();
    }
    let (old, new) = match looked {
        [Ok(old), Ok(new)] => (old, new),
        [Err(error), _] | [_, Err(error)] => return Ok(error.exit()),
    };
    let verdict = DiffReport::new((&args.old, &old), (&args.new, &new));
    match args.output {
        OutputFormat::Json => print(&json(&verdict)?)?,
        OutputFormat::Table => print(&verdict.text())?,
    }
    Ok(if verdict.enough {
        CommandExit::Ok
    } else {
        CommandExit::Unhealthy
    })
}

/// The result, for programs.
#[derive(Serialize)]
struct DiffReport {
    old: ComparedVersion,
    new: ComparedVersion,
    changes: Vec<VersionChange>,
    /// `true` if the names of measurements were compared.
    measurements_compared: bool,
    /// The step that the changes require.
    needed: VersionStep,
    /// The step from the old version to the new one.
    made: VersionStep,
    /// `true` if that step is sufficient.
    enough: bool,
    /// The first version with a sufficient step.
    next: String,
}

#[derive(Serialize)]
struct ComparedVersion {
    file: String,
    id: String,
    version: String,
    sha256: String,
}

impl DiffReport {
    fn new(old: (&Path, &VersionFacts), new: (&Path, &VersionFacts)) -> Self {
        let changes = compare::changes(old.1, new.1);
        let needed = changes.iter().map(|change| change.step).max();
        let needed = needed.unwrap_or(VersionStep::None);
        // Vetting has refused invalid versions.
        let version = |facts: &VersionFacts| Version::parse(&facts.manifest.version).ok();
        let from = version(old.1).unwrap_or(Version::new(0, 0, 0));
        let made = version(new.1).map_or(VersionStep::None, |to| VersionStep::between(&from, &to));
        let side = |(file, facts): (&Path, &VersionFacts)| ComparedVersion {
            file: printable::path(file),
            id: facts.manifest.id.clone(),
            version: facts.manifest.version.clone(),
            sha256: facts.sha256.clone(),
        };
        Self {
            measurements_compared: old.1.measurements.is_some() && new.1.measurements.is_some(),
            changes,
            needed,
            made,
            // An unchanged version is right only for the same file.
            enough: made >= needed,
            next: needed.after(&from).to_string(),
            old: side(old),
            new: side(new),
        }
    }

    fn text(&self) -> String {
        let mut text = if self.changes.is_empty() {
            "nothing changed\n".to_owned()
        } else {
            let rows = self
                .changes
                .iter()
                .map(|VersionChange { what, change, step }| {
                    [(*what).to_owned(), change.clone(), step.name().to_owned()]
                });
            table(["WHAT", "CHANGE", "ASKS FOR"], rows)
        };
        if self.measurements_compared {
            text.push('\n');
        } else {
            text.push_str(
                "\nmeasurements were not compared: --config '{…}' makes one check with each\n",
            );
        }
        let (needed, made) = (self.needed.name(), self.made.name());
        let (from, to) = (&self.old.version, &self.new.version);
        let outcome = match (self.needed, self.enough) {
            (VersionStep::None, _) => format!("{from} → {to}: nothing asks for another version"),
            (_, true) => format!("{from} → {to} is a {made} step, {needed} was asked for: enough"),
            (_, false) => {
                let step = match self.made {
                    VersionStep::None => "no step forward".to_owned(),
                    _ => format!("a {made} step"),
                };
                format!(
                    "{from} → {to} is {step}, {needed} is asked for: make it {} at least",
                    self.next
                )
            }
        };
        format!("{text}{outcome}\n")
    }
}
