//! Names of platforms with wildcards: `*` matches any characters or none, `?` matches one.

/// A name, or a pattern with wildcards.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamePattern(String);

impl NamePattern {
    /// Creates a pattern; every text is valid.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the pattern as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns `true` if it contains no wildcard.
    #[must_use]
    pub fn is_name(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Returns `true` if it matches `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }
}

/// Takes at most the product of both lengths: only the last `*` is ever retried.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(letter) if *letter == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (p, n) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_letters() {
        for (pattern, name, expected) in [
            ("shop", "shop", true),
            ("shop", "shops", false),
            ("shop*", "shops", true),
            ("*", "", true),
            ("*", "a", true),
            ("db-?", "db-1", true),
            ("db-?", "db-", false),
            ("db-?", "db-12", false),
            ("*.eu.*", "api.eu.1", true),
            ("*.eu.*", "api.eu", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("", "a", false),
            ("", "", true),
        ] {
            let found = NamePattern::new(pattern).matches(name);
            assert_eq!(found, expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn a_text_without_wildcards_is_a_name() {
        for (text, is_name) in [
            ("shop", true),
            ("shop*", false),
            ("db-?", false),
            ("", true),
        ] {
            let pattern = NamePattern::new(text);
            assert_eq!((pattern.text(), pattern.is_name()), (text, is_name));
        }
    }

    #[test]
    fn many_wildcards_take_no_exponential_time() {
        let pattern = NamePattern::new(&"*a".repeat(40));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(64))));
    }
}
