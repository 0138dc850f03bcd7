//! The Markdown files of the project, as a reader sees them.

use std::{collections::BTreeSet, fs, path::Path};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::harness::workspace;

/// A Markdown file.
pub(super) struct Page {
    /// Its path from the root of the repository.
    pub(super) path: String,
    text: String,
}

impl Page {
    /// Reads the page at this path from the root of the repository, with the files that it includes.
    pub(super) fn read(path: &str) -> Self {
        let text = fs::read_to_string(workspace().join(path)).unwrap();
        let folder = workspace().join(path).parent().unwrap().to_owned();
        let lines = text.lines().map(|line| match included(line) {
            Some(target) => include(&folder, target),
            None => line.to_owned(),
        });
        Self {
            path: path.to_owned(),
            text: lines.collect::<Vec<_>>().join("\n"),
        }
    }

    /// Returns the number of its lines.
    pub(super) fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// Returns its text as Markdown.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the targets of its links and images.
    pub(super) fn links(&self) -> Vec<String> {
        let links = self.events().filter_map(|event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some(dest_url.into_string())
            }
            _ => None,
        });
        links.collect()
    }

    /// Returns the anchors of its headings, as GitHub and mdBook make them.
    pub(super) fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        let mut heading: Option<String> = None;
        for event in self.events() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    heading
                        .iter_mut()
                        .for_each(|heading| heading.push_str(&text));
                }
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap_or_default());
                    let twin = (1..).map(|n| format!("{anchor}-{n}"));
                    let mut names = std::iter::once(anchor.clone()).chain(twin);
                    anchors.insert(names.find(|name| !anchors.contains(name)).unwrap());
                }
                _ => {}
            }
        }
        anchors
    }

    /// Returns its inline code.
    pub(super) fn code(&self) -> Vec<String> {
        let code = self.events().filter_map(|event| match event {
            Event::Code(code) => Some(code.into_string()),
            _ => None,
        });
        code.collect()
    }

    /// Returns its code blocks in this language.
    pub(super) fn blocks(&self, language: &str) -> Vec<String> {
        let mut blocks = Vec::new();
        let mut block: Option<String> = None;
        for event in self.events() {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) if *info == *language => {
                    block = Some(String::new());
                }
                Event::Text(text) => block.iter_mut().for_each(|block| block.push_str(&text)),
                Event::End(TagEnd::CodeBlock) => blocks.extend(block.take()),
                _ => {}
            }
        }
        blocks
    }

    fn events(&self) -> impl Iterator<Item = Event<'_>> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES)
    }
}

/// Returns the pages that are maintained: those at the root, the book, and the guides of the folders.
pub(super) fn all() -> Vec<Page> {
    let at_root = [
        "README",
        "ARCHITECTURE",
        "CONTRIBUTING",
        "SECURITY",
        "CHANGELOG",
    ];
    let mut paths: Vec<String> = at_root.map(|name| format!("{name}.md")).into();
    for folder in ["docs", "examples"] {
        collect(folder, &mut paths);
    }
    paths.push("fuzz/README.md".to_owned());
    paths.iter().map(|path| Page::read(path)).collect()
}

/// Adds the paths of the Markdown files below a folder.
fn collect(folder: &str, paths: &mut Vec<String>) {
    let entries = fs::read_dir(workspace().join(folder)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let path = format!("{folder}/{name}");
        if workspace().join(&path).is_dir() {
            collect(&path, paths);
        } else if name.ends_with(".md") {
            paths.push(path);
        }
    }
}

/// Returns the target of a line that includes another file.
fn included(line: &str) -> Option<&str> {
    line.strip_prefix("{{#include ")?.strip_suffix("}}")
}

/// Returns an included file, or the part of it between two of mdBook's anchors.
fn include(folder: &Path, target: &str) -> String {
    let (file, part) = target.split_once(':').unwrap_or((target, ""));
    let text = fs::read_to_string(folder.join(file)).unwrap();
    if part.is_empty() {
        return text;
    }
    let rest = text.split_once(&format!("ANCHOR: {part} -->\n"));
    let inner = rest.and_then(|(_, rest)| rest.split_once(&format!("<!-- ANCHOR_END: {part}")));
    inner.expect("the anchors of an included part").0.to_owned()
}

/// Returns the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
