//! POP3: RFC 1939, CAPA of RFC 2449, STLS of RFC 2595, AUTH of RFC 5034.

use conductor_net::{CheckError, TimeLimit};

use crate::{
    dialog::Dialog,
    findings::MailFindings,
    protocol::{Credentials, MailSteps, is_offered},
};

/// A session that changes nothing in the mailbox.
pub(crate) struct Pop3Steps {
    pub(crate) is_logged_in: bool,
}

/// The first line of a response.
enum Pop3Reply {
    Accepted(String),
    Refused(String),
    /// The server waits for the rest of a login.
    Continue,
}

impl Pop3Steps {
    async fn ask(
        dialog: &mut Dialog,
        (awaited, line): (&str, &str),
        limit: &TimeLimit<'_>,
    ) -> Result<Pop3Reply, CheckError> {
        dialog.send(awaited, line, limit).await?;
        Self::reply(dialog, limit).await
    }

    async fn reply(dialog: &mut Dialog, limit: &TimeLimit<'_>) -> Result<Pop3Reply, CheckError> {
        let line = dialog.line(limit).await?;
        let (status, text) = line.split_once(' ').unwrap_or((&line, ""));
        match status {
            "+OK" => Ok(Pop3Reply::Accepted(text.to_owned())),
            "-ERR" => Ok(Pop3Reply::Refused(line)),
            "+" => Ok(Pop3Reply::Continue),
            _ => Err(dialog.unexpected(&line, "a line of POP3, such as \"+OK\"")),
        }
    }

    /// Returns the text of a response that is accepted; otherwise an error that names what is refused.
    fn accepted(dialog: &Dialog, what: &str, reply: Pop3Reply) -> Result<String, CheckError> {
        match reply {
            Pop3Reply::Accepted(text) => Ok(text),
            Pop3Reply::Refused(line) => Err(dialog.refused(what, &line)),
            Pop3Reply::Continue => Err(dialog.unexpected("+", "\"+OK\"")),
        }
    }
}

impl MailSteps for Pop3Steps {
    async fn greet(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let greeting = Self::reply(dialog, limit).await?;
        Self::accepted(dialog, "the connection", greeting).map(drop)
    }

    async fn start_tls(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let reply = Self::ask(dialog, ("the response to STLS", "STLS"), limit).await?;
        Self::accepted(dialog, "STLS", reply).map(drop)
    }

    async fn capabilities(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<Vec<String>, CheckError> {
        let mut offered = Vec::new();
        // A server without CAPA has no capabilities.
        let reply = Self::ask(dialog, ("the response to CAPA", "CAPA"), limit).await?;
        if let Pop3Reply::Accepted(_) = reply {
            loop {
                let line = dialog.line(limit).await?;
                match line.strip_prefix('.') {
                    Some("") => break,
                    Some(stuffed) => offered.push(stuffed.to_owned()),
                    None => offered.push(line),
                }
            }
        }
        Ok(offered)
    }

    async fn log_in(
        &mut self,
        dialog: &mut Dialog,
        credentials: &Credentials,
        offered: &[String],
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let awaited = "the response to the login";
        let (first, last) = if is_offered(offered, "SASL PLAIN") {
            ("AUTH PLAIN".to_owned(), credentials.plain())
        } else {
            (
                format!("USER {}", credentials.username),
                format!("PASS {}", credentials.password.expose()),
            )
        };
        let reply = Self::ask(dialog, (awaited, &first), limit).await?;
        if !matches!(reply, Pop3Reply::Continue) {
            Self::accepted(dialog, "the login", reply)?;
        }
        let reply = Self::ask(dialog, (awaited, &last), limit).await?;
        Self::accepted(dialog, "the login", reply)?;
        self.is_logged_in = true;
        Ok(())
    }

    async fn examine(
        &mut self,
        dialog: &mut Dialog,
        findings: &mut MailFindings,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        if !self.is_logged_in {
            return Ok(());
        }
        let reply = Self::ask(dialog, ("the response to STAT", "STAT"), limit).await?;
        let text = Self::accepted(dialog, "the size of the mailbox", reply)?;
        let count = text.split(' ').next().and_then(|count| count.parse().ok());
        let Some(count) = count else {
            return Err(dialog.unexpected(&text, "the number of messages and their size"));
        };
        findings.messages = Some(count);
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
