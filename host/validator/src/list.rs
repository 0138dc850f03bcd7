//! `conductor plugin list`: every library in the plugin folders, loaded or refused, and its state in a running host.

use std::collections::BTreeMap;

use conductor_command::{
    CliError, Exit, Global, Output,
    client::{Client, Remote},
    json, print, table,
};
use conductor_core::clock::Clock;
use conductor_library::{Vetted, printable};
use conductor_runtime::LoadError;
use conductor_types::views::{PluginView, StatusView};
use serde::Serialize;

use super::quarantine;

#[derive(clap::Args)]
pub struct Args {
    /// Output format
    #[arg(long, default_value = "table")]
    output: Output,
    /// Print the full comparison for a library with an incompatible ABI
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    remote: Remote,
}

/// One line of the list.
#[derive(Serialize)]
struct Listed {
    id: Option<String>,
    version: Option<String>,
    api_version: Option<String>,
    state: &'static str,
    file: String,
    /// The reason why it is not loaded.
    reason: Option<String>,
    /// The reason why a host always runs it in a worker.
    quarantined: Option<String>,
    /// The host's view of it, if a host runs this exact library.
    running: Option<PluginView>,
    #[serde(skip)]
    detail: Option<String>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, CliError> {
    let config = global.config()?;
    let loader = config
        .loader(Clock::start())
        .map_err(|refusal| CliError::Other(refusal.to_string()))?;
    // Report a damaged quarantine, but still list the rest.
    let held = quarantine(&config).all().unwrap_or_else(|error| {
        CliError::Other(error.to_string()).print();
        BTreeMap::new()
    });
    // A missing host is no error: the list works without one.
    let running = Client::open(&args.remote)
        .and_then(|client| client.look::<StatusView>("/api/v1/status"))
        .map_or_else(|_| Vec::new(), |(_, status)| status.plugins);
    let mut plugins: Vec<Listed> = Vec::new();
    for library in loader.catalog().libraries() {
        let id = &library.manifest.id;
        let error = loader.describe(id, &config.how(id)).err();
        let quarantined = held.get(id).map(|entry| entry.told_of(id));
        plugins.push(Listed::vetted(&library, error, quarantined, &running));
    }
    for refusal in loader.catalog().refused() {
        plugins.push(Listed {
            id: None,
            version: None,
            api_version: None,
            state: "refused",
            file: printable::path(&refusal.file),
            reason: Some(refusal.to_string()),
            quarantined: None,
            running: None,
            detail: None,
        });
    }
    match args.output {
        Output::Json => print(&json(&plugins)?)?,
        Output::Table => print(&text(&plugins, args.verbose))?,
    }
    let refused = plugins.iter().any(|plugin| plugin.reason.is_some());
    Ok(if refused { Exit::Refused } else { Exit::Ok })
}

impl Listed {
    fn vetted(
        library: &Vetted,
        error: Option<LoadError>,
        quarantined: Option<String>,
        running: &[PluginView],
    ) -> Self {
        let sha256 = library.sha256.to_string();
        let running = running
            .iter()
            .find(|view| view.sha256.as_deref() == Some(&sha256));
        Self {
            id: Some(library.manifest.id.clone()),
            version: Some(library.manifest.version.clone()),
            api_version: Some(library.manifest.api.to_string()),
            state: match error {
                None => "loaded",
                Some(_) => "refused",
            },
            file: printable::path(&library.origin),
            reason: error.as_ref().map(|e| e.message.clone()),
            quarantined,
            running: running.cloned(),
            detail: error.and_then(|e| e.detail),
        }
    }
}

fn text(plugins: &[Listed], verbose: bool) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let rows = plugins.iter().map(|plugin| {
        let running = plugin.running.as_ref();
        [
            text(&plugin.id),
            text(&plugin.version),
            text(&plugin.api_version),
            plugin.state.to_owned(),
            running
                .and_then(|r| r.isolation.clone())
                .unwrap_or_default(),
            shown(running.and_then(|r| r.generation)),
            shown(running.and_then(|r| r.pid)),
            running
                .and_then(|r| r.memory_bytes)
                .map(|bytes| format!("{} MiB", bytes >> 20))
                .unwrap_or_default(),
            running
                .and_then(|r| r.cpu_seconds)
                .map(|seconds| format!("{seconds:.1} s"))
                .unwrap_or_default(),
            plugin.file.clone(),
        ]
    });
    let mut lines = table(HEADER, rows);
    for plugin in plugins {
        if let Some(reason) = &plugin.reason {
            lines.push_str(&format!("\n{reason}\n"));
        }
        if let (Some(id), Some(quarantined)) = (&plugin.id, &plugin.quarantined) {
            lines.push_str(&format!("\n{id}: {quarantined}\n"));
        }
        if let Some(note) = plugin.running.as_ref().and_then(|r| r.note.as_ref()) {
            lines.push_str(&format!("\n{}: {note}\n", text(&plugin.id)));
        }
        if let (true, Some(detail)) = (verbose, &plugin.detail) {
            // It names types as the library does.
            lines.push_str(&format!("{detail}\n"));
        }
    }
    lines
}

fn shown(value: Option<impl std::fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

const HEADER: [&str; 10] = [
    "PLUGIN",
    "VERSION",
    "API",
    "STATE",
    "RUNS",
    "GENERATION",
    "PID",
    "MEMORY",
    "CPU",
    "FILE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_says_of_its_types_does_nothing_to_a_terminal() {
        let plugin = Listed {
            id: Some("x".into()),
            version: None,
            api_version: None,
            state: "refused",
            file: "x.so".into(),
            reason: None,
            quarantined: None,
            running: None,
            detail: Some("first\nsecond \u{1b}]0;title\u{7}\r\u{202e}".into()),
        };
        let text = printable::lines(&text(&[plugin], true)).into_owned();
        let expected = "first\nsecond \\u{1b}]0;title\\u{7}\\r\\u{202e}\n";
        assert!(text.ends_with(expected), "{text:?}");
    }
}
