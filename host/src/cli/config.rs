//! `conductor config default|check|schema`.

use std::path::Path;

use clap::Subcommand;

use super::{CliError, Exit, Global, print};
use crate::{
    clock::Clock,
    config::{self, web::WebConfig},
    host::{
        self,
        judging::{Judge, mistakes},
    },
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print the default config, with every key explained; a good start for one's own
    Default,
    /// Validate the config, each platform's `config` table by its plugin's schema included, and the web config if one is
    /// named
    Check(super::WebConfigFile),
    /// Print the JSON Schema of the config, for editors
    Schema,
}

pub(super) fn run(command: &Command, global: &Global) -> Result<Exit, CliError> {
    match command {
        Command::Default => print(config::DEFAULT_TEXT)?,
        Command::Schema => print(&format!("{:#}\n", config::json_schema()))?,
        Command::Check(web) => return check(global, web),
    }
    Ok(Exit::Ok)
}

fn check(global: &Global, web: &super::WebConfigFile) -> Result<Exit, CliError> {
    let config = global.config()?;
    let web_config = web.file.as_deref().map(check_web).transpose()?;
    for warning in config.warnings.iter().chain(web_config.iter().flatten()) {
        eprintln!("warning: {warning}");
    }
    let loader = host::loader(&config, Clock::start())
        .map_err(|refusal| CliError::Other(refusal.to_string()))?;
    let libraries = loader.catalog().libraries();
    let ids: Vec<_> = libraries
        .iter()
        .map(|library| library.manifest.id.as_str())
        .collect();
    config.check_plugins(&ids)?;
    let judge = Judge::new(Clock::start());
    let mut exit = Exit::Ok;
    for id in config.plugins_in_use() {
        let how = host::how(&config, id);
        let library = loader.library(id);
        match library.and_then(|library| judge.platforms(&config, &library, &how, true)) {
            Ok(wrong) => {
                for (platform, finding) in wrong {
                    CliError::Config(mistakes(&config, platform, finding)).print();
                    exit = Exit::Config;
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

/// Reads a web config; answers what there is to remark on.
fn check_web(file: &Path) -> Result<Vec<String>, CliError> {
    Ok(WebConfig::read(file).outcome?.remarks)
}
