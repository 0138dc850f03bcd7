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
//! | metrics | one removed, or with other labels | major: a query for it finds nothing, or something else |
//! | | one added | minor |
//! | | another help text | patch |
//! | measurements | one removed | major: a query for it finds nothing |
//! | | one added | minor |
//! | name, description, author, licence, exported symbols, how checks run, code | any | patch |

use std::collections::{BTreeMap, BTreeSet};

use conductor_plugin_api::manifest::{Door, Manifest, Need};
use serde::Serialize;
use serde_json::Value;

use super::{schema, step::VersionStep};

/// The facts about one of the two versions.
pub(super) struct VersionFacts {
    pub(super) sha256: String,
    pub(super) manifest: Manifest,
    pub(super) libraries: BTreeSet<String>,
    pub(super) symbols: BTreeSet<String>,
    pub(super) schema: Value,
    pub(super) asynchronous: bool,
    /// The declared metrics by their full names.
    pub(super) metrics: BTreeMap<String, MetricFacts>,
    /// The names of a check's measurements, if one was made.
    pub(super) measurements: Option<BTreeSet<String>>,
}

/// A declared metric; its kind and its unit are in its full name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct MetricFacts {
    /// The names of its labels, in order.
    pub(super) labels: Vec<String>,
    pub(super) help: String,
}

/// One change.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct VersionChange {
    pub(super) what: &'static str,
    pub(super) change: String,
    pub(super) step: VersionStep,
}

impl VersionChange {
    pub(super) fn new(what: &'static str, change: impl Into<String>, step: VersionStep) -> Self {
        Self {
            what,
            change: change.into(),
            step,
        }
    }
}

/// Returns all changes, in the order of the table.
pub(super) fn changes(old: &VersionFacts, new: &VersionFacts) -> Vec<VersionChange> {
    let mut changes = Vec::new();
    manifest(&old.manifest, &new.manifest, &mut changes);
    let names = |needs: &[Need]| needs.iter().map(ToString::to_string).collect();
    let mut sets = |what, old: &BTreeSet<String>, new: &BTreeSet<String>, added, removed| {
        let gone = old.difference(new);
        let gone = gone.map(|name| VersionChange::new(what, format!("{name} removed"), removed));
        changes.extend(gone);
        let more = new.difference(old);
        changes.extend(more.map(|name| VersionChange::new(what, format!("{name} added"), added)));
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
        VersionStep::Major,
        VersionStep::Major,
    );
    sets(
        need,
        &names(&old_paths),
        &names(&new_paths),
        VersionStep::Major,
        VersionStep::Patch,
    );
    sets(
        "library",
        &old.libraries,
        &new.libraries,
        VersionStep::Minor,
        VersionStep::Patch,
    );
    sets(
        "symbol",
        &old.symbols,
        &new.symbols,
        VersionStep::Patch,
        VersionStep::Patch,
    );
    let names = |facts: &VersionFacts| facts.metrics.keys().cloned().collect();
    sets(
        "metric",
        &names(old),
        &names(new),
        VersionStep::Minor,
        VersionStep::Major,
    );
    if let (Some(old), Some(new)) = (&old.measurements, &new.measurements) {
        sets(
            "measurement",
            old,
            new,
            VersionStep::Minor,
            VersionStep::Major,
        );
    }
    for (name, before) in &old.metrics {
        let Some(now) = new.metrics.get(name) else {
            continue;
        };
        if now.labels != before.labels {
            let list = |facts: &MetricFacts| format!("{{{}}}", facts.labels.join(","));
            let change = format!("{name}{} → {name}{}", list(before), list(now));
            changes.push(VersionChange::new("metric", change, VersionStep::Major));
        }
        if now.help != before.help {
            let change = format!("{name}: help {:?} → {:?}", before.help, now.help);
            changes.push(VersionChange::new("metric", change, VersionStep::Patch));
        }
    }
    if old.asynchronous != new.asynchronous {
        let how = |asynchronous| match asynchronous {
            true => "asynchronous",
            false => "blocking",
        };
        let change = format!("{} → {}", how(old.asynchronous), how(new.asynchronous));
        changes.push(VersionChange::new("checks", change, VersionStep::Patch));
    }
    changes.extend(schema::changes(&old.schema, &new.schema));
    if changes.is_empty() && old.sha256 != new.sha256 {
        changes.push(VersionChange::new(
            "code",
            "nothing else to be seen",
            VersionStep::Patch,
        ));
    }
    changes
}

fn manifest(old: &Manifest, new: &Manifest, changes: &mut Vec<VersionChange>) {
    let mut differs = |what, from: String, to: String, step| {
        if from != to {
            changes.push(VersionChange::new(what, format!("{from} → {to}"), step));
        }
    };
    differs("id", old.id.clone(), new.id.clone(), VersionStep::Major);
    let api = if old.api.major == new.api.major {
        VersionStep::Patch
    } else {
        VersionStep::Major
    };
    differs("API", old.api.to_string(), new.api.to_string(), api);
    let door = |manifest: &Manifest| match manifest.door {
        Door::Rust => "rust".to_owned(),
        Door::C => "c".to_owned(),
    };
    differs("door", door(old), door(new), VersionStep::Patch);
    for (what, before, now) in [
        ("name", &old.name, &new.name),
        ("description", &old.description, &new.description),
        ("author", &old.author, &new.author),
        ("licence", &old.licence, &new.licence),
    ] {
        let shown = |text: &str| match text {
            "" => "none".to_owned(),
            text => text.to_owned(),
        };
        differs(what, shown(before), shown(now), VersionStep::Patch);
    }
}

#[cfg(test)]
mod tests {
    use conductor_plugin_api::manifest::ApiVersion;
    use serde_json::json;

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn metric(labels: &[&str], help: &str) -> MetricFacts {
        MetricFacts {
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            help: help.to_owned(),
        }
    }

    fn facts() -> VersionFacts {
        VersionFacts {
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
                description: String::new(),
                author: String::new(),
                licence: String::new(),
            },
            libraries: set(&["libc.so.6"]),
            symbols: set(&["door"]),
            schema: json!({"type": "object"}),
            asynchronous: false,
            metrics: BTreeMap::from([("age_seconds".to_owned(), metric(&["file"], "Age."))]),
            measurements: Some(set(&["total_seconds"])),
        }
    }

    #[test]
    fn each_change_asks_for_its_step() {
        type Edit = fn(&mut VersionFacts);
        let table: [(Edit, &str, VersionStep); 21] = [
            (
                |f| f.manifest.licence = "MIT".into(),
                "licence: none → MIT",
                VersionStep::Patch,
            ),
            (
                |f| {
                    drop(
                        f.metrics
                            .insert("age_seconds".into(), metric(&["file"], "Its age.")),
                    )
                },
                "metric: age_seconds: help \"Age.\" → \"Its age.\"",
                VersionStep::Patch,
            ),
            (
                |f| f.manifest.id = "store".into(),
                "id: shop → store",
                VersionStep::Major,
            ),
            (
                |f| f.manifest.api.major = 2,
                "API: 1.0.0 → 2.0.0",
                VersionStep::Major,
            ),
            (
                |f| f.manifest.api.minor = 1,
                "API: 1.0.0 → 1.1.0",
                VersionStep::Patch,
            ),
            (
                |f| f.manifest.door = Door::C,
                "door: rust → c",
                VersionStep::Patch,
            ),
            (
                |f| f.manifest.name = "S".into(),
                "name: Shop → S",
                VersionStep::Patch,
            ),
            (
                |f| f.manifest.needs.push(Need::UnixSockets),
                "need: unix-sockets added",
                VersionStep::Major,
            ),
            (
                |f| f.manifest.needs.push(Need::Run("/b".into())),
                "need: run /b added",
                VersionStep::Major,
            ),
            (
                |f| drop(f.manifest.needs.remove(0)),
                "need: network removed",
                VersionStep::Major,
            ),
            (
                |f| drop(f.manifest.needs.remove(1)),
                "need: read /a removed",
                VersionStep::Patch,
            ),
            (
                |f| {
                    f.libraries.insert("libx.so".into());
                },
                "library: libx.so added",
                VersionStep::Minor,
            ),
            (
                |f| f.libraries.clear(),
                "library: libc.so.6 removed",
                VersionStep::Patch,
            ),
            (
                |f| f.symbols.clear(),
                "symbol: door removed",
                VersionStep::Patch,
            ),
            (
                |f| f.metrics.clear(),
                "metric: age_seconds removed",
                VersionStep::Major,
            ),
            (
                |f| drop(f.metrics.insert("x".into(), metric(&[], ""))),
                "metric: x added",
                VersionStep::Minor,
            ),
            (
                |f| drop(f.metrics.insert("age_seconds".into(), metric(&[], "Age."))),
                "metric: age_seconds{file} → age_seconds{}",
                VersionStep::Major,
            ),
            (
                |f| f.measurements = Some(set(&[])),
                "measurement: total_seconds removed",
                VersionStep::Major,
            ),
            (
                |f| f.measurements = Some(set(&["total_seconds", "x"])),
                "measurement: x added",
                VersionStep::Minor,
            ),
            (
                |f| f.asynchronous = true,
                "checks: blocking → asynchronous",
                VersionStep::Patch,
            ),
            (
                |f| f.sha256 = "two".into(),
                "code: nothing else to be seen",
                VersionStep::Patch,
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
