//! IMAP: RFC 3501 and RFC 9051, of which a probe needs the same part.

use conductor_net::{CheckError, TimeLimit};
use jiff::{Timestamp, fmt::strtime};

use crate::{
    dialog::Dialog,
    findings::MailFindings,
    protocol::{Credentials, MailSteps, is_offered},
};

/// A session that changes nothing in the folder.
pub(crate) struct ImapSteps<'a> {
    pub(crate) folder: &'a str,
    pub(crate) is_logged_in: bool,
    /// Number of commands so far.
    commands: u32,
}

/// The response to a command.
enum ImapReply {
    /// The lines before the last one, without their `* `.
    Accepted(Vec<String>),
    /// The last line, from NO or BAD on, or the server's goodbye.
    Refused(String),
    /// The server waits for the rest of the command.
    Continue,
}

impl<'a> ImapSteps<'a> {
    pub(crate) fn new(folder: &'a str) -> Self {
        Self {
            folder,
            is_logged_in: false,
            commands: 0,
        }
    }

    async fn ask(
        &mut self,
        dialog: &mut Dialog,
        (awaited, command): (&str, &str),
        limit: &TimeLimit<'_>,
    ) -> Result<ImapReply, CheckError> {
        self.commands += 1;
        let tag = self.tag();
        dialog
            .send(awaited, &format!("{tag} {command}"), limit)
            .await?;
        self.reply(dialog, limit).await
    }

    /// Sends the rest of a command.
    async fn go_on(
        &self,
        dialog: &mut Dialog,
        (awaited, rest): (&str, &str),
        limit: &TimeLimit<'_>,
    ) -> Result<ImapReply, CheckError> {
        dialog.send(awaited, rest, limit).await?;
        self.reply(dialog, limit).await
    }

    async fn reply(
        &self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<ImapReply, CheckError> {
        let (tag, mut untagged) = (self.tag(), Vec::new());
        loop {
            let line = folded_line(dialog, limit).await?;
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("*", rest) if starts_with(rest, "BYE") => {
                    return Ok(ImapReply::Refused(rest.to_owned()));
                }
                ("*", rest) => untagged.push(rest.to_owned()),
                ("+", _) => return Ok(ImapReply::Continue),
                (found, rest) if found == tag && starts_with(rest, "OK") => {
                    return Ok(ImapReply::Accepted(untagged));
                }
                (found, rest)
                    if found == tag && (starts_with(rest, "NO") || starts_with(rest, "BAD")) =>
                {
                    return Ok(ImapReply::Refused(rest.to_owned()));
                }
                _ => return Err(dialog.unexpected(&line, "a line of IMAP, such as \"* OK\"")),
            }
        }
    }

    fn tag(&self) -> String {
        format!("c{}", self.commands)
    }

    /// Returns the lines of a response that is accepted; otherwise an error that names what is refused.
    fn accepted(dialog: &Dialog, what: &str, reply: ImapReply) -> Result<Vec<String>, CheckError> {
        match reply {
            ImapReply::Accepted(lines) => Ok(lines),
            ImapReply::Refused(text) => Err(dialog.refused(what, &text)),
            ImapReply::Continue => Err(dialog.unexpected("+", "the end of the response")),
        }
    }
}

/// Receives a line with its literals: texts of a given number of bytes, which may have line ends.
async fn folded_line(dialog: &mut Dialog, limit: &TimeLimit<'_>) -> Result<String, CheckError> {
    let mut line = dialog.line(limit).await?;
    while let Some(length) = literal_length(&line) {
        line.push_str(&dialog.bytes(length, limit).await?);
        line.push_str(&dialog.line(limit).await?);
    }
    Ok(line)
}

/// Returns the length of the literal that follows a line: `{12}`.
fn literal_length(line: &str) -> Option<usize> {
    let (_, length) = line.strip_suffix('}')?.rsplit_once('{')?;
    let is_number = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    // A number too large to be counted is too large to be received.
    is_number.then(|| length.parse().unwrap_or(usize::MAX))
}

/// Returns true if the text starts with a word.
fn starts_with(text: &str, word: &str) -> bool {
    let first = text.split(' ').next();
    first.is_some_and(|first| first.eq_ignore_ascii_case(word))
}

/// Returns the number of messages in the response to EXAMINE: `12 EXISTS`.
fn message_count(lines: &[String]) -> Option<u64> {
    let mut counts = lines.iter().filter_map(|line| {
        let (count, rest) = line.split_once(' ')?;
        rest.eq_ignore_ascii_case("EXISTS").then_some(count)
    });
    counts.next()?.parse().ok()
}

/// Returns the Unix time of arrival in the response to FETCH: `12 FETCH (INTERNALDATE "17-Jul-1996 02:44:25 -0700")`.
fn arrival(lines: &[String]) -> Option<i64> {
    let mut dates = lines.iter().filter_map(|line| {
        let (_, rest) = line.split_once("INTERNALDATE \"")?;
        let (date, _) = rest.split_once('"')?;
        let date = strtime::parse("%d-%b-%Y %H:%M:%S %z", date.trim_start()).ok()?;
        date.to_timestamp().ok().map(Timestamp::as_second)
    });
    dates.next_back()
}

/// Quotes an ASCII text without control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl MailSteps for ImapSteps<'_> {
    async fn greet(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let line = folded_line(dialog, limit).await?;
        match line.strip_prefix("* ") {
            Some(rest) if starts_with(rest, "OK") => Ok(()),
            Some(rest) if starts_with(rest, "BYE") => Err(dialog.refused("the connection", rest)),
            // A session that is logged in already accepts no STARTTLS and no login.
            _ => Err(dialog.unexpected(&line, "\"* OK\"")),
        }
    }

    async fn start_tls(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let command = ("the response to STARTTLS", "STARTTLS");
        let reply = self.ask(dialog, command, limit).await?;
        Self::accepted(dialog, "STARTTLS", reply).map(drop)
    }

    async fn capabilities(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<Vec<String>, CheckError> {
        let command = ("the response to CAPABILITY", "CAPABILITY");
        let reply = self.ask(dialog, command, limit).await?;
        let lines = Self::accepted(dialog, "CAPABILITY", reply)?;
        let listed = lines.iter().filter(|line| starts_with(line, "CAPABILITY"));
        let words = listed.flat_map(|line| line.split_ascii_whitespace().skip(1));
        Ok(words.map(str::to_owned).collect())
    }

    async fn log_in(
        &mut self,
        dialog: &mut Dialog,
        credentials: &Credentials,
        offered: &[String],
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let awaited = "the response to the login";
        let (first, rest) = if is_offered(offered, "AUTH=PLAIN") {
            ("AUTHENTICATE PLAIN".to_owned(), vec![credentials.plain()])
        } else if is_offered(offered, "LOGINDISABLED") {
            return Err(CheckError::Platform(
                "the server does not allow a login with a password (LOGINDISABLED)".to_owned(),
            ));
        } else {
            // Literals, which may have any characters.
            let (username, password) = (&credentials.username, credentials.password.expose());
            (
                format!("LOGIN {{{}}}", username.len()),
                vec![
                    format!("{username} {{{}}}", password.len()),
                    password.to_owned(),
                ],
            )
        };
        let mut reply = self.ask(dialog, (awaited, &first), limit).await?;
        for part in rest {
            let ImapReply::Continue = reply else {
                break;
            };
            reply = self.go_on(dialog, (awaited, &part), limit).await?;
        }
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
        let what = format!("the folder {:?}", self.folder);
        let examine = format!("EXAMINE {}", quoted(self.folder));
        let command = ("the response to EXAMINE", &*examine);
        let reply = self.ask(dialog, command, limit).await?;
        let lines = Self::accepted(dialog, &what, reply)?;
        let Some(count) = message_count(&lines) else {
            return Err(dialog.unexpected(&lines.join(" "), "the number of messages (EXISTS)"));
        };
        findings.messages = Some(count);
        if count > 0 {
            // The highest number is that of the message that arrived last.
            let command = ("the response to FETCH", "FETCH * (INTERNALDATE)");
            let reply = self.ask(dialog, command, limit).await?;
            let lines = Self::accepted(dialog, "the date of the newest message", reply)?;
            findings.newest = arrival(&lines);
            if findings.newest.is_none() {
                return Err(dialog.unexpected(&lines.join(" "), "a date (INTERNALDATE)"));
            }
        }
        Ok(())
    }

    async fn leave(
        &mut self,
        dialog: &mut Dialog,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        let command = ("the response to LOGOUT", "LOGOUT");
        self.ask(dialog, command, limit).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_messages_are_read_with_their_zone() {
        for (date, second) in [
            ("17-Jul-1996 02:44:25 -0700", 837_596_665),
            (" 1-Jan-1970 00:00:00 +0000", 0),
            ("29-Feb-2024 23:59:59 +0530", 1_709_231_399),
        ] {
            let line = format!("12 FETCH (FLAGS () INTERNALDATE \"{date}\")");
            assert_eq!(arrival(&[line]), Some(second), "{date}");
        }
        let wrong = [
            "1 FETCH ()",
            "1 FETCH (INTERNALDATE \"30-Feb-2024 00:00:00 +0000\")",
        ];
        assert_eq!(arrival(&wrong.map(str::to_owned)), None);
    }

    #[test]
    fn literals_are_announced_by_a_number_in_braces() {
        assert_eq!(literal_length("* LIST () \"/\" {12}"), Some(12));
        assert_eq!(literal_length("* OK {x}"), None);
        assert_eq!(literal_length("* OK {}"), None);
        let huge = "{99999999999999999999999999}";
        assert_eq!(literal_length(huge), Some(usize::MAX));
    }

    #[test]
    fn names_of_folders_are_quoted() {
        assert_eq!(quoted(r#"a "b" \c"#), r#""a \"b\" \\c""#);
    }
}
