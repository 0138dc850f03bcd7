//! `ARCHITECTURE.md` against the code: its paths exist, its types are defined, and every crate has its paragraph.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::pages::{self, Page};
use crate::{bundled, harness::workspace};

/// Folders at the root whose paths pages may name.
const FOLDERS: [&str; 9] = [
    ".ci",
    ".github",
    "docs",
    "examples",
    "fuzz",
    "host",
    "packaging",
    "plugin-api",
    "plugins",
];

#[test]
fn every_path_that_a_page_names_exists() {
    let mut missing = Vec::new();
    for page in pages::all() {
        // The changelog also names what is gone.
        if page.path == "CHANGELOG.md" {
            continue;
        }
        for code in page.code() {
            let path = code.trim_end_matches("/*").trim_end_matches('/');
            let root = path.split('/').next().unwrap_or_default();
            let is_path = path.contains('/') && !path.contains(char::is_whitespace);
            let named = FOLDERS.contains(&root) || root == "tests";
            if is_path && named && !workspace().join(path).exists() {
                missing.push(format!("{}: {code}", page.path));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "these do not exist:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_name_in_the_map_is_defined_where_the_map_says() {
    let map = Page::read("ARCHITECTURE.md");
    let sources = sources();
    let mut missing = Vec::new();
    for code in map.code() {
        let is_type = code.starts_with(char::is_uppercase)
            && code.chars().all(char::is_alphanumeric)
            && code.contains(char::is_lowercase);
        if is_type && !sources.values().any(|text| defines(text, &code)) {
            missing.push(format!("no file defines {code}"));
        }
    }
    // "`vet` in `host/library/src/lib.rs`"
    for (before, after) in map.text().match_indices("` in `").map(|(at, mark)| {
        let text = map.text();
        (&text[..at], &text[at + mark.len()..])
    }) {
        let name = before.rsplit('`').next().unwrap_or_default();
        let path = after.split('`').next().unwrap_or_default();
        let file = sources.get(path);
        if file.is_some_and(|text| !defines(text, name)) {
            missing.push(format!("{path} does not define {name}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_crate_of_the_host_has_a_paragraph_in_the_map() {
    let map = Page::read("ARCHITECTURE.md");
    let folders = |parent: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(workspace().join(parent)).unwrap();
        let folders = entries.map(|entry| entry.unwrap());
        let folders = folders.filter(|entry| entry.path().join("Cargo.toml").exists());
        folders
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    };
    for name in folders("host") {
        assert!(map.text().contains(&format!("\n**`{name}`** ")), "{name}");
    }
    let mut others = folders("plugins");
    others.retain(|name| !bundled::ids().contains(name));
    for name in others {
        assert!(map.text().contains(&format!("`plugins/{name}`")), "{name}");
    }
}

/// Returns the text of every Rust file of the product, by its path from the root.
fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    for folder in ["host", "plugin-api", "plugins"] {
        collect(Path::new(folder), &mut sources);
    }
    sources
}

fn collect(folder: &Path, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(workspace().join(folder)).unwrap() {
        let path = folder.join(entry.unwrap().file_name());
        let file = workspace().join(&path);
        if file.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(file).unwrap();
            sources.insert(path.display().to_string(), text);
        }
    }
}

/// Returns `true` if a file defines an item of this name.
fn defines(text: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let kinds = [
        "struct", "enum", "trait", "type", "fn", "const", "static", "mod",
    ];
    kinds.iter().any(|kind| {
        let start = format!("{kind} {name}");
        text.match_indices(&start)
            .any(|(at, _)| ends(&text[at + start.len()..]))
    })
}
