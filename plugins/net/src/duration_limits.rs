//! Longest durations of a check and of its phases: the keys `degraded_after` and `unhealthy_after`.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData, time::Duration};

use conductor_plugin_api::{
    Status,
    config::Duration as ConfigDuration,
    schemars::{JsonSchema, Schema, SchemaGenerator, json_schema},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::StrDeserializer},
};

use crate::limit::show_duration;

/// The phases of a plugin's checks.
pub trait TimedPhases {
    /// Name and description of [`TOTAL`] and of each phase, in their order.
    const PHASES: &'static [(&'static str, &'static str)];
}

/// The name of the whole check among the phases.
pub const TOTAL: &str = "total";

/// The value of one key: a limit of the whole check, or a table of limits by phase.
pub struct DurationLimits<P> {
    /// At most one limit per name.
    limits: Vec<(&'static str, ConfigDuration)>,
    phases: PhantomData<fn() -> P>,
}

impl<P> DurationLimits<P> {
    fn of(&self, phase: &str) -> Option<ConfigDuration> {
        let found = self.limits.iter().find(|(name, _)| *name == phase);
        found.map(|(_, limit)| *limit)
    }
}

impl<P> Clone for DurationLimits<P> {
    fn clone(&self) -> Self {
        Self {
            limits: self.limits.clone(),
            phases: PhantomData,
        }
    }
}

impl<P> fmt::Debug for DurationLimits<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limits.fmt(f)
    }
}

impl<'de, P: TimedPhases> Deserialize<'de> for DurationLimits<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LimitsVisitor(PhantomData))
    }
}

struct LimitsVisitor<P>(PhantomData<fn() -> P>);

impl<'de, P: TimedPhases> Visitor<'de> for LimitsVisitor<P> {
    type Value = DurationLimits<P>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = P::PHASES.iter().map(|(name, _)| *name).collect();
        write!(
            f,
            "a duration such as \"500ms\", or a table of them with the keys {}",
            names.join(", ")
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<DurationLimits<P>, E> {
        let total = ConfigDuration::deserialize(StrDeserializer::new(text))
            .map_err(|_: E| E::invalid_value(Unexpected::Str(text), &self))?;
        Ok(DurationLimits {
            limits: vec![(TOTAL, total)],
            phases: PhantomData,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DurationLimits<P>, A::Error> {
        let mut limits = Vec::new();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let known = P::PHASES.iter().find(|(name, _)| *name == key);
            let Some((name, _)) = known else {
                let names: Vec<_> = P::PHASES.iter().map(|(name, _)| *name).collect();
                return Err(A::Error::custom(format_args!(
                    "unknown key `{key}`, expected {}",
                    names.join(", ")
                )));
            };
            limits.push((*name, map.next_value()?));
        }
        Ok(DurationLimits {
            limits,
            phases: PhantomData,
        })
    }
}

impl<P: TimedPhases> JsonSchema for DurationLimits<P> {
    fn schema_name() -> Cow<'static, str> {
        "DurationLimits".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let duration = generator.subschema_for::<ConfigDuration>();
        let described = |description: &str| {
            let mut limit = duration.clone();
            limit.insert("description".to_owned(), description.into());
            limit
        };
        let phases = P::PHASES.iter();
        let properties: BTreeMap<_, _> = phases
            .map(|(name, description)| (*name, described(description)))
            .collect();
        let total = described("Limit of the whole check.");
        let table = json_schema!({
            "type": "object",
            "description": "Limits by phase.",
            "properties": properties,
            "additionalProperties": false,
        });
        json_schema!({ "anyOf": [total, table] })
    }
}

/// The limits of both keys.
#[derive(Debug, Default)]
pub struct DurationRules {
    rules: Vec<DurationRule>,
}

#[derive(Debug)]
struct DurationRule {
    phase: &'static str,
    degraded_after: Option<Duration>,
    unhealthy_after: Option<Duration>,
}

impl DurationRules {
    /// Joins the values of `degraded_after` and `unhealthy_after`; adds to `faults` limits that can have no effect.
    pub fn new<P: TimedPhases>(
        degraded_after: Option<&DurationLimits<P>>,
        unhealthy_after: Option<&DurationLimits<P>>,
        faults: &mut Vec<String>,
    ) -> Self {
        let mut rules = Vec::new();
        for (phase, _) in P::PHASES {
            let limit = |limits: Option<&DurationLimits<P>>| limits?.of(phase);
            let (degraded, unhealthy) = (limit(degraded_after), limit(unhealthy_after));
            if let (Some(degraded), Some(unhealthy)) = (degraded, unhealthy)
                && degraded > unhealthy
            {
                faults.push(format!(
                    "key `degraded_after`: {degraded} for `{phase}` is above `unhealthy_after`, {unhealthy}; lower it"
                ));
            }
            if degraded.is_some() || unhealthy.is_some() {
                rules.push(DurationRule {
                    phase,
                    degraded_after: degraded.map(ConfigDuration::get),
                    unhealthy_after: unhealthy.map(ConfigDuration::get),
                });
            }
        }
        Self { rules }
    }

    /// Returns `true` if there is no limit.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns what was found and expected of each duration above its limit, with the resulting status.
    ///
    /// `took` returns the duration of a phase, or `None` if there was no such phase. Of two limits, the one that makes
    /// the platform unhealthy counts.
    pub fn judge(
        &self,
        total: Duration,
        took: impl Fn(&str) -> Option<Duration>,
    ) -> Vec<(Status, String)> {
        let exceeded = self.rules.iter().filter_map(|rule| {
            let (what, took) = match rule.phase {
                TOTAL => ("the check", Some(total)),
                phase => (phase, took(phase)),
            };
            let took = took?;
            let (status, limit) = match (rule.degraded_after, rule.unhealthy_after) {
                (_, Some(limit)) if took > limit => (Status::Unhealthy, limit),
                (Some(limit), _) if took > limit => (Status::Degraded, limit),
                _ => return None,
            };
            let (took, limit) = (show_duration(took), show_duration(limit));
            let text = format!("{what} took {took}, expected at most {limit}");
            Some((status, text))
        });
        exceeded.collect()
    }

    /// Adds each duration above its limit to a status and message that were found otherwise.
    pub fn apply(
        &self,
        total: Duration,
        took: impl Fn(&str) -> Option<Duration>,
        (status, message): (Status, String),
    ) -> (Status, String) {
        let exceeded = self.judge(total, took);
        if exceeded.is_empty() {
            return (status, message);
        }
        let separator = match status {
            Status::Healthy => ", but ",
            _ => "; ",
        };
        let worst = exceeded.iter().map(|(status, _)| *status).chain([status]);
        let status = worst.max_by_key(|status| severity(*status));
        let texts: Vec<_> = exceeded.into_iter().map(|(_, text)| text).collect();
        (
            status.unwrap_or(Status::Unhealthy),
            format!("{message}{separator}{}", texts.join("; ")),
        )
    }
}

fn severity(status: Status) -> u8 {
    match status {
        Status::Healthy => 0,
        Status::Degraded => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{MapDeserializer, StrDeserializer};

    use super::*;

    struct PingPhases;

    impl TimedPhases for PingPhases {
        const PHASES: &'static [(&'static str, &'static str)] = &[
            (TOTAL, "The whole check."),
            ("connect", "The connection."),
            ("response", "The response."),
        ];
    }

    type Limits = DurationLimits<PingPhases>;
    type ValueError = serde::de::value::Error;

    fn total(text: &str) -> Result<Limits, ValueError> {
        Limits::deserialize(StrDeserializer::new(text))
    }

    fn table(limits: &[(&str, &str)]) -> Result<Limits, ValueError> {
        Limits::deserialize(MapDeserializer::new(limits.iter().copied()))
    }

    fn rules(degraded: &[(&str, &str)], unhealthy: &[(&str, &str)]) -> (DurationRules, String) {
        let (degraded, unhealthy) = (table(degraded).unwrap(), table(unhealthy).unwrap());
        let mut faults = Vec::new();
        let rules = DurationRules::new(Some(&degraded), Some(&unhealthy), &mut faults);
        (rules, faults.join("; "))
    }

    #[test]
    fn a_limit_is_a_duration_or_a_table_by_phase() {
        let limit = "500ms".parse().unwrap();
        assert_eq!(total("500ms").unwrap().of(TOTAL), Some(limit));
        let by_phase = table(&[("response", "500ms")]).unwrap();
        assert_eq!(by_phase.of("response"), Some(limit));
        assert_eq!(by_phase.of(TOTAL), None);
        let error = table(&[("tls", "1s")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown key `tls`, expected total, connect, response"
        );
        let error = total("soon").unwrap_err().to_string();
        assert!(error.contains("expected a duration such as"), "{error}");
    }

    #[test]
    fn the_limit_with_the_worst_status_counts_and_each_phase_is_named() {
        let (rules, faults) = rules(
            &[("total", "1s"), ("connect", "10ms"), ("response", "1ms")],
            &[("connect", "100ms"), ("response", "20ms")],
        );
        assert_eq!(faults, "");
        let ms = Duration::from_millis;
        let judge = |connect| {
            let took = move |phase: &str| (phase == "connect").then_some(ms(connect));
            let found = (Status::Healthy, "connected".to_owned());
            rules.apply(ms(2000), took, found)
        };
        let (status, message) = judge(10);
        assert_eq!(status, Status::Degraded);
        assert_eq!(
            message,
            "connected, but the check took 2.0 s, expected at most 1.0 s"
        );
        let (status, message) = judge(11);
        assert_eq!(status, Status::Degraded);
        assert!(
            message.ends_with("; connect took 11 ms, expected at most 10 ms"),
            "{message}"
        );
        let (status, message) = judge(101);
        assert_eq!(status, Status::Unhealthy);
        assert!(
            message.ends_with("; connect took 101 ms, expected at most 100 ms"),
            "{message}"
        );
    }

    #[test]
    fn a_limit_without_effect_is_refused() {
        let (_, faults) = rules(&[("connect", "2s")], &[("connect", "1s")]);
        assert_eq!(
            faults,
            "key `degraded_after`: 2s for `connect` is above `unhealthy_after`, 1s; lower it"
        );
    }

    #[test]
    fn the_schema_lists_every_phase() {
        let schema = SchemaGenerator::default().into_root_schema_for::<Limits>();
        let table = schema.pointer("/anyOf/1").unwrap();
        assert_eq!(table["additionalProperties"], false);
        for (name, description) in PingPhases::PHASES {
            assert_eq!(table["properties"][*name]["description"], *description);
        }
    }
}
