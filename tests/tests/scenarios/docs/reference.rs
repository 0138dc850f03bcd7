//! The parts of the documentation that are generated from the code.
//!
//! A generated part is between two marks; the text around it is written by hand.

use std::{env, fs};

use crate::{bundled, harness::workspace};

mod api;
mod command_line;
mod config;
mod metrics;
mod probes;

#[test]
fn generated_parts_are_current() {
    let mut parts = vec![
        (
            "docs/reference/configuration.md".to_owned(),
            "keys",
            config::keys(),
        ),
        (
            "docs/reference/metrics.md".to_owned(),
            "metrics",
            metrics::table(),
        ),
        (
            "docs/reference/command-line.md".to_owned(),
            "commands",
            command_line::commands(),
        ),
        (
            "docs/reference/api.md".to_owned(),
            "requests",
            api::requests(),
        ),
    ];
    for id in bundled::ids() {
        let page = format!("docs/reference/probes/{id}.md");
        parts.push((page, "keys", probes::keys(&id)));
    }
    #[cfg(target_arch = "x86_64")]
    parts.extend([
        (
            "SECURITY.md".to_owned(),
            "files",
            conductor_sandbox::readable_files(),
        ),
        (
            "SECURITY.md".to_owned(),
            "calls",
            conductor_sandbox::system_calls(),
        ),
    ]);
    let updates = env::var_os("UPDATE_DOCS").is_some();
    let mut stale = Vec::new();
    for (path, part, content) in parts {
        let file = workspace().join(&path);
        let text = fs::read_to_string(&file).unwrap();
        let current = fill(&text, part, &content)
            .unwrap_or_else(|| panic!("{path} has no generated part \"{part}\""));
        if text == current {
            continue;
        }
        if updates {
            fs::write(&file, current).unwrap();
        }
        stale.push(path);
    }
    assert!(
        updates || stale.is_empty(),
        "the code has changed, so these pages are out of date: {}\nWrite them again with: just docs\nwhich is: {COMMAND}",
        stale.join(", ")
    );
}

/// Returns the text with new content between the marks of a generated part.
fn fill(text: &str, part: &str, content: &str) -> Option<String> {
    let begin = format!("<!-- generated: {part} -->\n");
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once("<!-- end -->")?;
    let content = content.trim_end();
    Some(format!("{before}{begin}{content}\n<!-- end -->{after}"))
}

/// Returns text for a cell of a table: on one line, with its code spans.
fn cell(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace('|', "\\|").replace('<', "&lt;")
}

/// Returns text as code in a cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('`', "'").replace('|', "\\|"))
}

/// Writes the generated parts again.
const COMMAND: &str = "UPDATE_DOCS=1 cargo test --workspace --test scenarios docs::reference";

#[test]
fn text_around_a_generated_part_stays() {
    let page = "# x\nbefore\n<!-- generated: keys -->\nold\n<!-- end -->\nafter\n";
    let new = fill(page, "keys", "new\n\n").unwrap();
    assert_eq!(new, page.replace("old", "new"));
    assert_eq!(fill(&new, "keys", "new").unwrap(), new);
    assert_eq!(fill(page, "other", "new"), None);
}

#[test]
fn cells_keep_their_table_whole() {
    assert_eq!(cell("<a>\nb | `c`"), "&lt;a> b \\| `c`");
    assert_eq!(code("a|`b`"), "`a\\|'b'`");
}
