//! Level 2: effects of loading the library on the process that loads it.

use std::time::Duration;

use conductor_engine::metrics::FAMILIES;
use conductor_runtime::{LoadError, PluginDescription, open_only, schema::CompiledSchema};
use conductor_types::ErrorType;

use super::{
    advice::LanguageAdvice,
    catalogue::{PluginTest, TestMethod},
    machine::{ProcessChange, ProcessSnapshot, phrases},
    secret_table,
    subject::{LibraryUnderTest, go_on},
    verdict::TestVerdict,
};

fn opens(subject: &LibraryUnderTest) -> TestVerdict {
    subject.doing(if cfg!(windows) {
        "opening it, which runs its DllMain and static initializers"
    } else {
        "opening it"
    });
    match open_only(&subject.order.path) {
        Ok(()) => TestVerdict::passed(""),
        Err(why) if let Some(found) = why.dll_main() => TestVerdict::failed(
            format!("{found}: the loader refuses it"),
            "do nothing in DllMain but return TRUE, and leave the rest to the first check",
        ),
        Err(why) => TestVerdict::failed(
            format!("the loader refuses it: {why}"),
            "link it with all it needs; a library that opens elsewhere may need what its manifest does not declare",
        ),
    }
}

fn layout(subject: &LibraryUnderTest) -> TestVerdict {
    match subject.load(&subject.order.path) {
        Ok(_) => TestVerdict::passed(""),
        Err(error) if error.kind == ErrorType::Abi => refused(&error),
        Err(error) => TestVerdict::skipped(error.message),
    }
}

fn manifest(subject: &LibraryUnderTest) -> TestVerdict {
    match subject.load(&subject.order.path) {
        Ok(door) => {
            let description = door.description();
            TestVerdict::passed(format!("{} {}", description.id, description.version))
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &LoadError) -> TestVerdict {
    // The message ends with the cure.
    let (found, cure) = error
        .message
        .rsplit_once("; ")
        .unwrap_or((&error.message, ""));
    TestVerdict::failed(found, cure)
}

/// Loads it; the process then exits as a host does that has it in-process.
#[cfg(windows)]
fn detach(subject: &LibraryUnderTest) -> TestVerdict {
    go_on!(subject.door());
    TestVerdict::passed("")
}

fn quick(subject: &LibraryUnderTest) -> TestVerdict {
    let begun = subject.clock.now();
    go_on!(subject.door());
    let took = subject.clock.now() - begun;
    if took > QUICK {
        return TestVerdict::warning(
            format!("takes {} ms", took.as_millis()),
            "leave what takes time to the first check, and what a constructor does undone; a busy machine or a debug build makes it slower",
        );
    }
    TestVerdict::passed(format!("{:.1} ms", took.as_secs_f64() * 1000.0))
}

fn constructor_quiet(subject: &LibraryUnderTest) -> TestVerdict {
    let before = ProcessSnapshot::now();
    go_on!(subject.door());
    let (of_runtime, changes): (Vec<_>, Vec<_>) = before
        .changes(&ProcessSnapshot::now())
        .into_iter()
        .partition(ProcessChange::is_of_a_runtime);
    if let (Some(runtime), [_, ..], []) =
        (subject.order.language.runtime(), &*of_runtime, &*changes)
    {
        return TestVerdict::warning(
            format!("{runtime} {} as it is loaded", phrases(&of_runtime)),
            "run it in a worker: a host refuses it with isolation = \"in-process\"",
        );
    }
    let changes = match subject.order.language.runtime() {
        Some(_) => changes,
        None => [of_runtime, changes].concat(),
    };
    if changes.is_empty() {
        return TestVerdict::passed("");
    }
    TestVerdict::failed(
        format!("loading it {}", phrases(&changes)),
        "leave the process as it is: it is shared with other plugins where the operator wants that",
    )
}

/// Returns the cure for a second copy without room for its static thread-local storage.
fn without_static_tls(message: &str) -> Option<&'static str> {
    message.contains("static TLS").then_some(
        "a host has two generations side by side while it replaces a plugin: compile with -ftls-model=global-dynamic, or keep less in thread-local storage of the model initial-exec",
    )
}

fn two_copies_of_a_runtime(subject: &LibraryUnderTest, found: String) -> TestVerdict {
    match subject.order.language.runtime() {
        Some(runtime) => TestVerdict::warning(
            format!("{found} ({runtime} is in each copy)"),
            "run it in a worker: a host refuses it with isolation = \"in-process\"",
        ),
        None => TestVerdict::failed(
            found,
            "a host has two generations side by side while it replaces a plugin: share nothing by name",
        ),
    }
}

fn two_copies(subject: &LibraryUnderTest) -> TestVerdict {
    let first = go_on!(subject.door());
    let second = match subject.load(&subject.order.second) {
        Ok(door) => door,
        Err(error) => {
            if let Some(cure) = without_static_tls(&error.message) {
                return TestVerdict::failed(
                    format!(
                        "a second copy of it does not load beside the first: {}",
                        error.message
                    ),
                    cure,
                );
            }
            return two_copies_of_a_runtime(
                subject,
                format!(
                    "a second copy of it does not load beside the first: {}",
                    error.message
                ),
            );
        }
    };
    let (first, second) = (first.description(), second.description());
    let metrics = |of: &PluginDescription| of.metrics.as_slice().to_vec();
    if (&first.id, &first.config_schema) != (&second.id, &second.config_schema)
        || metrics(first) != metrics(second)
    {
        return TestVerdict::failed(
            "two copies of it say different things of themselves",
            "let id, schema and declared metrics depend on nothing but the source",
        );
    }
    TestVerdict::passed("")
}

fn schema(subject: &LibraryUnderTest) -> TestVerdict {
    let door = go_on!(subject.door());
    let schema = door.description().config_schema.value();
    if let Err(error) = CompiledSchema::new(schema.clone()) {
        return TestVerdict::failed(
            error.to_string(),
            "it has to be a JSON Schema that refers to nothing outside itself",
        );
    }
    if let Some(key) = secret_table::find(&schema) {
        return TestVerdict::failed(
            format!(
                "the config's key `{key}` takes a table whose only key is `file`, which names a file with a secret"
            ),
            "call the inner key otherwise, such as `path`, or require a second key: the host replaces the table by the text of the file",
        );
    }
    let properties = schema["properties"].as_object();
    let silent = properties
        .into_iter()
        .flatten()
        .find(|(_, schema)| schema.get("description").is_none() && schema.get("$ref").is_none());
    match silent {
        Some((key, _)) => TestVerdict::warning(
            format!("the config's key `{key}` has no description"),
            subject.cure(LanguageAdvice::DescribeKeys),
        ),
        None => TestVerdict::passed(""),
    }
}

fn metrics(subject: &LibraryUnderTest) -> TestVerdict {
    let door = go_on!(subject.door());
    let PluginDescription { id, metrics, .. } = door.description();
    let clash = metrics.as_slice().iter().find_map(|metric| {
        let family = metric.family(id);
        let is_of_host = FAMILIES.iter().any(|known| known.name == family);
        is_of_host.then_some((&metric.name, family))
    });
    match clash {
        Some((name, family)) => TestVerdict::failed(
            format!("its metric `{name}` is not exported: {family} is a metric of the host"),
            "give it another name",
        ),
        None => TestVerdict::passed(""),
    }
}

pub(super) const TESTS: &[PluginTest] = &[
    PluginTest::new(
        2,
        "load/opens",
        "The loader opens it with every symbol resolved at once, in the sandbox that its manifest asks for.",
        opens,
    )
    .within(10)
    .gate(),
    PluginTest::new(
        2,
        "load/layout",
        "What crosses the border has the layout that this host knows.",
        layout,
    )
    .within(10)
    .gate(),
    PluginTest::new(
        2,
        "load/manifest",
        "It says the same of itself once loaded as in its manifest.",
        manifest,
    )
    .within(10)
    .gate(),
    PluginTest::special(
        2,
        "load/worker",
        "A host loads it in a worker, within the host's limits of time and size.",
        TestMethod::Worker,
    ),
    PluginTest::new(2, "load/quick", "Loading takes less than 100 ms.", quick).within(10),
    #[cfg(windows)]
    PluginTest::new(
        2,
        "load/detach",
        "A process that has it loaded exits, and its DllMain does not hang at DLL_PROCESS_DETACH.",
        detach,
    )
    .within(10)
    .with_exit_code(),
    PluginTest::new(
        2,
        "load/constructor-quiet",
        "Loading prints nothing, starts no thread, and leaves descriptors, environment, working directory, signals, umask and locale as they are.",
        constructor_quiet,
    )
    .within(10)
    .quiet(),
    PluginTest::new(
        2,
        "load/two-copies",
        "Two copies of it live side by side in one process.",
        two_copies,
    )
    .within(10),
    PluginTest::new(2, "load/schema", "Its config schema is valid, describes each key, and takes no table that the host reads as a secret.", schema).within(10),
    PluginTest::new(
        2,
        "load/metrics",
        "No metric that it declares has the name of one of the host's.",
        metrics,
    )
    .within(10),
];

const QUICK: Duration = Duration::from_millis(100);
