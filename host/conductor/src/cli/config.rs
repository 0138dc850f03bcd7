//! `conductor config default|check|schema`.

use std::path::PathBuf;

use clap::Subcommand;
use conductor_command::{
    CliError, CommandExit, DEFAULT_ADDRESS, GlobalArgs, OutputFormat, json as to_json, print, warn,
};
use conductor_config as config;
use conductor_config::{OwnAddress, for_editors, web::WebConfig};
use conductor_core::clock::Clock;
use conductor_server::ListenAddress;
use serde_json::{Value, json};

use crate::host;

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the default config, with a comment for every key
    Default,
    /// Validate the config, including each platform's `config` table by its plugin's schema, and the web config if one is
    /// given
    Check(CheckArgs),
    /// Print the JSON Schema of the config, for editors
    ///
    /// Includes the keys of the plugins in the plugin folders: editors complete a platform's `config` by its plugin. Each
    /// plugin is loaded in a temporary worker; a plugin that does not load is reported as a warning.
    Schema,
}

#[derive(clap::Args)]
pub(super) struct CheckArgs {
    /// Config file; overrides `--config.file`
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Output format; JSON is an array of errors with file, line, column, message and help
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
    /// Address that `run` will serve on; resolved, but not opened
    #[arg(long = "web.listen-address", value_name = "ADDRESS", env = "CONDUCTOR_WEB_LISTEN_ADDRESS", default_value = DEFAULT_ADDRESS)]
    address: ListenAddress,
    #[command(flatten)]
    web: super::WebConfigFile,
}

pub(super) fn run(command: &ConfigCommand, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    match command {
        ConfigCommand::Default => print(config::default_text())?,
        ConfigCommand::Schema => schema(global)?,
        ConfigCommand::Check(args) => return check(global, args),
    }
    Ok(CommandExit::Ok)
}

fn check(global: &GlobalArgs, args: &CheckArgs) -> Result<CommandExit, CliError> {
    let global = &GlobalArgs {
        config_file: args.file.clone().or_else(|| global.config_file.clone()),
        ..global.clone()
    };
    let web = args
        .web
        .file
        .as_deref()
        .map(|file| WebConfig::read(file).outcome);
    let (web, of_web) = match web.transpose() {
        Ok(web) => (web, None),
        Err(error) => (None, Some(error)),
    };
    let has_tls = web.as_ref().is_some_and(|web| web.tls.is_some());
    let scheme = if has_tls { "https" } else { "http" };
    let mut address = args
        .address
        .look_up()
        .map_err(|error| CliError::Other(error.to_string()))?;
    if address.port() == 0 {
        // Port 0: the real port is not known yet, and any other does as well.
        address.set_port(DEFAULT_PORT);
    }
    let reading = global
        .config_source()?
        .read(&OwnAddress::of(address, scheme));
    let warnings = reading.config.iter().flat_map(|config| &config.warnings);
    for warning in warnings.chain(web.iter().flat_map(|web| &web.remarks)) {
        warn(warning);
    }
    let judged = host::judge(reading);
    let exit = match (&judged, &of_web) {
        (Ok(_), None) => CommandExit::Ok,
        (Err(rejection), None) if rejection.only_loading => CommandExit::Refused,
        _ => CommandExit::Config,
    };
    let (config, error) = match judged {
        Ok(config) => (Some(config), None),
        Err(rejection) => (None, Some(rejection.error)),
    };
    let errors = of_web.into_iter().chain(error);
    if let OutputFormat::Json = args.output {
        let mistakes: Vec<_> = errors.flat_map(|error| error.mistakes()).collect();
        print(&to_json(&mistakes)?)?;
        return Ok(exit);
    }
    for error in errors {
        CliError::Config(error).print();
    }
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    if let (Some(config), CommandExit::Ok) = (config, exit) {
        print(&format!(
            "{}: ok, {}, {}\n",
            config.source.name(),
            count(config.platforms.len(), "platform"),
            count(config.plugins_in_use().len(), "plugin")
        ))?;
    }
    Ok(exit)
}

fn schema(global: &GlobalArgs) -> Result<(), CliError> {
    let mut schema = config::json_schema();
    match plugin_schemas(global) {
        Ok(plugins) => for_editors::add_plugins(&mut schema, plugins),
        Err(error) => {
            warn("the schema does not include the keys of plugins:");
            error.print();
        }
    }
    print(&format!("{schema:#}\n"))
}

/// Returns the config schema of each available plugin, by id.
fn plugin_schemas(global: &GlobalArgs) -> Result<Vec<(String, Value)>, CliError> {
    let config = global.config()?;
    let loader = config
        .loader(Clock::start())
        .map_err(|refusal| CliError::Other(refusal.to_string()))?;
    let mut schemas = Vec::new();
    for library in loader.catalog().libraries() {
        let id = &library.manifest.id;
        let schema = match loader.describe(id, &config.how(id)) {
            Ok(description) => description.config_schema,
            Err(error) => {
                warn(&format!("plugin {id}: {error}"));
                continue;
            }
        };
        if schema.as_str().len() > MAX_SCHEMA {
            warn(&format!(
                "plugin {id}: its config schema has more than {MAX_SCHEMA} bytes and is left out"
            ));
        } else if schema.is_null() {
            schemas.push((id.clone(), json!({ "type": "object", "maxProperties": 0 })));
        } else {
            schemas.push((id.clone(), schema.value()));
        }
    }
    Ok(schemas)
}

/// Longest schema of a plugin that is included in the config's, in bytes.
const MAX_SCHEMA: usize = 256 << 10;

/// The port used in place of port 0.
const DEFAULT_PORT: u16 = 9750;
