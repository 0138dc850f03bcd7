//! Takes secrets of the config out of what plugins say, which may well repeat their config: in the message of a report,
//! in a line of the log, on their output.
//!
//! It is known to the whole process, as a plugin's output is not said to belong to any one platform. What a plugin does
//! to a secret before it says it, such as encoding it, hides it from this.

use std::{
    collections::BTreeSet,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use aho_corasick::{AhoCorasick, MatchKind};

/// What stands in the place of a secret.
pub const REDACTED: &str = "(a secret)";

/// Shorter secrets are not looked for: they would be found in words that have nothing to do with them.
pub const SHORTEST: usize = 8;

/// From now on, these are taken out too.
pub fn learn<'a>(secrets: impl IntoIterator<Item = &'a str>) {
    let long = secrets.into_iter().filter(|text| text.len() >= SHORTEST);
    let secrets: BTreeSet<String> = long.map(str::to_owned).collect();
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    // Those of an earlier config stay: probes that were made from it may still be talking.
    let before = known.as_ref().map(|known| &known.texts);
    if before.is_some_and(|before| secrets.is_subset(before)) || secrets.is_empty() {
        return;
    }
    let texts: BTreeSet<_> = before
        .into_iter()
        .flatten()
        .cloned()
        .chain(secrets)
        .collect();
    let finder = AhoCorasick::builder()
        // Lest a secret that is part of another leaves the rest of that one to be read.
        .match_kind(MatchKind::LeftmostLongest)
        .build(&texts);
    match finder {
        Ok(finder) => {
            *known = Some(Known { texts, finder });
            SOME_ARE_KNOWN.store(true, Ordering::Release);
        }
        Err(error) => tracing::error!("secrets are not taken out of what plugins say: {error}"),
    }
}

/// The text with every secret in it replaced; none if there is none in it.
pub fn redact(text: &[u8]) -> Option<Vec<u8>> {
    if !SOME_ARE_KNOWN.load(Ordering::Acquire) {
        return None;
    }
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let known = known.as_ref()?;
    if !known.finder.is_match(text) {
        return None;
    }
    let replacements = vec![REDACTED; known.texts.len()];
    Some(known.finder.replace_all_bytes(text, &replacements))
}

struct Known {
    texts: BTreeSet<String>,
    finder: AhoCorasick,
}

static KNOWN: RwLock<Option<Known>> = RwLock::new(None);

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
    }
}
