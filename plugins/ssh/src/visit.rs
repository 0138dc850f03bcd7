//! One visit to a server: banner, algorithms, host key.

use conductor_net::{CheckError, LimitVerdict, NameResolver, PhaseClock, ServerAddress};
use conductor_plugin_api::{Failure, Report, Status};
use regex::Regex;

use crate::{
    HOST_KEY_PINNED, WEAK_ALGORITHMS,
    algorithms::{AlgorithmKind, OfferedAlgorithms, WeaknessRule},
    exchange::{Negotiation, ProvedKey, say_goodbye},
    host_key::{Fingerprint, HostKeyType},
    transport::{Transport, quote},
};

/// A server, and what is expected of it.
pub(crate) struct SshTarget {
    pub(crate) address: ServerAddress,
    /// Must match the server's banner.
    pub(crate) banner: Option<Regex>,
    /// Fingerprints of which the host key must have one; any key without them.
    pub(crate) host_keys: Vec<Fingerprint>,
    /// Type of host key to request; any without it.
    pub(crate) host_key_type: Option<HostKeyType>,
    pub(crate) weak_algorithms: WeaknessRule,
    pub(crate) forbidden_algorithms: Vec<String>,
    pub(crate) required_algorithms: Vec<String>,
}

/// The results of a visit, as far as it came.
#[derive(Default)]
pub(crate) struct SshFindings {
    banner: Option<String>,
    offered: Option<OfferedAlgorithms>,
    key: Option<ProvedKey>,
}

impl SshTarget {
    /// Connects, and reads what the server says about itself.
    pub(crate) async fn visit(
        &self,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
        findings: &mut SshFindings,
    ) -> Result<(), CheckError> {
        let stream = self.address.connect(resolver, clock).await?;
        let mut transport = Transport::new(stream);
        clock.enter("banner");
        let banner = transport.exchange_banners(OWN_BANNER, &clock.limit).await?;
        findings.banner = Some(banner.clone());
        check_version(&banner)?;
        clock.enter("algorithms");
        let all = HostKeyType::ALL;
        let types = self
            .host_key_type
            .as_ref()
            .map_or(&all[..], std::slice::from_ref);
        let banners = (OWN_BANNER, banner.as_str());
        let negotiation = Negotiation::start(&mut transport, banners, types, &clock.limit).await?;
        findings.offered = Some(negotiation.offered.clone());
        if negotiation.is_possible() {
            clock.enter("host_key");
            findings.key = negotiation.prove(&mut transport, &clock.limit).await?;
        } else {
            self.explain_missing_key(&negotiation)?;
        }
        clock.end();
        say_goodbye(&mut transport, &clock.limit).await;
        Ok(())
    }

    /// Returns an error if a host key is needed.
    fn explain_missing_key(&self, negotiation: &Negotiation<'_>) -> Result<(), CheckError> {
        if let Some(wanted) = self.host_key_type
            && !negotiation.has_host_key()
        {
            return Err(CheckError::Platform(format!(
                "the server has no {wanted} host key, only {}",
                negotiation.offered.host_key.join(", ")
            )));
        }
        if self.host_keys.is_empty() {
            return Ok(());
        }
        Err(CheckError::Host(Failure::new(format!(
            "the host key cannot be verified, as this probe does not know the server's key exchanges ({}) or host keys ({}); remove `host_keys`, or allow the server curve25519-sha256 and ssh-ed25519",
            negotiation.offered.key_exchange.join(", "),
            negotiation.offered.host_key.join(", "),
        ))))
    }

    /// Judges a visit that reached its end; returns the verdict and a summary of what was found.
    pub(crate) fn judge(&self, findings: &SshFindings) -> (LimitVerdict, String) {
        let mut verdict = LimitVerdict::default();
        let banner = findings.banner.as_deref().unwrap_or_default();
        if let Some(pattern) = &self.banner
            && !pattern.is_match(banner)
        {
            let found = quote(banner.as_bytes());
            let text = format!("the banner is {found}, expected {:?}", pattern.as_str());
            verdict.add(Status::Unhealthy, text);
        }
        if let Some(key) = &findings.key
            && !self.is_pinned(key)
        {
            let text = format!(
                "the host key {key} is not one of `host_keys`; if it was replaced on purpose, add it there"
            );
            verdict.add(Status::Unhealthy, text);
        }
        if let Some(offered) = &findings.offered {
            self.judge_algorithms(banner, offered, &mut verdict);
        }
        // "SSH-2.0-OpenSSH_9.2p1 Debian-2": version, software, comment.
        let software = printable(banner.splitn(3, '-').last().unwrap_or_default());
        let summary = match &findings.key {
            Some(key) => format!("{software}, host key {key}"),
            None => software,
        };
        (verdict, summary)
    }

    fn is_pinned(&self, key: &ProvedKey) -> bool {
        self.host_keys.is_empty() || self.host_keys.contains(&key.fingerprint)
    }

    fn judge_algorithms(
        &self,
        banner: &str,
        offered: &OfferedAlgorithms,
        verdict: &mut LimitVerdict,
    ) {
        for name in &self.forbidden_algorithms {
            if offered.has(name) {
                let text = format!("the server offers {name} (`forbidden_algorithms`)");
                verdict.add(Status::Unhealthy, text);
            }
        }
        for name in &self.required_algorithms {
            if !offered.has(name) {
                let text = format!("the server does not offer {name} (`required_algorithms`)");
                verdict.add(Status::Unhealthy, text);
            }
        }
        let status = match self.weak_algorithms {
            WeaknessRule::Ignore => return,
            WeaknessRule::Degraded => Status::Degraded,
            WeaknessRule::Unhealthy => Status::Unhealthy,
        };
        let weak = AlgorithmKind::ALL
            .into_iter()
            .flat_map(|kind| offered.weak(kind));
        let mut weak: Vec<&str> = weak.collect();
        if banner.starts_with("SSH-1.99-") {
            weak.insert(0, "version 1 of the protocol");
        }
        if !weak.is_empty() {
            let shown = weak.iter().take(MAX_NAMED).map(|name| printable(name));
            let shown: Vec<String> = shown.collect();
            let more = match weak.len().saturating_sub(MAX_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let text = format!(
                "the server offers weak algorithms: {}{more}",
                shown.join(", ")
            );
            verdict.add(status, text);
        }
    }

    /// Adds the measurements, as far as the visit came.
    pub(crate) fn measure(&self, findings: &SshFindings, mut report: Report) -> Report {
        if let Some(offered) = &findings.offered {
            for kind in AlgorithmKind::ALL {
                let count = u32::try_from(offered.weak(kind).len()).unwrap_or(u32::MAX);
                report = report.set(&WEAK_ALGORITHMS, [kind.label()], count.into());
            }
        }
        match &findings.key {
            Some(key) if !self.host_keys.is_empty() => {
                let pinned = u8::from(self.is_pinned(key));
                report.set(&HOST_KEY_PINNED, [], pinned.into())
            }
            _ => report,
        }
    }
}

/// Accepts version 2 of the protocol, also of a server that knows version 1.
fn check_version(banner: &str) -> Result<(), CheckError> {
    if banner.starts_with("SSH-2.0-") || banner.starts_with("SSH-1.99-") {
        return Ok(());
    }
    Err(CheckError::Platform(format!(
        "the server speaks {}, expected SSH-2.0",
        quote(banner.as_bytes())
    )))
}

/// Returns untrusted text without control characters, of limited length.
fn printable(text: &str) -> String {
    let is_plain = |c: &char| !c.is_control();
    text.chars().filter(is_plain).take(MAX_SOFTWARE).collect()
}

/// The banner of this probe.
const OWN_BANNER: &str = concat!("SSH-2.0-conductor_", env!("CARGO_PKG_VERSION"));

/// Largest number of weak algorithms that a message names.
const MAX_NAMED: usize = 8;

/// Longest part of a banner or name in a message, in characters.
const MAX_SOFTWARE: usize = 80;
