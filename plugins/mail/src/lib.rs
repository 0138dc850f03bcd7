//! The `mail` probe: checks mail servers of the protocols SMTP, IMAP and POP3.
//!
//! ```toml
//! [platform.mx]
//! plugin = "mail"
//! config = { protocol = "smtp", address = "mx.shop.example", recipient = "postmaster@shop.example" }
//!
//! [platform.mailboxes]
//! plugin = "mail"
//! config = { protocol = "imap", address = "mail.shop.example", encryption = "tls", username = "monitor@shop.example", password = { file = "/etc/conductor/mail.password" }, folder = "Reports", age = { unhealthy_above = "1d 2h" } }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `protocol` | | "smtp", "imap" or "pop3" |
//! | `address` | | `HOST` or `HOST:PORT`; the default port is that of the protocol and its encryption |
//! | `encryption` | "starttls" | TLS by a command ("starttls"), from the first byte ("tls") or "none" |
//! | `tls` | system's CAs | trust, client certificate and versions, as for `http` |
//! | `username`, `password` | no login | user to log in as |
//! | `allow_clear_login` | `false` | send the password although `encryption` is "none" |
//! | `capabilities` | none | capabilities that the server must offer once TLS is active |
//! | `hello` | address of this machine | name in `EHLO` of SMTP |
//! | `recipient`, `sender` | no recipient | recipient that an SMTP server must accept, and the sender that it is offered from |
//! | `folder` | "INBOX" | folder to examine after an IMAP login |
//! | `messages` | no limits | limits of the number of messages in the folder or mailbox: `{ degraded_above = 100 }` |
//! | `age` | no limits | limits of the age of the newest message of an IMAP folder |
//! | `degraded_after`, `unhealthy_after` | no limit | longest duration, in total or by phase |
//!
//! Each check opens a connection, reads the greeting, starts TLS, requests the capabilities, logs in if it has a user, and
//! says goodbye. A greeting of several lines or after a pause, as of postscreen, is awaited within the timeout. With a
//! recipient, the probe offers a sender and the recipient (`MAIL`, `RCPT`), then cancels (`RSET`): no message is sent. With
//! a login, it counts the messages of the folder, opened read-only (`EXAMINE`), or of the mailbox (`STAT`); the newest is
//! the one that arrived last. Logins use the mechanism PLAIN, or LOGIN and its likes where PLAIN is not offered. Without
//! TLS no password is sent, unless `allow_clear_login` permits it.
//!
//! The length of a local Postfix queue is not measured: reading it needs privileges of the mail system that a sandboxed
//! plugin does not have.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_mail_phase_seconds` | `phase` | duration of `resolve` (absent for an IP address), `connect`, `greeting`, `starttls`, `tls`, `capabilities`, `login`, `recipient` (SMTP) and `mailbox` (IMAP, POP3) |
//! | `conductor_mail_duration_seconds` | | the whole check, without the goodbye |
//! | `conductor_mail_smtp_code` | | code of the last response of SMTP; with a recipient, the response to that |
//! | `conductor_mail_messages` | | number of messages in the folder or mailbox; after a login |
//! | `conductor_mail_newest_message_timestamp_seconds` | | Unix time of arrival of the newest message; IMAP, with messages |
//! | `conductor_mail_certificate_expiry_timestamp_seconds` | | Unix time until which the server's certificate is valid; with TLS |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, a bad certificate, no response in
//! time, another protocol, no STARTTLS, a missing capability, a refused login, sender, recipient or folder, data sent
//! before TLS starts, or a value outside of an `unhealthy_…` limit. A temporary refusal (4xx) of the sender or recipient, as by
//! greylisting, is *degraded*, as is a value outside of a `degraded_…` limit; a temporary refusal of all else is unhealthy.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no CA
//! certificates, no free file descriptor or port, or may not connect.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod config;
mod dialog;
mod findings;
mod imap;
mod pop3;
mod protocol;
mod smtp;
#[cfg(test)]
mod tests;
mod visit;

use conductor_net::{DurationRules, NameResolver, PhaseClock, TimeLimit};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};
use jiff::Timestamp;

use crate::{
    config::MailConfig,
    findings::{MailFindings, MailLimits},
    visit::MailTarget,
};

export_plugin! {
    id: "mail",
    async_probe: MailProbe,
    name: "Mail",
    needs: ["network"],
    metrics: [PHASE, DURATION, CODE, MESSAGES, NEWEST, CERTIFICATE_EXPIRY],
}

const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the check.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge(
    "duration",
    "Duration of the whole check, without the goodbye.",
)
.unit("seconds");
const CODE: Metric = Metric::gauge(
    "smtp_code",
    "Code of the last response of SMTP; with a recipient, the response to that.",
);
const MESSAGES: Metric = Metric::gauge("messages", "Number of messages in the folder or mailbox.");
const NEWEST: Metric = Metric::gauge(
    "newest_message_timestamp",
    "Unix time of arrival of the newest message in the folder.",
)
.unit("seconds");
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the server's certificate is valid.",
)
.unit("seconds");

struct MailProbe {
    target: MailTarget,
    limits: MailLimits,
    durations: DurationRules,
    resolver: NameResolver,
}

impl AsyncProbe for MailProbe {
    type Config = MailConfig;

    fn create(config: MailConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut findings = MailFindings::default();
        let mut expiry = None;
        let visited = self
            .target
            .visit(&mut self.resolver, &mut clock, &mut findings, &mut expiry)
            .await;
        let took = findings.took.unwrap_or_else(|| clock.limit.elapsed());
        let report = match visited {
            Ok(()) => {
                let now = Timestamp::now().as_second();
                let (mut verdict, summary) = findings.judge(&self.limits, took, now);
                for (status, text) in self.durations.judge(took, |phase| clock.took(phase)) {
                    verdict.add(status, text);
                }
                verdict.into_report(summary)?
            }
            Err(error) => error.into_report()?,
        };
        let report = findings.measure(clock.record(report, &PHASE));
        let report = report.set(&DURATION, [], took.as_secs_f64());
        Ok(match expiry {
            Some(expiry) => report.set(&CERTIFICATE_EXPIRY, [], expiry),
            None => report,
        })
    }
}
