//! The three protocols, and the steps that they have in common.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use conductor_net::{CheckError, TimeLimit};
use conductor_plugin_api::{config::Secret, schemars};
use serde::{Deserialize, Serialize};

use crate::{dialog::Dialog, findings::MailFindings};

/// Protocol of a mail server.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MailProtocol {
    /// Delivery and submission: RFC 5321.
    Smtp,
    /// Mailboxes with folders: RFC 3501 and RFC 9051.
    Imap,
    /// Mailboxes without folders: RFC 1939.
    Pop3,
}

/// Encryption of the connection.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encryption {
    /// TLS is started by a command after the greeting.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// No TLS.
    None,
}

impl MailProtocol {
    /// Returns the default port.
    pub(crate) fn port(self, encryption: Encryption) -> u16 {
        match (self, encryption == Encryption::Tls) {
            (Self::Smtp, false) => 25,
            (Self::Smtp, true) => 465,
            (Self::Imap, false) => 143,
            (Self::Imap, true) => 993,
            (Self::Pop3, false) => 110,
            (Self::Pop3, true) => 995,
        }
    }
}

impl fmt::Display for MailProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smtp => "SMTP",
            Self::Imap => "IMAP",
            Self::Pop3 => "POP3",
        })
    }
}

/// One protocol's way through the steps of a check.
pub(crate) trait MailSteps {
    /// Reads the greeting.
    async fn greet(&mut self, dialog: &mut Dialog, limit: &TimeLimit<'_>)
    -> Result<(), CheckError>;

    /// Has the server wait for the TLS handshake.
    async fn start_tls(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError>;

    /// Returns the capabilities that the server offers now: a keyword, and words after spaces.
    async fn capabilities(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<Vec<String>, CheckError>;

    /// Logs in, in a way that the server offers.
    async fn log_in(
        &mut self,
        dialog: &mut Dialog,
        credentials: &Credentials,
        offered: &[String],
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError>;

    /// Offers the recipient, or examines the mailbox.
    async fn examine(
        &mut self,
        dialog: &mut Dialog,
        findings: &mut MailFindings,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError>;

    /// Ends the session; errors do not matter.
    async fn leave(&mut self, dialog: &mut Dialog, limit: &TimeLimit<'_>)
    -> Result<(), CheckError>;
}

/// A user's name and password.
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: Secret,
}

impl Credentials {
    /// Returns the message of the SASL mechanism PLAIN (RFC 4616), in base64.
    pub(crate) fn plain(&self) -> String {
        base64(&format!("\0{}\0{}", self.username, self.password.expose()))
    }

    /// Returns the password as it may occur in a response of the server.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let password = self.password.expose();
        vec![password.to_owned(), base64(password), self.plain()]
    }
}

/// Encodes a text for SASL.
pub(crate) fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// Returns true if the server offers a capability: its keyword, and each further word among the parameters.
pub(crate) fn is_offered(offered: &[String], wanted: &str) -> bool {
    let mut wanted = wanted.split_ascii_whitespace();
    let Some(keyword) = wanted.next() else {
        return true;
    };
    let wanted: Vec<&str> = wanted.collect();
    offered.iter().any(|capability| {
        let mut words = capability.split_ascii_whitespace();
        let is_same = words
            .next()
            .is_some_and(|w| w.eq_ignore_ascii_case(keyword));
        let words: Vec<&str> = words.collect();
        let has = |wanted: &&str| words.iter().any(|word| word.eq_ignore_ascii_case(wanted));
        is_same && wanted.iter().all(has)
    })
}
