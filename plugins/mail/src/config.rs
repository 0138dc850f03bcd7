//! Keys of a mail platform's `config` table.

use conductor_net::{
    DurationLimits, DurationRules, Limits, NameResolver, ServerAddress, TOTAL, TimedPhases,
    TlsClient, TlsConfig,
};
use conductor_plugin_api::{
    Failure,
    config::{Duration, Secret},
    schemars,
};
use serde::Deserialize;

use crate::{
    MailProbe,
    findings::MailLimits,
    protocol::{Credentials, Encryption, MailProtocol},
    smtp::RecipientTest,
    visit::MailTarget,
};

/// Checks a mail server: its greeting, TLS and capabilities and, if asked, a login, a recipient or a folder.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MailConfig {
    /// Protocol of the server.
    protocol: MailProtocol,

    /// Server, `HOST` or `HOST:PORT`. The default port is 25, 143 or 110, with `encryption = "tls"` 465, 993 or 995.
    #[schemars(length(min = 1), example = &"mx.shop.example", example = &"[2001:db8::1]:587")]
    address: String,

    /// Encryption of the connection: TLS started by a command, from the first byte, or none.
    #[serde(default)]
    encryption: Encryption,

    /// Trust, client certificate and versions of TLS.
    tls: Option<TlsConfig>,

    /// User to log in as; with `password`.
    #[schemars(length(min = 1), example = &"monitor@shop.example")]
    username: Option<String>,

    /// Password of the user.
    password: Option<Secret>,

    /// Send the password although `encryption` is "none".
    #[serde(default)]
    allow_clear_login: bool,

    /// Capabilities that the server must offer once TLS is active: a keyword, and parameters that it must have.
    #[serde(default)]
    #[schemars(extend("examples" = [["SIZE", "AUTH PLAIN"], ["IDLE"]]))]
    capabilities: Vec<String>,

    /// Name of this machine in `EHLO` of SMTP; its address if the key is left out.
    #[schemars(length(min = 1), example = &"monitor.shop.example")]
    hello: Option<String>,

    /// Recipient that an SMTP server must accept. No message is sent.
    #[schemars(length(min = 3), example = &"postmaster@shop.example")]
    recipient: Option<String>,

    /// Sender that the recipient is offered from; the empty one of bounces if the key is left out.
    #[schemars(example = &"monitor@shop.example")]
    sender: Option<String>,

    /// Folder to examine after an IMAP login; "INBOX" if the key is left out.
    #[schemars(length(min = 1), example = &"Reports/Daily")]
    folder: Option<String>,

    /// Limits of the number of messages: in the folder of IMAP or the mailbox of POP3.
    #[schemars(extend("examples" = [{"degraded_above": 100}]))]
    messages: Option<Limits<u64>>,

    /// Limits of the age of the newest message of an IMAP folder; without messages it is above every limit.
    #[schemars(extend("examples" = [{"degraded_above": "1d", "unhealthy_above": "2d"}]))]
    age: Option<Limits<Duration>>,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"2s")]
    degraded_after: Option<DurationLimits<MailPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "8s", "greeting": "2s"}]))]
    unhealthy_after: Option<DurationLimits<MailPhases>>,
}

/// The phases of a session.
struct MailPhases;

impl TimedPhases for MailPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check, without the goodbye."),
        ("resolve", "Name resolution."),
        ("connect", "From the first attempt to the connection."),
        (
            "greeting",
            "From the connection to the end of the greeting.",
        ),
        (
            "starttls",
            "From the greeting to the permission to start TLS.",
        ),
        ("tls", "The TLS handshake."),
        ("capabilities", "The request for the capabilities."),
        ("login", "The login."),
        ("recipient", "The offer of a recipient to SMTP."),
        ("mailbox", "The examination of the folder or mailbox."),
    ];
}

impl MailConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<MailProbe, Failure> {
        let mut faults = Vec::new();
        let port = self.protocol.port(self.encryption);
        let address = ServerAddress::parse(&self.address, Some(port))
            .map_err(|rule| faults.push(format!("key `address`: {:?} {rule}", self.address)))
            .ok();
        let tls = self.tls_client(address.as_ref(), &mut faults);
        if let Some(limits) = &self.messages {
            limits.validate("messages", &mut faults);
        }
        if let Some(limits) = &self.age {
            limits.validate("age", &mut faults);
        }
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        self.check_login(&mut faults);
        self.check_texts(&mut faults);
        self.check_use(&mut faults);
        let Some(address) = address.filter(|_| faults.is_empty()) else {
            return Err(Failure::config(faults.join("; ")));
        };
        let credentials = self.username.zip(self.password);
        Ok(MailProbe {
            target: MailTarget {
                protocol: self.protocol,
                address,
                encryption: self.encryption,
                tls,
                credentials: credentials
                    .map(|(username, password)| Credentials { username, password }),
                capabilities: self.capabilities,
                hello: self.hello,
                recipient: self.recipient.map(|recipient| RecipientTest {
                    recipient,
                    sender: self.sender.unwrap_or_default(),
                }),
                folder: self.folder.unwrap_or_else(|| "INBOX".to_owned()),
            },
            limits: MailLimits {
                messages: self.messages,
                age: self.age,
            },
            durations,
            resolver: NameResolver::default(),
        })
    }

    fn tls_client(
        &self,
        address: Option<&ServerAddress>,
        faults: &mut Vec<String>,
    ) -> Option<TlsClient> {
        if self.encryption == Encryption::None {
            if self.tls.is_some() {
                faults.push(
                    "key `tls`: it has no effect, as `encryption` is \"none\"; remove one of the two"
                        .to_owned(),
                );
            }
            return None;
        }
        let tls = self.tls.clone().unwrap_or_default();
        if let Some(address) = address
            && tls.server_name.is_none()
            && !TlsClient::is_certifiable(&address.host)
        {
            faults.push(format!(
                "key `address`: no certificate can be issued for {:?}; set `tls = {{ server_name = \"…\" }}`",
                address.host
            ));
        }
        let client = tls
            .client("mail")
            .map_err(|found| faults.extend(found))
            .ok()?;
        if let Err(fault) = client.validate() {
            faults.push(fault.message().to_owned());
        }
        Some(client)
    }

    fn check_login(&self, faults: &mut Vec<String>) {
        match (&self.username, &self.password) {
            (Some(_), None) => faults
                .push("key `username`: there is no password for it; add `password`".to_owned()),
            (None, Some(_)) => {
                faults.push("key `password`: there is no user for it; add `username`".to_owned());
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        let is_clear = self.encryption == Encryption::None;
        if is_clear && self.password.is_some() && !self.allow_clear_login {
            faults.push(
                "key `password`: it would be sent in clear, as `encryption` is \"none\"; use \"starttls\" or \"tls\", or set `allow_clear_login = true`"
                    .to_owned(),
            );
        }
        if self.allow_clear_login && !(is_clear && self.password.is_some()) {
            faults.push(
                "key `allow_clear_login`: it has no effect, as no password is sent in clear; remove it"
                    .to_owned(),
            );
        }
    }

    /// Reports texts that would break a command or end it early; not their values, which may be secrets.
    fn check_texts(&self, faults: &mut Vec<String>) {
        let mut refuse = |key: &str, rule: &str| faults.push(format!("key `{key}`: {rule}"));
        let has_controls = |text: &str| text.chars().any(char::is_control);
        let password = self.password.as_ref().map(Secret::expose);
        for (key, text) in [
            ("username", self.username.as_deref()),
            ("password", password),
        ] {
            if text.is_some_and(|text| text.is_empty() || has_controls(text)) {
                refuse(
                    key,
                    "it is empty or has control characters; write it on one line",
                );
            }
        }
        let is_word = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_graphic() && !b"<>".contains(&b))
        };
        for (key, text, may_be_empty) in [
            ("hello", &self.hello, false),
            ("recipient", &self.recipient, false),
            ("sender", &self.sender, true),
        ] {
            if let Some(text) = text
                && (!is_word(text) || text.is_empty() && !may_be_empty)
            {
                refuse(
                    key,
                    "it has a space, `<`, `>` or a character outside of ASCII, or is empty; write it as in SMTP, without brackets",
                );
            }
        }
        let is_ascii = |text: &str| text.is_ascii() && !has_controls(text) && !text.is_empty();
        if self
            .folder
            .as_deref()
            .is_some_and(|folder| !is_ascii(folder))
        {
            refuse(
                "folder",
                "it has characters outside of ASCII or is empty; write it in modified UTF-7, as in \"Entw&APw-rfe\"",
            );
        }
        for (index, text) in self.capabilities.iter().enumerate() {
            if !is_ascii(text) || text.trim().is_empty() {
                refuse(
                    &format!("capabilities[{index}]"),
                    "not a capability; write a keyword and parameters, such as \"AUTH PLAIN\"",
                );
            }
        }
    }

    /// Reports keys that the protocol, or a check without login, does not use.
    fn check_use(&self, faults: &mut Vec<String>) {
        let protocol = self.protocol;
        let (smtp, imap) = (
            protocol == MailProtocol::Smtp,
            protocol == MailProtocol::Imap,
        );
        let (has_count, has_age) = (self.messages.is_some(), self.age.is_some());
        for (key, is_set, applies) in [
            ("hello", self.hello.is_some(), smtp),
            ("recipient", self.recipient.is_some(), smtp),
            ("sender", self.sender.is_some(), smtp),
            ("folder", self.folder.is_some(), imap),
            ("age", has_age, imap),
            ("messages", has_count, !smtp),
        ] {
            if is_set && !applies {
                faults.push(format!(
                    "key `{key}`: it does not apply to {protocol}; remove it"
                ));
            }
        }
        if self.sender.is_some() && self.recipient.is_none() {
            faults.push("key `sender`: there is no recipient for it; add `recipient`".to_owned());
        }
        if self.username.is_none() && (self.folder.is_some() || has_age || has_count) {
            faults.push(
                "key `username`: a mailbox can be examined after a login alone; add `username` and `password`"
                    .to_owned(),
            );
        }
    }
}
