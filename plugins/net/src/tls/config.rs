//! The keys of TLS that the network probes share.

use std::path::{Path, PathBuf};

use conductor_plugin_api::schemars;
use serde::Deserialize;
use tokio_rustls::rustls::{
    DEFAULT_VERSIONS, SupportedProtocolVersion, pki_types::ServerName, version::TLS13,
};

use super::{TlsClient, ca_source::CaSource, identity::ClientIdentity, pin::PinnedHash};

/// Trust, client certificate and versions of TLS.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Absolute path of a PEM file with the CA certificates to trust instead of the system's, or with the server's own
    /// certificate. The plugin reads it only where `allow` lists `read PATH`.
    #[cfg_attr(unix, schemars(regex(pattern = r"^/.")))]
    #[schemars(example = &"/etc/ssl/our-ca.pem")]
    pub ca_file: Option<PathBuf>,

    /// SHA-256 hashes of which the server must have one: of its public key in base64 (`sha256//…` as for curl), or of its
    /// certificate in hex.
    #[serde(default)]
    #[schemars(inner(regex(
        pattern = r"^((sha256//)?[A-Za-z0-9+/]{43}=|([0-9A-Fa-f]{2}:?){32})$"
    )))]
    pub pin_sha256: Vec<String>,

    /// Name to request and to find in the certificate, instead of the host's.
    #[schemars(example = &"shop.example")]
    pub server_name: Option<String>,

    /// Absolute path of a PEM file with the client certificate, and those of its issuers.
    #[cfg_attr(unix, schemars(regex(pattern = r"^/.")))]
    pub client_cert: Option<PathBuf>,

    /// Absolute path of a PEM file with the key of the client certificate, if it is not in that file.
    #[cfg_attr(unix, schemars(regex(pattern = r"^/.")))]
    pub client_key: Option<PathBuf>,

    /// Accept any certificate: of any issuer, for any name, expired. `pin_sha256` still applies.
    #[serde(default)]
    pub skip_verify: bool,

    /// Oldest version of TLS to accept.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// A version of TLS.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, serde::Serialize, schemars::JsonSchema,
)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

impl TlsVersion {
    /// Returns `true` if the connection may be one of TLS 1.2.
    pub(super) fn allows_tls12(self) -> bool {
        self == Self::Tls12
    }

    pub(super) fn and_later(self) -> &'static [&'static SupportedProtocolVersion] {
        static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];
        match self {
            Self::Tls12 => DEFAULT_VERSIONS,
            Self::Tls13 => ONLY_TLS13,
        }
    }
}

impl TlsConfig {
    /// Returns a client with this setup for the plugin with the id `plugin`; reads no files.
    ///
    /// # Errors
    /// All keys that cannot work, each with its cure.
    pub fn client(&self, plugin: &'static str) -> Result<TlsClient, Vec<String>> {
        let mut faults = Vec::new();
        for (key, path) in [
            ("ca_file", &self.ca_file),
            ("client_cert", &self.client_cert),
            ("client_key", &self.client_key),
        ] {
            faults.extend(path.as_deref().and_then(|path| not_absolute(key, path)));
        }
        if self.client_key.is_some() && self.client_cert.is_none() {
            faults.push(
                "key `tls.client_key`: there is no certificate for it; name one in `tls.client_cert`"
                    .to_owned(),
            );
        }
        if self.skip_verify && self.ca_file.is_some() {
            faults.push(
                "key `tls.skip_verify`: any certificate is accepted, so `ca_file` has no effect; keep one of the two"
                    .to_owned(),
            );
        }
        let mut pins = Vec::new();
        for (nth, text) in self.pin_sha256.iter().enumerate() {
            match text.parse::<PinnedHash>() {
                Ok(pin) => pins.push(pin),
                Err(rule) => faults.push(format!("key `tls.pin_sha256[{nth}]`: {rule}")),
            }
        }
        let server_name = self.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| {
                faults.push(format!(
                    "key `tls.server_name`: no certificate can be issued for {name:?}; use letters, digits, `-`, `_` and dots"
                ));
            })
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let cas = match &self.ca_file {
            Some(path) => CaSource::file(path, plugin),
            None => CaSource::system(),
        };
        let identity = (self.client_cert.as_ref())
            .map(|path| ClientIdentity::new(path, self.client_key.as_deref(), plugin));
        Ok(TlsClient {
            pins: pins.into(),
            server_name: server_name.and_then(Result::ok),
            identity,
            skip_verify: self.skip_verify,
            min_version: self.min_version,
            ..TlsClient::of(cas)
        })
    }

    /// Returns a client with this setup, or reports every key that cannot work. Missing or bad files count if a file is
    /// named or TLS `is_used`: they are reported when a probe is created, not at its first check.
    pub fn usable_client(
        &self,
        plugin: &'static str,
        is_used: bool,
        faults: &mut Vec<String>,
    ) -> Option<TlsClient> {
        let client = self.client(plugin);
        let client = client.map_err(|found| faults.extend(found)).ok()?;
        match client.validate() {
            Err(failure) if is_used || self.names_files() => {
                faults.push(failure.message().to_owned());
                None
            }
            _ => Some(client),
        }
    }

    /// Returns `true` if a file is named, which must be readable.
    fn names_files(&self) -> bool {
        self.ca_file.is_some() || self.client_cert.is_some()
    }
}

fn not_absolute(key: &str, path: &Path) -> Option<String> {
    (!path.is_absolute()).then(|| {
        format!(
            "key `tls.{key}`: {path:?} is not absolute; write the path from the root, such as \"/etc/ssl/our.pem\""
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_cannot_work_is_named() {
        let config = TlsConfig {
            ca_file: Some("ca.pem".into()),
            pin_sha256: vec!["abc".to_owned()],
            server_name: Some("a b".to_owned()),
            client_key: Some("/etc/ssl/our.key".into()),
            skip_verify: true,
            ..TlsConfig::default()
        };
        let faults = config.client("tcp").err().unwrap();
        for key in [
            "ca_file",
            "pin_sha256[0]",
            "server_name",
            "client_key",
            "skip_verify",
        ] {
            let named = format!("key `tls.{key}`: ");
            assert!(
                faults.iter().any(|fault| fault.starts_with(&named)),
                "{key}: {faults:?}"
            );
        }
        assert!(TlsConfig::default().client("tcp").is_ok());
    }
}
