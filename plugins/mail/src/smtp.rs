//! SMTP: RFC 5321, STARTTLS of RFC 3207, AUTH of RFC 4954.

use conductor_net::{CheckError, TimeLimit};

use crate::{
    dialog::Dialog,
    findings::MailFindings,
    protocol::{Credentials, MailSteps, base64, is_offered},
};

/// A session as a client that delivers nothing.
pub(crate) struct SmtpSteps<'a> {
    /// Name or address of this machine in `EHLO`.
    pub(crate) hello: String,
    pub(crate) recipient: Option<&'a RecipientTest>,
    /// Code of the last response; in the end that of the recipient, if one was offered.
    pub(crate) code: Option<u16>,
}

/// A recipient to offer, and the sender that it is offered from.
pub(crate) struct RecipientTest {
    pub(crate) recipient: String,
    /// Empty for the sender of bounces.
    pub(crate) sender: String,
}

/// A complete response.
struct SmtpReply {
    code: u16,
    /// The texts of its lines, without codes.
    texts: Vec<String>,
}

impl SmtpReply {
    fn is_accepted(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Returns true if the same request may succeed later.
    fn is_temporary(&self) -> bool {
        (400..500).contains(&self.code)
    }

    fn show(&self) -> String {
        format!("{} {}", self.code, self.texts.join(" "))
    }
}

impl SmtpSteps<'_> {
    async fn ask(
        &mut self,
        dialog: &mut Dialog,
        awaited: &str,
        line: &str,
        limit: &TimeLimit<'_>,
    ) -> Result<SmtpReply, CheckError> {
        dialog.send(awaited, line, limit).await?;
        self.reply(dialog, limit).await
    }

    /// Reads a response of one line or several, which have the same code.
    async fn reply(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<SmtpReply, CheckError> {
        let mut reply: Option<SmtpReply> = None;
        loop {
            let line = dialog.line(limit).await?;
            let Some((code, is_last, text)) = parse(&line) else {
                return Err(dialog.unexpected(&line, "a line of SMTP, such as \"250 OK\""));
            };
            let reply = reply.get_or_insert(SmtpReply {
                code,
                texts: Vec::new(),
            });
            if reply.code != code {
                let expected = format!("another line of the response {}", reply.code);
                return Err(dialog.unexpected(&line, &expected));
            }
            reply.texts.push(text.to_owned());
            if is_last {
                self.code = Some(code);
                return Ok(SmtpReply {
                    code,
                    texts: std::mem::take(&mut reply.texts),
                });
            }
        }
    }

    /// Offers the sender or the recipient; a temporary refusal is a concern, not an error.
    async fn offer(
        &mut self,
        dialog: &mut Dialog,
        findings: &mut MailFindings,
        (what, line): (&str, &str),
        limit: &TimeLimit<'_>,
    ) -> Result<bool, CheckError> {
        let reply = self
            .ask(dialog, &format!("the response to {what}"), line, limit)
            .await?;
        if reply.is_temporary() {
            findings.concerns.push(format!(
                "the server refuses {what} for now: {}",
                dialog.quote(&reply.show())
            ));
        } else if !reply.is_accepted() {
            return Err(dialog.refused(what, &reply.show()));
        }
        Ok(reply.is_accepted())
    }
}

/// Returns the code, whether the line is the last one, and the text.
fn parse(line: &str) -> Option<(u16, bool, &str)> {
    let (code, rest) = line.split_at_checked(3)?;
    let is_code =
        code.bytes().all(|b| b.is_ascii_digit()) && (b'2'..=b'5').contains(&code.as_bytes()[0]);
    let code = code.parse().ok().filter(|_| is_code)?;
    match rest.split_at_checked(1) {
        None => Some((code, true, "")),
        Some((" ", text)) => Some((code, true, text)),
        Some(("-", text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

/// Returns the response, if it is accepted; otherwise an error that names what is refused.
fn accepted(dialog: &Dialog, what: &str, reply: SmtpReply) -> Result<SmtpReply, CheckError> {
    if reply.is_accepted() {
        return Ok(reply);
    }
    let for_now = if reply.is_temporary() { " for now" } else { "" };
    Err(dialog.refused(&format!("{what}{for_now}"), &reply.show()))
}

impl MailSteps for SmtpSteps<'_> {
    async fn greet(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let greeting = self.reply(dialog, limit).await?;
        accepted(dialog, "the connection", greeting).map(drop)
    }

    async fn start_tls(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let offered = self.capabilities(dialog, limit).await?;
        if !is_offered(&offered, "STARTTLS") {
            return Err(CheckError::Platform(
                "the server does not offer STARTTLS".to_owned(),
            ));
        }
        let reply = self
            .ask(dialog, "the response to STARTTLS", "STARTTLS", limit)
            .await?;
        accepted(dialog, "STARTTLS", reply).map(drop)
    }

    async fn capabilities(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<Vec<String>, CheckError> {
        let hello = format!("EHLO {}", self.hello);
        let reply = self
            .ask(dialog, "the response to EHLO", &hello, limit)
            .await?;
        let reply = accepted(dialog, "EHLO", reply)?;
        // The first line has the server's name. Old servers also write "AUTH=LOGIN".
        let keywords = reply.texts.into_iter().skip(1);
        Ok(keywords
            .map(|text| match text.split_at_checked(5) {
                Some((start, rest)) if start.eq_ignore_ascii_case("AUTH=") => {
                    format!("AUTH {rest}")
                }
                _ => text,
            })
            .collect())
    }

    async fn log_in(
        &mut self,
        dialog: &mut Dialog,
        credentials: &Credentials,
        offered: &[String],
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let awaited = "the response to AUTH";
        let mut lines = if is_offered(offered, "AUTH PLAIN") {
            vec![format!("AUTH PLAIN {}", credentials.plain())]
        } else if is_offered(offered, "AUTH LOGIN") {
            vec![
                "AUTH LOGIN".to_owned(),
                base64(&credentials.username),
                base64(credentials.password.expose()),
            ]
        } else {
            return Err(CheckError::Platform(
                "the server does not offer a login with AUTH PLAIN or AUTH LOGIN".to_owned(),
            ));
        };
        let last = lines.pop().unwrap_or_default();
        for line in lines {
            let reply = self.ask(dialog, awaited, &line, limit).await?;
            if reply.code != CONTINUE {
                return Err(accepted(dialog, "the login", reply).map_or_else(
                    |error| error,
                    |reply| dialog.unexpected(&reply.show(), "334"),
                ));
            }
        }
        let reply = self.ask(dialog, awaited, &last, limit).await?;
        accepted(dialog, "the login", reply).map(drop)
    }

    async fn examine(
        &mut self,
        dialog: &mut Dialog,
        findings: &mut MailFindings,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let Some(RecipientTest { recipient, sender }) = self.recipient else {
            return Ok(());
        };
        let mail = (
            &*format!("the sender <{sender}>"),
            &*format!("MAIL FROM:<{sender}>"),
        );
        let rcpt = (
            &*format!("the recipient <{recipient}>"),
            &*format!("RCPT TO:<{recipient}>"),
        );
        if self.offer(dialog, findings, mail, limit).await?
            && self.offer(dialog, findings, rcpt, limit).await?
        {
            findings
                .results
                .push(format!("accepts mail for {recipient}"));
        }
        // No DATA was sent, so nothing is delivered. The code to report is that of the recipient.
        let code = self.code;
        self.ask(dialog, "the response to RSET", "RSET", limit)
            .await?;
        self.code = code;
        Ok(())
    }

    async fn leave(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        dialog.send("the response to QUIT", "QUIT", limit).await?;
        dialog.line(limit).await.map(drop)
    }
}

/// The code of a server that waits for the rest of a login.
const CONTINUE: u16 = 334;
