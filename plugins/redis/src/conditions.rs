//! The verdict on what a server says of itself.

use std::time::Duration;

use conductor_net::{DurationRules, LimitVerdict, Limits, PhaseClock, show_duration, show_size};
use conductor_plugin_api::{
    Failure, Report, Status,
    config::{self, Size},
};

use crate::{
    config::{FULL, ServerRole},
    info::ServerInfo,
    metrics::{memory_ratio, online_replicas},
    session::{ServerReplies, shortened},
};

/// The conditions of a config.
pub(crate) struct ServerConditions {
    pub(crate) role: Option<ServerRole>,
    pub(crate) replicas: Option<Limits<u32>>,
    pub(crate) lag: Limits<config::Duration>,
    pub(crate) memory_percent: Option<Limits<f64>>,
    pub(crate) memory: Option<Limits<Size>>,
    pub(crate) clients_percent: Limits<f64>,
    pub(crate) keys: Option<Limits<u64>>,
    pub(crate) durations: DurationRules,
}

impl ServerConditions {
    /// Judges the replies of a server; the report has no metrics yet.
    pub(crate) fn judge(
        &self,
        replies: &ServerReplies,
        clock: &PhaseClock<'_>,
    ) -> Result<Report, Failure> {
        let mut verdict = LimitVerdict::default();
        let info = &replies.info;
        if let Some(refusal) = &replies.refusal {
            verdict.add(Status::Unhealthy, refusal.clone());
        }
        self.judge_role(info, &mut verdict);
        match is_replica(info) {
            true => self.judge_replica(info, &mut verdict),
            false => self.judge_replicas(info, &mut verdict),
        }
        if let Some(cluster) = &replies.cluster {
            judge_cluster(cluster, &mut verdict);
        }
        self.judge_memory(info, &mut verdict);
        self.judge_amounts(info, &mut verdict);
        judge_persistence(info, &mut verdict);
        let elapsed = clock.limit.elapsed();
        for (status, text) in self.durations.judge(elapsed, |phase| clock.took(phase)) {
            verdict.add(status, text);
        }
        verdict.into_report(summary(info, clock))
    }

    fn judge_role(&self, info: &ServerInfo, verdict: &mut LimitVerdict) {
        let found = match info.text("role") {
            Some("slave") => "a replica".to_owned(),
            Some("master") => "a primary".to_owned(),
            // Sentinel has no role.
            Some(other) => format!("a {}", shortened(other)),
            None => format!("a {}", mode(info)),
        };
        match self.role {
            Some(ServerRole::Primary) if info.text("role") != Some("master") => verdict.add(
                Status::Unhealthy,
                format!("the server is {found}, expected a primary (`role`)"),
            ),
            Some(ServerRole::Replica) if !is_replica(info) => verdict.add(
                Status::Unhealthy,
                format!("the server is {found}, expected a replica (`role`)"),
            ),
            _ => {}
        }
    }

    fn judge_replica(&self, info: &ServerInfo, verdict: &mut LimitVerdict) {
        let primary = format!(
            "{}:{}",
            shortened(info.text("master_host").unwrap_or("?")),
            shortened(info.text("master_port").unwrap_or("?"))
        );
        if info.is_set("master_sync_in_progress") {
            verdict.add(
                Status::Degraded,
                format!("the replica is copying the data of its primary {primary}"),
            );
        } else if info.text("master_link_status") != Some("up") {
            let since = info.number("master_link_down_since_seconds");
            let since = match since.filter(|seconds| *seconds >= 0.0) {
                Some(seconds) => format!("has been down for {}", show_seconds(seconds)),
                None => "is down".to_owned(),
            };
            verdict.add(
                Status::Unhealthy,
                format!("the link to the primary {primary} {since}"),
            );
        } else if let Some(lag) = info.number("master_last_io_seconds_ago") {
            let shown = format!(
                "the replica last heard from its primary {primary} {} ago",
                show_seconds(lag)
            );
            verdict.judge("lag", shown, duration(lag).into(), &self.lag);
        }
    }

    fn judge_replicas(&self, info: &ServerInfo, verdict: &mut LimitVerdict) {
        let Some(limits) = &self.replicas else {
            return;
        };
        let is_silent = |lag: f64| {
            let longest = self.lag.unhealthy_above;
            longest.is_some_and(|longest| duration(lag) > longest.get())
        };
        let found = online_replicas(info)
            .filter(|replica| !is_silent(replica.lag))
            .count();
        let shown = format!("the primary has {} online", replicas(found));
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        verdict.judge("replicas", shown, found, limits);
    }

    fn judge_memory(&self, info: &ServerInfo, verdict: &mut LimitVerdict) {
        if let (Some(limits), Some(used)) = (&self.memory, info.number("used_memory")) {
            let shown = format!("{} of memory are used", show_bytes(used));
            verdict.judge("memory", shown, Size::from_bytes(whole(used)), limits);
        }
        // A server that evicts keys is full as a rule; one that does not refuses writes then.
        let keeps_all = info.text("maxmemory_policy") == Some("noeviction");
        let limits = self.memory_percent.or(keeps_all.then_some(FULL));
        if let (Some(limits), Some(ratio)) = (limits, memory_ratio(info)) {
            let percent = ratio * 100.0;
            let shown = format!("{percent:.1} % of `maxmemory` are used");
            verdict.judge("memory_percent", shown, percent, &limits);
        }
    }

    fn judge_amounts(&self, info: &ServerInfo, verdict: &mut LimitVerdict) {
        let clients = info.number("connected_clients");
        let most = info.number("maxclients").filter(|most| *most > 0.0);
        if let Some((clients, most)) = clients.zip(most) {
            let shown = format!("{clients} of {most} clients are connected");
            let percent = clients / most * 100.0;
            verdict.judge("clients_percent", shown, percent, &self.clients_percent);
        }
        if let Some(limits) = &self.keys {
            let (keys, _) = info.keys();
            let shown = format!("the server has {keys} keys");
            verdict.judge("keys", shown, whole(keys), limits);
        }
    }
}

/// Judges the last attempts to write the data to disk.
fn judge_persistence(info: &ServerInfo, verdict: &mut LimitVerdict) {
    for (field, what) in [
        ("rdb_last_bgsave_status", "the last save to disk"),
        (
            "aof_last_bgrewrite_status",
            "the last rewrite of the append-only file",
        ),
        (
            "aof_last_write_status",
            "the last write to the append-only file",
        ),
    ] {
        if info.text(field).is_some_and(|status| status != "ok") {
            verdict.add(
                Status::Degraded,
                format!("{what} failed (`{field}`); see the server's log"),
            );
        }
    }
}

fn judge_cluster(cluster: &ServerInfo, verdict: &mut LimitVerdict) {
    let state = cluster.text("cluster_state").unwrap_or("missing");
    if state != "ok" {
        verdict.add(
            Status::Unhealthy,
            format!(
                "the state of the cluster is {}, expected ok",
                shortened(state)
            ),
        );
    }
}

/// Returns one line about a healthy server.
fn summary(info: &ServerInfo, clock: &PhaseClock<'_>) -> String {
    let what = match info.text("role") {
        Some("slave") => "replica".to_owned(),
        Some("master") => match online_replicas(info).count() {
            0 => "primary".to_owned(),
            count => format!("primary with {}", replicas(count)),
        },
        _ => mode(info),
    };
    let memory = info.number("used_memory").map(|used| {
        let most = info.number("maxmemory").filter(|most| *most > 0.0);
        let of = most.map(|most| format!(" of {}", show_bytes(most)));
        format!(", {}{}", show_bytes(used), of.unwrap_or_default())
    });
    let keys = info
        .text("role")
        .map(|_| format!(", {} keys", info.keys().0));
    format!(
        "{what}{}{}, PING in {}",
        memory.unwrap_or_default(),
        keys.unwrap_or_default(),
        show_latency(clock.took("ping").unwrap_or_default())
    )
}

pub(crate) fn is_replica(info: &ServerInfo) -> bool {
    info.text("role") == Some("slave")
}

/// Returns the mode of a server without a role, such as `sentinel`.
fn mode(info: &ServerInfo) -> String {
    shortened(info.text("redis_mode").unwrap_or("server without a role"))
}

fn replicas(count: usize) -> String {
    match count {
        1 => "1 replica".to_owned(),
        count => format!("{count} replicas"),
    }
}

fn show_seconds(seconds: f64) -> String {
    show_duration(duration(seconds))
}

/// Formats a duration that is a fraction of a millisecond as a rule.
fn show_latency(took: Duration) -> String {
    let milliseconds = took.as_secs_f64() * 1000.0;
    match milliseconds < 10.0 {
        true => format!("{milliseconds:.1} ms"),
        false => show_duration(took),
    }
}

fn show_bytes(bytes: f64) -> String {
    show_size(whole(bytes))
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Returns a count of INFO, which has no negative ones.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates at the bounds"
)]
fn whole(number: f64) -> u64 {
    number as u64
}
