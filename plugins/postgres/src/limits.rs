//! The verdict on the state of a server.

use std::fmt;

use conductor_net::{DatabaseLimits, LimitVerdict, Limits, ShownSeconds, seconds, show_size};
use conductor_plugin_api::{
    Status,
    config::{Duration, Size},
    schemars,
};
use serde::Deserialize;

use crate::state::ServerState;

/// Role of a server in replication.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServerRole {
    /// Accepts writes.
    Primary,
    /// Replays what another server writes.
    Standby,
}

impl fmt::Display for ServerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        })
    }
}

/// The conditions of a config, but those of its query.
pub(crate) struct ServerLimits {
    pub(crate) role: Option<ServerRole>,
    pub(crate) streaming: bool,
    pub(crate) min_standbys: Option<u32>,
    pub(crate) lag: Option<Limits<Duration>>,
    pub(crate) backlog: Option<Limits<Size>>,
    pub(crate) load: DatabaseLimits,
}

impl ServerLimits {
    /// Returns `true` if the lag of a standby is above a limit, which a second reading is to confirm.
    pub(crate) fn is_suspicious(&self, state: &ServerState) -> bool {
        match (&self.lag, state.lag) {
            (Some(limits), Some(lag)) if state.is_standby && state.is_streaming => {
                limits.are_exceeded_by(seconds(lag))
            }
            _ => false,
        }
    }

    /// Adds a fault for each condition that the server does not meet, and the conditions that `user` may not judge.
    pub(crate) fn judge(&self, state: &ServerState, user: &str, verdict: &mut LimitVerdict) {
        self.judge_role(state, verdict);
        let blind = format!(
            "role \"{user}\" may not see the sessions of other roles; run `GRANT pg_monitor TO \"{user}\"`"
        );
        let blind = (!state.sees_all).then_some(blind.as_str());
        self.load.judge(&state.load, blind, verdict);
        match blind {
            Some(why) if !state.is_standby => self.judge_unseen(why, verdict),
            _ => {
                self.judge_standbys(state, verdict);
                self.judge_lag(state, verdict);
            }
        }
    }

    /// Adds the conditions on standbys that the role may not judge.
    fn judge_unseen(&self, why: &str, verdict: &mut LimitVerdict) {
        for (key, is_configured) in [
            ("lag", self.lag.is_some()),
            ("backlog", self.backlog.is_some()),
            ("min_standbys", self.min_standbys.is_some()),
        ] {
            if is_configured {
                verdict.cannot_tell(format!("key `{key}`: {why}"));
            }
        }
    }

    fn judge_role(&self, state: &ServerState, verdict: &mut LimitVerdict) {
        let found = state.role();
        if let Some(expected) = self.role
            && expected != found
        {
            verdict.add(
                Status::Unhealthy,
                format!("the server is a {found}, expected a {expected}"),
            );
        }
        if state.is_standby && self.streaming && !state.is_streaming {
            verdict.add(
                Status::Unhealthy,
                "the standby receives no WAL: it is not connected to its primary".to_owned(),
            );
        }
    }

    fn judge_standbys(&self, state: &ServerState, verdict: &mut LimitVerdict) {
        let found = state.standbys;
        if let Some(expected) = self.min_standbys
            && found < f64::from(expected)
        {
            verdict.add(
                Status::Unhealthy,
                format!("{found} standbys stream from the server, expected at least {expected}"),
            );
        }
    }

    fn judge_lag(&self, state: &ServerState, verdict: &mut LimitVerdict) {
        match (&self.lag, state.lag) {
            (Some(limits), Some(lag)) => {
                let shown = format!("the replication lag is {}", ShownSeconds(lag));
                verdict.judge("lag", shown, seconds(lag), limits);
            }
            (Some(_), None) if state.is_standby => verdict.cannot_tell(
                "the replication lag is unknown: the standby has replayed no transaction since it started".to_owned(),
            ),
            _ => {}
        }
        if let (Some(limits), Some(bytes)) = (&self.backlog, state.backlog) {
            let size = size(bytes);
            let shown = format!("{} of WAL are not replayed", show_size(size.bytes()));
            verdict.judge("backlog", shown, size, limits);
        }
    }
}

impl ServerState {
    pub(crate) fn role(&self) -> ServerRole {
        match self.is_standby {
            true => ServerRole::Standby,
            false => ServerRole::Primary,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float saturates as an integer, and the numbers are not negative"
)]
fn size(bytes: f64) -> Size {
    Size::from_bytes(bytes as u64)
}
