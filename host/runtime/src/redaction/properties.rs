//! A secret is not readable, whatever text surrounds it and in any encoding.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use proptest::prelude::*;

use super::*;

fn known(secret: &str) -> SecretIndex {
    let mut known = SecretIndex::default();
    known.learn([secret].into_iter()).unwrap();
    known
}

/// Removes the matches from the text.
fn left_of(known: &SecretIndex, text: &str) -> String {
    let (mut left, mut at) = (Vec::new(), 0);
    for Range { start, end } in known.matches(text.as_bytes()) {
        left.extend_from_slice(&text.as_bytes()[at..start]);
        left.push(b'*');
        at = end;
    }
    left.extend_from_slice(&text.as_bytes()[at..]);
    String::from_utf8_lossy(&left).into_owned()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn percent(text: &str, is_kept: fn(u8) -> bool) -> String {
    let encode = |byte: u8| match is_kept(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Returns encodings of a text, each with its name.
fn encodings(text: &str) -> Vec<(&'static str, String)> {
    let form = percent(text, |byte| unreserved(byte) || byte == b' ').replace(' ', "+");
    let json = serde_json::to_string(text).unwrap();
    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
    vec![
        ("as it is", text.to_owned()),
        ("lower case", text.to_lowercase()),
        ("upper case", text.to_uppercase()),
        ("hexadecimal", hex(text)),
        ("hexadecimal in upper case", hex(text).to_uppercase()),
        (
            "C escapes",
            hex(text)
                .as_bytes()
                .chunks(2)
                .map(|pair| format!("\\x{}", String::from_utf8_lossy(pair)))
                .collect(),
        ),
        ("percent", percent(text, unreserved)),
        (
            "percent in lower case",
            percent(text, unreserved).to_lowercase(),
        ),
        ("percent of every byte", percent(text, |_| false)),
        ("a form", form),
        ("JSON", json[1..json.len() - 1].to_owned()),
        ("JSON of every character", units.collect()),
        ("Rust", format!("{text:?}")),
        ("the log", text.chars().map(crate::escaped).collect()),
        ("base64", STANDARD.encode(text)),
        ("base64 without padding", STANDARD_NO_PAD.encode(text)),
        ("base64 for URLs", URL_SAFE.encode(text)),
        (
            "base64 for URLs without padding",
            URL_SAFE_NO_PAD.encode(text),
        ),
        (
            "base64 in a URL",
            percent(&STANDARD.encode(text), unreserved),
        ),
        ("base64 in JSON", STANDARD.encode(text).replace('/', "\\/")),
        ("base64 of JSON", STANDARD.encode(&json)),
        ("hexadecimal of base64", hex(&STANDARD.encode(text))),
    ]
}

/// Returns `true` if any decoding of the text has eight consecutive unredacted characters of the secret.
fn shows(text: &str, secret: &str) -> bool {
    let secret = secret.to_lowercase();
    let parts: Vec<String> = {
        let chars: Vec<char> = secret.chars().collect();
        chars.windows(8).map(|part| part.iter().collect()).collect()
    };
    let decoded = decode::views(text.as_bytes(), 4);
    let texts = decoded.iter().map(|view| view.bytes.clone());
    texts.chain([text.as_bytes().to_vec()]).any(|bytes| {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        parts.iter().any(|part| text.contains(part.as_str()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_secret_is_found_in_every_encoding_whatever_stands_around_it(
        secret in "[a-zA-Z0-9+/=:@ äß\"\\\\%_-]{8,40}",
        before in "[ -~]{0,7}",
        after in "[ -~]{0,7}",
    ) {
        prop_assume!(secret.trim() == secret);
        let known = known(&secret);
        for (name, said) in encodings(&secret) {
            let said = format!("<{said}>");
            let left = left_of(&known, &said);
            prop_assert!(left.contains('*'), "{name}: {said}");
            prop_assert!(!shows(&left, &secret), "{name}: {said}: {left}");
        }
        for (name, said) in encodings(&format!("{before}{secret}{after}")) {
            let left = left_of(&known, &said);
            prop_assert!(left.contains('*'), "{name} of {before}…{after}: {said}");
            prop_assert!(!shows(&left, &secret), "{name} of {before}…{after}: {said}: {left}");
        }
    }

    #[test]
    fn text_without_a_secret_stays_as_it_is(text in "\\PC{0,200}") {
        let known = known("correct horse battery staple");
        prop_assert_eq!(known.matches(text.as_bytes()), Vec::<Range<usize>>::new());
    }

    #[test]
    fn any_bytes_are_safe_to_pass(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        for range in known("secret-secret").matches(&text) {
            prop_assert!(range.start < range.end && range.end <= text.len());
        }
    }
}

#[test]
fn a_secret_within_what_an_http_client_sends_is_taken_out_and_the_rest_stays() {
    let known = known("hunter2-of-the-shop");
    let header = format!(
        "Authorization: Basic {}",
        STANDARD.encode("operator:hunter2-of-the-shop")
    );
    let left = left_of(&known, &header);
    assert!(
        left.starts_with("Authorization: Basic b3BlcmF0b3"),
        "{left}"
    );
    assert!(left.contains('*'), "{left}");
    let url = "GET /?key=%68unter2%2Dof%2Dthe%2dshop&n=1 timed out";
    assert_eq!(left_of(&known, url), "GET /?key=*&n=1 timed out");
}

#[test]
fn a_message_full_of_encodings_takes_bounded_time() {
    let known = known("hunter2-of-the-shop");
    // Base64 of base64 is the text with the most views.
    let mut text = "%41\\x41+".repeat(64);
    for _ in 0..4 {
        text = STANDARD.encode(&text);
    }
    let views = decode::views(text.as_bytes(), SHORTEST);
    assert!(views.len() <= 9, "{}", views.len());
    assert!(views.iter().all(|view| view.bytes.len() <= text.len()));
    assert_eq!(known.matches(text.as_bytes()), Vec::<Range<usize>>::new());
}
