//! Prometheus's relabelling, reduced to keep, drop and rename.

use regex::Regex;

use crate::Target;

/// One rule on a target or one of its labels.
#[derive(Clone, Debug)]
pub enum RelabelRule {
    /// Keeps the targets whose value matches and drops all others.
    Keep {
        /// The label; `None` for the target itself.
        label: Option<String>,
        /// The pattern, from [`RelabelRule::pattern`].
        pattern: Regex,
    },
    /// Drops the targets whose value matches.
    Drop {
        /// The label; `None` for the target itself.
        label: Option<String>,
        /// The pattern, from [`RelabelRule::pattern`].
        pattern: Regex,
    },
    /// Renames a label. An existing label of the new name is replaced.
    Rename {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
}

/// Rules in the order in which they apply.
#[derive(Clone, Debug, Default)]
pub struct Relabelling {
    rules: Vec<RelabelRule>,
}

impl RelabelRule {
    /// Returns a pattern that matches whole values, as Prometheus's do.
    ///
    /// # Errors
    /// When the text is no regular expression, or too large a one.
    pub fn pattern(text: &str) -> Result<Regex, regex::Error> {
        // Judged alone first, so that `a)(b` is refused.
        Regex::new(text)?;
        Regex::new(&format!("^(?s:{text})$"))
    }

    /// Applies the rule; returns `false` if it drops the target.
    fn apply(&self, target: &mut Target) -> bool {
        match self {
            Self::Keep { label, pattern } => pattern.is_match(value(target, label.as_deref())),
            Self::Drop { label, pattern } => !pattern.is_match(value(target, label.as_deref())),
            Self::Rename { from, to } => {
                if let Some(value) = target.labels.remove(from) {
                    target.labels.insert(to.clone(), value);
                }
                true
            }
        }
    }
}

impl Relabelling {
    /// Creates a relabelling of these rules.
    #[must_use]
    pub fn new(rules: Vec<RelabelRule>) -> Self {
        Self { rules }
    }

    /// Returns the targets that the rules keep, with their labels renamed.
    ///
    /// Afterwards labels that begin with `__` are removed: in Prometheus they are for rules alone.
    #[must_use]
    pub fn apply(&self, targets: Vec<Target>) -> Vec<Target> {
        let kept = targets.into_iter().filter_map(|mut target| {
            let is_kept = self.rules.iter().all(|rule| rule.apply(&mut target));
            target.labels.retain(|name, _| !name.starts_with("__"));
            is_kept.then_some(target)
        });
        kept.collect()
    }
}

/// Returns the value that a rule looks at; that of a missing label is empty, as in Prometheus.
fn value<'a>(target: &'a Target, label: Option<&str>) -> &'a str {
    match label {
        Some(label) => target.labels.get(label).map_or("", String::as_str),
        None => &target.target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(target: &str, labels: &[(&str, &str)]) -> Target {
        Target {
            target: target.to_owned(),
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            origin: "a".to_owned(),
        }
    }

    fn keep(label: Option<&str>, pattern: &str) -> RelabelRule {
        RelabelRule::Keep {
            label: label.map(str::to_owned),
            pattern: RelabelRule::pattern(pattern).unwrap(),
        }
    }

    #[test]
    fn patterns_match_whole_values() {
        let targets = vec![
            target("a", &[("env", "prod")]),
            target("b", &[("env", "preprod")]),
            target("c", &[]),
        ];
        let kept = |rule| {
            let kept = Relabelling::new(vec![rule]).apply(targets.clone());
            kept.into_iter().map(|t| t.target).collect::<String>()
        };
        assert_eq!(kept(keep(Some("env"), "prod")), "a");
        assert_eq!(kept(keep(Some("env"), "prod|x")), "a");
        assert_eq!(kept(keep(Some("env"), ".*prod")), "ab");
        assert_eq!(kept(keep(Some("env"), "")), "c");
        assert_eq!(kept(keep(None, "[bc]")), "bc");
        let pattern = RelabelRule::pattern("prod").unwrap();
        let label = Some("env".to_owned());
        assert_eq!(kept(RelabelRule::Drop { label, pattern }), "bc");
    }

    #[test]
    fn rules_apply_in_order_and_reserved_labels_go_last() {
        let rename = |from: &str, to: &str| RelabelRule::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let rules = vec![
            rename("__meta_zone", "zone"),
            rename("missing", "zone"),
            keep(Some("zone"), "eu"),
        ];
        let kept = Relabelling::new(rules).apply(vec![target(
            "a",
            &[("__meta_zone", "eu"), ("__meta_id", "7"), ("zone", "old")],
        )]);
        assert_eq!(kept, [target("a", &[("zone", "eu")])]);
    }

    #[test]
    fn a_pattern_is_one_expression() {
        assert!(RelabelRule::pattern("a)(b").is_err());
        assert!(RelabelRule::pattern("(").is_err());
    }
}
