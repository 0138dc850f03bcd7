//! The page about bugs of other monitors: the tests that it names.

use std::{fs, path::Path};

use super::pages::Page;
use crate::harness::workspace;

#[test]
fn every_test_for_a_bug_of_another_monitor_exists() {
    let page = Page::read("docs/internals/known-bugs-elsewhere.md");
    let rows = page.text().lines().filter(|line| line.starts_with("| ["));
    let mut wrong = Vec::new();
    let mut tests = 0;
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, report, _, probe, result, _] = cells[..] else {
            panic!("{row}: a row has four cells");
        };
        for name in result.split('`').skip(1).step_by(2) {
            // Others are probes.
            if !name.contains('_') {
                continue;
            }
            tests += 1;
            let (krate, name) = match name.strip_prefix("net::") {
                Some(name) => ("net", name),
                None => (probe, name),
            };
            let sources = workspace().join("plugins").join(krate).join("src");
            if !has(&sources, &format!("fn {name}()")) {
                wrong.push(format!("{report}: plugins/{krate} has no test {name}"));
            }
        }
    }
    assert!(tests > 0, "the page names no test");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Returns `true` if a file in the folder, or below it, contains the text.
fn has(folder: &Path, text: &str) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return has(&path, text);
        }
        fs::read_to_string(&path).is_ok_and(|source| source.contains(text))
    })
}
