//! Validates a file against the host's own JSON Schema, and maps violations to their places in the file.

use std::sync::LazyLock;

use conductor_plugin_api::config::{Duration, Size};
use conductor_runtime::schema::{CompiledSchema, SchemaViolation, ValueLocation};
use schemars::{
    Schema,
    transform::{RecursiveTransform, Transform},
};
use serde_json::Value;

use super::{
    elements::{self, salvage::MalformedSetting},
    error::ConfigMistake,
    spans::SpanTree,
};

/// The JSON Schema of `conductor.toml`, for `conductor config schema` and for editors.
///
/// The host validates files against this same schema.
#[must_use]
pub fn json_schema() -> Value {
    OWN.schema().clone()
}

/// Returns the mistakes in the whole file's structure, and the keys and values concerned. Those in `refused`, which
/// already have an error, appear only among the latter.
pub(super) fn own_faults(
    values: &Value,
    places: &SpanTree,
    refused: Vec<MalformedSetting>,
) -> (Vec<ConfigMistake>, Vec<MalformedSetting>) {
    let mut faults = Vec::new();
    let mut misshapen = refused;
    let before = misshapen.len();
    // Secrets have not been looked up yet, so there are none to hide.
    let subject = ValueLocation::default();
    for mut violations in OWN.errors(values, &subject) {
        let is_refused = |path: &[String]| {
            misshapen[..before]
                .iter()
                .any(|refused| path.starts_with(&refused.path))
        };
        violations.retain(|violation| !is_refused(&violation.path));
        misshapen.extend(violations.iter().map(|violation| MalformedSetting {
            path: violation.path.clone(),
            at_key: violation.at_key,
        }));
        faults.extend(placed(violations, places));
    }
    (faults, misshapen)
}

/// Converts the violations to mistakes in the file.
pub(super) fn placed(
    violations: impl IntoIterator<Item = SchemaViolation>,
    places: &SpanTree,
) -> impl Iterator<Item = ConfigMistake> {
    violations.into_iter().map(|violation| {
        let place = match violation.at_key {
            true => places.key_at(&violation.path),
            false => places.value_at(&violation.path),
        };
        let fault = ConfigMistake::new(violation.message).at(place);
        match violation.help {
            Some(help) => fault.help(help),
            None => fault,
        }
    })
}

static OWN: LazyLock<CompiledSchema> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(elements::RawConfig);
    RecursiveTransform(drop_null_default).transform(&mut schema);
    let schema = schema.to_value();
    CompiledSchema::own(
        schema,
        &[
            (Duration::FORMAT, |text| text.parse::<Duration>().is_ok()),
            (Size::FORMAT, |text| text.parse::<Size>().is_ok()),
        ],
    )
    .expect("a test compiles our own schema")
});

/// TOML has no null, so it cannot be a default.
fn drop_null_default(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}
