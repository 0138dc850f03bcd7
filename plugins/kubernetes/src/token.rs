//! The token that authenticates the requests.

use std::path::{Path, PathBuf};

use conductor_net::{
    CheckError,
    http::{bearer, header::HeaderValue},
};
use conductor_plugin_api::Failure;

/// The source of the `authorization` header.
pub(crate) enum TokenSource {
    /// No token: a client certificate, or no authentication.
    None,
    /// The token of the config.
    Fixed(HeaderValue),
    /// A file that is read for each check, because Kubernetes replaces the token before it expires.
    File(PathBuf),
}

impl TokenSource {
    /// Returns the current header, without waiting for a disk on the runtime's thread.
    pub(crate) async fn read(&self) -> Result<Option<HeaderValue>, CheckError> {
        let path = match self {
            Self::None => return Ok(None),
            Self::Fixed(header) => return Ok(Some(header.clone())),
            Self::File(path) => path.clone(),
        };
        let read = tokio::task::spawn_blocking(move || of_file(&path));
        match read.await {
            Ok(Ok(header)) => Ok(Some(header)),
            Ok(Err(rule)) => Err(CheckError::Host(Failure::config(rule))),
            Err(error) => Err(CheckError::Host(Failure::new(format!(
                "cannot read the token: {error}"
            )))),
        }
    }
}

/// Reads the header from a file; the error names the key, the rule and the cure.
pub(crate) fn of_file(path: &Path) -> Result<HeaderValue, String> {
    let refuse = |rule: &str| format!("key `token_file`: {path:?}: {rule}");
    let found = std::fs::metadata(path).map_err(|error| refuse(&unreadable(path, &error)))?;
    // A device or a pipe might never end.
    if !found.is_file() || found.len() > MAX_TOKEN {
        return Err(refuse(
            "it is not a regular file of a token's size; name the file with the token alone",
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refuse(&unreadable(path, &error)))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(refuse("it is empty; write the token into it"));
    }
    bearer(token).ok_or_else(|| {
        refuse("it has characters that a header cannot have; write the token on one line")
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "{error}; outside of a pod write `url`, and `token`, `token_file` or `tls.client_cert`; in a pod set `automountServiceAccountToken`"
        ),
        // The folder, as the links in it lead to other files after each rotation.
        std::io::ErrorKind::PermissionDenied => {
            let folder = path.parent().unwrap_or(path).display();
            format!(
                "{error}; make it readable by the host's user, and let the plugin read its folder: allow = [\"network\", \"read {folder}\"] in `[plugin.kubernetes]`"
            )
        }
        _ => error.to_string(),
    }
}

/// Largest file that is read, in bytes.
const MAX_TOKEN: u64 = 64 << 10;
