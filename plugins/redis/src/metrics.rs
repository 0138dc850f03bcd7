//! The metrics of the probe, and where they come from.

use conductor_plugin_api::{Metric, Report};

use crate::{
    conditions::is_replica,
    info::{ConnectedReplica, ServerInfo},
};

pub(crate) const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the check.")
    .unit("seconds")
    .labels(["phase"]);
pub(crate) const DURATION: Metric =
    Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
pub(crate) const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the server's certificate is valid.",
)
.unit("seconds");

pub(crate) const UPTIME: Metric =
    Metric::gauge("uptime", "Time since the server started.").unit("seconds");
pub(crate) const CLIENTS: Metric = Metric::gauge("clients", "Connected clients.");
pub(crate) const MAX_CLIENTS: Metric =
    Metric::gauge("max_clients", "Clients that the server accepts.");
pub(crate) const BLOCKED_CLIENTS: Metric = Metric::gauge(
    "blocked_clients",
    "Clients that wait for a blocking command.",
);
pub(crate) const USED_MEMORY: Metric =
    Metric::gauge("used_memory", "Memory that the server has allocated.").unit("bytes");
pub(crate) const MAX_MEMORY: Metric =
    Metric::gauge("max_memory", "Memory that the data may use, maxmemory.").unit("bytes");
pub(crate) const MEMORY_USED: Metric = Metric::gauge(
    "memory_used",
    "Part of maxmemory that is used, 0 to 1 and a little more.",
)
.unit("ratio");
pub(crate) const KEYS: Metric = Metric::gauge("keys", "Keys in all databases.");
pub(crate) const EXPIRING_KEYS: Metric = Metric::gauge("expiring_keys", "Keys that expire.");
pub(crate) const IS_REPLICA: Metric =
    Metric::gauge("is_replica", "Role of the server: 1 replica, 0 primary.");
pub(crate) const REPLICAS: Metric =
    Metric::gauge("replicas", "Replicas of a primary that are online.");
pub(crate) const REPLICATION_LINK_UP: Metric = Metric::gauge(
    "replication_link_up",
    "Whether a replica is connected to its primary: 1 or 0.",
);
pub(crate) const REPLICATION_LAG: Metric = Metric::gauge(
    "replication_lag",
    "Time since a replica heard from its primary, or since the slowest replica acknowledged to this primary.",
)
.unit("seconds");
pub(crate) const REPLICATION_BEHIND: Metric = Metric::gauge(
    "replication_behind",
    "Writes that the slowest replica of this primary has not acknowledged.",
)
.unit("bytes");
pub(crate) const COMMANDS: Metric =
    Metric::counter("commands", "Commands processed since the server started.");
pub(crate) const KEYSPACE_HITS: Metric =
    Metric::counter("keyspace_hits", "Lookups of keys that exist.");
pub(crate) const KEYSPACE_MISSES: Metric =
    Metric::counter("keyspace_misses", "Lookups of keys that do not exist.");
pub(crate) const EVICTED_KEYS: Metric =
    Metric::counter("evicted_keys", "Keys removed because of maxmemory.");
pub(crate) const REJECTED_CONNECTIONS: Metric = Metric::counter(
    "rejected_connections",
    "Connections refused because of maxclients.",
);

/// The metrics that are one field of INFO.
const FIELDS: [(&Metric, &str); 10] = [
    (&UPTIME, "uptime_in_seconds"),
    (&CLIENTS, "connected_clients"),
    (&MAX_CLIENTS, "maxclients"),
    (&BLOCKED_CLIENTS, "blocked_clients"),
    (&USED_MEMORY, "used_memory"),
    (&COMMANDS, "total_commands_processed"),
    (&KEYSPACE_HITS, "keyspace_hits"),
    (&KEYSPACE_MISSES, "keyspace_misses"),
    (&EVICTED_KEYS, "evicted_keys"),
    (&REJECTED_CONNECTIONS, "rejected_connections"),
];

/// Adds what INFO says; a field that the server does not have is left out.
pub(crate) fn record(mut report: Report, info: &ServerInfo) -> Report {
    for (metric, field) in FIELDS {
        if let Some(value) = info.number(field) {
            report = report.set(metric, [], value);
        }
    }
    let (keys, expiring) = info.keys();
    let mut set = |metric, value: Option<f64>| {
        if let Some(value) = value {
            let so_far = std::mem::replace(&mut report, Report::healthy(""));
            report = so_far.set(metric, [], value);
        }
    };
    let used_memory = info.number("used_memory");
    set(&KEYS, used_memory.map(|_| keys));
    set(&EXPIRING_KEYS, used_memory.map(|_| expiring));
    set(
        &MAX_MEMORY,
        info.number("maxmemory").filter(|most| *most > 0.0),
    );
    set(&MEMORY_USED, memory_ratio(info));
    let role = info.text("role");
    set(
        &IS_REPLICA,
        role.map(|_| f64::from(u8::from(is_replica(info)))),
    );
    if is_replica(info) {
        let is_up = info.text("master_link_status") == Some("up");
        set(&REPLICATION_LINK_UP, Some(f64::from(u8::from(is_up))));
        let lag = info.number("master_last_io_seconds_ago");
        // It is -1 without a link.
        set(&REPLICATION_LAG, lag.filter(|lag| *lag >= 0.0));
    } else if role.is_some() {
        let count = u32::try_from(online_replicas(info).count()).unwrap_or(u32::MAX);
        set(&REPLICAS, Some(count.into()));
        let lags = online_replicas(info).map(|replica| replica.lag);
        set(&REPLICATION_LAG, lags.reduce(f64::max));
        let offset = info.number("master_repl_offset").unwrap_or_default();
        let behind = online_replicas(info).map(|replica| (offset - replica.offset).max(0.0));
        set(&REPLICATION_BEHIND, behind.reduce(f64::max));
    }
    report
}

/// Returns the replicas that get every write of this primary.
pub(crate) fn online_replicas(info: &ServerInfo) -> impl Iterator<Item = ConnectedReplica> {
    info.replicas()
        .into_iter()
        .filter(|replica| replica.is_online)
}

/// Returns the used part of `maxmemory`; `None` if there is no such limit.
pub(crate) fn memory_ratio(info: &ServerInfo) -> Option<f64> {
    let most = info.number("maxmemory").filter(|most| *most > 0.0)?;
    // The buffers of replicas and of the append-only file do not count, as for the server's own decision.
    let uncounted = info.number("mem_not_counted_for_evict").unwrap_or_default();
    Some((info.number("used_memory")? - uncounted) / most)
}
