//! The web config: TLS and passwords of the HTTP server, in the file format of exporter-toolkit, which Prometheus's own
//! servers share, so that one file serves them all.
//!
//! Like `conductor.toml` it is read in three steps: `yaml` parses text into values and their places, `schema` defines
//! the keys, and `build` and `tls` turn them into the server's settings. Features of the toolkit that this host lacks
//! are refused, or accepted with a remark if they do not affect access.

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
use files::InputReader;
pub use files::WebConfigInputs;
use http::{HeaderName, HeaderValue};
use tokio_rustls::rustls::ServerConfig;

use super::{error::ConfigError, source::SourceText};

/// Access rules of the HTTP server. The default admits everyone, over plain HTTP.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// The TLS settings; `None` means plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// `true` if TLS requires a client certificate signed by one of the operator's CAs.
    pub verifies_clients: bool,
    /// Names and bcrypt hashes of the users; empty means no authentication.
    pub users: BTreeMap<String, String>,
    /// Headers that each response carries.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Limit on requests.
    pub rate_limit: Option<RateLimit>,
    /// The files with secrets that only the host may read: passwords and keys.
    pub private_files: Vec<PathBuf>,
    /// `true` if the file has no key at all, for example while it is being saved.
    pub says_nothing: bool,
    /// The protections that the file disables explicitly, rather than by leaving a key out.
    pub given_up: GivenUp,
    /// Accepted settings whose effect may surprise, as `file:line:column: …`.
    pub remarks: Vec<String>,
}

/// Protections that a file disables explicitly: `{}` all of them, an empty table its own.
///
/// A file without the key may be half-written, and opens nothing that was closed before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// `basic_auth_users: {}`: no request needs a password.
    pub passwords: bool,
    /// `tls_server_config: {}`: plain HTTP.
    pub tls: bool,
    /// `client_auth_type` is given: its setting for client certificates is intended.
    pub clients: bool,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Time per allowed request; more than zero.
    pub interval: Duration,
    /// Maximum burst after a quiet period.
    pub burst: u32,
}

/// The result of reading a web config.
pub struct WebReadResult {
    /// The files that were read, for change detection.
    pub inputs: WebConfigInputs,
    /// The config, or all its mistakes.
    pub outcome: Result<WebConfig, ConfigError>,
}

impl WebConfig {
    /// Reads the file at `path` and the files it names, whose paths are relative to its own folder.
    #[must_use]
    pub fn read(path: &Path) -> WebReadResult {
        let mut files = InputReader::default();
        let outcome = read(path, &mut files);
        WebReadResult {
            inputs: files.into_inputs(),
            outcome,
        }
    }

    /// Returns the key of a protection that `old` has and this config lacks without disabling it explicitly, and the
    /// line that would disable it.
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

    /// Returns `true` if clients must authenticate.
    #[must_use]
    pub fn asks_who(&self) -> bool {
        !self.users.is_empty() || self.verifies_clients
    }
}

/// Shows which protections are on, and leaves out keys and hashes.
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

fn read(path: &Path, files: &mut InputReader) -> Result<WebConfig, ConfigError> {
    let name = path.display().to_string();
    let content = files
        .read(path)
        .map_err(|error| files::unreadable(&name, error))?;
    let source = Arc::new(SourceText::from_bytes(&name, content.bytes)?);
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
