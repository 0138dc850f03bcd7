//! `conductor plugin new`: writes a plugin project that builds, has a test, and passes the validator.
//!
//! The templates are next to this file, with placeholders such as `{{id}}`.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use conductor_command::{CliError, CommandExit, print};
use conductor_plugin_api::manifest::is_valid_id;

use self::api::ApiError;

mod api;

#[derive(clap::Args)]
pub struct PluginNewArgs {
    /// Id of the plugin: 1–63 lower-case letters, digits and `-`, starting with a letter
    #[arg(value_name = "NAME")]
    id: String,
    /// Language and kind of the probe
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: ProjectLanguage,
    /// Folder of conductor-plugin-api [default: the one of this program's source if it exists, else the repository]
    #[arg(long, value_name = "PATH")]
    api: Option<PathBuf>,
    /// Folder in which to create the project's folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ProjectLanguage {
    /// Rust, blocking: a check occupies a thread while it runs
    Rust,
    /// Rust, asynchronous: thousands of checks share a few threads
    RustAsync,
    /// C, with the header as its only dependency
    C,
    /// C++11, behind the same header
    Cpp,
    /// Go, behind the same header; needs cgo
    Go,
    /// Zig, with the C ABI in a file of its own
    Zig,
}

impl ProjectLanguage {
    fn is_rust(self) -> bool {
        matches!(self, Self::Rust | Self::RustAsync)
    }
}

pub(super) fn run(args: &PluginNewArgs) -> Result<CommandExit, CliError> {
    let plugin = PluginProject::new(args).map_err(|error| CliError::Usage(error.to_string()))?;
    let folder = match args.dir.as_os_str() {
        here if here == "." => PathBuf::from(&args.id),
        _ => args.dir.join(&args.id),
    };
    write(&folder, &plugin)
        .map_err(|why| CliError::Other(format!("{}: {why}", folder.display())))?;
    let steps = plugin.next_steps(&folder);
    print(&format!("{} is there; next:\n{steps}", folder.display()))?;
    Ok(CommandExit::Ok)
}

/// A project that cannot be written as ordered.
#[derive(Debug, thiserror::Error)]
enum ProjectError {
    #[error(
        "{0:?} cannot be the id of a plugin: that is 1–63 lower-case letters, digits and `-`, the first a letter"
    )]
    Id(String),
    #[error(
        "--api is for plugins in Rust; one in another language gets a copy of the header, which is all it needs"
    )]
    ApiForC,
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// The reason why a project was not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(
        "is there already, and nothing is ever written over; take another name, or another folder with --dir"
    )]
    Exists,
    #[error("the folder to make it in is not there; make that first, or name another with --dir")]
    NoParent,
    #[error("cannot be made: {0}; name a folder that you may write to with --dir")]
    Folder(#[source] io::Error),
    #[error("{name} cannot be written: {source}")]
    File {
        name: &'static str,
        source: io::Error,
    },
}

/// The project to write.
struct PluginProject {
    language: ProjectLanguage,
    /// Each placeholder of the templates, with its value.
    places: Vec<(&'static str, String)>,
}

impl PluginProject {
    fn new(args: &PluginNewArgs) -> Result<Self, ProjectError> {
        let id = &args.id;
        if !is_valid_id(id.as_bytes()) {
            return Err(ProjectError::Id(id.clone()));
        }
        let api = match (args.lang.is_rust(), &args.api) {
            (true, named) => {
                let features: &[_] = match args.lang {
                    ProjectLanguage::RustAsync => &["tokio"],
                    _ => &[],
                };
                api::dependency(named.as_deref(), features)?
            }
            (false, None) => String::new(),
            (false, Some(_)) => return Err(ProjectError::ApiForC),
        };
        let package = format!("conductor-plugin-{id}");
        let stem = match args.lang.is_rust() {
            true => package.replace('-', "_"),
            false => id.clone(),
        };
        let library = format!(
            "{}{stem}{}",
            std::env::consts::DLL_PREFIX,
            std::env::consts::DLL_SUFFIX
        );
        Ok(Self {
            language: args.lang,
            places: vec![
                ("{{id}}", id.clone()),
                ("{{package}}", package),
                ("{{library}}", library),
                ("{{type}}", type_name(id)),
                ("{{repository}}", env!("CARGO_PKG_REPOSITORY").to_owned()),
                ("{{api}}", api),
            ],
        })
    }

    fn files(&self) -> &'static [(&'static str, &'static str)] {
        match self.language {
            ProjectLanguage::Rust => RUST,
            ProjectLanguage::RustAsync => RUST_ASYNC,
            ProjectLanguage::C => C,
            ProjectLanguage::Cpp => CPP,
            ProjectLanguage::Go => GO,
            ProjectLanguage::Zig => ZIG,
        }
    }

    fn filled(&self, template: &str) -> String {
        let places = self.places.iter();
        places.fold(template.to_owned(), |text, (place, content)| {
            text.replace(place, content)
        })
    }

    /// Returns the next commands to type.
    fn next_steps(&self, folder: &Path) -> String {
        let folder = quoted(folder);
        let steps = match self.language.is_rust() {
            false => "  make test\n  make\n  conductor plugin validate {{library}}\n",
            true => {
                "  cargo test\n  cargo build --release\n  conductor plugin validate target/release/{{library}}\n"
            }
        };
        self.filled(&format!("  cd {folder}\n{steps}"))
    }
}

/// Writes all files into a new folder, or leaves nothing.
fn write(folder: &Path, plugin: &PluginProject) -> Result<(), WriteError> {
    fs::create_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => WriteError::Exists,
        ErrorKind::NotFound => WriteError::NoParent,
        _ => WriteError::Folder(error),
    })?;
    let written = plugin.files().iter().try_for_each(|(name, template)| {
        put(&folder.join(name), &plugin.filled(template))
            .map_err(|source| WriteError::File { name, source })
    });
    if written.is_err() {
        // It was created above, so it contains only our files. The error names anything that cannot be removed.
        let _ = fs::remove_dir_all(folder);
    }
    written
}

fn put(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(file)?;
    file.write_all(text.as_bytes())
}

/// `my-db` → `MyDbCheck`: the suffix distinguishes it from all names in a template.
fn type_name(id: &str) -> String {
    let words = id.split('-').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    words.chain(["Check".to_owned()]).collect()
}

/// Quotes a path for a shell; on Windows for cmd and PowerShell, and no path has a `"` there.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_separator = |c: char| c == '/' || (cfg!(windows) && "\\:".contains(c));
    let is_plain = |c: char| c.is_alphanumeric() || "._-".contains(c) || is_separator(c);
    if path.chars().all(is_plain) {
        return path;
    }
    if cfg!(windows) {
        return format!("\"{path}\"");
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

const RUST: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("new/rust/Cargo.toml.template")),
    ("src/lib.rs", include_str!("new/rust/lib.rs.template")),
    ("README.md", include_str!("new/rust/README.md.template")),
    (".gitignore", include_str!("new/rust/gitignore.template")),
];

const RUST_ASYNC: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        include_str!("new/rust-async/Cargo.toml.template"),
    ),
    ("src/lib.rs", include_str!("new/rust-async/lib.rs.template")),
    (
        "README.md",
        include_str!("new/rust-async/README.md.template"),
    ),
    (".gitignore", include_str!("new/rust/gitignore.template")),
];

const C: &[(&str, &str)] = &[
    ("Makefile", include_str!("new/c/Makefile.template")),
    ("plugin.c", include_str!("new/c/plugin.c.template")),
    ("test.c", include_str!("new/c/test.c.template")),
    HEADER,
    TEST_HEADER,
    ("README.md", include_str!("new/c/README.md.template")),
    (".gitignore", include_str!("new/c/gitignore.template")),
];

const CPP: &[(&str, &str)] = &[
    ("Makefile", include_str!("new/cpp/Makefile.template")),
    ("plugin.cpp", include_str!("new/cpp/plugin.cpp.template")),
    ("test.cpp", include_str!("new/cpp/test.cpp.template")),
    EXPORTS,
    HEADER,
    TEST_HEADER,
    ("README.md", include_str!("new/cpp/README.md.template")),
    (".gitignore", include_str!("new/c/gitignore.template")),
];

const GO: &[(&str, &str)] = &[
    ("Makefile", include_str!("new/go/Makefile.template")),
    ("go.mod", include_str!("new/go/go.mod.template")),
    ("probe.go", include_str!("new/go/probe.go.template")),
    (
        "probe_test.go",
        include_str!("new/go/probe_test.go.template"),
    ),
    ("plugin.go", include_str!("new/go/plugin.go.template")),
    ("plugin.c", include_str!("new/go/plugin.c.template")),
    EXPORTS,
    HEADER,
    ("README.md", include_str!("new/go/README.md.template")),
    (".gitignore", include_str!("new/go/gitignore.template")),
];

const ZIG: &[(&str, &str)] = &[
    ("Makefile", include_str!("new/zig/Makefile.template")),
    ("plugin.zig", include_str!("new/zig/plugin.zig.template")),
    ("probe.zig", include_str!("new/zig/probe.zig.template")),
    (
        "conductor.zig",
        include_str!("new/zig/conductor.zig.template"),
    ),
    EXPORTS,
    HEADER,
    ("README.md", include_str!("new/zig/README.md.template")),
    (".gitignore", include_str!("new/zig/gitignore.template")),
];

const HEADER: (&str, &str) = (
    "conductor_plugin.h",
    include_str!("../../../plugin-api/include/conductor_plugin.h"),
);
const TEST_HEADER: (&str, &str) = (
    "conductor_test.h",
    include_str!("../../../plugin-api/include/conductor_test.h"),
);
/// The version script of a library that exports the plugin alone.
const EXPORTS: (&str, &str) = ("exports.map", include_str!("new/exports.map.template"));

#[cfg(test)]
mod tests {
    use super::*;

    fn args(id: &str, lang: ProjectLanguage, dir: &Path) -> PluginNewArgs {
        PluginNewArgs {
            id: id.to_owned(),
            lang,
            api: None,
            dir: dir.to_owned(),
        }
    }

    #[test]
    fn every_place_is_filled() {
        for &language in ProjectLanguage::value_variants() {
            let folder = tempfile::tempdir().unwrap();
            let plugin = PluginProject::new(&args("my-db", language, folder.path())).unwrap();
            let place = folder.path().join("my-db");
            write(&place, &plugin).unwrap();
            for (name, _) in plugin.files() {
                let text = fs::read_to_string(place.join(name)).unwrap();
                // A brace that is doubled in Rust's own format strings is followed by a space.
                let left = text
                    .match_indices("{{")
                    .find(|(at, _)| text[at + 2..].starts_with(char::is_alphabetic));
                assert_eq!(left, None, "{name}:\n{text}");
            }
        }
    }

    #[test]
    fn names_that_are_no_ids_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for id in ["", "My", "1a", "a_b", "../x", "a b", &"x".repeat(65)] {
            let error = run(&args(id, ProjectLanguage::Rust, folder.path())).unwrap_err();
            assert!(format!("{error:?}").contains("1–63"), "{id}: {error:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("x")).unwrap();
        let error = run(&args("x", ProjectLanguage::Rust, folder.path())).unwrap_err();
        assert!(
            format!("{error:?}").contains("is there already"),
            "{error:?}"
        );
        assert_eq!(fs::read_dir(folder.path().join("x")).unwrap().count(), 0);
        let nowhere = folder.path().join("nowhere");
        let error = run(&args("x", ProjectLanguage::Rust, &nowhere)).unwrap_err();
        assert!(format!("{error:?}").contains("not there"), "{error:?}");
    }

    #[test]
    fn what_could_not_be_written_whole_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(200));
        let plugin = PluginProject::new(&args("x", ProjectLanguage::Rust, folder.path())).unwrap();
        assert!(write(&long.join("y"), &plugin).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn types_are_named_after_the_id() {
        assert_eq!(type_name("my-db"), "MyDbCheck");
        assert_eq!(type_name("x-2--y-"), "X2YCheck");
    }

    #[test]
    fn a_path_is_quoted_for_the_shell_where_it_must_be() {
        assert_eq!(quoted(Path::new("./a/b-c_1")), "./a/b-c_1");
        if cfg!(windows) {
            assert_eq!(quoted(Path::new(r"C:\a\b")), r"C:\a\b");
            assert_eq!(quoted(Path::new("a b's")), "\"a b's\"");
        } else {
            assert_eq!(quoted(Path::new("a b's")), r"'a b'\''s'");
        }
    }
}
