//! Redacts the config's secrets from plugin output, which may repeat the config: in the message of a report, in a log
//! line, on standard output or error.
//!
//! Secrets come from files and the environment, which the config names, and from the config itself, by the keys that
//! the plugin's schema marks. They are process-wide, because a plugin's output does not identify a platform. A worker
//! gets only the secrets of its own platforms, so that it can redact them before it cuts and escapes the plugin's
//! texts.
//!
//! A secret is found regardless of case, and line by line. It is also found percent-encoded, in hexadecimal, in base64
//! of either alphabet with other text around it, with the escapes of JSON, Rust and C, and after two of these in
//! sequence: the text is decoded, and the decoded views are searched as well. A plugin can still hide a secret on
//! purpose: encryption, compression or reordering are not undone.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use aho_corasick::{AhoCorasick, Input, MatchKind};

mod decode;

/// The replacement of a secret.
pub const REDACTED: &str = "(a secret)";

/// Shorter secrets are not searched: they would match unrelated words.
pub const SHORTEST: usize = 8;

/// Adds secrets to redact from now on.
pub fn learn<'a>(secrets: impl IntoIterator<Item = &'a str>) {
    // Most configs have none: they skip the lock.
    let mut secrets = secrets.into_iter().peekable();
    if secrets.peek().is_none() {
        return;
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    match known.learn(secrets) {
        Ok(()) => SOME_ARE_KNOWN.store(!known.layers.is_empty(), Ordering::Release),
        Err(error) => tracing::error!("secrets are not redacted from plugins' output: {error}"),
    }
}

/// Adds the secrets of this config to redact from now on. Secrets that none of the last `CONFIGS` configs had are
/// forgotten, so that a host with rotating secrets does not keep all of them.
pub fn learn_config<'a>(secrets: impl IntoIterator<Item = &'a str>) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    known.config += 1;
    match known
        .learn(secrets.into_iter())
        .and_then(|()| known.forget())
    {
        Ok(()) => SOME_ARE_KNOWN.store(!known.layers.is_empty(), Ordering::Release),
        Err(error) => tracing::error!("secrets are not redacted from plugins' output: {error}"),
    }
}

/// Adds secrets that a probe was opened with; they are not forgotten while the probe exists.
pub(crate) fn hold(secrets: Vec<String>) -> HeldSecrets {
    let mut forms: Vec<Arc<str>> = secrets
        .iter()
        .flat_map(|secret| forms(secret))
        .filter(|form| form.len() >= SHORTEST)
        .map(Arc::from)
        .collect();
    forms.sort_unstable();
    forms.dedup();
    if !forms.is_empty() {
        learn(secrets.iter().map(String::as_str));
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        for form in &forms {
            *known.held.entry(Arc::clone(form)).or_default() += 1;
        }
    }
    HeldSecrets(forms)
}

/// Secrets that are not forgotten before this is dropped.
#[derive(Default)]
pub(crate) struct HeldSecrets(Vec<Arc<str>>);

impl HeldSecrets {
    /// Returns `true` if there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for HeldSecrets {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        let config = known.config;
        for form in &self.0 {
            if let Some(held) = known.held.get_mut(form) {
                *held -= 1;
                if *held == 0 {
                    known.held.remove(form);
                }
            }
            // Its last messages may still be under way.
            if let Some(last) = known.texts.get_mut(form) {
                *last = config;
            }
        }
    }
}

/// Leaves out the secrets.
impl fmt::Debug for HeldSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldSecrets({})", self.0.len())
    }
}

/// Returns the text with every secret replaced; `None` if it contains none.
pub fn redact(text: &[u8]) -> Option<Vec<u8>> {
    match beginning(text, text.len()) {
        Cow::Owned(redacted) => Some(redacted),
        Cow::Borrowed(_) => None,
    }
}

/// Redacts readable text.
pub fn redact_text(text: String) -> String {
    match redact(text.as_bytes()) {
        Some(redacted) => String::from_utf8_lossy(&redacted).into_owned(),
        None => text,
    }
}

/// Returns the places of secrets in a text, in order and without overlaps.
pub fn places(text: &[u8]) -> Vec<Range<usize>> {
    with_known(|known| known.matches(text)).unwrap_or_default()
}

/// Returns the first `length` bytes with every secret that begins in them replaced, including one that ends later.
pub fn beginning(text: &[u8], length: usize) -> Cow<'_, [u8]> {
    let length = length.min(text.len());
    let matches = places(text);
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

/// Returns the known secrets in a platform's config, which is JSON text.
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

/// Returns a number that changes when secrets are added: a text redacted before may contain one of them.
pub fn revision() -> u64 {
    REVISION.load(Ordering::Acquire)
}

/// Returns the number of searched texts.
pub fn known() -> usize {
    with_known(|known| known.texts.len()).unwrap_or_default()
}

/// Returns the length of the longest encoded secret, in bytes.
pub fn longest() -> usize {
    with_known(|known| known.longest * LONGEST_ENCODING).unwrap_or_default()
}

fn with_known<T>(ask: impl FnOnce(&SecretIndex) -> T) -> Option<T> {
    if !SOME_ARE_KNOWN.load(Ordering::Acquire) {
        return None;
    }
    Some(ask(&KNOWN.read().unwrap_or_else(PoisonError::into_inner)))
}

/// All searched texts, in layers of increasing length: a worker learns a few at a time, and must not rebuild the whole
/// index each time.
#[derive(Default)]
struct SecretIndex {
    /// Each text, with the number of the last config that had it.
    texts: BTreeMap<Arc<str>, u64>,
    /// The texts of open probes, with the number of their probes.
    held: BTreeMap<Arc<str>, usize>,
    config: u64,
    layers: Vec<IndexLayer>,
    longest: usize,
}

struct IndexLayer {
    texts: Vec<Arc<str>>,
    finder: AhoCorasick,
}

impl SecretIndex {
    fn learn<'a>(
        &mut self,
        secrets: impl Iterator<Item = &'a str>,
    ) -> Result<(), aho_corasick::BuildError> {
        let mut texts = Vec::new();
        for form in secrets.flat_map(forms) {
            let form: Arc<str> = form.into();
            let config = self.config;
            if form.len() < SHORTEST {
                continue;
            }
            if self.texts.insert(Arc::clone(&form), config).is_none() {
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
        self.layers.push(IndexLayer::new(texts)?);
        REVISION.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Forgets secrets that no recent config had, once it is worth the work.
    fn forget(&mut self) -> Result<(), aho_corasick::BuildError> {
        let oldest = self.config.saturating_sub(CONFIGS);
        let is_stale = |text: &Arc<str>, last: u64| last < oldest && !self.held.contains_key(text);
        let stale = self
            .texts
            .iter()
            .filter(|(text, last)| is_stale(text, **last))
            .count();
        if stale < FEWEST_FORGOTTEN.max(self.texts.len() / 2) {
            return Ok(());
        }
        let mut texts = std::mem::take(&mut self.texts);
        texts.retain(|text, last| !is_stale(text, *last));
        self.texts = texts;
        self.longest = self.texts.keys().map(|text| text.len()).max().unwrap_or(0);
        self.layers.clear();
        let texts: Vec<_> = self.texts.keys().cloned().collect();
        if !texts.is_empty() {
            self.layers.push(IndexLayer::new(texts)?);
        }
        Ok(())
    }

    /// Returns the places of secrets, in order; overlapping ones are merged, so that no part of either remains
    /// readable.
    fn matches(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = self.decoded_matches(text, NESTED_ENCODINGS);
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

    /// Returns the secrets in the text itself and in its decoded forms, `depth` encodings deep; unordered.
    fn decoded_matches(&self, text: &[u8], depth: usize) -> Vec<Range<usize>> {
        let mut found: Vec<_> = self.layers.iter().flat_map(|l| l.matches(text)).collect();
        if depth > 0 && !self.layers.is_empty() {
            for view in decode::views(text, SHORTEST) {
                let within = self.decoded_matches(&view.bytes, depth - 1);
                found.extend(within.iter().map(|part| view.original(part)));
            }
        }
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

impl IndexLayer {
    fn new(texts: Vec<Arc<str>>) -> Result<Self, aho_corasick::BuildError> {
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(true)
            .build(texts.iter().map(|text| text.as_bytes()))?;
        Ok(Self { texts, finder })
    }

    /// Returns the longest secret at each starting point.
    fn matches<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
        let mut from = 0;
        std::iter::from_fn(move || {
            let found = self.finder.find(Input::new(text).range(from..))?;
            from = found.start() + 1;
            Some(found.range())
        })
    }

    /// Returns every secret in the text, including prefixes of others.
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

/// Returns the texts to search: the secret and each of its lines, in both cases if they contain non-ASCII letters.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    forms.extend(secret.lines().map(|line| line.trim().to_owned()));
    forms.extend(secret.lines().map(str::to_owned));
    if !secret.is_ascii() {
        let cased = forms
            .iter()
            .flat_map(|form| [form.to_lowercase(), form.to_uppercase()]);
        let cased: Vec<String> = cased.collect();
        forms.extend(cased);
    }
    forms
}

/// Maximum number of nested encodings that are decoded: base64 in a URL is percent-encoded.
const NESTED_ENCODINGS: usize = 2;

/// Bytes per byte of a secret in the longest encoding, `\u0041`.
const LONGEST_ENCODING: usize = 6;

static KNOWN: RwLock<SecretIndex> = RwLock::new(SecretIndex {
    texts: BTreeMap::new(),
    held: BTreeMap::new(),
    config: 0,
    layers: Vec::new(),
    longest: 0,
});

/// Number of later configs for which an unused secret is still searched: probes created from an old config may still
/// produce output.
const CONFIGS: u64 = 100;
/// Forgetting fewer is not worth rebuilding the rest.
const FEWEST_FORGOTTEN: usize = 64;

/// The number of times that secrets were added.
static REVISION: AtomicU64 = AtomicU64::new(0);

/// Lets hosts without secrets, which are most, skip the lock.
static SOME_ARE_KNOWN: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod properties;

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
    fn secrets_that_are_rotated_are_forgotten_long_after_and_others_are_not() {
        let mut known = SecretIndex::default();
        for nth in 0..2000 {
            known.config += 1;
            let rotated = format!("rotated secret {nth:04}");
            known
                .learn(["stays for ever", &rotated].into_iter())
                .unwrap();
            known.forget().unwrap();
        }
        assert!(known.texts.len() < 300, "{}", known.texts.len());
        let knows = |said: &str| !known.matches(said.as_bytes()).is_empty();
        assert!(knows("stays for ever") && knows("rotated secret 1999"));
        assert!(knows("rotated secret 1900"), "its probes may be talking");
        assert!(!knows("rotated secret 0000"));
    }

    #[test]
    fn a_secret_is_not_forgotten_while_a_probe_holds_it() {
        let mut known = SecretIndex::default();
        let text: Arc<str> = "held by an open probe".into();
        known.learn([&*text].into_iter()).unwrap();
        known.held.insert(Arc::clone(&text), 1);
        let pass = |known: &mut SecretIndex| {
            for nth in 0..1000 {
                known.config += 1;
                let rotated = format!("rotated secret {nth:04}");
                known.learn([rotated.as_str()].into_iter()).unwrap();
                known.forget().unwrap();
            }
        };
        pass(&mut known);
        assert!(!known.matches(text.as_bytes()).is_empty());
        known.held.clear();
        pass(&mut known);
        assert!(known.matches(text.as_bytes()).is_empty());
    }

    #[test]
    fn a_held_secret_is_redacted_and_counted_once_for_each_probe() {
        let held = || hold(vec!["held-by-two-probes".to_owned(), "short".to_owned()]);
        let (first, second) = (held(), held());
        assert_eq!(
            shown("held-by-two-probes short").unwrap(),
            "(a secret) short"
        );
        let count = || {
            let known = KNOWN.read().unwrap();
            known.held.get("held-by-two-probes").copied()
        };
        assert_eq!(count(), Some(2));
        drop(first);
        assert_eq!(count(), Some(1));
        drop(second);
        assert_eq!(count(), None);
        assert!(hold(Vec::new()).is_empty());
    }

    #[test]
    fn what_is_learnt_one_by_one_is_not_begun_anew_each_time() {
        let mut known = SecretIndex::default();
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
