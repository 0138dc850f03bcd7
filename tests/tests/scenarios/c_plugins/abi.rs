//! Headers of released versions against today's: existing items are unchanged, and plugins built with them still work.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::source;
use crate::harness::{Setup, workspace};

#[test]
fn a_plugin_built_with_a_released_header_works_on_this_host() {
    for header in released() {
        let setup = Setup::without_plugins();
        let plugin = source::reporting("0", "built with a released header");
        let library = setup.plugin_dir().join("x.so");
        if !source::compile_against(&header, &plugin, &[], &library) {
            return;
        }
        let host = setup.platform("p", "sinner", "{}").start();
        host.wait("its reports", |m| m.checks("p", "healthy") >= 3.0);
    }
}

#[test]
fn todays_header_only_adds_to_those_that_were_released() {
    for header in released() {
        let today = fs::read_to_string(header_of_today().join(HEADER)).unwrap();
        let Some(broken) = compare(&header, &today) else {
            return;
        };
        assert!(
            broken.is_empty(),
            "conductor_plugin.h changes what {} released:\n{broken}\n\
             Put it back as it was. New members go to the end of a struct, with a new minor version; what cannot be done so \
             takes a new major version of the API.",
            header.display()
        );
    }
}

#[test]
fn a_change_of_what_was_released_is_found_and_an_addition_is_none() {
    let header = released().remove(0);
    let text = fs::read_to_string(header.join(HEADER)).unwrap();
    let append = |text: &str| {
        let end = "} conductor_plugin_t;";
        assert!(text.contains(end));
        text.replace(end, &format!("void (*more)(void *probe);\n{end}"))
    };
    let Some(unbroken) = compare(&header, &append(&text)) else {
        return;
    };
    assert_eq!(unbroken, "", "an addition at the end");
    for (was, is) in [
        ("uint32_t reserved;", "uint64_t reserved;"),
        ("uint32_t reserved;", "uint32_t reserved; void *between;"),
        ("*name, double value);", "*name, float value);"),
        (
            "CONDUCTOR_STATUS_DEGRADED = 1",
            "CONDUCTOR_STATUS_DEGRADED = 4",
        ),
        ("char needs[512]; ", "char needs[256]; "),
    ] {
        assert!(text.contains(was), "{was}");
        let changed = text
            .replacen(was, is, 1)
            .replace("sizeof(conductor_manifest_t) == 800", "1");
        assert_ne!(compare(&header, &changed).unwrap(), "", "{is}");
        // An addition made at the same time hides no change.
        assert_ne!(compare(&header, &append(&changed)).unwrap(), "", "{is}");
    }
}

/// Returns today's changes to a released header; `None` if this machine lacks the tool.
fn compare(released: &Path, today: &str) -> Option<String> {
    if Command::new("abidiff").arg("--version").output().is_err() {
        let ci = std::env::var_os("CI");
        assert!(ci.is_none(), "CI has abidiff, from abigail-tools");
        eprintln!("skipped: there is no `abidiff` on this machine");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(HEADER), today).unwrap();
    let (old, new) = (folder.path().join("old.so"), folder.path().join("new.so"));
    if !source::compile_against(released, TYPES, &["-g"], &old) {
        return None;
    }
    source::compile_against(folder.path(), TYPES, &["-g"], &new);
    let output = Command::new("abidiff")
        .args(["--leaf-changes-only", "--no-show-locs"])
        .args([old, new])
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    let code = output.status.code().unwrap();
    // 1 and 2 are its own errors, 4 is a change, and 8 one that certainly breaks something.
    assert!(
        code & 3 == 0,
        "{report}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let types = report.split("\n\n").skip(1);
    let broken = types.filter(|changed| !only_adds(changed));
    Some(broken.collect::<Vec<_>>().join("\n\n"))
}

/// Returns `true` if abidiff reports that members were only appended to a type.
///
/// abidiff's own suppression of such changes would hide every other change of the same type too.
fn only_adds(changed: &str) -> bool {
    let mut lines = changed.trim_end().lines();
    let _name = lines.next();
    let number = |line: &str, after: &str| -> Option<u64> {
        let rest = line.split_once(after)?.1;
        rest.split(' ').next()?.parse().ok()
    };
    let size = lines
        .next()
        .and_then(|line| number(line, "type size changed from "));
    let Some(size) = size else {
        return false;
    };
    lines.all(|line| {
        line.contains(" data member insertion")
            || number(line, ", at offset ").is_some_and(|offset| offset >= size)
    })
}

/// Returns the folders of the headers in the frozen API versions.
fn released() -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace().join("tests/golden")).unwrap();
    let headers = entries.map(|entry| entry.unwrap().path().join("plugin-api/include"));
    let mut folders: Vec<_> = headers.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

fn header_of_today() -> PathBuf {
    workspace().join("plugin-api/include")
}

const HEADER: &str = "conductor_plugin.h";

/// Refers to each type behind a pointer, so that a type that grows changes nothing else.
const TYPES: &str = "#include \"conductor_plugin.h\"
const struct {
    const conductor_plugin_t *plugin;
    const conductor_host_t *host;
    const conductor_manifest_t *manifest;
    const enum conductor_status *status;
    const enum conductor_failure *failure;
    const enum conductor_level *level;
} conductor_types = {0, 0, 0, 0, 0, 0};
";
