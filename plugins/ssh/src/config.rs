//! Keys of an SSH platform's `config` table.

use conductor_net::{
    DurationLimits, DurationRules, NameResolver, ServerAddress, TOTAL, TimedPhases,
};
use conductor_plugin_api::{Failure, schemars};
use regex::RegexBuilder;
use serde::Deserialize;

use crate::{
    SshProbe,
    algorithms::WeaknessRule,
    host_key::{Fingerprint, HostKeyType},
    visit::SshTarget,
};

/// Checks the banner, the host key and the algorithms of an SSH server, without a login.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SshConfig {
    /// Server, `HOST` or `HOST:PORT`; the default port is 22.
    #[schemars(length(min = 1), example = &"bastion.example", example = &"[2001:db8::1]:2222")]
    address: String,

    /// Fingerprints of which the host key must have one, as `ssh-keygen -lf FILE` prints them.
    #[serde(default)]
    #[schemars(extend("examples" = [["SHA256:syUTB/Tk6rsxllYaS9M2xfdRgxCXWWSDA71BZ5QIJcM"]]))]
    host_keys: Vec<String>,

    /// Type of host key to request. Without it, the server's first of Ed25519, ECDSA and RSA.
    host_key_type: Option<HostKeyType>,

    /// Regular expression that the banner must match.
    #[schemars(length(min = 1, max = 4096), example = &"^SSH-2\\.0-OpenSSH_")]
    banner: Option<String>,

    /// State of a server that offers algorithms which OpenSSH no longer offers by default.
    #[serde(default)]
    weak_algorithms: WeaknessRule,

    /// Algorithms that the server must not offer; one `*` in a name matches any text.
    #[serde(default)]
    #[schemars(extend("examples" = [["hmac-sha1*", "ecdh-sha2-nistp*"]]))]
    forbidden_algorithms: Vec<String>,

    /// Algorithms that the server must offer; one `*` in a name matches any text.
    #[serde(default)]
    #[schemars(extend("examples" = [["sntrup761x25519-sha512*"]]))]
    required_algorithms: Vec<String>,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"1s")]
    degraded_after: Option<DurationLimits<SshPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "5s", "banner": "1s"}]))]
    unhealthy_after: Option<DurationLimits<SshPhases>>,
}

/// The phases of a visit.
struct SshPhases;

impl TimedPhases for SshPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "From the first attempt to the connection."),
        ("banner", "From the connection to the banner."),
        ("algorithms", "From the banner to the list of algorithms."),
        (
            "host_key",
            "The key exchange, up to the signature of the host key.",
        ),
    ];
}

impl SshConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<SshProbe, Failure> {
        let mut faults = Vec::new();
        let address = ServerAddress::parse(&self.address, Some(SSH_PORT))
            .map_err(|rule| faults.push(format!("key `address`: {:?} {rule}", self.address)))
            .ok();
        let mut host_keys = Vec::new();
        for (nth, text) in self.host_keys.iter().enumerate() {
            match text.parse::<Fingerprint>() {
                Ok(key) => host_keys.push(key),
                Err(rule) => faults.push(format!("key `host_keys[{nth}]`: {rule}")),
            }
        }
        let banner = self.banner.as_deref().and_then(|pattern| {
            let built = RegexBuilder::new(pattern).size_limit(MAX_REGEX).build();
            built
                .map_err(|error| {
                    let rule = error.to_string();
                    let rule = rule.lines().last().unwrap_or_default();
                    faults.push(format!(
                        "key `banner`: {pattern:?} is not a regular expression: {rule}; correct it"
                    ));
                })
                .ok()
        });
        for (key, names) in [
            ("forbidden_algorithms", &self.forbidden_algorithms),
            ("required_algorithms", &self.required_algorithms),
        ] {
            for (nth, name) in names.iter().enumerate() {
                let is_name = name.bytes().all(|b| b.is_ascii_graphic() && b != b',');
                if !is_name || name.is_empty() || name.matches('*').count() > 1 {
                    faults.push(format!(
                        "key `{key}[{nth}]`: {name:?} is not an algorithm; write one name, with at most one `*`"
                    ));
                }
            }
        }
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        match address {
            Some(address) if faults.is_empty() => Ok(SshProbe {
                target: SshTarget {
                    address,
                    banner,
                    host_keys,
                    host_key_type: self.host_key_type,
                    weak_algorithms: self.weak_algorithms,
                    forbidden_algorithms: self.forbidden_algorithms,
                    required_algorithms: self.required_algorithms,
                },
                durations,
                resolver: NameResolver::default(),
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }
}

const SSH_PORT: u16 = 22;

/// Largest compiled expression, in bytes.
const MAX_REGEX: usize = 1 << 20;
