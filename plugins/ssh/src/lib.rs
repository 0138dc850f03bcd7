//! The `ssh` probe: checks the banner, the host key and the algorithms of an SSH server, without a login.
//!
//! ```toml
//! [platform.bastion]
//! plugin = "ssh"
//! config = { address = "bastion.example", host_keys = ["SHA256:syUTB/Tk6rsxllYaS9M2xfdRgxCXWWSDA71BZ5QIJcM"] }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | | `HOST` or `HOST:PORT`; the default port is 22 |
//! | `host_keys` | any key | fingerprints of which the host key must have one, as `ssh-keygen -lf FILE` prints them |
//! | `host_key_type` | the server's first of these | host key to request: "ed25519", "ecdsa" or "rsa" |
//! | `banner` | any | regular expression that the banner must match |
//! | `weak_algorithms` | "degraded" | state of a server that offers weak algorithms: "ignore", "degraded" or "unhealthy" |
//! | `forbidden_algorithms`, `required_algorithms` | none | algorithms that the server must not or must offer; `*` matches any text |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//!
//! Each check opens a connection, exchanges banners and lists of algorithms, and performs a key exchange up to the point
//! where the server signs with its host key: a server that only knows another's public key is found out. Then it says
//! goodbye; nothing is encrypted, and there is no login. A server has several host keys, of which a check sees one:
//! `host_key_type` selects it. Known key exchanges are curve25519-sha256 and ecdh-sha2-nistp256 and -384; of a server with
//! others alone, as very old ones, the host key is not read.
//!
//! Weak algorithms are those that OpenSSH no longer offers by default: SHA-1 in key exchanges and signatures, DSA, CBC
//! and RC4 ciphers, MD5, RIPEMD-160 and shortened MACs; and version 1 of the protocol.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_ssh_phase_seconds` | `phase` | duration of `resolve` (absent for an IP address), `connect`, `banner`, `algorithms` and `host_key` |
//! | `conductor_ssh_duration_seconds` | | the whole check |
//! | `conductor_ssh_weak_algorithms` | `kind` | number of weak algorithms: `key_exchange`, `host_key`, `cipher`, `mac` |
//! | `conductor_ssh_host_key_pinned` | | 1 if the host key is one of `host_keys`, otherwise 0; with `host_keys` |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, no response in time, another
//! protocol or version, a host key that is not pinned, of the wrong type or without a valid signature, a forbidden or
//! missing algorithm, a banner that does not match, a response that is too slow.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no free file
//! descriptor or port, or may not connect, or the host key is pinned and the server has no key exchange in common.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod algorithms;
mod config;
mod encoding;
mod exchange;
mod host_key;
#[cfg(test)]
mod tests;
mod transport;
mod visit;

use conductor_net::{DurationRules, NameResolver, PhaseClock, TimeLimit, show_duration};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};

use crate::{
    config::SshConfig,
    visit::{SshFindings, SshTarget},
};

export_plugin! {
    id: "ssh",
    async_probe: SshProbe,
    name: "SSH",
    needs: ["network"],
    metrics: [PHASE, DURATION, WEAK_ALGORITHMS, HOST_KEY_PINNED],
}

const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the check.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const WEAK_ALGORITHMS: Metric<1> = Metric::gauge(
    "weak_algorithms",
    "Number of weak algorithms that the server offers.",
)
.labels(["kind"]);
const HOST_KEY_PINNED: Metric = Metric::gauge(
    "host_key_pinned",
    "1 if the host key is one of the configured ones, otherwise 0.",
);

struct SshProbe {
    target: SshTarget,
    durations: DurationRules,
    resolver: NameResolver,
}

impl AsyncProbe for SshProbe {
    type Config = SshConfig;

    fn create(config: SshConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut findings = SshFindings::default();
        let visited = self
            .target
            .visit(&mut self.resolver, &mut clock, &mut findings)
            .await;
        let took = clock.limit.elapsed();
        let report = match visited {
            Ok(()) => {
                let (mut verdict, summary) = self.target.judge(&findings);
                for (status, slow) in self.durations.judge(took, |phase| clock.took(phase)) {
                    verdict.add(status, slow);
                }
                verdict.into_report(format!("{summary}, in {}", show_duration(took)))?
            }
            Err(error) => error.into_report()?,
        };
        let report = self.target.measure(&findings, clock.record(report, &PHASE));
        Ok(report.set(&DURATION, [], took.as_secs_f64()))
    }
}
