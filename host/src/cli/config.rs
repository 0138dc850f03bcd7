//! `conductor config default|check|schema`.

use clap::Subcommand;

use super::{CliError, Exit, Global, print};
use crate::{
    clock::Clock,
    config::{self, PluginSchema},
    host,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print the default config, with every key explained; a good start for one's own
    Default,
    /// Validate the config, each platform's `config` table by its plugin's schema included
    Check,
    /// Print the JSON Schema of the config, for editors
    Schema,
}

pub(super) fn run(command: &Command, global: &Global) -> Result<Exit, CliError> {
    match command {
        Command::Default => print(config::DEFAULT_TEXT)?,
        Command::Schema => print(&format!("{:#}\n", config::json_schema()))?,
        Command::Check => return check(global),
    }
    Ok(Exit::Ok)
}

fn check(global: &Global) -> Result<Exit, CliError> {
    let config = global.config()?;
    let loader = host::loader(&config, Clock::start())
        .map_err(|refusal| CliError::Other(refusal.to_string()))?;
    let libraries = loader.catalog().libraries();
    let ids: Vec<_> = libraries
        .iter()
        .map(|library| library.manifest.id.as_str())
        .collect();
    config.check_plugins(&ids)?;
    let mut exit = Exit::Ok;
    for id in config.plugins_in_use() {
        match loader.describe(id, &host::how(&config.plugin(id))) {
            Ok(description) => {
                let schema = PluginSchema::new(id, &description.config_schema)?;
                for platform in config.platforms.iter().filter(|p| p.plugin == id) {
                    config.validate_platform_config(platform, &schema)?;
                }
            }
            Err(error) => {
                eprintln!("plugin {id}: {error}");
                exit = Exit::Refused;
            }
        }
    }
    if exit == Exit::Ok {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        print(&format!(
            "{}: ok, {}, {}\n",
            config.source.name(),
            count(config.platforms.len(), "platform"),
            count(config.plugins_in_use().len(), "plugin")
        ))?;
    }
    Ok(exit)
}
