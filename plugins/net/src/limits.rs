//! Limits of a value in a config, and the verdict on several values: the worst one decides.

use std::{fmt::Display, time::Duration};

use conductor_plugin_api::{Failure, Report, Status, schemars};
use serde::Deserialize;

use crate::duration_limits::DurationRules;

/// Limits of one value; a value outside of them makes the platform degraded or unhealthy.
#[derive(Clone, Copy, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits<T> {
    /// Value above which the platform is degraded.
    pub degraded_above: Option<T>,
    /// Value above which the platform is unhealthy.
    pub unhealthy_above: Option<T>,
    /// Value below which the platform is degraded.
    pub degraded_below: Option<T>,
    /// Value below which the platform is unhealthy.
    pub unhealthy_below: Option<T>,
}

impl<T> Default for Limits<T> {
    fn default() -> Self {
        Self {
            degraded_above: None,
            unhealthy_above: None,
            degraded_below: None,
            unhealthy_below: None,
        }
    }
}

impl<T: Copy + Display + PartialOrd> Limits<T> {
    /// Returns the lower limits alone.
    #[must_use]
    pub fn lower(self) -> Self {
        Self {
            degraded_above: None,
            unhealthy_above: None,
            ..self
        }
    }

    /// Returns the upper limits alone.
    #[must_use]
    pub fn upper(self) -> Self {
        Self {
            degraded_below: None,
            unhealthy_below: None,
            ..self
        }
    }

    /// Returns `true` if there is a limit.
    pub fn is_set(&self) -> bool {
        let above = self.degraded_above.is_some() || self.unhealthy_above.is_some();
        above || self.degraded_below.is_some() || self.unhealthy_below.is_some()
    }

    /// Returns `true` if the value is outside of a limit.
    pub fn are_exceeded_by(&self, value: T) -> bool {
        self.exceeded(value).is_some()
    }

    /// Adds a fault for each rule that the table of `key` breaks.
    pub fn validate(&self, key: &str, faults: &mut Vec<String>) {
        let above = [self.degraded_above, self.unhealthy_above];
        let below = [self.degraded_below, self.unhealthy_below];
        if !self.is_set() {
            faults.push(format!(
                "key `{key}`: the table has no limit; set one of `degraded_above`, `unhealthy_above`, \
                 `degraded_below` and `unhealthy_below`"
            ));
        }
        if let [Some(degraded), Some(unhealthy)] = above
            && degraded > unhealthy
        {
            faults.push(format!(
                "key `{key}`: `degraded_above` ({degraded}) is above `unhealthy_above` ({unhealthy}); lower it"
            ));
        }
        if let [Some(degraded), Some(unhealthy)] = below
            && degraded < unhealthy
        {
            faults.push(format!(
                "key `{key}`: `degraded_below` ({degraded}) is below `unhealthy_below` ({unhealthy}); raise it"
            ));
        }
        for lower in below.into_iter().flatten() {
            for upper in above.into_iter().flatten() {
                if lower > upper {
                    faults.push(format!(
                        "key `{key}`: no value can be both above {lower} and below {upper}; swap the limits"
                    ));
                    return;
                }
            }
        }
    }

    /// Returns the exceeded limit, its name and the status that follows; `None` if the value is within the limits.
    pub fn exceeded(&self, value: T) -> Option<(Status, &'static str, T)> {
        let is_above = |limit: Option<T>| limit.filter(|limit| value > *limit);
        let is_below = |limit: Option<T>| limit.filter(|limit| value < *limit);
        let unhealthy = is_above(self.unhealthy_above)
            .map(|limit| ("unhealthy_above", limit))
            .or_else(|| is_below(self.unhealthy_below).map(|limit| ("unhealthy_below", limit)));
        let degraded = || {
            is_above(self.degraded_above)
                .map(|limit| ("degraded_above", limit))
                .or_else(|| is_below(self.degraded_below).map(|limit| ("degraded_below", limit)))
        };
        unhealthy
            .map(|(name, limit)| (Status::Unhealthy, name, limit))
            .or_else(|| degraded().map(|(name, limit)| (Status::Degraded, name, limit)))
    }
}

/// The verdict on several values of a platform.
#[derive(Debug)]
pub struct LimitVerdict {
    status: Status,
    faults: Vec<String>,
    unknown: Vec<String>,
}

impl Default for LimitVerdict {
    fn default() -> Self {
        Self {
            status: Status::Healthy,
            faults: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

impl LimitVerdict {
    /// Judges a value by the limits of `key`; `shown` is the value for people, such as "3.2 % of memory available".
    pub fn judge<T: Copy + Display + PartialOrd>(
        &mut self,
        key: &str,
        shown: impl Display,
        value: T,
        limits: &Limits<T>,
    ) {
        if let Some((status, name, limit)) = limits.exceeded(value) {
            self.add(status, format!("{shown} (`{key}.{name}` is {limit})"));
        }
    }

    /// Judges a value that may be unknown, which fails the check; does nothing without limits.
    pub fn judge_reading<T: Copy + Display + PartialOrd, E: Display>(
        &mut self,
        key: &str,
        reading: Result<(T, String), E>,
        limits: Option<&Limits<T>>,
    ) {
        match (limits, reading) {
            (None, _) => {}
            (Some(limits), Ok((value, shown))) => self.judge(key, shown, value, limits),
            (Some(_), Err(error)) => self.cannot_tell(format!("cannot judge `{key}`: {error}")),
        }
    }

    /// Adds each duration above its limit; `total` is that of the whole check, `took` returns that of a phase.
    pub fn judge_durations(
        &mut self,
        rules: &DurationRules,
        total: Duration,
        took: impl Fn(&str) -> Option<Duration>,
    ) {
        for (status, fault) in rules.judge(total, took) {
            self.add(status, fault);
        }
    }

    /// Adds a fault of the platform.
    pub fn add(&mut self, status: Status, fault: String) {
        if self.status != Status::Unhealthy {
            self.status = status;
        }
        self.faults.push(fault);
    }

    /// Adds the reason why a value that has limits is unknown.
    pub fn cannot_tell(&mut self, reason: String) {
        self.unknown.push(reason);
    }

    /// Returns the report: the faults, or `summary` if there are none.
    ///
    /// # Errors
    /// If a value is unknown, and none of the others is bad.
    pub fn into_report(self, summary: String) -> Result<Report, Failure> {
        match (self.status, self.unknown.is_empty()) {
            (Status::Healthy, true) => Ok(Report::healthy(summary)),
            (Status::Healthy, false) => Err(Failure::new(self.unknown.join("; "))),
            (status, _) => {
                let texts: Vec<_> = self.faults.into_iter().chain(self.unknown).collect();
                Ok(Report::new(status, texts.join("; ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(numbers: [Option<u64>; 4]) -> Limits<u64> {
        let [
            degraded_above,
            unhealthy_above,
            degraded_below,
            unhealthy_below,
        ] = numbers;
        Limits {
            degraded_above,
            unhealthy_above,
            degraded_below,
            unhealthy_below,
        }
    }

    #[test]
    fn a_value_at_a_limit_is_within_it_and_the_worse_limit_decides() {
        let limits = limits([Some(80), Some(90), Some(20), Some(10)]);
        for (value, expected) in [
            (9, Some((Status::Unhealthy, "unhealthy_below", 10))),
            (10, Some((Status::Degraded, "degraded_below", 20))),
            (20, None),
            (80, None),
            (81, Some((Status::Degraded, "degraded_above", 80))),
            (90, Some((Status::Degraded, "degraded_above", 80))),
            (91, Some((Status::Unhealthy, "unhealthy_above", 90))),
        ] {
            assert_eq!(limits.exceeded(value), expected, "{value}");
        }
        assert_eq!(limits.upper().exceeded(9), None);
        assert_eq!(limits.lower().exceeded(91), None);
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused_with_the_key() {
        for (numbers, rule) in [
            ([None; 4], "no limit"),
            ([Some(9), Some(8), None, None], "lower it"),
            ([None, None, Some(1), Some(2)], "raise it"),
            ([None, Some(1), None, Some(2)], "swap the limits"),
        ] {
            let mut faults = Vec::new();
            limits(numbers).validate("load", &mut faults);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(
                faults[0].starts_with("key `load`") && faults[0].contains(rule),
                "{faults:?}"
            );
        }
        let mut faults = Vec::new();
        limits([None, Some(1), None, Some(1)]).validate("exactly", &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn an_unknown_value_fails_the_check_unless_another_is_bad() {
        let above_1 = limits([Some(1), None, None, None]);
        let verdict = |value: u64| {
            let mut verdict = LimitVerdict::default();
            verdict.judge("load", format!("load {value}"), value, &above_1);
            verdict.cannot_tell("no sensor".to_owned());
            verdict.into_report("fine".to_owned())
        };
        assert_eq!(verdict(1).unwrap_err().message(), "no sensor");
        let report = verdict(2).unwrap();
        assert_eq!(report.status(), Status::Degraded);
        assert_eq!(
            report.message(),
            "load 2 (`load.degraded_above` is 1); no sensor"
        );
        let mut verdict = LimitVerdict::default();
        verdict.add(Status::Unhealthy, "a".to_owned());
        verdict.add(Status::Degraded, "b".to_owned());
        let report = verdict.into_report(String::new()).unwrap();
        assert_eq!(
            (report.status(), report.message()),
            (Status::Unhealthy, "a; b")
        );
    }
}
