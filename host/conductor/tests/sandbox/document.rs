//! `SECURITY.md` describes the sandbox.

use std::{env, fs, path::Path};

use conductor_sandbox as sandbox;

#[test]
fn security_md_lists_what_the_sandbox_lets_through() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../SECURITY.md");
    let text = fs::read_to_string(&path).unwrap();
    let with_files = fill(&text, "files", &sandbox::readable_files());
    let expected = fill(&with_files, "calls", &sandbox::system_calls());
    if env::var_os("UPDATE_SECURITY_MD").is_some() {
        fs::write(&path, &expected).unwrap();
        return;
    }
    assert_eq!(
        text, expected,
        "run UPDATE_SECURITY_MD=1 cargo test -p conductor --test sandbox security_md"
    );
}

/// Returns the text with new content between the marks of a generated part.
fn fill(text: &str, part: &str, content: &str) -> String {
    let begin = format!("<!-- generated: {part} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    format!("{before}{begin}{}\n<!-- end -->{after}", content.trim_end())
}
