//! Level 4: configs that no operator would write.

use conductor_core::random::SplitMix64;
use conductor_types::ErrorType;
use serde_json::{Value, json};

use super::{
    advice::LanguageAdvice,
    catalogue::PluginTest,
    configs,
    subject::{LibraryUnderTest, go_on, told},
    verdict::TestVerdict,
};

fn fuzz(subject: &LibraryUnderTest) -> TestVerdict {
    let door = go_on!(subject.door());
    let good = subject.good_config(&*door).unwrap_or_else(|_| json!({}));
    let properties = door.description().config_schema.value()["properties"].clone();
    let keys: Vec<String> = properties
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .collect();
    let has_secrets = subject.has_secrets(&*door);
    let mut chance = SplitMix64::new(subject.order.seed);
    for nth in 0..FUZZED {
        let config = mutated(&good, &keys, &mut chance);
        // A mutated secret cannot be distinguished from other text.
        let (whole, shown) = match has_secrets {
            false => (config.to_string(), configs::shown(&config)),
            true => ("a config".to_owned(), "it has secrets in it".to_owned()),
        };
        subject.doing(format!(
            "creating a probe with {whole} (seed {}, config {nth})",
            subject.order.seed
        ));
        let result = match subject.create(&*door, &config.to_string()) {
            Ok(probe) => subject.close(probe),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = result
            && failure.kind == ErrorType::Panic
        {
            return TestVerdict::failed(
                format!(
                    "config {nth} of seed {} ends in {}: {shown}",
                    subject.order.seed,
                    told(&failure)
                ),
                format!(
                    "{}; reproduce it with --seed, or with plugin run --config",
                    subject.cure(LanguageAdvice::RefuseConfig)
                ),
            );
        }
    }
    TestVerdict::passed(format!("{FUZZED} configs of seed {}", subject.order.seed))
}

/// Returns a config with one to three values changed.
fn mutated(good: &Value, keys: &[String], chance: &mut SplitMix64) -> Value {
    let mut config = good.clone();
    let Some(table) = config.as_object_mut() else {
        return config;
    };
    for _ in 0..=below(chance, 3) {
        let known = keys.get(below(chance, keys.len().max(1)));
        let key = known.cloned().unwrap_or_else(|| "key".to_owned());
        if below(chance, 8) == 0 {
            table.remove(&key);
            continue;
        }
        let old = table.get(&key).cloned().unwrap_or(Value::Null);
        table.insert(key, changed(old, chance, 0));
    }
    config
}

fn changed(old: Value, chance: &mut SplitMix64, depth: usize) -> Value {
    match (old, below(chance, 3)) {
        (Value::String(text), 0 | 1) => json!(changed_text(&text, chance)),
        (Value::Array(mut list), 0 | 1) if !list.is_empty() => {
            let at = below(chance, list.len());
            list[at] = changed(list[at].take(), chance, depth + 1);
            json!(list)
        }
        (Value::Object(mut table), 0 | 1) if !table.is_empty() => {
            let at = below(chance, table.len());
            if let Some((_, value)) = table.iter_mut().nth(at) {
                *value = changed(value.take(), chance, depth + 1);
            }
            Value::Object(table)
        }
        _ if depth < 4 && below(chance, 4) == 0 => {
            json!([changed(Value::Null, chance, depth + 1), { "a": changed(Value::Null, chance, depth + 1) }])
        }
        _ => odd(chance),
    }
}

fn changed_text(text: &str, chance: &mut SplitMix64) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let odd = [
        '\0',
        '\n',
        '"',
        '%',
        ':',
        '/',
        '[',
        ']',
        '@',
        '\u{202e}',
        '\u{1f600}',
        '9',
        '-',
    ];
    for _ in 0..=below(chance, 4) {
        let at = below(chance, chars.len() + 1);
        match below(chance, 4) {
            0 if at < chars.len() => drop(chars.remove(at)),
            1 => chars.truncate(at),
            2 => {
                let again: Vec<char> = chars[..at].to_vec();
                chars.extend(again);
            }
            _ => chars.insert(at, odd[below(chance, odd.len())]),
        }
    }
    chars.into_iter().take(10_000).collect()
}

fn odd(chance: &mut SplitMix64) -> Value {
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e308),
        json!(0.1),
        json!(""),
        json!("a\u{0}b"),
        json!("x".repeat(5000)),
        json!("http://[::1"),
        json!("../../../etc/passwd"),
        json!([]),
        json!({}),
    ];
    odd[below(chance, odd.len())].clone()
}

/// Returns a random index into a list of this length.
fn below(chance: &mut SplitMix64, length: usize) -> usize {
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    usize::try_from(chance.below(limit)).unwrap_or_default()
}

pub(super) const TESTS: &[PluginTest] = &[
    PluginTest::new(
        4,
        "stress/fuzz",
        "A thousand configs that were mutated at random create a probe or are refused, without a panic or a crash.",
        fuzz,
    )
    .within(120),
];

const FUZZED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_configs_and_another_others() {
        let keys = ["url".to_owned(), "n".to_owned()];
        let good = json!({ "url": "http://x", "n": [1, { "a": 2 }] });
        let configs = |seed| {
            let mut chance = SplitMix64::new(seed);
            let next = |_| mutated(&good, &keys, &mut chance).to_string();
            (0..50).map(next).collect::<Vec<_>>()
        };
        assert_eq!(configs(7), configs(7));
        assert_ne!(configs(7), configs(8));
    }
}
