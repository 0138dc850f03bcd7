//! The targets of one discovery, and the changes between two readings.

use std::collections::BTreeMap;

use crate::Target;

/// The targets in force, by the name of their platform.
#[derive(Clone, Debug, Default)]
pub struct DiscoveredTargets {
    targets: BTreeMap<String, Target>,
}

/// The difference between the targets in force and those of a new reading.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TargetChanges {
    /// Names of platforms whose target is gone or has changed.
    pub removed: Vec<String>,
    /// New targets and changed ones, with the names of their platforms.
    pub added: Vec<(String, Target)>,
}

impl TargetChanges {
    /// Returns `true` if nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

impl DiscoveredTargets {
    /// Returns the targets in force.
    #[must_use]
    pub fn targets(&self) -> &BTreeMap<String, Target> {
        &self.targets
    }

    /// Puts the targets of a reading in force and returns what has changed.
    ///
    /// A target that is only listed elsewhere, in another file or group, has not changed.
    pub fn update(&mut self, targets: BTreeMap<String, Target>) -> TargetChanges {
        let is_same = |name: &str, target: &Target, other: &BTreeMap<String, Target>| {
            other.get(name).is_some_and(|other| {
                (&other.target, &other.labels) == (&target.target, &target.labels)
            })
        };
        let removed = self.targets.iter();
        let removed = removed.filter(|(name, target)| !is_same(name, target, &targets));
        let added = targets.iter();
        let added = added.filter(|(name, target)| !is_same(name, target, &self.targets));
        let changes = TargetChanges {
            removed: removed.map(|(name, _)| name.clone()).collect(),
            added: added
                .map(|(name, target)| (name.clone(), target.clone()))
                .collect(),
        };
        self.targets = targets;
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(listed: &[(&str, &str, &str)]) -> BTreeMap<String, Target> {
        let target = |(name, target, origin): &(&str, &str, &str)| {
            let target = Target {
                target: (*target).to_owned(),
                labels: BTreeMap::new(),
                origin: (*origin).to_owned(),
            };
            ((*name).to_owned(), target)
        };
        listed.iter().map(target).collect()
    }

    #[test]
    fn only_new_gone_and_changed_targets_are_changes() {
        let mut known = DiscoveredTargets::default();
        let first = targets(&[("a", "a", "1"), ("b", "b", "1"), ("c", "c", "1")]);
        let changes = known.update(first.clone());
        assert_eq!(changes.added.len(), 3);
        assert!(known.update(first).is_empty());
        let changes = known.update(targets(&[
            ("b", "b", "2"),
            ("c", "x", "1"),
            ("d", "d", "1"),
        ]));
        assert_eq!(changes.removed, ["a", "c"]);
        let added: Vec<_> = changes.added.iter().map(|(name, _)| name).collect();
        assert_eq!(added, ["c", "d"]);
        assert_eq!(known.targets().len(), 3);
    }
}
