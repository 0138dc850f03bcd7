//! Names of platforms: a pattern with the target and its labels, as a name that platforms may have.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::Target;

/// A pattern such as `web-{{target}}` or `{{env}}-{{target}}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamePattern(Vec<PatternPart>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum PatternPart {
    Text(String),
    /// The target, or a label; the value of a missing label is empty.
    Parameter(String),
}

/// A pattern that cannot be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NamePatternError {
    /// A parameter without an end.
    #[error("`{{{{` without `}}}}`: write {{{{target}}}} or the name of a label in the braces")]
    Open,
    /// All targets would have one name.
    #[error("all targets would have the same name: add {{{{target}}}} or a label in double braces")]
    Constant,
}

/// Targets by the name of their platform.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamedTargets {
    /// The targets, each with a name of its own.
    pub targets: BTreeMap<String, Target>,
    /// A line for each target that is left out because an earlier one has its name.
    pub duplicates: Vec<String>,
}

impl NamePattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// When a parameter has no end, or there is none.
    pub fn parse(text: &str) -> Result<Self, NamePatternError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (parameter, after) = after.split_once("}}").ok_or(NamePatternError::Open)?;
            parts.push(PatternPart::Text(before.to_owned()));
            parts.push(PatternPart::Parameter(parameter.trim().to_owned()));
            rest = after;
        }
        if parts.is_empty() {
            return Err(NamePatternError::Constant);
        }
        parts.push(PatternPart::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// Returns the name of a target's platform: 1–64 ASCII letters, digits, `_`, `-` and `.`.
    ///
    /// Each other character becomes `-`. A longer name is cut, and ends with a hash of the whole, so that long names
    /// that begin alike stay apart.
    #[must_use]
    pub fn name(&self, target: &Target) -> String {
        let mut filled = String::new();
        for part in &self.0 {
            filled.push_str(match part {
                PatternPart::Text(text) => text,
                PatternPart::Parameter(name) if name == "target" => &target.target,
                PatternPart::Parameter(label) => target.labels.get(label).map_or("", |v| v),
            });
        }
        let plain = |c: char| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' => c,
            _ => '-',
        };
        let name: String = filled.chars().map(plain).collect();
        // `.` and `..` are no names, because URL libraries resolve them.
        if ["", ".", ".."].contains(&name.as_str()) {
            return name.replace('.', "-") + "-";
        }
        if name.len() <= LONGEST {
            return name;
        }
        let hash = format!("-{:08x}", fnv_1a(&filled));
        format!("{}{hash}", &name[..LONGEST - hash.len()])
    }

    /// Gives each target a name; of those with the same name the first is kept.
    #[must_use]
    pub fn name_all(&self, targets: Vec<Target>) -> NamedTargets {
        let mut named = NamedTargets::default();
        for target in targets {
            let name = self.name(&target);
            match named.targets.get(&name) {
                // Prometheus too takes the same target once.
                Some(first) if first.target == target.target && first.labels == target.labels => {}
                Some(first) => named.duplicates.push(format!(
                    "target {:?} ({}) left out: target {:?} ({}) has the same name {name}: use more labels in `name`",
                    target.target, target.origin, first.target, first.origin
                )),
                None => {
                    named.targets.insert(name, target);
                }
            }
        }
        named
    }
}

/// Returns a hash that is the same on every machine and in every version.
fn fnv_1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Length of the longest name of a platform.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(target: &str, env: &str) -> Target {
        Target {
            target: target.to_owned(),
            labels: BTreeMap::from([("env".to_owned(), env.to_owned())]),
            origin: format!("{env}.json, group 1"),
        }
    }

    fn name(pattern: &str, of: &Target) -> String {
        NamePattern::parse(pattern).unwrap().name(of)
    }

    #[test]
    fn parameters_are_the_target_and_labels() {
        let shop = target("shop.example:443", "prod");
        assert_eq!(name("web-{{target}}", &shop), "web-shop.example-443");
        assert_eq!(name("{{ env }}-{{target}}", &shop), "prod-shop.example-443");
        assert_eq!(name("{{target}}{{missing}}", &shop), "shop.example-443");
        assert_eq!(name("{{missing}}", &shop), "-");
        assert_eq!(name("{{target}}", &target("..", "")), "---");
        assert_eq!(
            name("{{target}}", &target("http://ä/?a=b", "")),
            "http------a-b"
        );
    }

    #[test]
    fn a_pattern_needs_a_parameter() {
        assert_eq!(NamePattern::parse("web"), Err(NamePatternError::Constant));
        assert_eq!(NamePattern::parse("{{target"), Err(NamePatternError::Open));
    }

    #[test]
    fn duplicates_are_named_and_the_first_stays() {
        let pattern = NamePattern::parse("{{target}}").unwrap();
        let (first, second) = (target("a:1", "prod"), target("a-1", "test"));
        let named = pattern.name_all(vec![first.clone(), first.clone(), second]);
        assert_eq!(named.targets["a-1"], first);
        assert_eq!(
            named.duplicates,
            [
                "target \"a-1\" (test.json, group 1) left out: target \"a:1\" (prod.json, group 1) has the same name \
                 a-1: use more labels in `name`"
            ]
        );
    }

    proptest! {
        #[test]
        fn every_name_is_valid(text in "\\PC{0,120}", env in "\\PC{0,120}") {
            let name = name("{{env}}{{target}}", &target(&text, &env));
            prop_assert!((1..=LONGEST).contains(&name.len()));
            prop_assert!(![".", ".."].contains(&name.as_str()));
            prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)));
        }

        #[test]
        fn long_names_that_begin_alike_differ(start in "[a-z]{64}", a in "[a-z]{1,9}", b in "[a-z]{1,9}") {
            prop_assume!(a != b);
            let name = |end: &str| name("{{target}}", &target(&format!("{start}{end}"), ""));
            prop_assert_ne!(name(&a), name(&b));
        }
    }
}
