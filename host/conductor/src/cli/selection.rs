//! The platforms that a command applies to, selected identically by every command: names with wildcards, and labels.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clap_complete::{ArgValueCandidates, CompletionCandidate};
use conductor_command::{
    CliError,
    client::{HostClient, RemoteArgs},
};
use conductor_core::pattern::NamePattern;
use conductor_types::views::PlatformView;

/// Platforms by name and label.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct PlatformSelection {
    /// Platforms by name; `*` matches any characters and `?` exactly one: 'db-*'
    #[arg(value_name = "PLATFORM", add = ArgValueCandidates::new(platform_names))]
    platforms: Vec<String>,
    /// Only platforms with this label; given several times, platforms that have all of them
    #[arg(
        long = "label",
        value_name = "NAME=VALUE",
        value_parser = label,
        add = ArgValueCandidates::new(platform_labels)
    )]
    labels: Vec<(String, String)>,
}

/// The same for commands that change something, which require a selection.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("selection").required(true).multiple(true).args(["platforms", "labels"]))]
pub(super) struct RequiredSelection {
    #[command(flatten)]
    selection: PlatformSelection,
}

impl RequiredSelection {
    pub(super) fn get(&self) -> &PlatformSelection {
        &self.selection
    }
}

impl PlatformSelection {
    /// Returns the selection of these names and labels.
    pub(super) fn of(platforms: &[String], labels: &[(String, String)]) -> Self {
        Self {
            platforms: platforms.to_vec(),
            labels: labels.to_vec(),
        }
    }

    /// Returns true if all platforms are selected.
    pub(super) fn is_everything(&self) -> bool {
        self.platforms.is_empty() && self.labels.is_empty()
    }

    /// Name patterns, as they were given; empty selects every name.
    pub(super) fn patterns(&self) -> &[String] {
        &self.platforms
    }

    /// Labels that a platform must have, with their values.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }

    pub(super) fn matches(&self, platform: &PlatformView) -> bool {
        self.has_name(&platform.name) && self.has_labels(platform)
    }

    /// Returns true if the names select this one.
    pub(super) fn has_name(&self, name: &str) -> bool {
        let mut patterns = self.platforms.iter().map(|text| NamePattern::new(text));
        self.platforms.is_empty() || patterns.any(|p| p.matches(name))
    }

    fn has_labels(&self, platform: &PlatformView) -> bool {
        self.labels
            .iter()
            .all(|(name, value)| platform.labels.get(name) == Some(value))
    }

    /// Returns an error for each name pattern that matches none of `platforms`, and one if no platform has the labels.
    pub(super) fn unmatched(&self, platforms: &[PlatformView]) -> Vec<CliError> {
        if self.platforms.is_empty() {
            let matched = self.labels.is_empty() || platforms.iter().any(|p| self.has_labels(p));
            return Vec::from_iter((!matched).then(|| self.no_match(None)));
        }
        let missed = self.platforms.iter().filter(|text| {
            let pattern = NamePattern::new(text);
            !platforms
                .iter()
                .any(|p| pattern.matches(&p.name) && self.has_labels(p))
        });
        missed.map(|text| self.no_match(Some(text))).collect()
    }

    fn no_match(&self, pattern: Option<&str>) -> CliError {
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let what = match (pattern, labels.as_slice()) {
            (Some(pattern), []) => format!("{pattern:?}"),
            (Some(pattern), labels) => {
                format!("{pattern:?} with --label {}", labels.join(" --label "))
            }
            (None, labels) => format!("--label {}", labels.join(" --label ")),
        };
        CliError::Other(format!(
            "no platform matches {what}; `conductor status` lists all platforms"
        ))
    }

    /// Resolves the selection to platform names, in the host's order, and prints an error for each pattern that matches
    /// nothing.
    ///
    /// Plain names are passed on unchanged: the host responds for each of them.
    ///
    /// # Errors
    /// If the host does not list its platforms.
    pub(super) fn resolve(&self, client: &HostClient) -> Result<ResolvedSelection, CliError> {
        let plain = self.labels.is_empty()
            && self
                .platforms
                .iter()
                .all(|text| NamePattern::new(text).is_name());
        if plain {
            let mut names = self.platforms.clone();
            let mut seen = BTreeSet::new();
            names.retain(|name| seen.insert(name.clone()));
            return Ok(ResolvedSelection {
                names,
                errors: Vec::new(),
            });
        }
        let (_, platforms) = client.look::<Vec<PlatformView>>("/api/v1/platforms")?;
        let errors = self.unmatched(&platforms);
        let matched = platforms.into_iter().filter(|p| self.matches(p));
        Ok(ResolvedSelection {
            names: matched.map(|p| p.name).collect(),
            errors,
        })
    }
}

/// The platforms that a selection resolves to.
pub(super) struct ResolvedSelection {
    pub(super) names: Vec<String>,
    /// An error for each pattern that matched nothing.
    pub(super) errors: Vec<CliError>,
}

/// A `--label` of another form.
#[derive(Debug, thiserror::Error)]
#[error("write it as NAME=VALUE")]
pub(super) struct LabelError;

pub(super) fn label(text: &str) -> Result<(String, String), LabelError> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or(LabelError)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Returns the platform names of the host in the environment, for shell completion; none if it does not respond.
fn platform_names() -> Vec<CompletionCandidate> {
    let names = running_platforms().into_iter().map(|p| p.name);
    names.map(CompletionCandidate::new).collect()
}

fn platform_labels() -> Vec<CompletionCandidate> {
    let labels: BTreeSet<_> = running_platforms()
        .into_iter()
        .flat_map(|p| p.labels)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    labels.into_iter().map(CompletionCandidate::new).collect()
}

fn running_platforms() -> Vec<PlatformView> {
    let remote = RemoteArgs::from_environment(std::env::var_os("CONDUCTOR_ADDRESS").as_deref());
    let client = HostClient::open(&remote).map(|client| client.with_timeout(COMPLETION_TIMEOUT));
    let found = client.and_then(|client| client.look("/api/v1/platforms"));
    found.map(|(_, platforms)| platforms).unwrap_or_default()
}

/// Longest time that a shell waits for completions.
const COMPLETION_TIMEOUT: Duration = Duration::from_millis(500);
