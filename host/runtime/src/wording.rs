//! Text for messages: suggestions, lists, and untrusted text in printable form.

/// Returns the closest candidate, at most a third of its letters away from `word`, if any.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&written, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Lists the words in backquotes, separated by commas.
pub fn listed<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("`{}`", word.as_ref()))
        .collect();
    quoted.join(", ")
}

/// Cuts text from a file or a plugin to a length that fits on a line, without control characters.
pub fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST_QUOTE).map(printable).collect();
    if text.chars().nth(LONGEST_QUOTE).is_some() {
        short.push('…');
    }
    short
}

fn printable(c: char) -> char {
    if c.is_control() {
        char::REPLACEMENT_CHARACTER
    } else {
        c
    }
}

/// Returns the segments of a JSON pointer (RFC 6901).
pub fn pointer(json_pointer: &str) -> impl Iterator<Item = String> {
    json_pointer
        .split('/')
        .skip(1)
        .map(|segment| segment.replace("~1", "/").replace("~0", "~"))
}

/// Returns the key in TOML syntax, quoted if necessary.
pub fn bare_or_quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

/// In characters: a few lines of a terminal.
const LONGEST_QUOTE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_word_and_a_stranger_does_not() {
        let keys = ["url", "timeout", "interval", "plugin"];
        assert_eq!(nearest("timout", keys), Some("timeout"));
        assert_eq!(nearest("ulr", keys), Some("url"));
        assert_eq!(nearest("Interval", keys), Some("interval"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
