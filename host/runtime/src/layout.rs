//! Describes a refused layout in one line.
//!
//! `abi_stable` reports every difference with the layouts of all surrounding types, 17 to 69 kB of text. The author
//! needs the deepest difference: it names the type that changed.

use std::fmt::Display;

use abi_stable::{
    abi_stability::abi_checking::{
        AbiInstability, AbiInstabilityError, AbiInstabilityErrors, ExpectedFound,
        check_layout_compatibility,
    },
    type_layout::{TLFieldOrFunction, TypeLayout},
};
use conductor_plugin_api::manifest::ApiVersion;

/// A layout with its API version.
type Side = (&'static TypeLayout, ApiVersion);

/// The reason why a plugin's layout does not fit.
pub(super) struct LayoutMismatch {
    /// The deepest difference, in one line.
    pub(super) line: String,
    /// All differences.
    pub(super) detail: String,
}

/// Checks a plugin's layout against the host's, from the older to the newer of the two.
///
/// Prefix types grow at their end, so the newer one has everything the older one expects, regardless of which side is
/// newer. In the other direction, `abi_stable` would refuse every plugin older than its host.
pub(super) fn check(host: Side, plugin: Side) -> Result<(), LayoutMismatch> {
    let host_is_older = host.1 < plugin.1;
    let (older, newer) = if host_is_older {
        (host, plugin)
    } else {
        (plugin, host)
    };
    check_layout_compatibility(older.0, newer.0).map_err(|errors| LayoutMismatch {
        line: explain(&errors, host_is_older),
        detail: errors.to_string(),
    })
}

/// Describes the difference, for example "`AbiReport` has 5 fields, this host expects 4".
///
/// `host_is_expected`: the check ran from the host's layout to the plugin's, rather than the other way round.
fn explain(errors: &AbiInstabilityErrors, host_is_expected: bool) -> String {
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
    // If fields differ, a different size is only a consequence.
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
                match field_of(deepest) {
                    Some((holder, field)) => format!(
                        "the field `{field}` of `{holder}` is of type `{plugin}`, this host expects `{host}`"
                    ),
                    None => {
                        format!("`{place}` is a `{plugin}` where this host expects a `{host}`")
                    }
                }
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

/// Returns the type or function with the difference.
fn place(error: &AbiInstabilityError, errors: &AbiInstabilityErrors) -> String {
    match error.stack_trace.last().map(|sides| sides.expected) {
        Some(TLFieldOrFunction::Field(field)) => match field.layout().name() {
            // abi_stable's name for the only trait; authors know it by its own name.
            "VTable" => "AbiProbe".to_owned(),
            name => clean(name),
        },
        Some(TLFieldOrFunction::Function(function)) => clean(&function.to_string()),
        None => clean(errors.interface.name()),
    }
}

/// Returns the differing field, after its type.
fn field_of(error: &AbiInstabilityError) -> Option<(String, String)> {
    let mut innermost = error.stack_trace.iter().rev().map(|sides| sides.expected);
    match (innermost.next()?, innermost.next()?) {
        (TLFieldOrFunction::Field(field), TLFieldOrFunction::Field(holder)) => {
            Some((clean(holder.layout().name()), clean(field.name())))
        }
        _ => None,
    }
}

/// Makes text from the library printable on one line.
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

#[cfg(test)]
mod tests {
    use abi_stable::StableAbi;

    use super::*;

    /// The same module in two minor versions: the newer one has an additional field after the prefix.
    macro_rules! version {
        ($name:ident { $($field:ident),* }) => {
            mod $name {
                #![allow(dead_code, unsafe_code, reason = "only the layout is looked at, and the derive expands to unsafe where a field is appended")]
                use abi_stable::StableAbi;

                #[repr(C)]
                #[derive(StableAbi)]
                #[sabi(kind(Prefix(prefix_ref = ModuleRef, prefix_fields = ModulePrefix)))]
                pub(super) struct Module {
                    #[sabi(last_prefix_field)]
                    pub(super) first: extern "C" fn() -> u64,
                    $(pub(super) $field: extern "C" fn() -> u64,)*
                }
            }
        };
    }
    version!(older {});
    version!(newer { second });

    const OLDER: &TypeLayout = <older::ModuleRef as StableAbi>::LAYOUT;
    const NEWER: &TypeLayout = <newer::ModuleRef as StableAbi>::LAYOUT;
    const V1_0: ApiVersion = ApiVersion {
        major: 1,
        minor: 0,
        patch: 0,
    };
    const V1_1: ApiVersion = ApiVersion {
        major: 1,
        minor: 1,
        patch: 0,
    };

    #[test]
    fn an_old_plugin_fits_a_newer_host_and_a_new_plugin_an_older_host() {
        assert!(
            check_layout_compatibility(NEWER, OLDER).is_err(),
            "abi_stable's own order refuses the old plugin"
        );
        check((NEWER, V1_1), (OLDER, V1_0))
            .map_err(|refused| refused.line)
            .unwrap();
        check((OLDER, V1_0), (NEWER, V1_1))
            .map_err(|refused| refused.line)
            .unwrap();
    }

    #[test]
    fn a_field_that_is_missing_is_named() {
        let refused = check((NEWER, V1_0), (OLDER, V1_1)).unwrap_err();
        assert!(
            refused
                .line
                .contains("Module` has 1 fields, this host expects 2"),
            "{}",
            refused.line
        );
        assert!(refused.detail.len() > refused.line.len());
    }
}
