//! Steps from one semantic version to a later one.

use semver::Version;
use serde::Serialize;

/// The version step that a change requires, or that two versions make.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum VersionStep {
    /// The same version, or an earlier one.
    None,
    /// Nothing that a user of the plugin writes or reads has changed.
    Patch,
    /// Additions; existing uses keep working.
    Minor,
    /// Existing uses may fail, or behave differently.
    Major,
}

impl VersionStep {
    /// Returns the step from `old` to `new`, as in Cargo: before 1.0.0, the first number that is not 0 is the major
    /// one.
    pub(super) fn between(old: &Version, new: &Version) -> Self {
        if new.cmp_precedence(old).is_le() {
            return Self::None;
        }
        let parts = |version: &Version| [version.major, version.minor, version.patch];
        let (old, new) = (parts(old), parts(new));
        let leading = old.iter().position(|&part| part != 0).unwrap_or(2);
        match old.iter().zip(new).position(|(old, new)| *old != new) {
            Some(place) if place <= leading => Self::Major,
            // With a leading 0 the last number counts as both.
            Some(1) | Some(2) if leading == 1 => Self::Minor,
            Some(1) => Self::Minor,
            // Also from a pre-release to its release.
            _ => Self::Patch,
        }
    }

    /// Returns the first version after `old` that makes this step.
    pub(super) fn after(self, old: &Version) -> Version {
        let [major, minor, patch] = [old.major, old.minor, old.patch];
        match (self, major, minor) {
            (Self::None, ..) => old.clone(),
            (Self::Major, 0, 0) => Version::new(0, 0, patch + 1),
            (Self::Major, 0, _) => Version::new(0, minor + 1, 0),
            (Self::Major, ..) => Version::new(major + 1, 0, 0),
            (Self::Minor, 1.., _) => Version::new(major, minor + 1, 0),
            (Self::Minor | Self::Patch, ..) => Version::new(major, minor, patch + 1),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Patch => "patch",
            Self::Minor => "minor",
            Self::Major => "major",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_cargos() {
        for (old, new, step) in [
            ("1.2.3", "1.2.3", VersionStep::None),
            ("1.2.3", "1.2.2", VersionStep::None),
            ("1.2.3", "1.2.3+build", VersionStep::None),
            ("1.2.3", "1.2.4", VersionStep::Patch),
            ("1.2.3", "1.3.0", VersionStep::Minor),
            ("1.2.3", "2.0.0", VersionStep::Major),
            ("0.2.3", "0.2.4", VersionStep::Minor),
            ("0.2.3", "0.3.0", VersionStep::Major),
            ("0.2.3", "1.0.0", VersionStep::Major),
            ("0.0.3", "0.0.4", VersionStep::Major),
            ("1.0.0-rc.1", "1.0.0", VersionStep::Patch),
        ] {
            let version = |text| Version::parse(text).unwrap();
            assert_eq!(
                VersionStep::between(&version(old), &version(new)),
                step,
                "{old} {new}"
            );
        }
    }

    #[test]
    fn the_version_that_is_named_makes_the_step() {
        for old in ["1.2.3", "0.2.3", "0.0.3", "0.0.0"] {
            let old = Version::parse(old).unwrap();
            for step in [VersionStep::Patch, VersionStep::Minor, VersionStep::Major] {
                let next = step.after(&old);
                assert!(
                    VersionStep::between(&old, &next) >= step,
                    "{old} {next} {step:?}"
                );
            }
            assert_eq!(VersionStep::None.after(&old), old);
        }
    }
}
