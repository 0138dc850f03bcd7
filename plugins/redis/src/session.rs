//! The commands of one check.

use conductor_net::{ByteStream, CheckError, PhaseClock};
use conductor_plugin_api::config::Secret;
use tokio::time::timeout;

use crate::{
    info::ServerInfo,
    resp::{RespReply, RespStream},
};

/// The user to log in as.
pub(crate) struct ServerLogin {
    /// `None` for the server's default user.
    pub(crate) username: Option<String>,
    pub(crate) password: Secret,
}

/// The replies of a server.
pub(crate) struct ServerReplies {
    /// The reason why the server refused the PING, as it does while it loads its data set.
    pub(crate) refusal: Option<String>,
    pub(crate) info: ServerInfo,
    /// The fields of CLUSTER INFO, if the server is part of a cluster.
    pub(crate) cluster: Option<ServerInfo>,
}

/// Logs in and asks the server for its state: the phases `auth` (with a login), `ping` and `info`.
pub(crate) async fn examine(
    stream: Box<dyn ByteStream>,
    login: Option<&ServerLogin>,
    clock: &mut PhaseClock<'_>,
) -> Result<ServerReplies, CheckError> {
    let mut session = RedisSession {
        stream: RespStream::new(stream),
        clock,
    };
    if let Some(login) = login {
        session.log_in(login).await?;
    }
    let refusal = session.ping().await?;
    let info = match (session.info("info", &["INFO"]).await, refusal.clone()) {
        // The reason of the second error is that of the first.
        (Err(_), Some(refusal)) => return Err(CheckError::Platform(refusal)),
        (info, _) => info?,
    };
    if info.text("redis_version").is_none() {
        return Err(CheckError::Platform(
            "the server's reply to INFO is not that of a Redis server: it has no `redis_version`"
                .to_owned(),
        ));
    }
    let cluster = match info.is_set("cluster_enabled") {
        true => Some(session.info("info", &["CLUSTER", "INFO"]).await?),
        false => None,
    };
    Ok(ServerReplies {
        refusal,
        info,
        cluster,
    })
}

struct RedisSession<'a, 'c> {
    stream: RespStream,
    clock: &'a mut PhaseClock<'c>,
}

impl RedisSession<'_, '_> {
    async fn log_in(&mut self, login: &ServerLogin) -> Result<(), CheckError> {
        let password = login.password.expose();
        let command: Vec<&str> = ["AUTH"]
            .into_iter()
            .chain(login.username.as_deref())
            .chain([password])
            .collect();
        let reply = self.call("auth", "AUTH", &command).await;
        // A server of another protocol may repeat what it got.
        let reply = reply.map_err(|error| match error {
            CheckError::Platform(text) => CheckError::Platform(text.replace(password, "…")),
            host => host,
        });
        match reply? {
            RespReply::Text(text) if text == "OK" => Ok(()),
            RespReply::Text(_) => Err(CheckError::Platform(
                "the server's reply to AUTH is not OK".to_owned(),
            )),
            // A server that does not know AUTH repeats its arguments.
            RespReply::Refusal(words) => {
                let words = words.split(", with args").next().unwrap_or_default();
                let words = words.replace(password, "…");
                Err(CheckError::Platform(refused("AUTH", &words)))
            }
        }
    }

    /// Returns the refusal, if any.
    async fn ping(&mut self) -> Result<Option<String>, CheckError> {
        match self.call("ping", "PING", &["PING"]).await? {
            RespReply::Text(text) if text == "PONG" => Ok(None),
            RespReply::Text(text) => Err(CheckError::Platform(format!(
                "the server's reply to PING is {:?}, expected PONG",
                shortened(&text)
            ))),
            RespReply::Refusal(words) => Ok(Some(refused("PING", &words))),
        }
    }

    async fn info(
        &mut self,
        phase: &'static str,
        command: &[&str],
    ) -> Result<ServerInfo, CheckError> {
        let name = command.join(" ");
        match self.call(phase, &name, command).await? {
            RespReply::Text(text) => Ok(ServerInfo::parse(&text)),
            RespReply::Refusal(words) => Err(CheckError::Platform(refused(&name, &words))),
        }
    }

    async fn call(
        &mut self,
        phase: &'static str,
        name: &str,
        command: &[&str],
    ) -> Result<RespReply, CheckError> {
        self.clock.enter(phase);
        let awaited = format!("the reply to {name}");
        let Ok(reply) = timeout(self.clock.limit.left(), self.stream.call(command)).await else {
            return Err(CheckError::Platform(format!(
                "no answer within {} (waiting for {awaited})",
                self.clock.limit.show()
            )));
        };
        let reply = reply.map_err(|error| error.judge(&awaited))?;
        self.clock.end();
        Ok(reply)
    }
}

fn refused(command: &str, words: &str) -> String {
    let cure = match words.split(' ').next() {
        Some("NOAUTH") => "; set `password`",
        Some("NOPERM") => "; allow it, as in ACL SETUSER monitor +ping +info +cluster|info",
        _ => "",
    };
    let shown = shortened(words.trim_end_matches('.'));
    format!("the server refuses {command}: {shown}{cure}")
}

/// Returns the beginning of a text, on one line.
pub(crate) fn shortened(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_SHOWN).collect()
}

/// Longest part of the server's words in a message, in characters.
const MAX_SHOWN: usize = 200;
