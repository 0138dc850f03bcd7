//! `conductor plugin schema FILE|ID`: the keys of a plugin's config.
//!
//! The library is loaded in a throw-away worker, never in this process.

use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use conductor_command::{
    CliError, CommandExit, GlobalArgs, OutputFormat, print, table_within, terminal_width,
};
use conductor_core::clock::Clock;
use conductor_library as library;
use conductor_library::{Store, TrustPolicy, printable::escaped};
use conductor_plugin_api::{manifest::Need, metric::MetricKind};
use conductor_runtime::{
    LoadedPlugin as _, PluginDescription,
    config_keys::{ConfigKey, ConfigKeys},
    loader::{self, GenerationSettings},
};
use conductor_sandbox::WorkerLimits;
use conductor_types::Isolation;
use serde_json::Value;

#[derive(clap::Args)]
pub struct PluginSchemaArgs {
    /// Library file, or id of a plugin in the plugin folders
    #[arg(value_name = "FILE|ID")]
    plugin: PathBuf,
    /// Output format; `json` prints the JSON Schema itself
    #[arg(long, default_value = "table")]
    output: OutputFormat,
}

pub(super) fn run(args: &PluginSchemaArgs, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let description = match as_id(&args.plugin) {
        Some(id) => of_id(id, global),
        None => of_file(&args.plugin, global, None),
    };
    let description = match description {
        Ok(description) => description,
        Err(DescribeError::Config(error)) => return Err(error),
        Err(DescribeError::Refused(why)) => {
            CliError::Other(why).print();
            return Ok(CommandExit::Refused);
        }
    };
    let schema = description.config_schema.value();
    match args.output {
        OutputFormat::Json => print(&printable_json(&schema))?,
        OutputFormat::Table => {
            let keys = ConfigKeys::of(&schema);
            let mut text = format!("{} {}", description.id, description.version);
            if !keys.description.is_empty() {
                text.push_str(&format!(": {}", keys.description));
            }
            print(&format!("{text}\n\n{}", to_table(&keys)))?;
        }
    }
    Ok(CommandExit::Ok)
}

/// The reason why there is no description of a plugin.
pub(super) enum DescribeError {
    /// The config is wrong.
    Config(CliError),
    /// The library is refused, missing or does not load.
    Refused(String),
}

/// Returns the id, if the argument does not name a file.
pub(super) fn as_id(plugin: &Path) -> Option<&str> {
    let text = plugin.to_str()?;
    let is_id = !text.contains([MAIN_SEPARATOR, '.']) && !plugin.is_file();
    is_id.then_some(text)
}

/// Returns the library file of a plugin in the plugin folders.
pub(super) fn file_of_id(id: &str, global: &GlobalArgs) -> Result<PathBuf, DescribeError> {
    let config = global.config().map_err(DescribeError::Config)?;
    let loader = config
        .loader(Clock::start())
        .map_err(|e| DescribeError::Refused(e.to_string()))?;
    let found = loader.catalog().found();
    let library = found.by_id.get(id).map(|library| &library.origin);
    let refused = found.refused(id).map(|refusal| &refusal.file);
    library.or(refused).cloned().ok_or_else(|| {
        DescribeError::Refused(format!(
            "there is neither a file nor a plugin {id:?}: name a library file, or put a library with that id into a searched folder; searched: {}",
            found.searched()
        ))
    })
}

fn of_id(id: &str, global: &GlobalArgs) -> Result<PluginDescription, DescribeError> {
    let config = global.config().map_err(DescribeError::Config)?;
    let refused = |why: &dyn std::fmt::Display| DescribeError::Refused(why.to_string());
    let loader = config.loader(Clock::start()).map_err(|e| refused(&e))?;
    loader
        .describe(id, &config.how(id))
        .map_err(|e| refused(&e))
}

/// Describes the plugin in a library file, with the permissions in `allow`, or else the declared ones.
pub(super) fn of_file(
    file: &Path,
    global: &GlobalArgs,
    allow: Option<Vec<Need>>,
) -> Result<PluginDescription, DescribeError> {
    let (policy, state_dir) = match &global.config_file {
        None => (TrustPolicy::none(), None),
        Some(_) => {
            let config = global.config().map_err(DescribeError::Config)?;
            (config.policy(), config.host.state_dir.clone())
        }
    };
    let refused = |why: &dyn std::fmt::Display| DescribeError::Refused(why.to_string());
    let store = Store::open_or_default(state_dir.as_deref()).map_err(|e| refused(&e))?;
    let vetted = library::vet(file, &policy, &store).map_err(|e| refused(&e))?;
    let how = GenerationSettings {
        isolation: Isolation::Process,
        call_threads: 1,
        limits: WorkerLimits::default(),
        no_udp: allow.is_some(),
        allow,
        hidden: Vec::new(),
    };
    let worker = loader::throw_away(&vetted, &how, Clock::start()).map_err(|e| refused(&e))?;
    Ok(worker.description().clone())
}

/// Formats the keys as a table that fits the terminal.
pub(super) fn to_table(keys: &ConfigKeys) -> String {
    if keys.keys.is_empty() {
        return "It has no keys.\n".to_owned();
    }
    let rows = keys.keys.iter().map(|key| {
        [
            key.key.clone(),
            key.kind.clone(),
            default(key),
            key.meaning.clone(),
        ]
    });
    let header = ["KEY", "TYPE", "DEFAULT", "MEANING"];
    let table = table_within(terminal_width().or(Some(WIDTH)), header, rows);
    let more = match keys.cut {
        true => "\nThere are more keys: --output json prints the whole schema.\n",
        false => "",
    };
    format!("{table}{more}")
}

/// Formats the declared metrics as a table that fits the terminal; empty without any.
pub(super) fn metrics_table(description: &PluginDescription) -> String {
    let metrics = description.metrics.as_slice();
    if metrics.is_empty() {
        return String::new();
    }
    let rows = metrics.iter().map(|metric| {
        [
            metric.family(&description.id),
            match metric.kind {
                MetricKind::Gauge => "gauge".to_owned(),
                MetricKind::Counter => "counter".to_owned(),
            },
            metric.labels.join(" "),
            metric.help.clone(),
        ]
    });
    let header = ["METRIC", "KIND", "LABELS", "MEANING"];
    let width = terminal_width().or(Some(WIDTH));
    format!("\n{}", table_within(width, header, rows))
}

/// Returns the default of a key, or a note that it is required.
pub(super) fn default(key: &ConfigKey) -> String {
    match (&key.default, key.required) {
        (_, true) => "required".to_owned(),
        (default, false) => default.clone().unwrap_or_default(),
    }
}

/// Returns the schema as JSON, with terminal escapes removed.
fn printable_json(schema: &Value) -> String {
    let mut text = String::new();
    // Outside of its strings JSON contains no such character except line breaks.
    for c in format!("{schema:#}\n").chars() {
        let shown = escaped(c);
        if c == '\n' || shown.len() == c.len_utf8() {
            text.push(c);
        } else {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    text
}

/// Columns of the table if there is no terminal.
const WIDTH: u16 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_schema_is_the_schema_and_harms_no_terminal() {
        let schema = serde_json::json!({ "a\u{9b}\u{1b}": ["\u{202e}", "\u{7f}", "ü", "\n"] });
        let text = printable_json(&schema);
        assert!(!text.contains(|c: char| c != '\n' && c.is_control() || c == '\u{202e}'));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), schema);
    }

    #[test]
    fn ids_and_files_are_told_apart() {
        assert_eq!(as_id(Path::new("http")), Some("http"));
        for file in ["./http", "libhttp.so", "/x/http"] {
            assert_eq!(as_id(Path::new(file)), None, "{file}");
        }
    }
}
