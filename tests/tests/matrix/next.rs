//! A fictitious next minor version of the API: a field appended to the module, one to the host's functions, and a
//! method to the probe; and the host that uses them if they exist.
//!
//! It is derived from today's sources, so it is always one ahead of them.

use crate::tree::Tree;

/// Returns a plugin built with the next version.
pub(crate) fn plugin() -> Tree {
    Tree::new("next-plugin", &["plugin-api"], &change)
}

/// Returns a host, and a plugin, built with the next version.
pub(crate) fn host() -> Tree {
    Tree::new("next-host", &["plugin-api", "host"], &change)
}

/// The log of a next-version host about a plugin that has the additions.
pub(crate) const OF_A_NEW_PLUGIN: [&str; 2] = ["the plugin's news: Some(2)", "the probe's news: 3"];
/// Its log about a plugin without them: the field is missing, and the method is the default one.
pub(crate) const OF_AN_OLD_PLUGIN: [&str; 2] = ["the plugin's news: None", "the probe's news: 0"];
/// The log of a next-version plugin about a host that has the additions.
pub(crate) const OF_A_NEW_HOST: &str = "the host's news: Some(1)";
/// Its log about a host without them.
pub(crate) const OF_AN_OLD_HOST: &str = "the host's news: None";

fn change(file: &str, text: String) -> String {
    match file {
        "plugin-api/Cargo.toml" => raise_the_minor(&text),
        "plugin-api/src/abi.rs" => {
            let field = "    /// New.\n    pub news: extern \"C\" fn() -> u64,\n";
            let text = append_to(&text, "pub struct AbiPlugin {", field);
            let text = append_to(&text, "pub struct AbiHost {", field);
            append_to(
                &text,
                "pub trait AbiProbe: Send {",
                "\n    /// New.\n    fn news(&self) -> u64 {\n        0\n    }\n",
            )
        }
        "plugin-api/src/context.rs" => format!(
            "{text}\n#[expect(missing_docs)]\nimpl Context<'_> {{\n    pub fn news(&self) -> Option<u64> {{\n        \
             self.call.host.functions.news().map(|news| news())\n    }}\n}}\n"
        ),
        "plugin-api/src/export.rs" => {
            let text = begin_literals(text, "AbiPlugin", 2);
            let probe = "impl<P: Probe> AbiProbe for GuardedProbe<P> {\n";
            replace(
                &text,
                probe,
                &format!("{probe}    fn news(&self) -> u64 {{\n        3\n    }}\n\n"),
            )
        }
        "host/runtime/src/rust_abi.rs" => {
            let text = replace(
                &text,
                "        module.init()(host);\n",
                "        module.init()(host);\n        tracing::info!(\"the plugin's news: {:?}\", module.news().map(|news| news()));\n",
            );
            let check = "        match self.probe.check(";
            let text = replace(
                &text,
                check,
                &format!(
                    "        tracing::info!(\"the probe's news: {{}}\", self.probe.news());\n{check}"
                ),
            );
            begin_literals(text, "AbiHost", 1)
        }
        _ if file.ends_with(".rs") => {
            begin_literals(begin_literals(text, "AbiPlugin", 2), "AbiHost", 1)
        }
        _ => text,
    }
}

/// Prepends the new field to each literal of a struct in this text, with a function that returns `news`.
fn begin_literals(text: String, name: &str, news: u64) -> String {
    let opening = format!("{name} {{");
    let lines = text.split_inclusive('\n').map(|line| {
        let before = line.trim_end().strip_suffix(&opening).map(str::trim_start);
        match before {
            Some("" | "let module = " | "let functions = ") => {
                format!("{line}news: {{ extern \"C\" fn news() -> u64 {{ {news} }} news }},\n")
            }
            _ => line.to_owned(),
        }
    });
    lines.collect()
}

/// Appends `more` to the block that opens with `opening`.
pub(crate) fn append_to(text: &str, opening: &str, more: &str) -> String {
    let (before, after) = text
        .split_once(opening)
        .unwrap_or_else(|| panic!("{opening} is gone"));
    let (body, after) = after.split_once("\n}\n").unwrap();
    format!("{before}{opening}{body}\n{more}}}\n{after}")
}

/// Replaces a text that must occur exactly once.
#[track_caller]
pub(crate) fn replace(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "places with {old:?}");
    text.replace(old, new)
}

fn raise_the_minor(manifest: &str) -> String {
    let line = manifest
        .lines()
        .find(|line| line.starts_with("version = \""))
        .unwrap();
    let version = line.split('"').nth(1).unwrap();
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap());
    let (major, minor) = (parts.next().unwrap(), parts.next().unwrap());
    replace(
        manifest,
        line,
        &format!("version = \"{major}.{}.0\"", minor + 1),
    )
}
