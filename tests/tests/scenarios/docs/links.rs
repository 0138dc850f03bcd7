//! Links of the documentation, and the contents of the book.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use super::pages::{self, Page};
use crate::harness::workspace;

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_of_it() {
    let mut broken = Vec::new();
    for page in pages::all() {
        for link in page.links() {
            if let Err(problem) = follow(&page, &link) {
                broken.push(format!("{}: {link}: {problem}", page.path));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn the_book_contains_every_page_once() {
    let summary = Page::read("docs/SUMMARY.md");
    let listed: Vec<_> = summary
        .links()
        .into_iter()
        .map(|link| format!("docs/{link}"))
        .collect();
    let contents: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(
        listed.len(),
        contents.len(),
        "a page is listed twice: {listed:?}"
    );
    let pages = pages::all().into_iter().map(|page| page.path);
    let pages: BTreeSet<_> = pages
        .filter(|path| path.starts_with("docs/") && path != "docs/SUMMARY.md")
        .collect();
    assert_eq!(contents, pages, "docs/SUMMARY.md lists the pages of docs/");
    let renamed = pages.iter().find(|path| path.ends_with("/README.md"));
    assert_eq!(
        renamed, None,
        "mdBook makes an index.html of it, to which links do not lead"
    );
}

#[test]
fn the_readme_has_at_most_200_lines() {
    let lines = Page::read("README.md").lines();
    assert!(lines <= 200, "{lines} lines: move details to docs/");
}

/// Follows a link of a page; links to other sites are not followed.
fn follow(page: &Page, link: &str) -> Result<(), String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let (target, in_book) = match path.strip_prefix(REPOSITORY) {
        Some("") => ("README.md".to_owned(), false),
        Some(path) => {
            let path = ["/blob/main/", "/tree/main/"]
                .iter()
                .find_map(|kind| path.strip_prefix(kind));
            match path {
                Some(path) => (path.to_owned(), false),
                // Issues, releases and the like are not files.
                None => return Ok(()),
            }
        }
        None if path.contains("://") => return Ok(()),
        None if path.is_empty() => (page.path.clone(), true),
        None => (join(&page.path, path)?, true),
    };
    if !workspace().join(&target).exists() {
        return Err(format!("there is no {target}"));
    }
    let is_page = target.ends_with(".md");
    if in_book && page.path.starts_with("docs/") && !(is_page && target.starts_with("docs/")) {
        return Err(format!(
            "it leaves the book: link to a page of docs/, or to {REPOSITORY}/blob/main/{target}"
        ));
    }
    if !anchor.is_empty() && is_page && !Page::read(&target).anchors().contains(anchor) {
        return Err(format!("{target} has no such heading"));
    }
    Ok(())
}

/// Returns the path from the root of the repository that a link on a page names.
fn join(page: &str, link: &str) -> Result<String, String> {
    let mut joined = PathBuf::new();
    let folder = Path::new(page).parent().unwrap();
    for part in folder.join(link).components() {
        match part {
            Component::Normal(name) => joined.push(name),
            Component::ParentDir if joined.pop() => {}
            Component::CurDir => {}
            _ => return Err("it leaves the repository".to_owned()),
        }
    }
    Ok(joined.display().to_string())
}

const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");
