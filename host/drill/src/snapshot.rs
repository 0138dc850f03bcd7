//! Snapshots of a host's status and metrics.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use super::case::PLUGIN;

/// The reason why a snapshot cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("the host does not respond to {path}: {source}")]
    NoResponse {
        path: &'static str,
        source: std::io::Error,
    },
    #[error("the host's response to {0} is not HTTP")]
    NotHttp(&'static str),
    #[error("the host responds to {path} with status {status}, expected 200")]
    Status { path: &'static str, status: String },
    #[error("the host's response to {0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("the host's status is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("/metrics has a line that is not a sample: {0:?}")]
    NotASample(String),
    #[error("/metrics has two samples of {0}")]
    Duplicate(String),
}

/// A snapshot of a host.
#[derive(Debug)]
pub(super) struct HostSnapshot {
    /// The time of the snapshot, by the drill's clock.
    pub(super) at: Duration,
    series: BTreeMap<String, f64>,
    status: Value,
}

impl HostSnapshot {
    /// Takes a snapshot of the host that listens at `address`.
    pub(super) fn take(address: SocketAddr, now: Duration) -> Result<Self, SnapshotError> {
        let status = status(address)?;
        Ok(Self {
            at: now,
            series: metrics(address)?,
            status,
        })
    }

    /// Returns the sum over all series of a metric that have all of these labels.
    fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let of_metric = self.series.iter().filter(|(series, _)| {
            series.split('{').next() == Some(metric)
                && labels.iter().all(|label| series.contains(label))
        });
        of_metric.map(|(_, value)| value).sum()
    }

    /// Returns the number of a platform's healthy checks.
    pub(super) fn healthy(&self, platform: &str) -> f64 {
        self.sum(CHECKS, &[("platform", platform), ("status", "healthy")])
    }

    /// Returns the number of a platform's failed checks.
    pub(super) fn failed(&self, platform: &str) -> f64 {
        self.sum(CHECKS, &[("platform", platform), ("status", "failed")])
    }

    /// Returns the number of failures of one type.
    pub(super) fn failures(&self, platform: &str, error_type: &str) -> f64 {
        let labels = [("platform", platform), ("error_type", error_type)];
        self.sum("plugin_failure_total", &labels)
    }

    /// Returns the number of a platform's due checks that did not run, for one reason.
    pub(super) fn skipped(&self, platform: &str, reason: &str) -> f64 {
        self.sum(SKIPS, &[("platform", platform), ("reason", reason)])
    }

    /// Returns the same for all reasons.
    pub(super) fn all_skipped(&self, platform: &str) -> f64 {
        self.sum(SKIPS, &[("platform", platform)])
    }

    /// Returns the number of a platform's dropped measurements.
    pub(super) fn dropped(&self, platform: &str) -> f64 {
        let labels = [("platform", platform)];
        self.sum("conductor_measurements_dropped_total", &labels)
    }

    /// Returns the number of a platform's due checks, whatever their outcome.
    pub(super) fn due(&self, platform: &str) -> f64 {
        self.sum(CHECKS, &[("platform", platform)]) + self.all_skipped(platform)
    }

    /// Returns the number of new generations of the faulty plugin, for one reason.
    pub(super) fn restarts(&self, reason: &str) -> f64 {
        let labels = [("plugin", PLUGIN), ("reason", reason)];
        self.sum("conductor_worker_restarts_total", &labels)
    }

    /// Returns the number of checks with at most each delay, by the bucket's bound; the last is the total.
    pub(super) fn lateness(&self) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = self
            .series
            .iter()
            .filter_map(|(series, &count)| {
                let rest = series.strip_prefix("conductor_check_lateness_seconds_bucket{le=\"")?;
                let bound = rest.split('"').next()?;
                Some((bound.parse().unwrap_or(f64::INFINITY), count))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }

    /// Returns a field of the faulty plugin's status.
    pub(super) fn plugin(&self, key: &str) -> &Value {
        let plugins = self.status["plugins"].as_array();
        let one = plugins.and_then(|all| all.iter().find(|p| p["id"] == PLUGIN));
        one.map_or(&Value::Null, |plugin| &plugin[key])
    }

    /// Returns a field of a platform's status.
    pub(super) fn platform(&self, name: &str, key: &str) -> &Value {
        let platforms = self.status["platforms"].as_array();
        let one = platforms.and_then(|all| all.iter().find(|p| p["name"] == name));
        one.map_or(&Value::Null, |platform| &platform[key])
    }

    /// Returns the plugin's process, if that is not the host's.
    pub(super) fn worker(&self) -> Option<u32> {
        self.plugin("pid").as_u64()?.try_into().ok()
    }
}

/// Returns the host's status.
pub(super) fn status(address: SocketAddr) -> Result<Value, SnapshotError> {
    let status = get(address, "/api/v1/status")?;
    Ok(serde_json::from_str(&status)?)
}

/// Returns each sample of the host's metrics, by its series.
pub(super) fn metrics(address: SocketAddr) -> Result<BTreeMap<String, f64>, SnapshotError> {
    parse(&get(address, "/metrics")?)
}

/// Parses Prometheus's text format, and rejects invalid text as Prometheus does.
fn parse(text: &str) -> Result<BTreeMap<String, f64>, SnapshotError> {
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let sample = line.rsplit_once(' ').and_then(|(name, value)| {
            let value: f64 = value.parse().ok()?;
            let whole = name.ends_with('}') || !name.contains('{');
            whole.then_some((name, value))
        });
        let (name, value) = sample.ok_or_else(|| SnapshotError::NotASample(line.to_owned()))?;
        if series.insert(name.to_owned(), value).is_some() {
            return Err(SnapshotError::Duplicate(name.to_owned()));
        }
    }
    Ok(series)
}

/// Returns the body of a GET request.
fn get(address: SocketAddr, path: &'static str) -> Result<String, SnapshotError> {
    let no_response = |source| SnapshotError::NoResponse { path, source };
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(no_response)?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(no_response)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").map_err(no_response)?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).map_err(no_response)?;
    let response = String::from_utf8(response).map_err(|_| SnapshotError::NotUtf8(path))?;
    let (head, body) = response
        .split_once("\r\n\r\n")
        .ok_or(SnapshotError::NotHttp(path))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        status => Err(SnapshotError::Status {
            path,
            status: status.unwrap_or("(none)").to_owned(),
        }),
    }
}

const CHECKS: &str = "health_check_total";
const SKIPS: &str = "conductor_checks_skipped_total";
/// Timeout of a request to the host.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_breaks_its_line_and_a_series_shown_twice_are_refused() {
        assert_eq!(parse("# HELP a b\na{b=\"c d\"} 1\ne 2\n").unwrap().len(), 2);
        let error = |text| parse(text).unwrap_err();
        let broken = error("a{b=\"c\nd\"} 1\n");
        assert!(matches!(broken, SnapshotError::NotASample(_)), "{broken}");
        let twice = error("a 1\na 1\n");
        assert!(matches!(twice, SnapshotError::Duplicate(_)), "{twice}");
    }
}
