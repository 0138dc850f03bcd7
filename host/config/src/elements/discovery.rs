//! `[discovery.<name>]`: targets that other programs list in files, each of which becomes a platform.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use conductor_discovery::{DiscoveryLimits, FileSource, NamePattern, RelabelRule, Relabelling};
use conductor_runtime::wording::{listed, nearest};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    check::TableValidator,
    duration::{self, given},
    platform::label_rule,
};
use crate::expansion::TemplateSet;

/// Files with targets, and the way in which these become platforms.
#[derive(Clone, Debug)]
pub struct DiscoveryConfig {
    /// The template of its platforms.
    pub template: String,
    /// Paths and patterns of the files.
    pub file_sd: Vec<PathBuf>,
    /// Period between two readings: 1 second to 1 day.
    pub refresh: Duration,
    /// The targets that are kept, and the labels that are renamed.
    pub relabelling: Relabelling,
    /// Labels of all its platforms, which those of a target override.
    pub labels: BTreeMap<String, String>,
    /// The names of its platforms.
    pub name: NamePattern,
}

/// `[discovery.<name>]`, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Discovery",
    description = "Targets from files in the format of Prometheus's `file_sd`, each of which becomes a platform."
)]
pub(crate) struct RawDiscoveryConfig {
    /// Template of the platforms; the target of each is `{{target}}`.
    template: String,
    /// Files in JSON or YAML (`.json`, `.yml`, `.yaml`), relative to the config file; `*` and `?` match parts of a name.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    file_sd: Vec<String>,
    /// Period between two readings of the files, from 1s to 24h.
    #[schemars(with = "duration::RawDuration", extend("default" = "30s"))]
    #[serde(default)]
    refresh: Option<duration::RawDuration>,
    /// Regular expressions by label, or by `target` for the target itself: a target is kept if all of them match whole values.
    #[serde(default)]
    keep: BTreeMap<String, String>,
    /// Regular expressions like those of `keep`: a target is left out if one of them matches.
    #[serde(default)]
    drop: BTreeMap<String, String>,
    /// New names of labels, by their old names.
    #[serde(default)]
    rename: BTreeMap<String, String>,
    /// Labels of all platforms; those that a target has itself take precedence.
    #[schemars(extend("propertyNames" = label_rule()))]
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Name of each platform, in which `{{target}}` is the target and `{{LABEL}}` one of its labels. Characters that a name
    /// cannot have become `-`.
    #[schemars(extend("default" = DEFAULT_NAME))]
    #[serde(default = "default_name")]
    name: String,
}

impl RawDiscoveryConfig {
    /// Returns the settings; `None` if they have a mistake, which is reported.
    pub(super) fn resolve(
        self,
        base_dir: &Path,
        templates: &TemplateSet,
        check: &mut TableValidator<'_>,
    ) -> Option<DiscoveryConfig> {
        let refresh = given(self.refresh).unwrap_or(Duration::from_secs(30));
        check.duration(
            "refresh",
            refresh,
            Duration::from_secs(1),
            Duration::from_hours(24),
        );
        let is_known = check_template(&self.template, templates, check);
        let keep = rules(self.keep, "keep", check);
        let drop = rules(self.drop, "drop", check);
        let rename = self.rename.into_iter();
        let rename = rename.map(|(from, to)| RelabelRule::Rename { from, to });
        let file_sd: Vec<_> = self
            .file_sd
            .iter()
            .map(|path| base_dir.join(path))
            .collect();
        let source = FileSource::try_new(file_sd.clone(), DiscoveryLimits::default());
        if let Err(error) = &source {
            let message = format!("{}: {error}", check.name("file_sd"));
            check.refuse("file_sd", message, "close each `[`, or remove it");
        }
        let name = NamePattern::parse(&self.name);
        if let Err(error) = &name {
            let message = format!("{}: {error}", check.name("name"));
            check.refuse("name", message, format!("for example {DEFAULT_NAME:?}"));
        }
        source.ok()?;
        Some(DiscoveryConfig {
            template: is_known.then_some(self.template)?,
            file_sd,
            refresh,
            relabelling: Relabelling::new(keep?.into_iter().chain(drop?).chain(rename).collect()),
            labels: self.labels,
            name: name.ok()?,
        })
    }
}

/// Checks that a template exists and names a plugin.
fn check_template(name: &str, templates: &TemplateSet, check: &mut TableValidator<'_>) -> bool {
    if templates.is_broken(name) {
        // It has its own mistake.
        return false;
    }
    let known: Vec<_> = templates.names().collect();
    let at = check.name("template");
    if !known.contains(&name) {
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.is_empty() => {
                "the config has no templates: add [template.NAME]".to_owned()
            }
            None => format!("the templates are {}", listed(&known)),
        };
        check.refuse(
            "template",
            format!("{at}: there is no template {name:?}"),
            help,
        );
        return false;
    }
    if templates.plugin(name).is_none() {
        let message = format!("{at}: the template {name:?} has no key `plugin`");
        check.refuse("template", message, "add it to the template");
        return false;
    }
    true
}

/// Returns the rules of `keep` or `drop`; `None` if one of them is no regular expression.
fn rules(
    patterns: BTreeMap<String, String>,
    key: &str,
    check: &mut TableValidator<'_>,
) -> Option<Vec<RelabelRule>> {
    let mut rules = Some(Vec::new());
    for (label, text) in patterns {
        match RelabelRule::pattern(&text) {
            Ok(pattern) => {
                let label = (label != "target").then_some(label);
                let rule = match key {
                    "keep" => RelabelRule::Keep { label, pattern },
                    _ => RelabelRule::Drop { label, pattern },
                };
                if let Some(rules) = &mut rules {
                    rules.push(rule);
                }
            }
            Err(error) => {
                let message = format!("{}.{label}: {error}", check.name(key));
                let help = "write a regular expression, for example \"web|api.*\"";
                check.refuse(key, message, help);
                rules = None;
            }
        }
    }
    rules
}

fn default_name() -> String {
    DEFAULT_NAME.to_owned()
}

const DEFAULT_NAME: &str = "{{target}}";
