//! The manifest of a library, and its compatibility with this host.

use conductor_plugin_api::{
    c,
    manifest::{ApiVersion, Door, Manifest},
};
use semver::{Comparator, Op, Version, VersionReq};

use super::{
    image::{self, ManifestSection},
    refusal::{RuleViolation, printable},
};

/// Returns the one well-formed manifest of a library.
pub(super) fn read(record: &ManifestSection<'_>) -> Result<Manifest, RuleViolation> {
    let bytes = match record {
        ManifestSection::One(bytes) => bytes,
        ManifestSection::None => {
            return Err(RuleViolation::new(
                "it has no plugin manifest",
                "export a plugin from it (conductor_plugin_api::export_plugin!), or take it out of the plugin folder",
            ));
        }
        ManifestSection::Damaged(found) => {
            return Err(RuleViolation::new(found, rebuild(Door::Rust)));
        }
    };
    let manifest = Manifest::parse(bytes).map_err(|error| {
        RuleViolation::new(
            printable(error.to_string().as_bytes()),
            rebuild(door_of(bytes)),
        )
    })?;
    let needs = manifest.needs.iter().map(|need| ("need", need.to_string()));
    let texts = [
        ("name", manifest.name.clone()),
        ("version", manifest.version.clone()),
        ("description", manifest.description.clone()),
        ("author", manifest.author.clone()),
        ("licence", manifest.licence.clone()),
    ];
    for (field, text) in texts.into_iter().chain(needs) {
        let shown = printable(text.as_bytes());
        if shown != text {
            return Err(RuleViolation::new(
                format!("its manifest has the {field} \"{shown}\", which has invisible characters"),
                rebuild(manifest.door),
            ));
        }
    }
    if let Err(error) = Version::parse(&manifest.version) {
        return Err(RuleViolation::new(
            format!(
                "its manifest has the version \"{}\", which is no semantic version ({error})",
                manifest.version
            ),
            "give the plugin a version like 1.0.0 and build it again",
        ));
    }
    Ok(manifest)
}

/// Requires the host's major version of the API; minor versions are compatible both ways.
pub(super) fn api_version(
    door: Door,
    plugin: ApiVersion,
    host: ApiVersion,
) -> Result<(), RuleViolation> {
    let spoken = VersionReq {
        comparators: vec![Comparator {
            op: Op::Caret,
            major: host.major.into(),
            minor: None,
            patch: None,
            pre: semver::Prerelease::EMPTY,
        }],
    };
    if spoken.matches(&Version::new(
        plugin.major.into(),
        plugin.minor.into(),
        plugin.patch.into(),
    )) {
        return Ok(());
    }
    let newer = if plugin.major > host.major {
        format!(", or run it with a host that speaks {}.x", plugin.major)
    } else {
        String::new()
    };
    Err(RuleViolation::new(
        format!(
            "it was built for plugin API {plugin}, this host speaks {}.x (it has {host})",
            host.major
        ),
        format!("{}{newer}", rebuild(door)),
    ))
}

/// Requires panics of a Rust library to unwind, so that they can be caught before they end the process.
pub(super) fn panic_strategy(manifest: &Manifest) -> Result<(), RuleViolation> {
    if manifest.door == Door::Rust && !manifest.panics_unwind {
        return Err(RuleViolation::new(
            "it was built with panic = \"abort\", so its first panic would end the process that holds it",
            "rebuild it with panic = \"unwind\" in its Cargo profile",
        ));
    }
    Ok(())
}

/// Requires the library to export its entry point, if its headers can be read.
pub(super) fn door(manifest: &Manifest, library: &[u8]) -> Result<(), RuleViolation> {
    if manifest.door == Door::C && image::exports(library, c::SYMBOL) == Some(false) {
        return Err(RuleViolation::new(
            format!("it is a C plugin and exports no `{}`", c::SYMBOL),
            "end its source with CONDUCTOR_PLUGIN of conductor_plugin.h, and hide nothing of that when it is linked",
        ));
    }
    Ok(())
}

/// Returns the ABI of a record that may be damaged elsewhere.
fn door_of(record: &[u8]) -> Door {
    match record.get(18) {
        Some(2) => Door::C,
        _ => Door::Rust,
    }
}

fn rebuild(door: Door) -> String {
    let major = ApiVersion::CURRENT.major;
    match door {
        Door::Rust => format!("rebuild it with conductor-plugin-api {major}.x"),
        Door::C => format!("rebuild it with the conductor_plugin.h of API {major}.x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_one_major_get_along_both_ways() {
        let version = |major, minor, patch| ApiVersion {
            major,
            minor,
            patch,
        };
        let host = version(2, 3, 4);
        for plugin in [version(2, 0, 0), version(2, 3, 9), version(2, 99, 0)] {
            assert_eq!(api_version(Door::Rust, plugin, host), Ok(()));
        }
        for plugin in [version(1, 3, 4), version(3, 3, 4), version(0, 0, 0)] {
            assert!(api_version(Door::Rust, plugin, host).is_err(), "{plugin}");
        }
    }
}
