//! The config files whose last reload failed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use conductor_config::ErrorSummary;
use conductor_types::views::FailedReloadView;

use super::StatusBoard;

/// A config file that a running host reloads.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ConfigFile {
    /// `conductor.toml`.
    Config,
    /// The file of `--web.config.file`.
    WebConfig,
}

impl ConfigFile {
    fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::WebConfig => "web config",
        }
    }
}

/// The failed reloads, each with its time by the host's clock.
#[derive(Default)]
pub(super) struct FailedReloads(Mutex<BTreeMap<ConfigFile, (Duration, ErrorSummary)>>);

impl StatusBoard {
    /// Stores the outcome of a reload: its errors, or `None` if the file is in force now.
    pub fn reloaded(&self, file: ConfigFile, errors: Option<ErrorSummary>) {
        let now = self.shared.clock.now();
        let failed = self.failed_reloads.0.lock();
        let mut failed = failed.unwrap_or_else(PoisonError::into_inner);
        match errors {
            Some(errors) => failed.insert(file, (now, errors)),
            None => failed.remove(&file),
        };
    }

    pub(super) fn failed_reload_views(&self) -> Vec<FailedReloadView> {
        let failed = self.failed_reloads.0.lock();
        let failed = failed.unwrap_or_else(PoisonError::into_inner);
        let view =
            |(file, (at, errors)): (&ConfigFile, &(Duration, ErrorSummary))| FailedReloadView {
                file: file.name().to_owned(),
                at: self.shared.unix_seconds(*at),
                error: errors.first.clone(),
                more_errors: errors.more,
            };
        failed.iter().map(view).collect()
    }
}
