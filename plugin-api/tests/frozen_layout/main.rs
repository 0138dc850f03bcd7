//! The frozen part of the ABI stays unchanged.
//!
//! Every released minor version has a folder in `tests/golden` with a `layout.txt`: everything that crosses between
//! host and plugin, as `abi_stable` describes it to its check before a plugin is loaded. Today's ABI must contain each
//! of them, and may append only items that a host and a plugin can work without.
#![cfg(target_pointer_width = "64")] // The sizes are those of 64-bit machines.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, also in a function of its own"
)]

mod comparison;
mod description;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use comparison::{Difference, differences};
use conductor_plugin_api::manifest::ApiVersion;

#[test]
fn what_earlier_versions_froze_is_unchanged() {
    let today = today();
    for version in frozen() {
        let then = fs::read_to_string(layout_of(&version)).unwrap();
        let found: Vec<_> = differences(&then, today)
            .into_iter()
            .filter(|difference| matches!(difference, Difference::Changed(_)))
            .collect();
        assert!(found.is_empty(), "{}", changed(&version, &found));
    }
}

#[test]
fn what_was_appended_is_part_of_a_new_minor_version() {
    let today = today();
    let current = current();
    let then = fs::read_to_string(layout_of(&current));
    let Ok(then) = then else {
        panic!(
            "API {current} is not frozen yet: {}",
            how_to_freeze(&current)
        );
    };
    let found: Vec<_> = differences(&then, today)
        .into_iter()
        .filter(|difference| matches!(difference, Difference::Appended(_)))
        .collect();
    assert!(found.is_empty(), "{}", appended(&current, &found));
}

/// Advice for a change that breaks released plugins.
fn changed(version: &str, found: &[Difference]) -> String {
    format!(
        "the ABI that API {version} froze was changed:\n{}\n\
         Plugins that were built with {version} would be refused, or worse. Take the change back, and append instead:\n\
         - a field goes to the end of `AbiPlugin` or `AbiHost`, a method with a body to the end of `AbiProbe`;\n\
         - what a report or a failure has to say goes into their `extra`;\n\
         - a status, a kind or a level is one more constant.\n\
         Then raise the minor version. What cannot be appended needs another major version, and loses every plugin \
         there is.\n\
         The policy is written at the top of plugin-api/src/abi.rs.",
        lines(found)
    )
}

/// Advice for an allowed addition.
fn appended(version: &str, found: &[Difference]) -> String {
    format!(
        "the ABI has grown since API {version} was frozen:\n{}\n\
         That is allowed, in a new minor version: raise the one in plugin-api/Cargo.toml, write down under \"ABI\" in \
         CHANGELOG.md what is new and what a plugin and a host do without it, and {}",
        lines(found),
        how_to_freeze("that version")
    )
}

fn how_to_freeze(version: &str) -> String {
    format!(
        "freeze {version} with `tests/golden/freeze`, which keeps its sources and its layout; see tests/golden/README.md."
    )
}

fn lines(found: &[Difference]) -> String {
    let lines: Vec<_> = found.iter().map(|found| format!("  {found}")).collect();
    lines.join("\n")
}

/// Returns today's ABI; the layout of the current version while it is being frozen.
fn today() -> &'static str {
    static TODAY: OnceLock<String> = OnceLock::new();
    TODAY.get_or_init(|| {
        let today = description::describe();
        if std::env::var_os(FREEZE).is_some() {
            fs::write(layout_of(&current()), &today).unwrap();
        }
        today
    })
}

fn current() -> String {
    let ApiVersion { major, minor, .. } = ApiVersion::CURRENT;
    format!("{major}.{minor}")
}

/// Returns the frozen versions of this major version.
fn frozen() -> Vec<String> {
    let major = format!("{}.", ApiVersion::CURRENT.major);
    let mut versions: Vec<_> = fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(&major))
        .collect();
    versions.sort();
    versions
}

fn layout_of(version: &str) -> PathBuf {
    golden().join(version).join("layout.txt")
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// The variable by which `tests/golden/freeze` requests the layout.
const FREEZE: &str = "CONDUCTOR_FREEZE";
