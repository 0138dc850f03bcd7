//! Takes secrets of the config out of what plugins say, which may well repeat their config: in the message of a report,
//! in a line of the log, on their output.
//!
//! It is known to the whole process, as a plugin's output is not said to belong to any one platform. A worker is told
//! the secrets of its own platforms, and no others, so that it can look for them before it cuts and escapes what the
//! plugin says. What a plugin does to a secret before it says it, such as encoding it, hides it from this; but for its
//! single lines, and how JSON, Rust and the host's own log write it.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    ops::Range,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use aho_corasick::{AhoCorasick, Input, MatchKind};

/// What stands in the place of a secret.
pub const REDACTED: &str = "(a secret)";

/// Shorter secrets are not looked for: they would be found in words that have nothing to do with them.
pub const SHORTEST: usize = 8;

/// From now on, these are taken out too.
pub fn learn<'a>(secrets: impl IntoIterator<Item = &'a str>) {
    // Most have none: they are spared the lock.
    let mut secrets = secrets.into_iter().peekable();
    if secrets.peek().is_none() {
        return;
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    // Those of an earlier config stay: probes that were made from it may still be talking.
    match known.learn(secrets) {
        Ok(()) => SOME_ARE_KNOWN.store(!known.layers.is_empty(), Ordering::Release),
        Err(error) => tracing::error!("secrets are not taken out of what plugins say: {error}"),
    }
}

/// The text with every secret in it replaced; none if there is none in it.
pub fn redact(text: &[u8]) -> Option<Vec<u8>> {
    match beginning(text, text.len()) {
        Cow::Owned(redacted) => Some(redacted),
        Cow::Borrowed(_) => None,
    }
}

/// The same of a text for people.
pub fn redact_text(text: String) -> String {
    match redact(text.as_bytes()) {
        Some(redacted) => String::from_utf8_lossy(&redacted).into_owned(),
        None => text,
    }
}

/// What the first `length` bytes come to once every secret that begins in them is replaced, also one that ends later.
pub fn beginning(text: &[u8], length: usize) -> Cow<'_, [u8]> {
    let length = length.min(text.len());
    let matches = with_known(|known| known.matches(text)).unwrap_or_default();
    if matches.first().is_none_or(|first| first.start >= length) {
        return Cow::Borrowed(&text[..length]);
    }
    let (mut shown, mut at) = (Vec::with_capacity(length), 0);
    for Range { start, end } in matches.into_iter().filter(|found| found.start < length) {
        shown.extend_from_slice(&text[at..start]);
        shown.extend_from_slice(REDACTED.as_bytes());
        at = end;
    }
    shown.extend_from_slice(text.get(at..length).unwrap_or_default());
    Cow::Owned(shown)
}

/// The known secrets that stand in a platform's config, which is JSON text.
pub fn within(config: &str) -> Vec<String> {
    if !SOME_ARE_KNOWN.load(Ordering::Acquire) {
        return Vec::new();
    }
    let mut found = BTreeSet::new();
    if let Ok(config) = serde_json::from_str(config) {
        with_known(|known| known.within(&config, &mut found));
    }
    found.into_iter().collect()
}

/// How long the longest secret is that is looked for, in bytes.
pub fn longest() -> usize {
    with_known(|known| known.longest).unwrap_or_default()
}

fn with_known<T>(ask: impl FnOnce(&Known) -> T) -> Option<T> {
    if !SOME_ARE_KNOWN.load(Ordering::Acquire) {
        return None;
    }
    Some(ask(&KNOWN.read().unwrap_or_else(PoisonError::into_inner)))
}

/// All texts that are looked for, in layers of which each is longer than the one above it: a worker learns them a few at a
/// time, and must not begin anew with all of them each time.
struct Known {
    texts: BTreeSet<Arc<str>>,
    layers: Vec<Layer>,
    longest: usize,
}

struct Layer {
    texts: Vec<Arc<str>>,
    finder: AhoCorasick,
}

impl Known {
    fn learn<'a>(
        &mut self,
        secrets: impl Iterator<Item = &'a str>,
    ) -> Result<(), aho_corasick::BuildError> {
        let mut texts = Vec::new();
        for form in secrets.flat_map(forms) {
            let form: Arc<str> = form.into();
            if form.len() >= SHORTEST && self.texts.insert(Arc::clone(&form)) {
                self.longest = self.longest.max(form.len());
                texts.push(form);
            }
        }
        if texts.is_empty() {
            return Ok(());
        }
        while let Some(below) = self.layers.pop_if(|below| below.texts.len() <= texts.len()) {
            texts.extend(below.texts);
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts.iter().map(|text| text.as_bytes()))?;
        self.layers.push(Layer { texts, finder });
        Ok(())
    }

    /// Where there are secrets, in order; those that overlap are one, lest the rest of either is left to be read.
    fn matches(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<_> = self.layers.iter().flat_map(|l| l.matches(text)).collect();
        found.sort_by_key(|range| range.start);
        found.dedup_by(|next, before| {
            let overlap = next.start < before.end;
            if overlap {
                before.end = before.end.max(next.end);
            }
            overlap
        });
        found
    }

    fn within(&self, config: &serde_json::Value, found: &mut BTreeSet<String>) {
        use serde_json::Value;
        match config {
            Value::String(text) => {
                let layers = self.layers.iter();
                found.extend(layers.flat_map(|layer| layer.within(text)));
            }
            Value::Array(all) => all.iter().for_each(|one| self.within(one, found)),
            Value::Object(all) => all.values().for_each(|one| self.within(one, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

impl Layer {
    /// The longest secret from each place that one begins at.
    fn matches<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
        let mut from = 0;
        std::iter::from_fn(move || {
            let found = self.finder.find(Input::new(text).range(from..))?;
            from = found.start() + 1;
            Some(found.range())
        })
    }

    /// Every secret in the text, also one that is the beginning of another.
    fn within(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for Range { start, mut end } in self.matches(text.as_bytes()) {
            while let Some(one) = self.finder.find(Input::new(text).range(start..end))
                && one.start() == start
            {
                found.push(text[one.range()].to_owned());
                end = one.end() - 1;
            }
        }
        found
    }
}

/// What a secret may look like in what a plugin says: as it is, a line of it alone, or escaped.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    forms.extend(secret.lines().map(|line| line.trim().to_owned()));
    forms.extend(secret.lines().map(str::to_owned));
    let json = serde_json::to_string(secret).unwrap_or_default();
    for quoted in [json, format!("{secret:?}")] {
        forms.push(quoted[1..quoted.len() - 1].to_owned());
    }
    forms.push(secret.chars().map(crate::plugin::escaped).collect());
    forms
}

static KNOWN: RwLock<Known> = RwLock::new(Known {
    texts: BTreeSet::new(),
    layers: Vec::new(),
    longest: 0,
});

/// Spares the hosts without secrets, which are most, the lock.
static SOME_ARE_KNOWN: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        redact(text.as_bytes()).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn secrets_are_taken_out_and_words_are_not() {
        let (part, whole) = ("hunter2-", "hunter2-hunter2-x");
        learn([part, "ok", whole]);
        assert_eq!(
            shown("cannot log in with hunter2-hunter2-x, hunter2-: ok").unwrap(),
            "cannot log in with (a secret), (a secret): ok"
        );
        assert_eq!(shown("ok"), None);
        learn(["rotated-since"]);
        assert_eq!(
            shown("hunter2-rotated-since").unwrap(),
            "(a secret)(a secret)"
        );
        learn(["since-then-overlapping"]);
        assert_eq!(
            shown("rotated-since-then-overlapping").unwrap(),
            "(a secret)"
        );
    }

    #[test]
    fn lines_of_a_secret_and_its_escaped_forms_are_taken_out() {
        let secret = "first line of it\n  second \"line\" of it \r\nshort\n\tthe last\u{202e} line";
        learn([secret]);
        for said in [
            secret.to_owned(),
            format!("{secret:?}"),
            serde_json::to_string(secret).unwrap(),
            r#"first line of it\n  second "line" of it \r\nshort\n\tthe last\u{202e} line"#.into(),
            "second \"line\" of it".into(),
        ] {
            let shown = shown(&format!("<{said}>")).unwrap();
            let shown = shown.replace('"', "");
            assert_eq!(shown, "<(a secret)>", "{said}");
        }
        assert_eq!(shown("short"), None);
    }

    #[test]
    fn a_secret_across_the_cut_does_not_leave_its_beginning() {
        learn(["across-the-cut"]);
        let text = b"said across-the-cut and across-the-cut";
        assert_eq!(&*beginning(text, 10), b"said (a secret)");
        assert_eq!(&*beginning(text, 5), b"said ");
        assert_eq!(&*beginning(text, 23), b"said (a secret) and");
        assert_eq!(
            &*beginning(text, 99),
            b"said (a secret) and (a secret)".as_slice()
        );
    }

    #[test]
    fn a_config_has_its_own_secrets_and_no_others() {
        learn([
            "of-this-one",
            "of-this-one-too",
            "of\nanother \"one\"",
            "of-nobody-here",
        ]);
        let config = r#"{"a":[{"b":"Bearer of-this-one-too"}],"c":"of\nanother \"one\"","d":1}"#;
        let found = within(config);
        let whole = ["of\nanother \"one\"", "of-this-one", "of-this-one-too"];
        assert!(
            whole.iter().all(|one| found.iter().any(|f| f == one)),
            "{found:?}"
        );
        assert!(
            !found.iter().any(|one| one == "of-nobody-here"),
            "{found:?}"
        );
        assert!(within("{}").is_empty());
    }

    #[test]
    fn what_is_learnt_one_by_one_is_not_begun_anew_each_time() {
        let mut known = Known {
            texts: BTreeSet::new(),
            layers: Vec::new(),
            longest: 0,
        };
        for nth in 0..1000 {
            let secret = format!("one of many: {nth:04}");
            known.learn([&*secret].into_iter()).unwrap();
        }
        assert!(known.layers.len() <= 10, "{}", known.layers.len());
        for nth in [0, 1, 500, 998, 999] {
            let said = format!("<one of many: {nth:04}>");
            let found = known.matches(said.as_bytes());
            assert_eq!(found.first(), Some(&(1..said.len() - 1)));
        }
    }
}
