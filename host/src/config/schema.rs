//! Holds a file against the host's own JSON Schema, and puts violations in their places in the file.

use std::sync::LazyLock;

use schemars::Schema;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::Value;

use super::elements::{self, duration, size};
use super::error::Fault;
use super::spans::Place;
use crate::schema::{CompiledSchema, Subject, Violation, formats};

/// The JSON Schema of `conductor.toml`, for `conductor config schema` and for editors.
///
/// The host checks files by this very schema.
#[must_use]
pub fn json_schema() -> Value {
    OWN.schema().clone()
}

/// Returns the mistakes in the whole file's shape, and the paths of the keys and values concerned.
pub(super) fn own_faults(values: &Value, places: &Place) -> (Vec<Fault>, Vec<Vec<String>>) {
    let mut faults = Vec::new();
    let mut paths = Vec::new();
    // Secrets were not looked up yet, so there are none to hide.
    let subject = Subject::default();
    for violations in OWN.errors(values, &subject) {
        paths.extend(violations.iter().map(|violation| violation.path.clone()));
        faults.extend(placed(violations, places));
    }
    (faults, paths)
}

/// The violations as mistakes in the file.
pub(super) fn placed(
    violations: impl IntoIterator<Item = Violation>,
    places: &Place,
) -> impl Iterator<Item = Fault> {
    violations.into_iter().map(|violation| {
        let place = match violation.at_key {
            true => places.key_at(&violation.path),
            false => places.value_at(&violation.path),
        };
        let fault = Fault::new(violation.message).at(place);
        match violation.help {
            Some(help) => fault.help(help),
            None => fault,
        }
    })
}

static OWN: LazyLock<CompiledSchema> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(elements::Written);
    RecursiveTransform(drop_null_default).transform(&mut schema);
    let schema = schema.to_value();
    let validator = jsonschema::options()
        .with_format(formats::DURATION, |text: &str| {
            duration::parse(text).is_ok()
        })
        .with_format(formats::SIZE, |text: &str| size::parse(text).is_some())
        .should_validate_formats(true)
        .build(&schema)
        .expect("a test compiles our own schema");
    CompiledSchema::own(schema, validator)
});

/// TOML has no null, so it cannot be a default.
fn drop_null_default(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}
