//! `conductor config default|check|schema`.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{CliError, Exit, Global, print};
use crate::{
    clock::Clock,
    config::{self, OwnAddress, for_editors, web::WebConfig},
    host,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print the default config, with every key explained; a good start for one's own
    Default,
    /// Validate the config, each platform's `config` table by its plugin's schema included, and the web config if one is
    /// named
    Check(super::WebConfigFile),
    /// Print the JSON Schema of the config, for editors
    ///
    /// It has the keys of the plugins in the plugin folders, each loaded for it in a throw-away worker: a platform's
    /// `config` completes by the plugin that the platform names. What keeps a plugin out is printed as a warning.
    Schema,
}

pub(super) fn run(command: &Command, global: &Global) -> Result<Exit, CliError> {
    match command {
        Command::Default => print(config::DEFAULT_TEXT)?,
        Command::Schema => schema(global)?,
        Command::Check(web) => return check(global, web),
    }
    Ok(Exit::Ok)
}

fn check(global: &Global, web: &super::WebConfigFile) -> Result<Exit, CliError> {
    let reading = global.reading_for(&OwnAddress::default())?;
    let web_config = web.file.as_deref().map(check_web).transpose()?;
    let warnings = reading.config.iter().flat_map(|config| &config.warnings);
    for warning in warnings.chain(web_config.iter().flatten()) {
        eprintln!("warning: {warning}");
    }
    let config = match host::judge(reading) {
        Ok(config) => config,
        Err(rejection) => {
            let exit = match rejection.only_loading {
                true => Exit::Refused,
                false => Exit::Config,
            };
            CliError::Config(rejection.error).print();
            return Ok(exit);
        }
    };
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    print(&format!(
        "{}: ok, {}, {}\n",
        config.source.name(),
        count(config.platforms.len(), "platform"),
        count(config.plugins_in_use().len(), "plugin")
    ))?;
    Ok(Exit::Ok)
}

fn schema(global: &Global) -> Result<(), CliError> {
    let mut schema = config::json_schema();
    match plugin_schemas(global) {
        Ok(plugins) => for_editors::add_plugins(&mut schema, plugins),
        Err(error) => {
            eprintln!("warning: the keys of plugins are left out:");
            error.print();
        }
    }
    print(&format!("{schema:#}\n"))
}

/// The config schema of each plugin that is found, by id.
fn plugin_schemas(global: &Global) -> Result<Vec<(String, Value)>, CliError> {
    let config = global.config()?;
    let loader = host::loader(&config, Clock::start())
        .map_err(|refusal| CliError::Other(refusal.to_string()))?;
    let mut schemas = Vec::new();
    for library in loader.catalog().libraries() {
        let id = &library.manifest.id;
        let schema = match loader.describe(id, &host::how(&config, id)) {
            Ok(description) => description.config_schema,
            Err(error) => {
                eprintln!("warning: plugin {id}: {error}");
                continue;
            }
        };
        if schema.as_str().len() > MAX_SCHEMA {
            eprintln!(
                "warning: plugin {id}: its config schema is too long, {MAX_SCHEMA} bytes at most"
            );
        } else if schema.is_null() {
            schemas.push((id.clone(), json!({ "type": "object", "maxProperties": 0 })));
        } else {
            schemas.push((id.clone(), schema.value()));
        }
    }
    Ok(schemas)
}

/// Longest schema of a plugin that is part of the config's, in bytes.
const MAX_SCHEMA: usize = 256 << 10;

/// Reads a web config; answers what there is to remark on.
fn check_web(file: &Path) -> Result<Vec<String>, CliError> {
    Ok(WebConfig::read(file).outcome?.remarks)
}
