//! `[probe]`: the targets that clients may have checked through `/probe`.

use std::net::IpAddr;

use conductor_core::pattern::NamePattern;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::check::TableValidator;

/// The limits of `/probe`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeConfig {
    /// The targets that clients may name.
    pub targets: Vec<TargetRule>,
}

/// Targets that clients may name.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetRule {
    /// Those whose host is an IP address of this network.
    Network(IpNet),
    /// Those whose host is a name that matches; or, without a host, those that match as a whole.
    Name(NamePattern),
}

/// `[probe]`, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Probe",
    description = "Targets that clients may have checked through `/probe`."
)]
pub(crate) struct RawProbeConfig {
    /// Targets that clients may name: names of hosts, in which `*` matches any characters and `?` exactly one; IP addresses;
    /// and networks such as "10.0.0.0/8". `["*"]` allows all.
    #[schemars(
        with = "Vec<String>",
        inner(length(min = 1)),
        extend("default" = LOOPBACK)
    )]
    #[serde(default)]
    targets: Option<Vec<String>>,
}

impl RawProbeConfig {
    pub(super) fn resolve(self, check: &mut TableValidator<'_>) -> ProbeConfig {
        let written = self.targets.map(|written| {
            let mut check = check.table(&["targets"]);
            let rules = written.iter().enumerate();
            let rules = rules.filter_map(|(at, text)| TargetRule::read(at, text, &mut check));
            rules.collect()
        });
        ProbeConfig {
            targets: written.unwrap_or_else(|| ProbeConfig::default().targets),
        }
    }
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            targets: LOOPBACK.into_iter().map(TargetRule::of).collect(),
        }
    }
}

impl ProbeConfig {
    /// Returns `true` if clients may name this target.
    #[must_use]
    pub fn allows(&self, target: &str) -> bool {
        let host = host_of(target);
        self.targets.iter().any(|rule| rule.matches(target, &host))
    }
}

impl TargetRule {
    /// Reads one rule, or reports the mistake in it.
    fn read(at: usize, text: &str, check: &mut TableValidator<'_>) -> Option<Self> {
        let rule = Self::of(text);
        if matches!(rule, Self::Name(_)) && text.contains(['/', ':']) && !text.contains('*') {
            let key = at.to_string();
            let message = format!("{} is {text:?}, not a host or a network", check.name(&key));
            let help = "write a name such as \"*.example.com\", an address, or a network such as \"10.0.0.0/8\"";
            check.refuse(&key, message, help);
            return None;
        }
        Some(rule)
    }

    fn of(text: &str) -> Self {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        match text.parse::<IpNet>().or_else(|_| address()) {
            Ok(network) => Self::Network(network),
            Err(_) => Self::Name(NamePattern::new(&text.to_ascii_lowercase())),
        }
    }

    fn matches(&self, target: &str, host: &str) -> bool {
        match self {
            Self::Network(network) => host
                .parse::<IpAddr>()
                .is_ok_and(|address| network.contains(&address.to_canonical())),
            Self::Name(pattern) => match host.is_empty() {
                true => pattern.matches(target),
                false => pattern.matches(host),
            },
        }
    }
}

/// Returns the host that a target names, such as `example.com` in `https://example.com:8443/health`, in lower case; empty if
/// the target is a path.
fn host_of(target: &str) -> String {
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None if authority.matches(':').count() == 1 => {
            authority.split(':').next().unwrap_or_default()
        }
        // More than one colon: an IPv6 address without brackets.
        None => authority,
    };
    let host = host.split('%').next().unwrap_or_default();
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// The targets of a host whose config names none.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.0/8", "::1"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_target_is_found_in_each_form() {
        for (target, host) in [
            ("example.com", "example.com"),
            ("Example.COM.:443", "example.com"),
            ("https://example.com/a?b=http://other", "example.com"),
            ("http://example.com?x", "example.com"),
            ("http://[::1]:80/", "::1"),
            ("[fe80::1%eth0]:22", "fe80::1"),
            ("::1", "::1"),
            ("127.0.0.1:22", "127.0.0.1"),
            ("/var/lib", ""),
        ] {
            assert_eq!(host_of(target), host, "{target}");
        }
    }

    #[test]
    fn by_default_only_this_machine_can_be_checked() {
        let probe = ProbeConfig::default();
        for allowed in [
            "localhost",
            "http://LOCALHOST:8080/x",
            "127.0.0.1:22",
            "127.9.9.9",
            "http://[::1]/",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(probe.allows(allowed), "{allowed}");
        }
        for refused in [
            "localhost.example.com",
            "http://example.com/localhost",
            "http://example.com#127.0.0.1",
            "10.0.0.1",
            "0x7f000001",
            "[::2]:80",
            "/etc/passwd",
            "",
        ] {
            assert!(!probe.allows(refused), "{refused}");
        }
    }

    #[test]
    fn names_networks_and_paths_are_allowed_by_rules() {
        let rules = ["*.Example.com", "10.0.0.0/8", "fd00::/8", "/srv*"];
        let probe = ProbeConfig {
            targets: rules.into_iter().map(TargetRule::of).collect(),
        };
        for allowed in [
            "https://a.example.com",
            "10.1.2.3:80",
            "[fd00::1]:1",
            "/srv/x",
        ] {
            assert!(probe.allows(allowed), "{allowed}");
        }
        for refused in ["example.com", "11.0.0.1", "127.0.0.1", "/etc"] {
            assert!(!probe.allows(refused), "{refused}");
        }
    }
}
