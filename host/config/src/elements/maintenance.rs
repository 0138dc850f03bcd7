//! `[maintenance.<name>]`: maintenance windows.

use std::collections::BTreeMap;

use conductor_core::{
    maintenance::{
        self, MaintenanceWindow, NamedTimeZone, SpanError, WeeklySpan, WindowOrigin,
        WindowSchedule, WindowScope,
    },
    pattern::NamePattern,
};
use conductor_runtime::wording::nearest;
use conductor_types::Checks;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    check::TableValidator,
    platform::{self, PlatformConfig},
};

/// `[maintenance.<name>]`, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Maintenance",
    description = "A maintenance window: `platforms` or `labels` or both select the platforms; `from` with `until`, or `daily` or `weekly`, set the time."
)]
pub(crate) struct RawMaintenance {
    /// Names of the platforms that it applies to; `*` matches any characters, `?` exactly one.
    #[schemars(inner(length(min = 1, max = 64)))]
    #[serde(default)]
    platforms: Vec<String>,
    /// Labels of the platforms that it applies to.
    #[schemars(extend("propertyNames" = platform::label_rule()))]
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Begin of a single window: date and time with the offset from UTC (RFC 3339).
    #[serde(default)]
    from: Option<String>,
    /// End of a single window.
    #[serde(default)]
    until: Option<String>,
    /// Times of each day, such as "02:00-04:00".
    #[serde(default)]
    daily: Vec<String>,
    /// Times of each week, such as "Sat 02:00-04:00" or "Mon-Fri 22:00-06:00".
    #[serde(default)]
    weekly: Vec<String>,
    /// Time zone of `daily` and `weekly`: an IANA name such as "Europe/Berlin", or "local" for that of this machine.
    #[schemars(with = "String", extend("default" = "local"))]
    #[serde(default)]
    timezone: Option<String>,
    /// Checks during the window: `go-on` continues them, `pause` skips them.
    #[schemars(with = "Checks", extend("default" = "go-on"))]
    #[serde(default)]
    checks: Checks,
    /// Reason, which status page, API and commands show.
    #[serde(default)]
    reason: String,
}

impl RawMaintenance {
    /// Returns the window, or reports mistakes in its times.
    pub(super) fn resolve(
        self,
        name: &str,
        platforms: &[PlatformConfig],
        check: &mut TableValidator<'_>,
    ) -> Option<MaintenanceWindow> {
        self.check_scope(platforms, check);
        self.warn_of_empty_scope(platforms, check);
        let times = self.times(check)?;
        Some(MaintenanceWindow {
            name: name.into(),
            reason: self.reason.into(),
            checks: self.checks,
            scope: WindowScope {
                platforms: self
                    .platforms
                    .iter()
                    .map(|text| NamePattern::new(text))
                    .collect(),
                labels: self.labels,
            },
            times,
            origin: WindowOrigin::Config,
            by: None,
        })
    }

    /// Rejects names of platforms that do not exist: a typo would otherwise only be noticed when alerts fire.
    fn check_scope(&self, platforms: &[PlatformConfig], check: &mut TableValidator<'_>) {
        if self.platforms.is_empty() && self.labels.is_empty() {
            let message = format!("{} selects no platform", check.own_name());
            let help = "add platforms = [\"…\"] or labels = { … }; platforms = [\"*\"] selects all";
            check.refuse_table(message, help);
        }
        for (at, text) in self.platforms.iter().enumerate() {
            let pattern = NamePattern::new(text);
            if !pattern.is_name() || check.file_has(&["platform", text]) {
                continue;
            }
            let message = format!(
                "{}[{at}]: the config has no platform {text:?}",
                check.name("platforms")
            );
            let known = platforms.iter().map(|platform| platform.name.as_str());
            let help = match nearest(text, known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "use a name from this config, or a pattern such as \"db-*\"".to_owned(),
            };
            check.refuse("platforms", message, help);
        }
    }

    /// Warns of labels and patterns that select no platform: alarms would go off during the window.
    fn warn_of_empty_scope(&self, platforms: &[PlatformConfig], check: &mut TableValidator<'_>) {
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|(key, value)| format!("{key} = {value:?}"))
            .collect();
        let labels = labels.join(", ");
        let scope = |platforms| WindowScope {
            platforms,
            labels: self.labels.clone(),
        };
        let selects_any = |scope: WindowScope| {
            let mut platforms = platforms.iter();
            platforms.any(|platform| scope.has(&platform.name, &platform.labels))
        };
        if !self.labels.is_empty() && !selects_any(scope(Vec::new())) {
            let name = check.name("labels");
            check.warn("labels", format!("{name}: no platform has {labels}"));
            return;
        }
        for (at, text) in self.platforms.iter().enumerate() {
            let pattern = NamePattern::new(text);
            let is_unknown = pattern.is_name() && !check.file_has(&["platform", text]);
            if is_unknown || selects_any(scope(vec![pattern])) {
                continue;
            }
            let name = check.name("platforms");
            let with = match labels.as_str() {
                "" => String::new(),
                labels => format!(" and has {labels}"),
            };
            let message = format!("{name}[{at}]: no platform matches {text:?}{with}");
            check.warn("platforms", message);
        }
    }

    fn times(&self, check: &mut TableValidator<'_>) -> Option<WindowSchedule> {
        let once = self.from.is_some() || self.until.is_some();
        let again = !self.daily.is_empty() || !self.weekly.is_empty();
        match (once, again) {
            (true, false) => self.once(check),
            (false, true) => self.again(check),
            (true, true) => {
                let key = if self.weekly.is_empty() {
                    "daily"
                } else {
                    "weekly"
                };
                let message = format!(
                    "{} cannot be combined with from and until: a window is single or recurring",
                    check.name(key)
                );
                check.refuse(key, message, "split it into two windows");
                None
            }
            (false, false) => {
                let message = format!("{} has no time", check.own_name());
                let help = "add from and until, or weekly = [\"Sat 02:00-04:00\"], or daily = [\"02:00-04:00\"]";
                check.refuse_table(message, help);
                None
            }
        }
    }

    fn once(&self, check: &mut TableValidator<'_>) -> Option<WindowSchedule> {
        if self.timezone.is_some() {
            let message = format!(
                "{} applies to daily and weekly only: from and until contain their offset",
                check.name("timezone")
            );
            check.refuse("timezone", message, "remove it");
        }
        let (from, until) = match (&self.from, &self.until) {
            (Some(from), Some(until)) => {
                (moment("from", from, check), moment("until", until, check))
            }
            (from, _) => {
                let (given, missing) = if from.is_some() {
                    ("from", "until")
                } else {
                    ("until", "from")
                };
                let message = format!("{} has `{given}` without `{missing}`", check.own_name());
                check.refuse(given, message, format!("add {missing}"));
                return None;
            }
        };
        let (from, until) = (from?, until?);
        let times = WindowSchedule::once(from, until);
        if times.is_none() {
            let message = format!("{} is {until}, not after from", check.name("until"));
            check.refuse("until", message, "a window must end after it begins");
        }
        times
    }

    fn again(&self, check: &mut TableValidator<'_>) -> Option<WindowSchedule> {
        let daily = spans(
            "daily",
            &self.daily,
            WeeklySpan::daily,
            "02:00-04:00",
            check,
        );
        let weekly = spans(
            "weekly",
            &self.weekly,
            WeeklySpan::weekly,
            "Sat 02:00-04:00",
            check,
        );
        let zone = match &self.timezone {
            None => NamedTimeZone::local(),
            Some(name) => zone(name, check)?,
        };
        let all = daily?.into_iter().chain(weekly?).collect();
        Some(WindowSchedule::again(all, zone))
    }
}

/// Parses an RFC 3339 timestamp.
fn moment(key: &str, text: &str, check: &mut TableValidator<'_>) -> Option<Timestamp> {
    match text.parse() {
        Ok(moment) => Some(moment),
        Err(_) => {
            let message = format!(
                "{}: {text:?} is not a date and time with an offset from UTC",
                check.name(key)
            );
            let help = "write it like 2026-12-31T22:00:00+01:00, or with Z for UTC";
            check.refuse(key, message, help);
            None
        }
    }
}

fn spans(
    key: &str,
    written: &[String],
    read: impl Fn(&str) -> Result<WeeklySpan, SpanError>,
    example: &str,
    check: &mut TableValidator<'_>,
) -> Option<Vec<WeeklySpan>> {
    let mut all_right = true;
    let mut spans = Vec::new();
    for (at, text) in written.iter().enumerate() {
        match read(text) {
            Ok(span) => spans.push(span),
            Err(error) => {
                all_right = false;
                let message = format!("{}[{at}]: {text:?}: {error}", check.name(key));
                check.refuse(key, message, format!("write it like {example:?}"));
            }
        }
    }
    all_right.then_some(spans)
}

fn zone(name: &str, check: &mut TableValidator<'_>) -> Option<NamedTimeZone> {
    match NamedTimeZone::named(name) {
        Ok(zone) => Some(zone),
        Err(_) => {
            let message = format!("{}: unknown time zone {name:?}", check.name("timezone"));
            let known = maintenance::zone_names();
            let help = match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "write an IANA name such as \"Europe/Berlin\", or \"UTC\" or \"local\""
                    .to_owned(),
            };
            check.refuse("timezone", message, help);
            None
        }
    }
}
