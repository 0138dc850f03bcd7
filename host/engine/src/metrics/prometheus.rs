//! The metrics in Prometheus's text format, or in OpenMetrics.
//!
//! Families of platforms and plugins, of which there may be millions of series, are written by [`SeriesEncoder`]. The host's
//! own families, and those of its process, go through the `prometheus` crate: its `Registry`, with a [`Collector`] of
//! ours, its process collector and its `TextEncoder`. The crate's own metric types are not used: they merge different
//! series, because their label hash has no separator: `("disk1", "2")` and `("disk", "12")` would be one.
use std::{io, sync::Arc};

use ::prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{FAMILIES, HostMetrics, SeriesSnapshot, openmetrics};

mod crate_model;
mod encoder;
mod process;
mod target;
#[cfg(test)]
mod tests;

use crate_model::FamilyBuilder;
pub use encoder::{CHUNK_BYTES, ChunkSink, SeriesEncoder};
pub use target::render_target;

/// A format that a scraper can ask for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ExpositionFormat {
    /// Prometheus's text format, 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl ExpositionFormat {
    /// Returns the content type of [`render`]'s output.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => openmetrics::CONTENT_TYPE,
        }
    }
}

/// Passes all metrics, and on Linux and Windows those of the process, to `out`, in chunks of about [`CHUNK_BYTES`].
///
/// Takes some ten nanoseconds per series: for a large host not for a latency-sensitive thread.
///
/// # Errors
/// If `out` fails; it is not called again then.
pub fn render(
    metrics: &HostMetrics,
    format: ExpositionFormat,
    out: ChunkSink<'_>,
) -> io::Result<()> {
    render_snapshot(metrics.snapshot(), format, out)
}

fn render_snapshot(
    snapshot: SeriesSnapshot,
    format: ExpositionFormat,
    out: ChunkSink<'_>,
) -> io::Result<()> {
    let snapshot = Arc::new(snapshot);
    let mut encoder = SeriesEncoder::new(format, out);
    for family in FAMILIES.iter().filter(|family| !family.is_of_host()) {
        encoder.begin_family(family.name, family.help, family.kind);
        family.visit(&snapshot, &mut encoder);
    }
    for family in snapshot.declared_families() {
        encoder.begin_family_in(&family.name, &family.unit, &family.help, family.kind);
        family.visit(&snapshot, &mut encoder);
    }
    encoder.crate_text(&host_families(snapshot)?)?;
    encoder.crate_text(&process::text()?)?;
    encoder.finish()
}

/// Returns the host's own families in the text format, sorted by name.
fn host_families(snapshot: Arc<SeriesSnapshot>) -> io::Result<String> {
    let registry = Registry::new();
    let mut text = String::new();
    registry
        .register(Box::new(HostCollector(snapshot)))
        .and_then(|()| TextEncoder::new().encode_utf8(&registry.gather(), &mut text))
        .map_err(io::Error::other)?;
    Ok(text)
}

/// Collects the host's own families.
struct HostCollector(Arc<SeriesSnapshot>);

impl Collector for HostCollector {
    /// No descriptions: they only serve to find conflicting collectors, and this one is alone in its registry.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let of_host = FAMILIES.iter().filter(|family| family.is_of_host());
        let collected = of_host.map(|family| {
            let mut builder = FamilyBuilder::new(family.name, family.help, family.kind);
            family.visit(&self.0, &mut builder);
            builder.build()
        });
        // Families without samples are not valid.
        collected.flatten().collect()
    }
}
