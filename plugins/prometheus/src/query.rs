//! An instant query, and the conditions on its result.

use std::collections::BTreeMap;

use conductor_net::{
    CheckError, LimitVerdict, Limits, PhaseClock,
    http::{ApiRequest, ApiServer},
    short,
};
use conductor_plugin_api::{Failure, Report, Status};
use serde::{Deserialize, de::IgnoredAny};

use crate::{HIGHEST_VALUE, LOWEST_VALUE, SERIES, api::data};

/// A query of a config, and its conditions.
pub(crate) struct QueryCheck {
    pub(crate) query: String,
    /// Limits of the number of series.
    pub(crate) series: Limits<usize>,
    /// Limits of the value of each.
    pub(crate) value: Limits<f64>,
}

/// The series that a query returned, with their names.
#[derive(Debug)]
pub(crate) struct QueryValues(Vec<(String, f64)>);

/// The data of a response.
#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum QueryResult {
    Vector(Vec<VectorSample>),
    Scalar((f64, String)),
    String(IgnoredAny),
    Matrix(IgnoredAny),
}

#[derive(Deserialize)]
struct VectorSample {
    metric: BTreeMap<String, String>,
    /// Absent for a native histogram.
    value: Option<(f64, String)>,
}

impl QueryCheck {
    /// Evaluates the query.
    pub(crate) async fn ask(
        &self,
        server: &mut ApiServer,
        clock: &mut PhaseClock<'_>,
    ) -> Result<QueryValues, CheckError> {
        let timeout = format!("{}ms", clock.limit.left().as_millis());
        let request = ApiRequest::get("/api/v1/query")
            .query("query", &self.query)
            .query("timeout", &timeout)
            .max_body(crate::targets::MAX_BODY);
        let response = server.ask(request, clock).await?;
        let no_numbers = |what: &str| {
            CheckError::Host(Failure::config(format!(
                "key `query`: the query returns {what}, expected a number for each series; correct it"
            )))
        };
        let values = match data(&response)? {
            QueryResult::Vector(samples) => samples
                .into_iter()
                .map(|sample| {
                    let (_, value) = sample.value.ok_or_else(|| no_numbers("histograms"))?;
                    Ok((name(&sample.metric), value))
                })
                .collect::<Result<Vec<_>, _>>()?,
            QueryResult::Scalar((_, value)) => vec![("the scalar".to_owned(), value)],
            QueryResult::String(_) => return Err(no_numbers("a text")),
            QueryResult::Matrix(_) => return Err(no_numbers("a range of values")),
        };
        let values = values.into_iter().map(|(name, value)| {
            let value = value.parse().map_err(|_| {
                response.unexpected(&format!("{name} has a value that is not a number"))
            })?;
            Ok((name, value))
        });
        values.collect::<Result<_, _>>().map(QueryValues)
    }

    /// Judges the number of series, and the value of each; returns a summary.
    pub(crate) fn judge(&self, values: &QueryValues, verdict: &mut LimitVerdict) -> String {
        let QueryValues(series) = values;
        let count = series.len();
        let shown = match &series[..] {
            [] => "the query returns no series".to_owned(),
            [(first, _), ..] => format!("the query returns {count} series: {first}…"),
        };
        verdict.judge("series", shown, count, &self.series);
        let outside: Vec<_> = series
            .iter()
            .filter(|(_, value)| self.excludes(*value))
            .collect();
        let severe = Limits {
            degraded_above: None,
            degraded_below: None,
            ..self.value
        };
        let severe = |value: f64| value.is_nan() || severe.are_exceeded_by(value);
        let worst = outside.iter().find(|(_, value)| severe(*value));
        if let Some((name, value)) = worst.or(outside.first()) {
            let others = match outside.len() {
                1 => String::new(),
                all => format!(", as the worst of {all} series"),
            };
            let shown = format!("{name} is {value}{others}");
            match value.is_nan() {
                true => verdict.add(Status::Unhealthy, format!("{shown}, expected a number")),
                false => verdict.judge("value", shown, *value, &self.value),
            }
        }
        match &series[..] {
            [(name, value)] => format!("{name} is {value}"),
            _ => format!("{count} series"),
        }
    }

    /// Returns `true` if a value is outside of the limits; what is no number is outside of all.
    fn excludes(&self, value: f64) -> bool {
        self.value.are_exceeded_by(value) || value.is_nan() && self.value.is_set()
    }
}

impl QueryValues {
    /// Adds the measurements of the query.
    pub(crate) fn measure(&self, report: Report) -> Report {
        let Self(series) = self;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let report = report.set(&SERIES, [], series.len() as f64);
        // Metrics have finite values alone.
        let values = || {
            series
                .iter()
                .map(|(_, value)| *value)
                .filter(|value| value.is_finite())
        };
        match (values().reduce(f64::min), values().reduce(f64::max)) {
            (Some(lowest), Some(highest)) => {
                report
                    .set(&LOWEST_VALUE, [], lowest)
                    .set(&HIGHEST_VALUE, [], highest)
            }
            _ => report,
        }
    }
}

/// Formats the labels of a series as in PromQL.
fn name(labels: &BTreeMap<String, String>) -> String {
    let metric = labels.get("__name__").map_or("", String::as_str);
    let others = labels.iter().filter(|(label, _)| *label != "__name__");
    let others: Vec<_> = others
        .map(|(label, value)| format!("{label}={value:?}"))
        .collect();
    match (metric, &others[..]) {
        ("", []) => "the value".to_owned(),
        (metric, []) => short(metric, MAX_NAME),
        (metric, others) => short(&format!("{metric}{{{}}}", others.join(", ")), MAX_NAME),
    }
}

/// Longest name of a series in a message, in characters.
const MAX_NAME: usize = 160;
