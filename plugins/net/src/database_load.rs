//! The load of a database server: its connections and its oldest transaction, with their limits.

use std::{fmt, time::Duration};

use conductor_plugin_api::config;

use crate::{
    limit::show_duration,
    limits::{LimitVerdict, Limits},
    show::show_age,
};

/// The load of a server at one moment.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseLoad {
    /// Connections in use.
    pub connections: f64,
    /// Connections that clients may open.
    pub max_connections: f64,
    /// Age of the oldest transaction in seconds, but that of the probe; `None` if there is none.
    pub oldest_transaction: Option<f64>,
}

/// The limits of a server's load.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseLimits {
    /// Limits of the key `connections`, in percent of the maximum.
    pub connections: Limits<f64>,
    /// Limits of the key `transaction`.
    pub transaction: Option<Limits<config::Duration>>,
}

impl DatabaseLimits {
    /// The limits of the key `connections` where a config has none.
    pub const DEFAULT_CONNECTIONS: Limits<f64> = Limits {
        degraded_above: Some(80.0),
        unhealthy_above: Some(95.0),
        degraded_below: None,
        unhealthy_below: None,
    };

    /// Adds a fault for each rule that the limits break.
    pub fn validate(&self, faults: &mut Vec<String>) {
        if let Some(limits) = &self.transaction {
            limits.validate("transaction", faults);
        }
        let limits = &self.connections;
        limits.validate("connections", faults);
        let percents = [
            limits.degraded_above,
            limits.unhealthy_above,
            limits.degraded_below,
            limits.unhealthy_below,
        ];
        let is_wrong = |percent: &f64| !(0.0..=100.0).contains(percent);
        if percents.iter().flatten().any(is_wrong) {
            faults.push(
                "key `connections`: a limit is not a percentage; choose from 0 to 100".to_owned(),
            );
        }
    }

    /// Adds a fault for each limit that the load exceeds. Where the probe may not see the transactions of others, `blind`
    /// says why.
    pub fn judge(&self, load: &DatabaseLoad, blind: Option<&str>, verdict: &mut LimitVerdict) {
        let DatabaseLoad {
            connections,
            max_connections,
            oldest_transaction,
        } = *load;
        let percent = 100.0 * connections / max_connections.max(1.0);
        let shown = format!("{connections} of {max_connections} connections are in use");
        verdict.judge("connections", shown, percent, &self.connections);
        match (&self.transaction, oldest_transaction, blind) {
            (Some(_), _, Some(why)) => verdict.cannot_tell(format!("key `transaction`: {why}")),
            (Some(limits), Some(age), None) => {
                let shown = format!("the oldest transaction began {} ago", ShownSeconds(age));
                verdict.judge("transaction", shown, seconds(age), limits);
            }
            _ => {}
        }
    }
}

/// Formats seconds for people: exactly below a minute.
#[derive(Clone, Copy, Debug)]
pub struct ShownSeconds(pub f64);

impl fmt::Display for ShownSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = seconds(self.0).get();
        f.write_str(&match time.as_secs() {
            0..60 => show_duration(time),
            _ => show_age(time),
        })
    }
}

/// Returns the duration that limits are compared with; negative seconds are none, as clocks differ.
pub fn seconds(number: f64) -> config::Duration {
    Duration::try_from_secs_f64(number.max(0.0))
        .unwrap_or(Duration::MAX)
        .into()
}

#[cfg(test)]
mod tests {
    use conductor_plugin_api::{Report, Status};

    use super::*;

    const LOAD: DatabaseLoad = DatabaseLoad {
        connections: 9.0,
        max_connections: 10.0,
        oldest_transaction: Some(700.0),
    };

    fn judge(limits: DatabaseLimits, blind: Option<&str>) -> Result<Report, String> {
        let mut verdict = LimitVerdict::default();
        limits.judge(&LOAD, blind, &mut verdict);
        let report = verdict.into_report("fine".to_owned());
        report.map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn connections_are_limited_in_percent_and_transactions_by_age() {
        let connections = DatabaseLimits::DEFAULT_CONNECTIONS;
        let limits = DatabaseLimits {
            connections,
            transaction: None,
        };
        let report = judge(limits, None).unwrap();
        assert_eq!(report.status(), Status::Degraded);
        assert_eq!(
            report.message(),
            "9 of 10 connections are in use (`connections.degraded_above` is 80)"
        );
        let transaction = Limits {
            unhealthy_above: Some(seconds(600.0)),
            ..Limits::default()
        };
        let limits = DatabaseLimits {
            connections: Limits::default(),
            transaction: Some(transaction),
        };
        let report = judge(limits, None).unwrap();
        assert_eq!(report.status(), Status::Unhealthy);
        assert_eq!(
            report.message(),
            "the oldest transaction began 11 min 40 s ago (`transaction.unhealthy_above` is 10m)"
        );
        let unknown = judge(limits, Some("no permission")).unwrap_err();
        assert_eq!(unknown, "key `transaction`: no permission");
    }

    #[test]
    fn limits_that_are_no_percentages_are_refused() {
        let limits = DatabaseLimits {
            connections: Limits {
                unhealthy_above: Some(101.0),
                ..Limits::default()
            },
            transaction: Some(Limits::default()),
        };
        let mut faults = Vec::new();
        limits.validate(&mut faults);
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
