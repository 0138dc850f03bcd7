//! The verdict on the state of a server.

use std::fmt;

use conductor_net::{DatabaseLimits, LimitVerdict, Limits, ShownSeconds, seconds};
use conductor_plugin_api::{Status, config::Duration, schemars};
use serde::Deserialize;

use crate::state::{ReplicationChannel, ServerState};

/// Role of a server in replication.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServerRole {
    /// Replicates no other server.
    Primary,
    /// Replicates another server.
    Replica,
}

impl fmt::Display for ServerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        })
    }
}

/// The conditions of a config, but those of its query.
pub(crate) struct ServerLimits {
    pub(crate) role: Option<ServerRole>,
    pub(crate) replicating: bool,
    pub(crate) lag: Option<Limits<Duration>>,
    pub(crate) load: DatabaseLimits,
}

impl ServerLimits {
    /// Adds a fault for each condition that the server does not meet, and the conditions that `user` may not judge.
    pub(crate) fn judge(&self, state: &ServerState, user: &str, verdict: &mut LimitVerdict) {
        let blind = format!(
            "the account {user} may not see the transactions of others; run `GRANT PROCESS ON *.* TO {user}`"
        );
        let blind = (!state.sees_transactions).then_some(blind.as_str());
        self.load.judge(&state.load, blind, verdict);
        match &state.channels {
            None => self.judge_unseen(user, verdict),
            Some(channels) => {
                self.judge_role(state.role(), verdict);
                for channel in channels {
                    self.judge_channel(channel, verdict);
                }
            }
        }
    }

    /// Adds the conditions on replication that the account may not judge.
    fn judge_unseen(&self, user: &str, verdict: &mut LimitVerdict) {
        for (key, is_configured) in [("role", self.role.is_some()), ("lag", self.lag.is_some())] {
            if is_configured {
                verdict.cannot_tell(format!(
                    "key `{key}`: the account {user} may not see the replication; run `GRANT REPLICATION CLIENT ON *.* TO {user}`, for MariaDB `GRANT REPLICA MONITOR …`"
                ));
            }
        }
    }

    fn judge_role(&self, found: Option<ServerRole>, verdict: &mut LimitVerdict) {
        if let (Some(expected), Some(found)) = (self.role, found)
            && expected != found
        {
            verdict.add(
                Status::Unhealthy,
                format!("the server is a {found}, expected a {expected}"),
            );
        }
    }

    fn judge_channel(&self, channel: &ReplicationChannel, verdict: &mut LimitVerdict) {
        let name = match &channel.name[..] {
            "" => String::new(),
            name => format!(" of {name}"),
        };
        if self.replicating && !channel.is_running() {
            let what = match (channel.is_receiving, channel.is_applying) {
                (true, _) => "does not apply changes",
                (_, true) => "receives no changes",
                _ => "has stopped",
            };
            let error = match &channel.error[..] {
                "" => String::new(),
                error => format!(": {error}"),
            };
            verdict.add(
                Status::Unhealthy,
                format!("the replication{name} {what}{error}"),
            );
        }
        match (&self.lag, channel.lag) {
            (Some(limits), Some(lag)) => {
                let shown = format!("the replication lag{name} is {}", ShownSeconds(lag));
                verdict.judge("lag", shown, seconds(lag), limits);
            }
            (Some(_), None) => verdict.cannot_tell(format!(
                "the replication lag{name} is unknown while the replication does not run"
            )),
            (None, _) => {}
        }
    }
}

impl ReplicationChannel {
    pub(crate) fn is_running(&self) -> bool {
        self.is_receiving && self.is_applying
    }
}

impl ServerState {
    /// Returns the role; `None` if the account may not see it.
    pub(crate) fn role(&self) -> Option<ServerRole> {
        Some(match self.is_replica()? {
            true => ServerRole::Replica,
            false => ServerRole::Primary,
        })
    }
}
