//! Targets from outside of the config: reads them, relabels them and gives them names.
//!
//! [`FileSource`] reads Prometheus's `file_sd` files, [`Relabelling`] keeps, drops and renames, [`NamePattern`] makes the
//! names of platforms, and [`DiscoveredTargets`] remembers the last good result and returns what has changed since. A
//! source that fails keeps its last result. The crate knows neither the config nor the scheduler.

mod diff;
mod file;
mod groups;
mod naming;
mod relabel;
mod yaml;

pub use self::{
    diff::{DiscoveredTargets, TargetChanges},
    file::{DiscoveryLimits, FileError, FilePatternError, FileSource, SourceReading},
    groups::{GroupError, TargetFormat, parse_groups},
    naming::{NamePattern, NamePatternError, NamedTargets},
    relabel::{RelabelRule, Relabelling},
};

use std::collections::BTreeMap;

/// A target as a source lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Usually `host` or `host:port`, but any text is possible.
    pub target: String,
    /// The labels of its group, with those of the source.
    pub labels: BTreeMap<String, String>,
    /// Place where it is listed, for example `targets/a.json, group 2`.
    pub origin: String,
}
