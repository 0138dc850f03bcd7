//! Level 1: facts about the file that are known without running a byte of it.
//!
//! The rules of vetting use the host's own code; the tests here add criteria of a good library.

use std::path::Path;

use conductor_library as library;
use conductor_library::{Inspection, Language, Outcome, Rule, linkage::Linkage};

use super::{advice::Advice, catalogue::Test, verdict::Verdict};

/// The facts read from a file.
pub(super) struct Facts {
    pub(super) inspection: Inspection,
    /// `None` unless it is a readable ELF library.
    linkage: Option<Linkage>,
    /// `None` if it has no manifest.
    language: Option<Language>,
    name: String,
}

impl Facts {
    pub(super) fn read(file: &Path) -> Self {
        let inspection = library::inspect(file);
        // Reading a FIFO would never end.
        let is_regular = passed(&inspection, Rule::Segments);
        Self {
            linkage: is_regular.then(|| Linkage::read(file)).flatten(),
            language: inspection.manifest.as_ref().and_then(|manifest| {
                let bytes = std::fs::read(file).ok()?;
                Some(Language::of(manifest.door, &bytes))
            }),
            inspection,
            name: file.display().to_string(),
        }
    }

    fn rules(&self, rules: &[Rule]) -> Verdict {
        let mut open = false;
        for verdict in &self.inspection.verdicts {
            if !rules.contains(&verdict.rule) {
                continue;
            }
            match &verdict.outcome {
                Outcome::Passed => {}
                Outcome::Refused { found, cure } => return Verdict::failed(found, cure),
                Outcome::Open => open = true,
            }
        }
        if open {
            return Verdict::skipped("the file could not be read so far");
        }
        Verdict::passed("")
    }
}

fn passed(inspection: &Inspection, rule: Rule) -> bool {
    let mut verdicts = inspection.verdicts.iter();
    verdicts.any(|verdict| verdict.rule == rule && verdict.outcome == Outcome::Passed)
}

fn exports(facts: &Facts) -> Verdict {
    let Some(linkage) = &facts.linkage else {
        return Verdict::skipped(NO_ELF);
    };
    let ours = |name: &&String| DOORS.contains(&name.as_str()) || LINKERS.contains(&name.as_str());
    let others: Vec<&String> = linkage.exports.keys().filter(|name| !ours(name)).collect();
    match &*others {
        [] => Verdict::passed("nothing but its door"),
        [first, ..] => Verdict::warning(
            format!(
                "offers {} symbols besides its door, such as {first}",
                others.len()
            ),
            Advice::Exports.in_language(facts.language.unwrap_or(Language::C)),
        ),
    }
}

fn libraries(facts: &Facts) -> Verdict {
    let Some(linkage) = &facts.linkage else {
        return Verdict::skipped(NO_ELF);
    };
    if let Some(folder) = linkage
        .search
        .iter()
        .find(|it| it.contains("$ORIGIN") || it.contains("${ORIGIN}"))
    {
        return Verdict::warning(
            format!(
                "searches {folder} for libraries, where it finds none: a host loads a private copy, beside which nothing else lies"
            ),
            "link what it needs statically, or install it where the system searches",
        );
    }
    let missing = linkage.missing(&facts.name).libraries;
    match &*missing {
        [] => Verdict::passed(linkage.needed.join(" ")),
        [(name, who), ..] => Verdict::failed(
            format!("{name}, which {who} needs, is not on this machine"),
            "install the package it is from, or link it statically",
        ),
    }
}

fn symbols(facts: &Facts) -> Verdict {
    let Some(linkage) = &facts.linkage else {
        return Verdict::skipped(NO_ELF);
    };
    let missing = linkage.missing(&facts.name);
    if !missing.libraries.is_empty() {
        return Verdict::skipped("not all libraries it needs are there");
    }
    match &*missing.symbols {
        [] => Verdict::passed(format!("{} found", linkage.imports.len())),
        [first, ..] => {
            let version = match &*first.version {
                "" => String::new(),
                version => format!(" of version {version}"),
            };
            let count = missing.symbols.len();
            Verdict::failed(
                format!(
                    "no library it needs has {}{version} ({count} symbols are missing)",
                    first.name
                ),
                "build it against the oldest system it is to run on, and link all that it calls (-z defs finds what is left out)",
            )
        }
    }
}

fn stack(facts: &Facts) -> Verdict {
    let Some(linkage) = &facts.linkage else {
        return Verdict::skipped(NO_ELF);
    };
    if linkage.executable_stack {
        return Verdict::failed(
            "asks for an executable stack, which makes those of the whole process so",
            "link with -z noexecstack; hand-written assembly lacks a .note.GNU-stack section",
        );
    }
    Verdict::passed("")
}

fn compiler(facts: &Facts) -> Verdict {
    match &facts.linkage {
        None => Verdict::skipped(NO_ELF),
        Some(linkage) => match (linkage.rustc(), linkage.made_by.first()) {
            (Some(made_by), _) => Verdict::passed(made_by),
            (None, Some(made_by)) => Verdict::passed(made_by),
            (None, None) => Verdict::skipped("it does not say; it may be stripped of that"),
        },
    }
}

pub(super) const TESTS: &[Test] = &[
    Test::file(
        "file/regular",
        "It is a regular file that can be read.",
        |facts| facts.rules(&[Rule::RegularFile, Rule::Size]),
    ),
    Test::file(
        "file/permissions",
        "Nobody but its owner and root can change it or put another in its place.",
        |facts| facts.rules(&[Rule::Owner, Rule::Permissions, Rule::Folder]),
    ),
    Test::file(
        "file/format",
        "It is a shared library of this OS's format.",
        |facts| facts.rules(&[Rule::Format, Rule::Kind]),
    ),
    Test::file(
        "file/architecture",
        "It is built for this machine's processor.",
        |facts| facts.rules(&[Rule::Architecture]),
    ),
    Test::file(
        "file/whole",
        "All that its headers speak of lies inside the file.",
        |facts| facts.rules(&[Rule::Segments]),
    ),
    Test::file(
        "file/manifest",
        "It has one manifest, well formed, of a door this host knows.",
        |facts| facts.rules(&[Rule::Manifest, Rule::Door]),
    ),
    Test::file(
        "file/api-version",
        "It was built for an API this host speaks.",
        |facts| facts.rules(&[Rule::ApiVersion]),
    ),
    Test::file(
        "file/panic-strategy",
        "Its panics unwind, so that they can be caught.",
        |facts| facts.rules(&[Rule::PanicStrategy]),
    ),
    Test::file(
        "file/exports",
        "It offers no symbols but its door.",
        exports,
    ),
    Test::file(
        "file/libraries",
        "The libraries it needs are on this machine.",
        libraries,
    ),
    Test::file(
        "file/symbols",
        "The libraries it needs have all the symbols it wants of them.",
        symbols,
    ),
    Test::file("file/stack", "It asks for no executable stack.", stack),
    Test::file(
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
const NO_ELF: &str = "it is no ELF library that can be read";
