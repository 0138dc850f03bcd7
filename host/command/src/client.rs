//! HTTP client for a running host, local or remote.
//!
//! Errors name the address that was tried and the cure.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conductor_http::{
    FailureReason, HeaderValue, HttpClient, HttpRequest, Method, StatusCode, TlsSettings, header,
};
use conductor_library::{file_reader, printable};
use serde::de::DeserializeOwned;

use self::{
    address::HostAddress,
    error::{OptionError, cure},
};
use crate::{CliError, DEFAULT_ADDRESS, note};

mod address;
mod error;
#[cfg(test)]
mod tests;

/// Address of a running host, and the credentials for it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct RemoteArgs {
    /// Address of the host: a URL, HOST:PORT, or :PORT on this machine [default: 127.0.0.1:9750]
    #[arg(
        long,
        alias = "web.listen-address",
        value_name = "URL",
        env = "CONDUCTOR_ADDRESS",
        hide_env_values = true
    )]
    address: Option<String>,
    /// CA certificates to trust for HTTPS instead of the system's (PEM)
    #[arg(long, value_name = "FILE", env = "CONDUCTOR_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// User name, if the host requires authentication
    #[arg(long, env = "CONDUCTOR_USER")]
    user: Option<String>,
    /// File with the user's password [default: the environment variable CONDUCTOR_PASSWORD]
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
}

impl RemoteArgs {
    /// Returns the host named in the environment, for shell completion, which does not parse the command line.
    pub fn from_environment(address: Option<&OsStr>) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        Self {
            address: address.and_then(|address| Some(address.to_str()?.to_owned())),
            ca_file: variable("CONDUCTOR_CA_FILE").map(PathBuf::from),
            user: variable("CONDUCTOR_USER"),
            password_file: None,
        }
    }
}

/// Client of one host.
pub struct HostClient {
    timeout: Duration,
    address: HostAddress,
    /// `true` if the operator has named the address.
    is_named: bool,
    http: HttpClient,
    authorization: Option<HeaderValue>,
    runtime: tokio::runtime::Runtime,
}

/// Response of a host.
pub struct HostResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// Body.
    pub body: Vec<u8>,
}

impl HostClient {
    /// Returns a client of this host; connects on the first request only.
    ///
    /// # Errors
    /// If the address is none, the user has no password, or a file with the password or the CAs cannot be read.
    pub fn open(remote: &RemoteArgs) -> Result<Self, CliError> {
        let written = remote.address.clone();
        // The variable that sets a host's listen address also helps clients find it.
        let written = written.or_else(|| std::env::var("CONDUCTOR_WEB_LISTEN_ADDRESS").ok());
        let is_named = written.is_some();
        let written = written.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        let address = HostAddress::parse(&written)?;
        let http = if address.is_https() {
            HttpClient::with_tls(&TlsSettings {
                ca_file: remote.ca_file.clone(),
                ..TlsSettings::default()
            })
            .map_err(OptionError::Trust)?
        } else {
            HttpClient::plain()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| CliError::Other(format!("cannot start: {e}")))?;
        Ok(Self {
            timeout: TIMEOUT,
            address,
            is_named,
            http,
            authorization: authorization(remote)?,
            runtime,
        })
    }

    /// Sets the timeout of each request.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Returns the host's URL.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Gets a path and returns the body, as bytes and parsed.
    pub fn look<T: DeserializeOwned>(&self, path: &str) -> Result<(Vec<u8>, T), CliError> {
        let answer = self.ask(Method::GET, path, String::new())?;
        self.parse(answer)
    }

    /// Gets data that a command can do without, if a host runs; `what` names it for the operator.
    ///
    /// Prints a note with the reason and the cure if a host runs but does not give it. That no host runs at the default
    /// address needs no note: the command works without one.
    pub fn look_if_running<T: DeserializeOwned>(&self, path: &str, what: &str) -> Option<T> {
        let answer = match self.request(Method::GET, path, String::new()) {
            Err(FailureReason::Connect(_)) if !self.is_named => return None,
            answer => answer.map_err(|error| self.unreachable(&error)),
        };
        match answer.and_then(|answer| self.parse(answer)) {
            Ok((_, value)) => Some(value),
            Err(error) => {
                note(&format!("{what} is not shown: {error}"));
                None
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, answer: HostResponse) -> Result<(Vec<u8>, T), CliError> {
        let body = self.accepted(answer)?;
        // The server at the address may not be a host, or may belong to an untrusted user.
        let value = serde_json::from_slice(&body).and_then(|mut value| {
            printable::value(&mut value);
            serde_json::from_value(value)
        });
        let value = value.map_err(|e| {
            CliError::Unreachable(format!(
                "cannot read the response of {}: {e}; is it a Conductor host, and of this version?",
                self.address
            ))
        })?;
        Ok((body, value))
    }

    /// Posts an order and returns the host's message.
    pub fn order(&self, path: &str, body: &str) -> Result<String, CliError> {
        let answer = self.ask(Method::POST, path, body.to_owned())?;
        let body = self.accepted(answer)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends a request and returns the response, whatever its status.
    pub fn ask(&self, method: Method, path: &str, body: String) -> Result<HostResponse, CliError> {
        let answer = self.request(method, path, body);
        answer.map_err(|error| self.unreachable(&error))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<HostResponse, FailureReason> {
        let mut request = HttpRequest::new(method, self.address.url(path))
            .timeout(self.timeout)
            .body_limit(BODY_LIMIT);
        if !body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            request = request.header(header::CONTENT_TYPE, json);
        }
        if let Some(authorization) = &self.authorization {
            request = request.secret_header(header::AUTHORIZATION, authorization.clone());
        }
        let response = self.runtime.block_on(self.http.send(request.body(body)));
        let response = response.map_err(|error| error.reason)?;
        Ok(HostResponse {
            status: response.status,
            body: response.body.to_vec(),
        })
    }

    fn unreachable(&self, error: &FailureReason) -> CliError {
        CliError::Unreachable(format!(
            "cannot reach the host at {}: {}",
            self.address,
            cure(error)
        ))
    }

    /// Returns the body of a successful response, or the host's error message.
    pub fn accepted(&self, answer: HostResponse) -> Result<Vec<u8>, CliError> {
        let HostResponse { status, body } = answer;
        if status.is_success() {
            return Ok(body);
        }
        let said = String::from_utf8_lossy(&body);
        let said: String = said
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST_SAID)
            .collect();
        Err(match status {
            StatusCode::UNAUTHORIZED if self.authorization.is_some() => {
                CliError::Unreachable(format!("{} rejects this user and password", self.address))
            }
            StatusCode::UNAUTHORIZED => CliError::Unreachable(format!(
                "{} requires authentication: give --user and --password-file, or set CONDUCTOR_USER and CONDUCTOR_PASSWORD",
                self.address
            )),
            // The host's own message includes the cure: it names the flag, the platform or the rule.
            _ if !said.is_empty() && !said.starts_with('<') => CliError::Other(said),
            _ => CliError::Unreachable(format!(
                "{} answered {status}; is it a Conductor host?",
                self.address
            )),
        })
    }
}

/// Returns a platform's path in the API, escaping the name.
pub fn platform_path(name: &str) -> String {
    let mut path = "/api/v1/platforms/".to_owned();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => path.push(byte.into()),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// Returns the Authorization header.
fn authorization(remote: &RemoteArgs) -> Result<Option<HeaderValue>, OptionError> {
    let Some(user) = &remote.user else {
        return Ok(None);
    };
    let password = match &remote.password_file {
        Some(file) => file_reader::read_text(file, LONGEST_PASSWORD)
            .map_err(|source| OptionError::PasswordFile {
                file: file.clone(),
                source,
            })?
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
        None => std::env::var("CONDUCTOR_PASSWORD").map_err(|_| OptionError::NoPassword)?,
    };
    let pair = STANDARD.encode(format!("{user}:{password}"));
    let header = HeaderValue::try_from(format!("Basic {pair}"));
    Ok(Some(header.expect("base64 is printable")))
}

/// Limit of a password file, in bytes.
const LONGEST_PASSWORD: u64 = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(10);
/// A host of 100 000 platforms responds with some 50 MB.
const BODY_LIMIT: usize = 512 << 20;
/// Limit of an error message from an unknown server, in characters.
const LONGEST_SAID: usize = 1000;
