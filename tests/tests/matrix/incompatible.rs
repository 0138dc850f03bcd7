//! Libraries that must be refused, and the one-line reason.

use std::{fs, path::Path};

use crate::{
    Row,
    compatible::{debug, row},
    crossing::{start, this_host},
    harness::Setup,
    next::{append_to, replace},
    toolchain::Toolchain,
    tree::Tree,
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row(
            "a plugin that would abort is not built",
            a_plugin_that_would_abort,
        ),
        row(
            "each change of what is frozen is refused in a line",
            each_is_refused,
        ),
    ]
}

/// A library that must be refused.
struct Variant {
    /// The plugin's id, and its fault.
    id: &'static str,
    change: fn(&str, String) -> String,
    forge: fn(&mut Vec<u8>),
}

const VARIANTS: [Variant; 11] = [
    variant("field-added", field_added),
    variant("type-changed", |file, text| {
        in_abi(file, text, |text| {
            replace(&text, "    pub key: RString,", "    pub key: u64,")
        })
    }),
    variant("fields-swapped", |file, text| {
        in_abi(file, text, |text| {
            let text = replace(&text, "    pub key: RString,", "    pub first: RString,");
            let value = "    /// Its content.\n    pub value: RString,";
            let text = replace(&text, value, "    /// Its content.\n    pub key: RString,");
            replace(&text, "    pub first: RString,", "    pub value: RString,")
        })
    }),
    variant("field-renamed", |file, text| {
        in_abi(file, text, |text| {
            replace(&text, "    pub key: RString,", "    pub name: RString,")
        })
    }),
    variant("method-removed", method_removed),
    variant("methods-reordered", |file, text| {
        in_abi(file, text, |text| {
            let text = replace(&text, CLOSE, "");
            replace(&text, CHECK, &format!("{}{PREFIX_ENDS}{CHECK}", close()))
        })
    }),
    variant("prefix-longer", |file, text| {
        in_abi(file, text, |text| {
            let (before, after) = text.split_once("    pub asynchronous: bool,").unwrap();
            let (before, between) = before.rsplit_once(PREFIX_ENDS).unwrap();
            format!("{before}{between}{PREFIX_ENDS}    pub asynchronous: bool,{after}")
        })
    }),
    variant("another-major", another_major),
    Variant {
        id: "another-major-that-lies",
        change: another_major,
        forge: |library| {
            let manifest = manifest_of(library);
            library[manifest + 12] = 1;
        },
    },
    Variant {
        id: "another-abi-stable",
        change: |_, text| text,
        forge: |library| {
            let mark = b"abi stable library for Rust";
            let header = library.windows(mark.len()).position(|w| w == mark).unwrap();
            // After the mark's 32 bytes: 0.11 becomes 0.10.
            assert_eq!(library[header + 36], 11);
            library[header + 36] = 10;
        },
    },
    Variant {
        id: "aborts",
        change: |_, text| text,
        forge: |library| {
            let manifest = manifest_of(library);
            library[manifest + 19] = 0;
        },
    },
];

fn a_plugin_that_would_abort() -> Result<(), String> {
    let toolchain = Toolchain::this();
    let output = Tree::today().try_build(&debug(&toolchain, ""), &["-C", "panic=abort"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("error"))
        .collect();
    assert_eq!(
        errors.first(),
        Some(
            &"error: a plugin must be built with panic = \"unwind\": with \"abort\" its first panic would end the host"
        ),
        "{said}"
    );
    assert!(!output.status.success());
    Ok(())
}

fn each_is_refused() -> Result<(), String> {
    let toolchain = Toolchain::this();
    let mut setup = Setup::without_plugins();
    for variant in &VARIANTS {
        let Variant { id, change, forge } = variant;
        let tree = Tree::new(id, &["plugin-api"], &|file, text| match file {
            "plugin/src/lib.rs" => replace(&text, "id: \"crossing\"", &format!("id: \"{id}\"")),
            _ => change(file, text),
        });
        let mut library = fs::read(tree.build(&debug(&toolchain, ""))).unwrap();
        forge(&mut library);
        fs::write(setup.plugin_dir().join(format!("{id}.so")), library).unwrap();
        setup = setup.platform(id, id, "{}");
    }
    let folder = setup.plugin_dir();
    let mut host = start(&this_host(), setup);
    let lines: Vec<_> = VARIANTS
        .iter()
        .map(|variant| refusal(&host, variant.id, &folder))
        .collect();
    assert!(host.stop().success());
    insta::assert_snapshot!("refusals", lines.join("\n"));
    Ok(())
}

/// Returns the one line with which the host refuses a library; its name replaces its path.
fn refusal(host: &crate::harness::Host, id: &str, folder: &Path) -> String {
    let file = format!("{}/{id}.so", folder.display());
    host.wait("a refusal", |m| {
        m.failures(id, "abi") + m.failures(id, "load") >= 1.0
    });
    host.wait_for_log(&file);
    let log = host.log();
    let line = log.lines().find(|line| line.contains(&file)).unwrap();
    let start = line.rfind(&file).unwrap();
    let mut line = line[start..].replace(&file, &format!("{id}.so"));
    // The place in the config is in a folder that changes.
    let place = format!(" ({}", host.setup.path("conductor.toml").display());
    if let Some((before, after)) = line.split_once(&place) {
        let (_, after) = after.split_once(')').unwrap();
        line = format!("{before}{after}");
    }
    // The line is that of the library or that of the platform, whichever the host writes first.
    let line = line
        .replace(": refused by rule", ": rule")
        .replace("; help: ", "; ");
    // The fields that the host may write after the message.
    line.split(" plugin=").next().unwrap().trim().to_owned()
}

const fn variant(id: &'static str, change: fn(&str, String) -> String) -> Variant {
    Variant {
        id,
        change,
        forge: |_| {},
    }
}

fn in_abi(file: &str, text: String, change: impl Fn(String) -> String) -> String {
    match file {
        "plugin-api/src/abi.rs" => change(text),
        _ => text,
    }
}

fn field_added(file: &str, text: String) -> String {
    let made = "        AbiReport {\n";
    match file {
        "plugin-api/src/abi.rs" => {
            let more = "    /// Too much.\n    pub more: u64,\n";
            append_to(&text, "pub struct AbiReport {", more)
        }
        "plugin-api/src/export.rs" => {
            replace(&text, made, &format!("{made}            more: 0,\n"))
        }
        _ => text,
    }
}

fn method_removed(file: &str, text: String) -> String {
    match file {
        "plugin-api/src/abi.rs" => {
            let text = replace(&text, CLOSE, "");
            replace(&text, CHECK, &format!("{PREFIX_ENDS}{CHECK}"))
        }
        _ if file.starts_with("plugin-api/src/") => {
            let mut text = text;
            let method = "\n    fn close(&mut self, call: &AbiCall)";
            while let Some((before, after)) = text.split_once(method) {
                let (_, after) = after.split_once("\n    }\n").unwrap();
                text = format!("{before}\n{after}");
            }
            text
        }
        _ => text,
    }
}

fn another_major(file: &str, text: String) -> String {
    match file {
        "plugin-api/Cargo.toml" => {
            let version = text
                .lines()
                .find(|line| line.starts_with("version = "))
                .unwrap();
            replace(&text, version, "version = \"2.0.0\"")
        }
        "Cargo.toml" => {
            let old = "conductor-plugin-api = { path = \"plugin-api\", version = ";
            let (before, after) = text.split_once(old).unwrap();
            let (_, after) = after.split_once(" }").unwrap();
            format!("{before}{old}\"2.0.0\" }}{after}")
        }
        _ => text,
    }
}

/// The method without the mark that ends the prefix.
fn close() -> String {
    replace(CLOSE, PREFIX_ENDS, "")
}

/// Returns the position of the manifest's record in a library.
fn manifest_of(library: &[u8]) -> usize {
    let magic = b"CNDCTR\x1a\x01";
    library
        .windows(magic.len())
        .position(|w| w == magic)
        .unwrap()
}

const PREFIX_ENDS: &str = "    #[sabi(last_prefix_field)]\n";
const CHECK: &str = "    fn check(&mut self, call: &AbiCall) -> RResult<AbiReport, AbiFailure>;\n";
const CLOSE: &str = "    #[sabi(last_prefix_field)]\n    fn close(&mut self, call: &AbiCall) -> RResult<(), AbiFailure>;\n";
