//! `conductor plugin list`: every library in the plugin folders, loaded or refused, and its state in a running host.

use std::collections::BTreeMap;

use conductor_command::{
    CliError, CommandExit, GlobalArgs, OutputFormat,
    client::{HostClient, RemoteArgs},
    json, print, table_within, terminal_width,
};
use conductor_core::clock::Clock;
use conductor_library::{Vetted, printable};
use conductor_runtime::LoadError;
use conductor_types::views::{PluginView, StatusView};
use serde::Serialize;

use super::quarantine;

#[derive(clap::Args)]
pub struct PluginListArgs {
    /// Output format
    #[arg(long, default_value = "table")]
    output: OutputFormat,
    /// Print the full comparison for a library with an incompatible ABI
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// One line of the list.
#[derive(Serialize)]
struct ListedLibrary {
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

pub(super) fn run(args: &PluginListArgs, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let client = HostClient::open(&args.remote)?;
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
    let status = client.look_if_running::<StatusView>(
        "/api/v1/status",
        "what the running host knows of its plugins (RUNS to CPU)",
    );
    let running = status.map_or_else(Vec::new, |status| status.plugins);
    let mut plugins: Vec<ListedLibrary> = Vec::new();
    for library in loader.catalog().libraries() {
        let id = &library.manifest.id;
        let error = loader.describe(id, &config.how(id)).err();
        let quarantined = held.get(id).map(|entry| entry.told_of(id));
        plugins.push(ListedLibrary::vetted(
            &library,
            error,
            quarantined,
            &running,
        ));
    }
    for refusal in loader.catalog().refused() {
        plugins.push(ListedLibrary {
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
        OutputFormat::Json => print(&json(&plugins)?)?,
        OutputFormat::Table if plugins.is_empty() => print(&format!(
            "There is no plugin library; searched: {}\n",
            loader.catalog().searched()
        ))?,
        OutputFormat::Table => print(&text(&plugins, args.verbose, terminal_width()))?,
    }
    let refused = plugins.iter().any(|plugin| plugin.reason.is_some());
    Ok(if refused {
        CommandExit::Refused
    } else {
        CommandExit::Ok
    })
}

impl ListedLibrary {
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

/// Formats the list for a terminal of this width. Files go into a table of their own if that is too narrow for both.
fn text(plugins: &[ListedLibrary], verbose: bool, width: Option<u16>) -> String {
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
    let rows: Vec<_> = rows.collect();
    let mut lines = table_within(None, HEADER, rows.clone());
    let widest = lines.lines().map(|line| line.chars().count()).max();
    if width.is_some_and(|width| widest > Some(width.into())) {
        let [header @ .., file] = HEADER;
        let files = rows.iter().map(|row| {
            let [id, .., file] = row.clone();
            [id, file]
        });
        let files = table_within(width, [header[0], file], files);
        let rows = rows.iter().map(|row| {
            let [row @ .., _] = row.clone();
            row
        });
        lines = table_within(width, header, rows) + "\n" + &files;
    }
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
    for (what, ids) in unconfined(plugins) {
        lines.push_str(&format!("\nunconfined: {}: {what}\n", ids.join(", ")));
    }
    lines
}

/// Returns what is not enforced on workers, each line with the plugins it concerns.
fn unconfined(plugins: &[ListedLibrary]) -> BTreeMap<&str, Vec<&str>> {
    let mut lines = BTreeMap::<_, Vec<_>>::new();
    for view in plugins.iter().filter_map(|plugin| plugin.running.as_ref()) {
        for line in &view.unconfined {
            lines.entry(line.as_str()).or_default().push(&*view.id);
        }
    }
    lines
}

fn shown(value: Option<impl std::fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

const HEADER: [&str; 10] = [
    "PLUGIN", "VERSION", "API", "STATE", "RUNS", "GEN", "PID", "MEMORY", "CPU", "FILE",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(detail: Option<String>) -> ListedLibrary {
        ListedLibrary {
            id: Some("x".into()),
            version: None,
            api_version: None,
            state: "refused",
            file: "x.so".into(),
            reason: None,
            quarantined: None,
            running: None,
            detail,
        }
    }

    #[test]
    fn a_narrow_terminal_gets_the_files_in_a_table_of_their_own() {
        let file = format!("/usr/lib/conductor/{}.so", "x".repeat(40));
        let running = serde_json::json!({
            "id": "x", "state": "loaded", "error": null, "note": null, "version": "1.0.0",
            "api_version": "1.0.0", "isolation": "in-process", "generation": 12, "pid": 1_234_567,
            "memory_bytes": 123 << 20, "cpu_seconds": 1234.5, "sha256": null, "file": null,
            "stuck_calls": 0, "quarantined": false,
        });
        let plugin = ListedLibrary {
            file: file.clone(),
            version: Some("1.0.0".to_owned()),
            api_version: Some("1.1.0".to_owned()),
            running: Some(serde_json::from_value(running).unwrap()),
            ..listed(None)
        };
        let narrow = text(&[plugin], false, Some(80));
        for line in narrow.lines() {
            assert!(line.chars().count() <= 80, "{narrow}");
        }
        for word in [file.as_str(), "1234567", "in-process", "1234.5 s"] {
            assert!(narrow.contains(word), "{word}:\n{narrow}");
        }
    }

    #[test]
    fn what_is_not_enforced_is_one_line_for_all_plugins_it_concerns() {
        let plugins = ["http", "tcp"].map(|id| ListedLibrary {
            id: Some(id.to_owned()),
            running: Some(PluginView {
                id: id.to_owned(),
                unconfined: vec!["it has no limit of CPU".to_owned()],
                ..PluginView::default()
            }),
            ..listed(None)
        });
        let text = text(&plugins, false, None);
        assert!(
            text.ends_with("\n\nunconfined: http, tcp: it has no limit of CPU\n"),
            "{text}"
        );
    }

    #[test]
    fn what_a_library_says_of_its_types_does_nothing_to_a_terminal() {
        let detail = "first\nsecond \u{1b}]0;title\u{7}\r\u{202e}";
        let plugin = listed(Some(detail.to_owned()));
        let text = printable::lines(&text(&[plugin], true, None)).into_owned();
        let expected = "first\nsecond \\u{1b}]0;title\\u{7}\\r\\u{202e}\n";
        assert!(text.ends_with(expected), "{text:?}");
    }
}
