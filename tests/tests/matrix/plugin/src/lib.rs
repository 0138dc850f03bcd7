//! A plugin whose checks make everything cross: config, reports with text and measurements, failures, panics, log
//! lines, and events of `tracing`.

#[cfg(feature = "other-allocator")]
mod allocator;

use conductor_plugin_api::{
    Context, Failure, Level, Probe, Report, export_plugin, schemars, tracing,
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
                Ok(measured)
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

export_plugin! { id: "crossing", probe: Crossing, name: "Lets everything cross" }
