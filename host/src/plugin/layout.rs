//! A refused layout in one line.
//!
//! `abi_stable` reports every difference with the layouts of all types around it, 17 to 69 kB of text. The deepest
//! difference is what an author needs: it names the type that changed.

use std::fmt::Display;

use abi_stable::{
    abi_stability::abi_checking::{
        AbiInstability, AbiInstabilityError, AbiInstabilityErrors, ExpectedFound,
    },
    type_layout::TLFieldOrFunction,
};

/// Says what differs, such as "`AbiReport` has 5 fields, this host expects 4".
///
/// `host_is_expected`: the check ran from the host's layout to the plugin's, rather than the other way round.
pub(super) fn explain(errors: &AbiInstabilityErrors, host_is_expected: bool) -> String {
    let Some(deepest) = errors
        .errors
        .iter()
        .filter(|e| !e.errs.is_empty())
        .max_by_key(|e| e.stack_trace.len())
    else {
        return "its ABI differs from this host's".to_owned();
    };
    let place = place(deepest, errors);
    let sides = |expected: &dyn Display, found: &dyn Display| {
        let (host, plugin) = if host_is_expected {
            (expected.to_string(), found.to_string())
        } else {
            (found.to_string(), expected.to_string())
        };
        (clean(&host), clean(&plugin))
    };
    // A size that differs is only what follows from the fields, if they differ.
    let (sizes, causes): (Vec<_>, Vec<_>) = deepest
        .errs
        .iter()
        .partition(|e| matches!(e, AbiInstability::Size(_) | AbiInstability::Alignment(_)));
    for error in causes.into_iter().chain(sizes) {
        let text = match error {
            AbiInstability::FieldCountMismatch(ExpectedFound { expected, found }) => {
                let (host, plugin) = sides(expected, found);
                format!("`{place}` has {plugin} fields, this host expects {host}")
            }
            AbiInstability::Size(ExpectedFound { expected, found }) => {
                let (host, plugin) = sides(expected, found);
                format!("`{place}` has {plugin} bytes, this host expects {host}")
            }
            AbiInstability::UnexpectedField(ExpectedFound { expected, found }) => {
                let (host, plugin) = sides(&expected.name(), &found.name());
                format!("`{place}` has a field `{plugin}` where this host expects `{host}`")
            }
            AbiInstability::Name(ExpectedFound { expected, found }) => {
                let (host, plugin) = sides(expected, found);
                format!("`{place}` is a `{plugin}` where this host expects a `{host}`")
            }
            AbiInstability::MismatchedPrefixSize(ExpectedFound { expected, found }) => {
                let (host, plugin) = sides(expected, found);
                format!("`{place}` fixes its first {plugin} fields, this host expects {host}")
            }
            AbiInstability::PackageVersion(ExpectedFound { expected, found }) => {
                let (host, plugin) = sides(expected, found);
                format!("`{place}` is of version {plugin}, this host expects {host}")
            }
            AbiInstability::MismatchedPrimitive(ExpectedFound { expected, found }) => {
                let (host, plugin) = sides(&format!("{expected:?}"), &format!("{found:?}"));
                format!("`{place}` is a {plugin} where this host expects a {host}")
            }
            _ => continue,
        };
        return text;
    }
    format!("`{place}` differs from what this host expects")
}

/// The type or function the difference is in.
fn place(error: &AbiInstabilityError, errors: &AbiInstabilityErrors) -> String {
    match error.stack_trace.last().map(|sides| sides.expected) {
        Some(TLFieldOrFunction::Field(field)) => clean(field.layout().name()),
        Some(TLFieldOrFunction::Function(function)) => clean(&function.to_string()),
        None => clean(errors.interface.name()),
    }
}

/// Text from the library, fit to be printed on one line.
fn clean(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars()
        .take(120)
        .flat_map(|c| match c {
            c if c.is_control() => c.escape_default().collect::<Vec<_>>(),
            c => vec![c],
        })
        .collect()
}
