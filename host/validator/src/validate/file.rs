//! Level 1: facts about the file that are known without running a byte of it.
//!
//! The rules of vetting use the host's own code; the tests here add criteria of a good library.

use std::path::Path;

use conductor_library as library;
use conductor_library::{
    LibraryInspection, PluginLanguage, RuleOutcome, VettingRule, linkage::LibraryLinkage,
};

use super::{advice::LanguageAdvice, catalogue::PluginTest, verdict::TestVerdict};

/// The facts read from a file.
pub(super) struct FileFacts {
    pub(super) inspection: LibraryInspection,
    /// `None` unless it is an ELF or PE library that can be read.
    linkage: Option<LibraryLinkage>,
    /// `None` if it has no manifest.
    language: Option<PluginLanguage>,
    name: String,
}

impl FileFacts {
    pub(super) fn read(file: &Path) -> Self {
        let inspection = library::inspect(file);
        // Reading a FIFO would never end.
        let is_regular = passed(&inspection, VettingRule::Segments);
        Self {
            linkage: is_regular.then(|| LibraryLinkage::read(file)).flatten(),
            language: inspection.manifest.as_ref().and_then(|manifest| {
                let bytes = std::fs::read(file).ok()?;
                Some(PluginLanguage::of(manifest.door, &bytes))
            }),
            inspection,
            name: file.display().to_string(),
        }
    }

    fn rules(&self, rules: &[VettingRule]) -> TestVerdict {
        let mut open = false;
        for verdict in &self.inspection.verdicts {
            if !rules.contains(&verdict.rule) {
                continue;
            }
            match &verdict.outcome {
                RuleOutcome::Passed => {}
                RuleOutcome::Refused { found, cure } => return TestVerdict::failed(found, cure),
                RuleOutcome::Open => open = true,
            }
        }
        if open {
            return TestVerdict::skipped("the file could not be read so far");
        }
        TestVerdict::passed("")
    }
}

fn passed(inspection: &LibraryInspection, rule: VettingRule) -> bool {
    let mut verdicts = inspection.verdicts.iter();
    verdicts.any(|verdict| verdict.rule == rule && verdict.outcome == RuleOutcome::Passed)
}

fn exports(facts: &FileFacts) -> TestVerdict {
    let Some(linkage) = &facts.linkage else {
        return TestVerdict::skipped(UNREADABLE);
    };
    let ours = |name: &&String| DOORS.contains(&name.as_str()) || LINKERS.contains(&name.as_str());
    let others: Vec<&String> = linkage.exports.keys().filter(|name| !ours(name)).collect();
    match &*others {
        [] => TestVerdict::passed("nothing but its door"),
        [first, ..] => TestVerdict::warning(
            format!(
                "offers {} symbols besides its door, such as {first}",
                others.len()
            ),
            LanguageAdvice::Exports.in_language(facts.language.unwrap_or(PluginLanguage::C)),
        ),
    }
}

fn libraries(facts: &FileFacts) -> TestVerdict {
    let Some(linkage) = &facts.linkage else {
        return TestVerdict::skipped(UNREADABLE);
    };
    if let Some(folder) = linkage
        .search
        .iter()
        .find(|it| it.contains("$ORIGIN") || it.contains("${ORIGIN}"))
    {
        return TestVerdict::warning(
            format!(
                "searches {folder} for libraries, where it finds none: a host loads a private copy, beside which nothing else lies"
            ),
            "link what it needs statically, or install it where the system searches",
        );
    }
    let missing = linkage.missing(&facts.name).libraries;
    match &*missing {
        [] => TestVerdict::passed(linkage.needed.join(" ")),
        [(name, who), ..] => TestVerdict::failed(
            format!("{name}, which {who} needs, is not on this machine"),
            if linkage.is_pe {
                "link it statically (MinGW: -static; MSVC: crt-static for the C runtime), or install it in a folder of PATH"
            } else {
                "install the package it is from, or link it statically"
            },
        ),
    }
}

fn symbols(facts: &FileFacts) -> TestVerdict {
    let Some(linkage) = &facts.linkage else {
        return TestVerdict::skipped(UNREADABLE);
    };
    let missing = linkage.missing(&facts.name);
    if !missing.libraries.is_empty() {
        return TestVerdict::skipped("a library that it needs is missing");
    }
    match &*missing.symbols {
        [] => TestVerdict::passed(format!("{} found", linkage.imports.len())),
        [first, ..] => {
            let version = match &*first.version {
                "" => String::new(),
                version => format!(" of version {version}"),
            };
            let count = missing.symbols.len();
            TestVerdict::failed(
                format!(
                    "no library it needs has {}{version} ({count} symbols are missing)",
                    first.name
                ),
                if linkage.is_pe {
                    "build it against the oldest Windows it is to run on, and ship no library that it was linked against and this machine has in another version"
                } else {
                    "build it against the oldest system it is to run on, and link all that it calls (-z defs finds what is left out)"
                },
            )
        }
    }
}

fn stack(facts: &FileFacts) -> TestVerdict {
    let Some(linkage) = &facts.linkage else {
        return TestVerdict::skipped(UNREADABLE);
    };
    if linkage.is_pe {
        return TestVerdict::skipped("a PE library cannot ask for an executable stack");
    }
    if linkage.executable_stack {
        return TestVerdict::failed(
            "asks for an executable stack, which makes those of the whole process so",
            "link with -z noexecstack; hand-written assembly lacks a .note.GNU-stack section",
        );
    }
    TestVerdict::passed("")
}

fn compiler(facts: &FileFacts) -> TestVerdict {
    match &facts.linkage {
        None => TestVerdict::skipped(UNREADABLE),
        Some(linkage) if linkage.is_pe => {
            let debug = match &linkage.debug {
                Some(debug) => format!("debug information: {debug}"),
                None => "no debug information".to_owned(),
            };
            TestVerdict::passed(format!("{}, {debug}", linkage.made_by.join(", ")))
        }
        Some(linkage) => match (linkage.rustc(), linkage.made_by.first()) {
            (Some(made_by), _) => TestVerdict::passed(made_by),
            (None, Some(made_by)) => TestVerdict::passed(made_by),
            (None, None) => TestVerdict::skipped("it does not say; it may be stripped of that"),
        },
    }
}

pub(super) const TESTS: &[PluginTest] = &[
    PluginTest::file(
        "file/regular",
        "It is a regular file that can be read.",
        |facts| facts.rules(&[VettingRule::RegularFile, VettingRule::Size]),
    ),
    PluginTest::file(
        "file/permissions",
        "Nobody but its owner and root can change it or put another in its place.",
        |facts| {
            facts.rules(&[
                VettingRule::Owner,
                VettingRule::Permissions,
                VettingRule::Folder,
            ])
        },
    ),
    PluginTest::file(
        "file/format",
        "It is a shared library of this OS's format.",
        |facts| facts.rules(&[VettingRule::Format, VettingRule::Kind]),
    ),
    PluginTest::file(
        "file/architecture",
        "It is built for this machine's processor.",
        |facts| facts.rules(&[VettingRule::Architecture]),
    ),
    PluginTest::file(
        "file/whole",
        "All that its headers speak of lies inside the file.",
        |facts| facts.rules(&[VettingRule::Segments]),
    ),
    PluginTest::file(
        "file/manifest",
        "It has one manifest, well formed, of a door this host knows.",
        |facts| facts.rules(&[VettingRule::Manifest, VettingRule::Door]),
    ),
    PluginTest::file(
        "file/api-version",
        "It was built for an API this host speaks.",
        |facts| facts.rules(&[VettingRule::ApiVersion]),
    ),
    PluginTest::file(
        "file/panic-strategy",
        "Its panics unwind, so that they can be caught.",
        |facts| facts.rules(&[VettingRule::PanicStrategy]),
    ),
    PluginTest::file(
        "file/exports",
        "It offers no symbols but its door.",
        exports,
    ),
    PluginTest::file(
        "file/libraries",
        "The libraries it needs are on this machine.",
        libraries,
    ),
    PluginTest::file(
        "file/symbols",
        "The libraries it needs have all the symbols it wants of them.",
        symbols,
    ),
    PluginTest::file("file/stack", "It asks for no executable stack.", stack),
    PluginTest::file(
        "file/compiler",
        "What compiled it, for information.",
        compiler,
    ),
];

/// The symbols that the host looks up in a library.
const DOORS: [&str; 2] = [
    "_1as_0lib_1header_0root_bmodule_bloader",
    "conductor_plugin",
];
/// Symbols that old linkers add to every library.
const LINKERS: [&str; 5] = ["_init", "_fini", "_edata", "_end", "__bss_start"];
const UNREADABLE: &str = "its exports and imports cannot be read";
