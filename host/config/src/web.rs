//! The web config: TLS and passwords of the HTTP server, in the file format that Prometheus's own servers share
//! (exporter-toolkit's), so that one file serves them all.
//!
//! Like `conductor.toml` it is read in three steps: `yaml` turns text into values and their places, `schema` says which
//! keys there are, and `build` and `tls` make of them what the server goes by. What the toolkit takes and this host does
//! not know is either refused, or taken and remarked on where it changes nothing about who gets in.

mod build;
mod clients;
mod files;
mod schema;
#[cfg(test)]
mod tests;
mod tls;
mod yaml;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use clients::subject;
use files::Files;
pub use files::Inputs;
use http::{HeaderName, HeaderValue};
use tokio_rustls::rustls::ServerConfig;

use super::{error::ConfigError, source::Source};

/// Who may reach the HTTP server, and how. The default lets everybody, over plain HTTP.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// What TLS is spoken with; none means plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether TLS lets nobody in without a certificate that one of the operator's CAs has signed.
    pub verifies_clients: bool,
    /// Names and bcrypt hashes of those who get in; empty means that nobody is asked.
    pub users: BTreeMap<String, String>,
    /// Headers that each response carries.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How many requests are answered.
    pub rate_limit: Option<RateLimit>,
    /// The files with something in them that only the host may know: passwords and keys.
    pub private_files: Vec<PathBuf>,
    /// The file has no key at all, for example while it is being saved.
    pub says_nothing: bool,
    /// The protections that the file gives up in so many words, rather than by leaving a key out.
    pub given_up: GivenUp,
    /// What was taken and does not do what its author may think, as `file:line:column: …`.
    pub remarks: Vec<String>,
}

/// Protections that a file gives up explicitly: `{}` all of them, an empty table its own.
///
/// A file without the key may be half-written, and opens nothing that was closed before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// `basic_auth_users: {}`: no request needs a password.
    pub passwords: bool,
    /// `tls_server_config: {}`: plain HTTP.
    pub tls: bool,
    /// `client_auth_type` is written: what it says about clients' certificates is meant.
    pub clients: bool,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The time in which one request is allowed; more than zero.
    pub interval: Duration,
    /// How many may come at once after a quiet time.
    pub burst: u32,
}

/// What came of reading a web config.
pub struct Reading {
    /// The files that were read, to notice when they change.
    pub inputs: Inputs,
    /// The config, or all that is wrong with it.
    pub outcome: Result<WebConfig, ConfigError>,
}

impl WebConfig {
    /// Reads the file at `path` and those it names, whose paths are relative to its own folder.
    #[must_use]
    pub fn read(path: &Path) -> Reading {
        let mut files = Files::default();
        let outcome = read(path, &mut files);
        Reading {
            inputs: files.into_inputs(),
            outcome,
        }
    }

    /// The key of a protection that `old` has and this config lacks without giving it up explicitly, and the line that
    /// would give it up.
    #[must_use]
    pub fn lacks(&self, old: &Self) -> Option<(&'static str, &'static str)> {
        if !old.users.is_empty() && self.users.is_empty() && !self.given_up.passwords {
            return Some(("basic_auth_users", "basic_auth_users: {}"));
        }
        if old.tls.is_some() && self.tls.is_none() && !self.given_up.tls {
            return Some(("tls_server_config", "tls_server_config: {}"));
        }
        let lost = old.verifies_clients && !self.verifies_clients && !self.given_up.clients;
        lost.then_some(("client_auth_type", "client_auth_type: NoClientCert"))
    }

    /// Whether strangers are kept out.
    #[must_use]
    pub fn asks_who(&self) -> bool {
        !self.users.is_empty() || self.verifies_clients
    }
}

/// Says which doors are closed, and keeps keys and hashes to itself.
impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig")
            .field("tls", &self.tls.is_some())
            .field("verifies_clients", &self.verifies_clients)
            .field("users", &self.users.len())
            .field("rate_limit", &self.rate_limit)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path, files: &mut Files) -> Result<WebConfig, ConfigError> {
    let name = path.display().to_string();
    let content = files
        .read(path)
        .map_err(|error| files::unreadable(&name, error))?;
    let source = Arc::new(Source::from_bytes(&name, content.bytes)?);
    let folder = path.parent().unwrap_or(Path::new(""));
    let (config, remarks) = yaml::parse(source.text())
        .and_then(|(values, places, faults)| build::build(values, &places, faults, folder, files))
        .map_err(|faults| ConfigError::new(Arc::clone(&source), faults))?;
    let remarks = remarks
        .into_iter()
        .map(|(place, remark)| format!("{}: {remark}", source.location(place.start)))
        .collect();
    let mut private_files = vec![files::absolute(path)];
    private_files.extend(config.private_files);
    Ok(WebConfig {
        remarks,
        private_files,
        ..config
    })
}
