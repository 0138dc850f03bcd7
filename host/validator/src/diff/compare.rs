//! The changes between two versions of a plugin, and the version step that each requires.
//!
//! The user of the plugin decides: a config, a dashboard or an alert that worked with the old version must work with
//! the new one, otherwise the step is major.
//!
//! | what | change | step |
//! |---|---|---|
//! | id | another one | major: it is another plugin |
//! | API | another major version | major: the hosts that ran it refuse it |
//! | | another minor or patch version, the other door | patch: hosts work with both |
//! | needs | one added | major: an existing `allow` does not grant it |
//! | | `network` or `unix-sockets` removed | major: an `allow` that names it is refused |
//! | | a path removed | patch |
//! | libraries | one added | minor: it must be installed |
//! | | one removed | patch |
//! | config | see [`schema`](super::schema) | |
//! | measurements | one removed | major: a query for it finds nothing |
//! | | one added | minor |
//! | name, exported symbols, how checks run, code | any | patch |

use std::collections::BTreeSet;

use conductor_plugin_api::manifest::{Door, Manifest, Need};
use serde::Serialize;
use serde_json::Value;

use super::{schema, step::Step};

/// The facts about one of the two versions.
pub(super) struct Facts {
    pub(super) sha256: String,
    pub(super) manifest: Manifest,
    pub(super) libraries: BTreeSet<String>,
    pub(super) symbols: BTreeSet<String>,
    pub(super) schema: Value,
    pub(super) asynchronous: bool,
    /// The names of a check's measurements, if one was made.
    pub(super) measurements: Option<BTreeSet<String>>,
}

/// One change.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Change {
    pub(super) what: &'static str,
    pub(super) change: String,
    pub(super) step: Step,
}

impl Change {
    pub(super) fn new(what: &'static str, change: impl Into<String>, step: Step) -> Self {
        Self {
            what,
            change: change.into(),
            step,
        }
    }
}

/// Returns all changes, in the order of the table.
pub(super) fn changes(old: &Facts, new: &Facts) -> Vec<Change> {
    let mut changes = Vec::new();
    manifest(&old.manifest, &new.manifest, &mut changes);
    let names = |needs: &[Need]| needs.iter().map(ToString::to_string).collect();
    let mut sets = |what, old: &BTreeSet<String>, new: &BTreeSet<String>, added, removed| {
        let gone = old.difference(new);
        let gone = gone.map(|name| Change::new(what, format!("{name} removed"), removed));
        changes.extend(gone);
        let more = new.difference(old);
        changes.extend(more.map(|name| Change::new(what, format!("{name} added"), added)));
    };
    let is_path = |need: &Need| matches!(need, Need::Read(_) | Need::Run(_));
    let split = |manifest: &Manifest| -> (Vec<Need>, Vec<Need>) {
        manifest.needs.iter().cloned().partition(is_path)
    };
    let ((old_paths, old_words), (new_paths, new_words)) =
        (split(&old.manifest), split(&new.manifest));
    let need = "need";
    sets(
        need,
        &names(&old_words),
        &names(&new_words),
        Step::Major,
        Step::Major,
    );
    sets(
        need,
        &names(&old_paths),
        &names(&new_paths),
        Step::Major,
        Step::Patch,
    );
    sets(
        "library",
        &old.libraries,
        &new.libraries,
        Step::Minor,
        Step::Patch,
    );
    sets(
        "symbol",
        &old.symbols,
        &new.symbols,
        Step::Patch,
        Step::Patch,
    );
    if let (Some(old), Some(new)) = (&old.measurements, &new.measurements) {
        sets("measurement", old, new, Step::Minor, Step::Major);
    }
    if old.asynchronous != new.asynchronous {
        let how = |asynchronous| match asynchronous {
            true => "asynchronous",
            false => "blocking",
        };
        let change = format!("{} → {}", how(old.asynchronous), how(new.asynchronous));
        changes.push(Change::new("checks", change, Step::Patch));
    }
    changes.extend(schema::changes(&old.schema, &new.schema));
    if changes.is_empty() && old.sha256 != new.sha256 {
        changes.push(Change::new("code", "nothing else to be seen", Step::Patch));
    }
    changes
}

fn manifest(old: &Manifest, new: &Manifest, changes: &mut Vec<Change>) {
    let mut differs = |what, from: String, to: String, step| {
        if from != to {
            changes.push(Change::new(what, format!("{from} → {to}"), step));
        }
    };
    differs("id", old.id.clone(), new.id.clone(), Step::Major);
    let api = if old.api.major == new.api.major {
        Step::Patch
    } else {
        Step::Major
    };
    differs("API", old.api.to_string(), new.api.to_string(), api);
    let door = |manifest: &Manifest| match manifest.door {
        Door::Rust => "rust".to_owned(),
        Door::C => "c".to_owned(),
    };
    differs("door", door(old), door(new), Step::Patch);
    differs("name", old.name.clone(), new.name.clone(), Step::Patch);
}

#[cfg(test)]
mod tests {
    use conductor_plugin_api::manifest::ApiVersion;
    use serde_json::json;

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn facts() -> Facts {
        Facts {
            sha256: "one".into(),
            manifest: Manifest {
                api: ApiVersion {
                    major: 1,
                    minor: 0,
                    patch: 0,
                },
                door: Door::Rust,
                panics_unwind: true,
                id: "shop".into(),
                version: "1.0.0".into(),
                name: "Shop".into(),
                needs: vec![Need::Network, Need::Read("/a".into())],
            },
            libraries: set(&["libc.so.6"]),
            symbols: set(&["door"]),
            schema: json!({"type": "object"}),
            asynchronous: false,
            measurements: Some(set(&["total_seconds"])),
        }
    }

    #[test]
    fn each_change_asks_for_its_step() {
        type Edit = fn(&mut Facts);
        let table: [(Edit, &str, Step); 16] = [
            (
                |f| f.manifest.id = "store".into(),
                "id: shop → store",
                Step::Major,
            ),
            (
                |f| f.manifest.api.major = 2,
                "API: 1.0.0 → 2.0.0",
                Step::Major,
            ),
            (
                |f| f.manifest.api.minor = 1,
                "API: 1.0.0 → 1.1.0",
                Step::Patch,
            ),
            (|f| f.manifest.door = Door::C, "door: rust → c", Step::Patch),
            (
                |f| f.manifest.name = "S".into(),
                "name: Shop → S",
                Step::Patch,
            ),
            (
                |f| f.manifest.needs.push(Need::UnixSockets),
                "need: unix-sockets added",
                Step::Major,
            ),
            (
                |f| f.manifest.needs.push(Need::Run("/b".into())),
                "need: run /b added",
                Step::Major,
            ),
            (
                |f| drop(f.manifest.needs.remove(0)),
                "need: network removed",
                Step::Major,
            ),
            (
                |f| drop(f.manifest.needs.remove(1)),
                "need: read /a removed",
                Step::Patch,
            ),
            (
                |f| {
                    f.libraries.insert("libx.so".into());
                },
                "library: libx.so added",
                Step::Minor,
            ),
            (
                |f| f.libraries.clear(),
                "library: libc.so.6 removed",
                Step::Patch,
            ),
            (|f| f.symbols.clear(), "symbol: door removed", Step::Patch),
            (
                |f| f.measurements = Some(set(&[])),
                "measurement: total_seconds removed",
                Step::Major,
            ),
            (
                |f| f.measurements = Some(set(&["total_seconds", "x"])),
                "measurement: x added",
                Step::Minor,
            ),
            (
                |f| f.asynchronous = true,
                "checks: blocking → asynchronous",
                Step::Patch,
            ),
            (
                |f| f.sha256 = "two".into(),
                "code: nothing else to be seen",
                Step::Patch,
            ),
        ];
        for (edit, text, step) in table {
            let mut new = facts();
            edit(&mut new);
            let found = changes(&facts(), &new);
            let shown: Vec<_> = found
                .iter()
                .map(|c| (format!("{}: {}", c.what, c.change), c.step))
                .collect();
            assert_eq!(shown, [(text.to_owned(), step)]);
        }
    }

    #[test]
    fn what_was_not_measured_is_not_compared() {
        let mut new = facts();
        new.measurements = None;
        assert_eq!(changes(&facts(), &new), []);
    }
}
