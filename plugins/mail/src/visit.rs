//! One session with a server, from the connection to the goodbye.

use std::{net::SocketAddr, time::Duration};

use conductor_net::{CheckError, NameResolver, PhaseClock, ServerAddress, StartTls, TlsClient};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    dialog::Dialog,
    findings::MailFindings,
    imap::ImapSteps,
    pop3::Pop3Steps,
    protocol::{Credentials, Encryption, MailProtocol, MailSteps, is_offered},
    smtp::{RecipientTest, SmtpSteps},
};

/// A server, and what to do there.
pub(crate) struct MailTarget {
    pub(crate) protocol: MailProtocol,
    pub(crate) address: ServerAddress,
    pub(crate) encryption: Encryption,
    /// `None` without encryption.
    pub(crate) tls: Option<TlsClient>,
    pub(crate) credentials: Option<Credentials>,
    /// Capabilities that the server must offer.
    pub(crate) capabilities: Vec<String>,
    /// Name in `EHLO`; the address of this machine if it is left out.
    pub(crate) hello: Option<String>,
    pub(crate) recipient: Option<RecipientTest>,
    pub(crate) folder: String,
}

impl MailTarget {
    /// Connects and takes all steps; `findings` and `expiry` have the results as far as the session came.
    pub(crate) async fn visit(
        &self,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
        findings: &mut MailFindings,
        expiry: &mut Option<f64>,
    ) -> Result<(), CheckError> {
        let stream = self.address.connect(resolver, clock).await?;
        let local = stream.local_addr();
        let secrets = self.credentials.as_ref().map(Credentials::secrets);
        let dialog = Dialog::new(Box::new(stream), secrets.unwrap_or_default());
        match self.protocol {
            MailProtocol::Smtp => {
                let local = local.map_or_else(|_| "localhost".to_owned(), address_literal);
                let mut steps = SmtpSteps {
                    hello: self.hello.clone().unwrap_or(local),
                    recipient: self.recipient.as_ref(),
                    code: None,
                };
                let ended = self
                    .take(&mut steps, dialog, resolver, clock, findings, expiry)
                    .await;
                findings.code = steps.code;
                ended
            }
            MailProtocol::Imap => {
                let mut steps = ImapSteps::new(&self.folder);
                self.take(&mut steps, dialog, resolver, clock, findings, expiry)
                    .await
            }
            MailProtocol::Pop3 => {
                let mut steps = Pop3Steps {
                    is_logged_in: false,
                };
                self.take(&mut steps, dialog, resolver, clock, findings, expiry)
                    .await
            }
        }
    }

    async fn take<P: MailSteps>(
        &self,
        steps: &mut P,
        mut dialog: Dialog,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
        findings: &mut MailFindings,
        expiry: &mut Option<f64>,
    ) -> Result<(), CheckError> {
        if let (Encryption::Tls, Some(tls)) = (self.encryption, &self.tls) {
            dialog = self.encrypt(dialog, tls, resolver, clock, expiry).await?;
        }
        clock.enter("greeting");
        steps.greet(&mut dialog, &clock.limit).await?;
        if let (Encryption::Starttls, Some(tls)) = (self.encryption, &self.tls) {
            clock.enter("starttls");
            steps.start_tls(&mut dialog, &clock.limit).await?;
            dialog = self.encrypt(dialog, tls, resolver, clock, expiry).await?;
        }
        clock.enter("capabilities");
        let offered = steps.capabilities(&mut dialog, &clock.limit).await?;
        self.compare(&dialog, &offered)?;
        if let Some(credentials) = &self.credentials {
            clock.enter("login");
            let limit = &clock.limit;
            steps
                .log_in(&mut dialog, credentials, &offered, limit)
                .await?;
        }
        clock.enter(match self.protocol {
            MailProtocol::Smtp => "recipient",
            MailProtocol::Imap | MailProtocol::Pop3 => "mailbox",
        });
        steps.examine(&mut dialog, findings, &clock.limit).await?;
        clock.end();
        findings.took = Some(clock.limit.elapsed());
        // A goodbye keeps the log of the server clean; all results are known without it.
        let patience = GOODBYE.min(clock.limit.left());
        let _ = timeout(patience, steps.leave(&mut dialog, &clock.limit)).await;
        Ok(())
    }

    /// Performs the TLS handshake: the phase `tls`. Returns the dialog within TLS, and the end of the certificate.
    async fn encrypt(
        &self,
        dialog: Dialog,
        tls: &TlsClient,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
        expiry: &mut Option<f64>,
    ) -> Result<Dialog, CheckError> {
        clock.enter("tls");
        let host = &self.address.host;
        let (dialog, stream) = dialog.before_tls()?;
        let mut handshake = tls.connect(stream, host, &clock.limit).await;
        if handshake.is_refused {
            let again = self.reach_tls(resolver, clock).await;
            handshake = tls
                .offer_outdated(handshake, again, host, &clock.limit)
                .await;
        }
        *expiry = handshake.presented.and_then(|chain| chain.expiry());
        let stream = handshake.outcome?;
        clock.end();
        Ok(dialog.within(Box::new(stream)))
    }

    /// Connects again, up to where TLS begins.
    async fn reach_tls(
        &self,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
    ) -> Result<TcpStream, CheckError> {
        let mut stream = self.address.connect(resolver, clock).await?;
        if self.encryption == Encryption::Starttls {
            let protocol = match self.protocol {
                MailProtocol::Smtp => StartTls::Smtp,
                MailProtocol::Imap => StartTls::Imap,
                MailProtocol::Pop3 => StartTls::Pop3,
            };
            clock.enter("starttls");
            let started = protocol.start(&mut stream, &self.address.host, &clock.limit);
            started.await?;
        }
        clock.enter("tls");
        Ok(stream)
    }

    /// Names the capabilities that are missing.
    fn compare(&self, dialog: &Dialog, offered: &[String]) -> Result<(), CheckError> {
        let missing: Vec<&str> = (self.capabilities.iter())
            .filter(|wanted| !is_offered(offered, wanted))
            .map(String::as_str)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(CheckError::Platform(format!(
            "the server does not offer {}, only {}",
            missing.join(", "),
            dialog.quote(&offered.join(", "))
        )))
    }
}

/// Writes an address as RFC 5321 wants it in `EHLO` where there is no name.
fn address_literal(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("[{}]", v4.ip()),
        SocketAddr::V6(v6) => format!("[IPv6:{}]", v6.ip()),
    }
}

/// Longest time to wait for the response to a goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
