//! Level 3: the configs that create a probe, and the refusal of others.

use conductor_runtime::{CallFailure, door::OpenedLibrary, observer::ContractViolation, redaction};
use conductor_types::ErrorType;
use serde_json::{Map, Value, json};

use super::{
    advice::LanguageAdvice,
    catalogue::PluginTest,
    subject::{LibraryUnderTest, go_on, told},
    verdict::TestVerdict,
};

/// Returns the configs to try: the validator's, or those built from the examples and defaults of the plugin's schema.
pub(super) fn candidates(subject: &LibraryUnderTest, door: &dyn OpenedLibrary) -> Vec<Value> {
    match &subject.order.platform.config {
        Some(config) => vec![config.clone()],
        // The value that a host passes on for an empty table.
        None if door.description().config_schema.is_null() => vec![Value::Null],
        None => of_schema(&door.description().config_schema.value()),
    }
}

/// Returns whole examples first, then a config of only the required keys, for each example of those, in each of the
/// schema's forms.
pub(super) fn of_schema(schema: &Value) -> Vec<Value> {
    of_part(schema, schema, FORMS_WITHIN_FORMS)
}

fn of_part(root: &Value, schema: &Value, depth: usize) -> Vec<Value> {
    let mut found: Vec<Value> = examples(root, schema);
    found.retain(Value::is_object);
    // A form may be a different type, such as null.
    let is_table = |kind: &Value| {
        kind == "object"
            || kind
                .as_array()
                .is_some_and(|kinds| kinds.contains(&json!("object")))
    };
    if depth == 0 || !schema.get("type").is_none_or(is_table) {
        return found;
    }
    let alone = with_what_is_required(root, schema);
    let target = schema.get("$ref").and_then(Value::as_str);
    let target = target.and_then(|target| root.pointer(target.strip_prefix('#')?));
    let several = ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|keyword| schema.get(keyword)?.as_array());
    let groups = target
        .map(std::slice::from_ref)
        .into_iter()
        .chain(several.map(Vec::as_slice));
    // One form of each group describes the table together with the schema's own keys.
    let made = groups.fold(alone, |made, group| {
        let forms: Vec<Value> = group
            .iter()
            .flat_map(|form| of_part(root, form, depth - 1))
            .collect();
        made.iter()
            .flat_map(|config| forms.iter().map(|form| joined(config, form)))
            .collect()
    });
    for config in made {
        if !found.contains(&config) {
            found.push(config);
        }
    }
    found
}

fn joined(one: &Value, other: &Value) -> Value {
    let keys = [one, other]
        .into_iter()
        .filter_map(Value::as_object)
        .flatten();
    Value::Object(
        keys.map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    )
}

/// Returns configs of the keys that a schema itself requires, for each example of those; none if one of them has no
/// example.
fn with_what_is_required(root: &Value, schema: &Value) -> Vec<Value> {
    let values: Option<Vec<(String, Vec<Value>)>> = required(schema)
        .into_iter()
        .map(|key| {
            let values = examples(root, &schema["properties"][&key]);
            (!values.is_empty()).then_some((key, values))
        })
        .collect();
    let Some(values) = values else {
        return Vec::new();
    };
    let rounds = values
        .iter()
        .map(|(_, values)| values.len())
        .max()
        .unwrap_or(1);
    let round = |round: usize| {
        let pick = |(key, values): &(String, Vec<Value>)| {
            let value = values[round.min(values.len() - 1)].clone();
            (key.clone(), value)
        };
        Value::Object(values.iter().map(pick).collect())
    };
    (0..rounds).map(round).collect()
}

/// An enum of a struct of an enum is enough: a type may contain itself.
const FORMS_WITHIN_FORMS: usize = 6;

/// Returns the example values in a part of the schema.
fn examples(root: &Value, part: &Value) -> Vec<Value> {
    if let Some(Value::Array(examples)) = part.get("examples") {
        return examples.clone();
    }
    if let Some(value) = part.get("default").or_else(|| part.get("const")) {
        return vec![value.clone()];
    }
    if let Some(Value::Array(values)) = part.get("enum") {
        return values.iter().take(1).cloned().collect();
    }
    let target = part.get("$ref").and_then(Value::as_str);
    let target = target.and_then(|target| root.pointer(target.strip_prefix('#')?));
    match target {
        // Do not follow a recursive type forever.
        Some(target) if target.get("$ref").is_none() => examples(root, target),
        _ => Vec::new(),
    }
}

fn creates(subject: &LibraryUnderTest) -> TestVerdict {
    let door = go_on!(subject.door());
    let schema = go_on!(subject.schema(&*door));
    let candidates = candidates(subject, &*door);
    if candidates.is_empty() {
        return TestVerdict::skipped(subject.cure(LanguageAdvice::Examples));
    }
    for config in &candidates {
        if !schema.accepts(config) {
            return TestVerdict::failed(
                format!("its own schema refuses {config}"),
                "correct the example, or the schema",
            );
        }
        subject.doing(format!("creating a probe with {config}"));
        match subject.create(&*door, &config.to_string()) {
            Ok(probe) => {
                subject.doing("dropping a probe");
                if let Err(failure) = subject.close(probe) {
                    return TestVerdict::failed(
                        format!("dropping a probe failed: {}", told(&failure)),
                        subject.cure(LanguageAdvice::Drop),
                    );
                }
            }
            Err(failure)
                if failure.kind == ErrorType::Config || failure.kind == ErrorType::Panic =>
            {
                return TestVerdict::failed(
                    format!("create refuses {config}: {}", told(&failure)),
                    if subject.is_config_given() {
                        "give a --config that it takes"
                    } else {
                        "correct the example, or give a --config that works here"
                    },
                );
            }
            Err(_) if subject.lint.has_seen(ContractViolation::NoProbe) => {
                return TestVerdict::failed(
                    format!("`create` returns NULL with {config} and does not say why"),
                    subject.cure(LanguageAdvice::NoProbe),
                );
            }
            Err(failure) => {
                return TestVerdict::warning(
                    format!("create fails with {config}: {failure}"),
                    "leave what may fail to the first check, or give a --config that works here",
                );
            }
        }
    }
    let count = candidates.len();
    TestVerdict::passed(match count {
        1 => format!("{}", candidates[0]),
        _ => format!("{count} configs"),
    })
}

/// A config to try, and the keys of which a refusal must name one.
type Attempt = (Value, Vec<String>);

fn empty(subject: &LibraryUnderTest) -> TestVerdict {
    refuses(subject, |schema, _| vec![(json!({}), required(schema))])
}

/// Returns the keys that a schema itself requires.
fn required(schema: &Value) -> Vec<String> {
    let required = schema["required"].as_array().into_iter().flatten();
    // A key with aliases is required under one of its names.
    let of_several = schema["allOf"].as_array().into_iter().flatten();
    let of_several = of_several.filter_map(|form| form.pointer("/anyOf/0/required/0"));
    let keys = required.chain(of_several).filter_map(Value::as_str);
    keys.map(str::to_owned).collect()
}

fn garbage(subject: &LibraryUnderTest) -> TestVerdict {
    refuses(subject, |schema, good| {
        let mut attempts: Vec<Attempt> = [
            json!(null),
            json!([]),
            json!("text"),
            json!(-1.5e300),
            json!([[{}]]),
        ]
        .map(|value| (value, Vec::new()))
        .into();
        for key in schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
        {
            for value in [
                json!(null),
                json!(true),
                json!(-1),
                json!([{}]),
                json!({ "a": [] }),
                json!("\u{0}\u{202e}\u{1f600}"),
            ] {
                attempts.push((with(good, key, value), vec![key.clone()]));
            }
        }
        attempts.push((with(good, "no_such_key_\u{1f600}", json!(1)), Vec::new()));
        attempts
    })
}

fn huge(subject: &LibraryUnderTest) -> TestVerdict {
    refuses(subject, |schema, good| {
        let text = "x".repeat(4 << 20);
        let many: Map<String, Value> = (0..100_000)
            .map(|n| (format!("key{n}"), json!(n)))
            .collect();
        let mut attempts: Vec<Attempt> = vec![(Value::Object(many), Vec::new())];
        for key in schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
        {
            attempts.push((with(good, key, json!(text)), Vec::new()));
            attempts.push((with(good, key, json!(vec![0; 100_000])), vec![key.clone()]));
            attempts.push((with(good, key, json!(u64::MAX)), vec![key.clone()]));
        }
        attempts
    })
}

fn deep(subject: &LibraryUnderTest) -> TestVerdict {
    let door = go_on!(subject.door());
    let properties = door.description().config_schema.value()["properties"].clone();
    let first = properties
        .as_object()
        .and_then(|all| all.keys().next().cloned());
    let key = first.unwrap_or_else(|| "key".to_owned());
    for depth in [100, 10_000, 200_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let inner = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let config = format!("{{{}:{inner}}}", Value::from(key.clone()));
            subject.doing(format!(
                "creating a probe with a config {depth} levels deep"
            ));
            match subject.create(&*door, &config) {
                Ok(probe) => drop(subject.close(probe)),
                Err(failure) => {
                    if failure.kind == ErrorType::Panic {
                        return TestVerdict::failed(
                            format!("a config {depth} levels deep ends in {}", told(&failure)),
                            subject.cure(LanguageAdvice::RefuseConfig),
                        );
                    }
                }
            }
        }
    }
    TestVerdict::passed("")
}

/// Tries configs that no sensible schema accepts, and judges the refusals.
fn refuses(
    subject: &LibraryUnderTest,
    attempts: impl Fn(&Value, &Value) -> Vec<Attempt>,
) -> TestVerdict {
    let door = go_on!(subject.door());
    let schema = go_on!(subject.schema(&*door));
    let good = subject.good_config(&*door);
    let described = door.description().config_schema.value();
    // Without a valid config, required keys are missing as well, and may be named first.
    let missing = match good {
        Ok(_) => Vec::new(),
        Err(_) => required(&described),
    };
    let good = good.unwrap_or_else(|_| json!({}));
    let mut refused = 0;
    for (config, mut keys) in attempts(&described, &good) {
        if !keys.is_empty() {
            keys.extend_from_slice(&missing);
        }
        // A config that the schema accepts is no garbage; the probe decides.
        if schema.accepts(&config) {
            continue;
        }
        let shown = shown(&config);
        subject.doing(format!("creating a probe with {shown}"));
        match subject.create(&*door, &config.to_string()) {
            Ok(probe) => {
                // The host validates the config first, so it never gets here.
                let _ = subject.close(probe);
            }
            Err(failure) => {
                refused += 1;
                if let Some(verdict) = bad_refusal(subject, &failure, &shown, &keys) {
                    return verdict;
                }
            }
        }
    }
    TestVerdict::passed(match refused {
        0 => "nothing that its schema lets through".to_owned(),
        refused => format!("{refused} refused"),
    })
}

fn bad_refusal(
    subject: &LibraryUnderTest,
    failure: &CallFailure,
    shown: &str,
    keys: &[String],
) -> Option<TestVerdict> {
    if failure.kind == ErrorType::Panic {
        return Some(TestVerdict::failed(
            format!("{shown} ends in {}", told(failure)),
            subject.cure(LanguageAdvice::RefuseConfig),
        ));
    }
    if !keys.is_empty()
        && !keys
            .iter()
            .any(|key| failure.message.contains(key.as_str()))
    {
        return Some(TestVerdict::failed(
            format!("{shown} is refused without the name of its key: {failure}"),
            subject.cure(LanguageAdvice::NameTheKey),
        ));
    }
    (failure.kind != ErrorType::Config).then(|| {
        TestVerdict::warning(
            format!("{shown} is refused, but not as a mistake of the config: {failure}"),
            subject.cure(LanguageAdvice::ConfigKind),
        )
    })
}

/// Returns `good` with another value of `key`.
pub(super) fn with(good: &Value, key: &str, value: Value) -> Value {
    let mut config = good.clone();
    if let Some(table) = config.as_object_mut() {
        table.insert(key.to_owned(), value);
    }
    config
}

/// Formats a config without secrets, short enough for a line.
pub(super) fn shown(config: &Value) -> String {
    let text = redaction::redact_text(config.to_string());
    match text.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

pub(super) const TESTS: &[PluginTest] = &[
    PluginTest::new(
        3,
        "config/creates",
        "A probe can be created from each example of its schema, or from --config.",
        creates,
    )
    .gate(),
    PluginTest::new(
        3,
        "config/empty",
        "An empty config creates a probe, or is refused with an error that names the missing key.",
        empty,
    ),
    PluginTest::new(
        3,
        "config/garbage",
        "Configs of wrong types are refused with an error that names the key, and without a panic.",
        garbage,
    ),
    PluginTest::new(
        3,
        "config/huge",
        "Configs of megabytes are refused or taken without a panic.",
        huge,
    )
    // Three configs of megabytes for each key: a plugin with many keys takes its time on a busy machine.
    .within(240),
    PluginTest::new(
        3,
        "config/deep",
        "Configs nested thousands of levels deep are refused without a panic or a crash.",
        deep,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_where_the_config_is_cut_within_it() {
        redaction::learn(["validated-with-this"]);
        let config = json!({ "a": "x".repeat(105), "b": "validated-with-this" });
        assert!(
            shown(&config).ends_with("\"b\":\"(a…"),
            "{}",
            shown(&config)
        );
        let verdict = TestVerdict::passed(config.to_string());
        assert!(
            verdict.found.ends_with("(a secret)\"}"),
            "{}",
            verdict.found
        );
    }

    #[test]
    fn configs_come_from_whole_examples_and_from_those_of_what_is_required() {
        let schema = json!({
            "examples": [{ "url": "http://a", "method": "GET" }, 3],
            "required": ["url", "method"],
            "properties": {
                "url": { "type": "string", "examples": ["http://b", "http://c"] },
                "method": { "$ref": "#/$defs/Method" },
                "optional": { "default": 1 },
            },
            "$defs": { "Method": { "enum": ["GET", "HEAD"] } },
        });
        let found = of_schema(&schema);
        let expected = [
            ("http://a", "GET"),
            ("http://b", "GET"),
            ("http://c", "GET"),
        ]
        .map(|(url, method)| json!({ "url": url, "method": method }));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_key_with_other_names_is_required_by_the_first() {
        let schema = json!({
            "properties": { "url": { "examples": ["http://a"] }, "uri": {} },
            "allOf": [{ "anyOf": [{ "required": ["url"] }, { "required": ["uri"] }] }],
        });
        assert_eq!(of_schema(&schema), [json!({ "url": "http://a" })]);
    }

    #[test]
    fn an_enum_gives_a_config_for_each_form_with_examples() {
        let schema = json!({
            "required": ["name"],
            "properties": { "name": { "examples": ["n"] } },
            "oneOf": [
                { "type": "object", "required": ["kind"], "properties": { "kind": { "const": "off" } } },
                {
                    "$ref": "#/$defs/Tcp", "type": "object",
                    "required": ["kind"], "properties": { "kind": { "const": "tcp" } },
                },
                { "type": "object", "required": ["path"], "properties": { "path": { "type": "string" } } },
                { "type": "null" },
            ],
            "$defs": { "Tcp": { "required": ["port"], "properties": { "port": { "examples": [1] } } } },
        });
        let expected = [
            json!({ "name": "n", "kind": "off" }),
            json!({ "name": "n", "kind": "tcp", "port": 1 }),
        ];
        assert_eq!(of_schema(&schema), expected);
    }

    #[test]
    fn an_enum_without_examples_gives_no_config() {
        let form = json!({ "required": ["port"], "properties": { "port": { "type": "integer" } } });
        for keyword in ["oneOf", "anyOf"] {
            let schema = json!({ keyword: [form, { "type": "null" }] });
            assert_eq!(of_schema(&schema), [json!(null); 0]);
        }
        let endless = json!({ "$ref": "#" });
        assert_eq!(of_schema(&endless), [json!(null); 0]);
    }

    #[test]
    fn what_is_required_and_has_no_example_gives_no_config() {
        let schema = json!({ "required": ["url"], "properties": { "url": { "type": "string" } } });
        assert_eq!(of_schema(&schema), [json!(null); 0]);
        assert_eq!(of_schema(&json!({ "type": "object" })), [json!({})]);
    }
}
