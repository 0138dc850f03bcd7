//! Everything known about a library without running it, for people and programs.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use conductor_plugin_api::manifest::{Door, Manifest};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{
    FileRefusal, LibraryHash, ObjectFormat, ObjectPurpose, TargetMachine, VettingRule,
    refusal::{RuleViolation, printable_path},
};

/// The facts about a file, and the verdict of each rule.
///
/// Facts that could not be read are absent. Its `Display` is a table of several lines of printable text.
#[derive(Clone, Debug, Serialize)]
pub struct LibraryInspection {
    /// The file, as given.
    #[serde(serialize_with = "path_as_text")]
    pub file: PathBuf,
    /// Its size in bytes.
    pub size: Option<usize>,
    /// The hash of its content.
    pub sha256: Option<LibraryHash>,
    /// The object file format.
    pub format: Option<ObjectFormat>,
    /// The target it is built for.
    pub machine: Option<TargetMachine>,
    /// Its purpose.
    pub kind: Option<ObjectPurpose>,
    /// Its manifest.
    #[serde(serialize_with = "manifest_as_map")]
    pub manifest: Option<Manifest>,
    /// The libraries it needs to be loaded; printable.
    pub libraries: Vec<String>,
    /// Every rule but the store's, in order; a library is accepted if none refuses it.
    pub verdicts: Vec<RuleVerdict>,
    /// `true` if it is intact, and does not claim to be a plugin.
    #[serde(skip)]
    pub(super) no_manifest: bool,
}

/// The verdict of one rule on a file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RuleVerdict {
    /// The rule.
    pub rule: VettingRule,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: RuleOutcome,
    /// The basis for not refusing the file, or why the rule was not applied; printable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The possible outcomes of a rule.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum RuleOutcome {
    /// The file complies.
    Passed,
    /// The file violates it.
    Refused {
        /// The finding; printable.
        found: String,
        /// The fix; printable.
        cure: String,
    },
    /// Not applicable: the file could not be read that far, or this OS has no such rule.
    Open,
}

impl LibraryInspection {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            size: None,
            sha256: None,
            format: None,
            machine: None,
            kind: None,
            manifest: None,
            libraries: Vec::new(),
            verdicts: Vec::new(),
            no_manifest: false,
        }
    }

    /// Returns the first rule the file violates, if any.
    pub fn refusal(&self) -> Option<FileRefusal> {
        self.verdicts
            .iter()
            .find_map(|verdict| match &verdict.outcome {
                RuleOutcome::Refused { found, cure } => Some(FileRefusal {
                    no_manifest: self.no_manifest,
                    id: self
                        .manifest
                        .as_ref()
                        .map(|manifest| manifest.id.as_str().into()),
                    ..FileRefusal::new(&self.file, verdict.rule, RuleViolation::new(found, cure))
                }),
                RuleOutcome::Passed | RuleOutcome::Open => None,
            })
    }

    /// Records a rule's verdict, and returns its value if it passed.
    pub(super) fn judge<T>(
        &mut self,
        rule: VettingRule,
        result: Result<T, RuleViolation>,
    ) -> Option<T> {
        let (outcome, passed) = match result {
            Ok(passed) => (RuleOutcome::Passed, Some(passed)),
            Err(RuleViolation { found, cure }) => (RuleOutcome::Refused { found, cure }, None),
        };
        self.verdicts.push(RuleVerdict {
            rule,
            outcome,
            note: None,
        });
        passed
    }

    /// Records a rule that does not refuse the file, with the basis for that.
    pub(super) fn note(&mut self, rule: VettingRule, outcome: RuleOutcome, note: String) {
        self.verdicts.push(RuleVerdict {
            rule,
            outcome,
            note: Some(note),
        });
    }

    /// Fills in the rules that were not applied.
    pub(super) fn leave_the_rest_open(&mut self) {
        for rule in VettingRule::ON_FILES {
            if !self.verdicts.iter().any(|verdict| verdict.rule == rule) {
                self.verdicts.push(RuleVerdict {
                    rule,
                    outcome: RuleOutcome::Open,
                    note: None,
                });
            }
        }
        self.verdicts.sort_by_key(|verdict| verdict.rule);
    }
}

impl LibraryInspection {
    /// Returns the facts, each with its name; printable.
    #[must_use]
    pub fn facts(&self) -> Vec<[String; 2]> {
        let said = |tell: fn(&Manifest) -> String| self.manifest.as_ref().map(tell);
        let facts = [
            ("file", Some(printable_path(&self.file))),
            ("size", self.size.map(|size| format!("{size} bytes"))),
            ("sha256", self.sha256.map(|hash| hash.to_string())),
            ("format", self.format.map(|format| format.to_string())),
            (
                "built for",
                self.machine.as_ref().map(TargetMachine::to_string),
            ),
            ("kind", self.kind.map(|kind| kind.to_string())),
            ("plugin", said(|m| m.id.clone())),
            ("version", said(|m| m.version.clone())),
            ("name", said(|m| m.name.clone())),
            ("API", said(|m| m.api.to_string())),
            ("door", said(|m| door(m.door).to_owned())),
            ("panics", said(|m| panics(m).to_owned())),
            ("needs", said(needs)),
            ("description", said(|m| or_not_stated(&m.description))),
            ("author", said(|m| or_not_stated(&m.author))),
            ("licence", said(|m| or_not_stated(&m.licence))),
            ("libraries", self.format.map(|_| self.libraries.join(" "))),
        ];
        let unknown = || "unknown".to_owned();
        let facts = facts.into_iter();
        facts
            .map(|(name, value)| [name.to_owned(), value.unwrap_or_else(unknown)])
            .collect()
    }

    /// Returns each rule with its outcome; printable.
    #[must_use]
    pub fn outcomes(&self) -> Vec<[String; 2]> {
        let outcome = |verdict: &RuleVerdict| match (&verdict.outcome, &verdict.note) {
            (RuleOutcome::Passed, None) => "passed".to_owned(),
            (RuleOutcome::Passed, Some(note)) => format!("passed: {note}"),
            (RuleOutcome::Open, None) => "not checked".to_owned(),
            (RuleOutcome::Open, Some(note)) => note.clone(),
            (RuleOutcome::Refused { found, cure }, _) => format!("REFUSED: {found}; {cure}"),
        };
        let verdicts = self.verdicts.iter();
        verdicts
            .map(|verdict| [verdict.rule.to_string(), outcome(verdict)])
            .collect()
    }
}

impl fmt::Display for LibraryInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for [name, value] in self.facts() {
            writeln!(f, "{name:<14} {value}")?;
        }
        writeln!(f)?;
        for [rule, outcome] in self.outcomes() {
            writeln!(f, "{rule:<14} {outcome}")?;
        }
        Ok(())
    }
}

fn door(door: Door) -> &'static str {
    match door {
        Door::Rust => "rust",
        Door::C => "c",
    }
}

fn panics(manifest: &Manifest) -> &'static str {
    match manifest.door {
        Door::C => "none",
        Door::Rust if manifest.panics_unwind => "unwind",
        Door::Rust => "abort",
    }
}

fn needs(manifest: &Manifest) -> String {
    if manifest.needs.is_empty() {
        return "nothing but what every plugin may do".to_owned();
    }
    let needs: Vec<String> = manifest.needs.iter().map(ToString::to_string).collect();
    needs.join(", ")
}

fn or_not_stated(text: &str) -> String {
    match text {
        "" => "not stated".to_owned(),
        text => text.to_owned(),
    }
}

fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&printable_path(path))
}

fn manifest_as_map<S: Serializer>(
    manifest: &Option<Manifest>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(manifest) = manifest else {
        return serializer.serialize_none();
    };
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("id", &manifest.id)?;
    map.serialize_entry("version", &manifest.version)?;
    map.serialize_entry("name", &manifest.name)?;
    map.serialize_entry("api", &manifest.api.to_string())?;
    map.serialize_entry("door", door(manifest.door))?;
    map.serialize_entry("panics", panics(manifest))?;
    let needs: Vec<String> = manifest.needs.iter().map(ToString::to_string).collect();
    map.serialize_entry("needs", &needs)?;
    map.serialize_entry("description", &manifest.description)?;
    map.serialize_entry("author", &manifest.author)?;
    map.serialize_entry("licence", &manifest.licence)?;
    map.end()
}
