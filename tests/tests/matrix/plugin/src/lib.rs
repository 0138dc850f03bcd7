//! A plugin whose checks make everything cross: config, reports with text, measurements and declared metrics, failures,
//! panics, log lines, events of `tracing`, and what the host knows of the platform.

#[cfg(feature = "other-allocator")]
mod allocator;

use conductor_plugin_api::{
    Context, Failure, Level, Metric, Probe, Report, export_plugin, schemars, tracing,
};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema)]
struct Config {
    #[serde(default)]
    ends: End,
    #[serde(default)]
    words: Vec<String>,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum End {
    #[default]
    Report,
    Failure,
    Panic,
}

const CHECKS: Metric = Metric::counter("checks", "Checks of the probe.");
const LENGTH: Metric<1> = Metric::gauge("length", "Length of each word.")
    .unit("bytes")
    .labels(["word"]);

struct Crossing {
    config: Config,
    checks: u32,
}

impl Probe for Crossing {
    type Config = Config;

    fn create(config: Config, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(Self { config, checks: 0 })
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        self.checks += 1;
        let platform = context.platform();
        context.log(Level::Warn, &format!("crossing to {platform}"));
        tracing::warn!(checks = self.checks, "crossing as an event");
        let state = String::from_utf8(context.state())?;
        tracing::warn!(
            "crossing with {:?}, an interval: {}, a state: {}",
            context.labels(),
            context.interval().is_some(),
            !state.is_empty(),
        );
        // An older host stores nothing.
        let _ = context.store_state(self.checks.to_string().as_bytes());
        assert!(!context.remaining().is_zero() && !context.is_cancelled());
        match self.config.ends {
            End::Panic => panic!("panicked for {platform}"),
            End::Failure => Err(Failure::new(format!("failed for {platform}"))),
            End::Report => {
                let words = self.config.words.join(" ");
                let report = Report::healthy(format!("reported for {platform}: {words}{}", news(context)));
                let measured = (0..20).fold(report, |report, nth| {
                    report.measure(format!("measured_{nth}"), f64::from(nth))
                });
                let words = self.config.words.iter();
                Ok(words.fold(
                    measured.set(&CHECKS, [], f64::from(self.checks)),
                    |report, word| report.set(&LENGTH, [word], word.len() as f64),
                ))
            }
        }
    }
}

#[cfg(feature = "next")]
fn news(context: &Context<'_>) -> String {
    format!(", the host's news: {:?}", context.news())
}

#[cfg(not(feature = "next"))]
fn news(_: &Context<'_>) -> String {
    String::new()
}

export_plugin! {
    name: "Lets everything cross",
    metrics: [CHECKS, LENGTH],
    id: "crossing",
    probe: Crossing,
}
