//! `conductor plugin list|inspect|pin`.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::{CliError, Exit, Global, Output, json, print, table};
use crate::{
    clock::Clock,
    host,
    library::{self, Catalog, Pins},
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show each plugin found in the plugin folders, loaded or refused, and why
    List {
        /// Form of the output
        #[arg(long, default_value = "table")]
        output: Output,
        /// Print all there is to say about a library whose ABI does not fit
        #[arg(long)]
        verbose: bool,
    },
    /// Allow the libraries that lie in the plugin folders now, and refuse any other from now on
    ///
    /// Writes their SHA-256 to plugins.lock beside the config. A running host reads it whenever it looks for a library;
    /// remove the file to allow everything again.
    Pin,
    /// Show what is known of a library file without running it
    ///
    /// `needs` is what the plugin asks for beyond what every plugin in a process of its own may do: `network` opens TCP
    /// and ICMP, `unix-sockets` the Unix sockets of this machine, `read PATH` a file or a folder with all that is in it,
    /// `run PATH` a program, or any in a folder, held to the same limits. [plugin.ID] allow = [...] opens less or more.
    Inspect {
        /// The library
        file: PathBuf,
        /// Form of the output
        #[arg(long, default_value = "table")]
        output: Output,
    },
}

pub(super) fn run(command: &Command, global: &Global) -> Result<Exit, CliError> {
    match command {
        Command::List { output, verbose } => list(*output, *verbose, global),
        Command::Inspect { file, output } => inspect(file, *output),
        Command::Pin => pin(global),
    }
}

/// One line of the list.
#[derive(Serialize)]
struct Listed {
    id: Option<String>,
    version: Option<String>,
    api_version: Option<String>,
    state: &'static str,
    file: String,
    /// Why it is not loaded.
    reason: Option<String>,
    #[serde(skip)]
    detail: Option<String>,
}

fn list(output: Output, verbose: bool, global: &Global) -> Result<Exit, CliError> {
    let config = global.config()?;
    let loader = host::loader(&config, Clock::start())
        .map_err(|refusal| CliError::Other(refusal.to_string()))?;
    let mut plugins: Vec<Listed> = Vec::new();
    for library in loader.catalog().libraries() {
        let error = loader.load(&library.manifest.id, 1).err();
        plugins.push(Listed {
            id: Some(library.manifest.id.clone()),
            version: Some(library.manifest.version.clone()),
            api_version: Some(library.manifest.api.to_string()),
            state: if error.is_none() { "loaded" } else { "refused" },
            file: library.origin.display().to_string(),
            reason: error.as_ref().map(|e| e.message.clone()),
            detail: error.and_then(|e| e.detail),
        });
    }
    for refusal in loader.catalog().refused() {
        plugins.push(Listed {
            id: None,
            version: None,
            api_version: None,
            state: "refused",
            file: refusal.file.display().to_string(),
            reason: Some(refusal.to_string()),
            detail: None,
        });
    }
    match output {
        Output::Json => print(&json(&plugins)?)?,
        Output::Table => print(&list_table(&plugins, verbose))?,
    }
    let refused = plugins.iter().any(|plugin| plugin.reason.is_some());
    Ok(if refused { Exit::Refused } else { Exit::Ok })
}

fn list_table(plugins: &[Listed], verbose: bool) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let rows = plugins.iter().map(|plugin| {
        [
            text(&plugin.id),
            text(&plugin.version),
            text(&plugin.api_version),
            plugin.state.to_owned(),
            plugin.file.clone(),
        ]
    });
    let mut lines = table(["PLUGIN", "VERSION", "API", "STATE", "FILE"], rows);
    for plugin in plugins {
        if let Some(reason) = &plugin.reason {
            lines.push_str(&format!("\n{reason}\n"));
        }
        if let (true, Some(detail)) = (verbose, &plugin.detail) {
            lines.push_str(&format!("{detail}\n"));
        }
    }
    lines
}

fn pin(global: &Global) -> Result<Exit, CliError> {
    let config = global.config()?;
    let Some(lock_file) = &config.lock_file else {
        return Err(CliError::Other(
            "the built-in config has no folder for plugins.lock; name a file with --config.file (`conductor config default` prints one)"
                .to_owned(),
        ));
    };
    let host = &config.host;
    let catalog = Catalog::open(&host.plugin_dirs, false, None, host.state_dir.as_deref())
        .map_err(|refusal| CliError::Other(refusal.to_string()))?;
    let (libraries, refused) = (catalog.libraries(), catalog.refused());
    if libraries.is_empty() {
        // A folder that is not mounted must not cost the pins of all that lies in it.
        let reasons: String = refused.iter().map(|r| format!("\n{r}")).collect();
        return Err(CliError::Other(format!(
            "the plugin folders hold no library to pin; {} stays as it is{reasons}",
            lock_file.display()
        )));
    }
    let pins = Pins::read(lock_file);
    let changes = pins.replace(&libraries).map_err(|e| {
        CliError::Other(format!("{}: cannot be written: {e}", pins.file().display()))
    })?;
    let rows = changes
        .into_iter()
        .map(|(path, change)| [change.name().to_owned(), path]);
    let mut text = table(["PIN", "FILE"], rows);
    for refusal in &refused {
        text.push_str(&format!("\nnot pinned: {refusal}\n"));
    }
    print(&text)?;
    Ok(if refused.is_empty() {
        Exit::Ok
    } else {
        Exit::Refused
    })
}

fn inspect(file: &std::path::Path, output: Output) -> Result<Exit, CliError> {
    let inspection = library::inspect(file);
    match output {
        Output::Json => print(&json(&inspection)?)?,
        Output::Table => print(&inspection.to_string())?,
    }
    let refused = inspection.refusal().is_some();
    Ok(if refused { Exit::Refused } else { Exit::Ok })
}
