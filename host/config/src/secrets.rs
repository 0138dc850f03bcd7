//! Secrets in platforms' configs: `${NAME}` for an environment variable, `{ file = "path" }` for a file's content.
//!
//! They are looked up on every read of the config, and go only to the plugin: a message about a value that contains a
//! secret replaces the value with a note.

use std::{
    collections::BTreeMap,
    env::{self, VarError},
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

use conductor_library::{
    file_reader::{self, ReadError},
    printable,
};
use serde_json::{Map, Value};

use super::{
    error::ConfigMistake,
    escapes,
    own::OwnAddress,
    spans::{self, SpanTree},
};

/// The values of one platform's config that are secrets, and their sources. Its Debug output shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PlatformSecrets {
    /// Paths of values inside `config`.
    paths: Vec<Vec<String>>,
    /// Paths of values inside `config` that could not be looked up; each is an empty string. Such a config is never
    /// used.
    pub unresolved: Vec<Vec<String>>,
    /// The files they were read from.
    pub files: Vec<PathBuf>,
    texts: Vec<String>,
    /// `true` if the config uses the host's own address, by `${self.url}` or `${self.address}`.
    pub name_own_address: bool,
}

/// Looks up the secrets of one platform's config.
pub(super) struct SecretResolver<'a> {
    pub(super) base_dir: &'a Path,
    own: &'a OwnAddress,
    pub(super) places: &'a SpanTree,
    pub(super) faults: Vec<ConfigMistake>,
    /// Warnings that do not prevent the config's use: place and text.
    pub(super) warnings: Vec<(Range<usize>, String)>,
    found: PlatformSecrets,
    /// The files read so far: many platforms of one template have the same.
    read: BTreeMap<PathBuf, (String, bool)>,
}

impl PlatformSecrets {
    /// Returns the paths of the secrets inside `config`.
    pub fn paths(&self) -> &[Vec<String>] {
        &self.paths
    }

    /// Returns `true` for the path of an unresolved secret inside `config`, and for paths below it.
    #[must_use]
    pub fn is_unresolved(&self, path: &[String]) -> bool {
        self.unresolved
            .iter()
            .any(|secret| path.starts_with(secret))
    }

    /// Adds the secrets of a table outside `config`.
    pub(super) fn add_outside(&mut self, other: Self) {
        self.files.extend(other.files);
        self.texts.extend(other.texts);
        self.name_own_address |= other.name_own_address;
    }

    /// Adds a secret that is written into the file itself.
    pub(super) fn add_text(&mut self, text: Option<&str>) {
        self.texts.extend(text.map(str::to_owned));
    }

    /// Returns the secrets themselves, to be redacted from plugin output.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(String::as_str)
    }
}

impl fmt::Debug for PlatformSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlatformSecrets")
            .field("paths", &self.paths)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<'a> SecretResolver<'a> {
    pub(super) fn new(base_dir: &'a Path, own: &'a OwnAddress, places: &'a SpanTree) -> Self {
        Self {
            base_dir,
            own,
            places,
            faults: Vec::new(),
            warnings: Vec::new(),
            found: PlatformSecrets::default(),
            read: BTreeMap::new(),
        }
    }

    /// Replaces the references to secrets in the `config` table at `base` in the file.
    pub(super) fn resolve(&mut self, config: &mut Value, base: &[String]) -> PlatformSecrets {
        self.found = PlatformSecrets::default();
        let mut path = base.to_vec();
        // The table itself is never a secret: a plugin may have a key called `file`.
        self.inside(config, &mut path, base.len());
        std::mem::take(&mut self.found)
    }

    /// Replaces the references to secrets in a platform's or template's table.
    pub(super) fn of_table(
        &mut self,
        table: &str,
        name: &str,
        values: &mut Map<String, Value>,
    ) -> PlatformSecrets {
        let mut found = PlatformSecrets::default();
        if let Some(config) = values.get_mut("config") {
            found = self.resolve(config, &spans::path(&[table, name, "config"]));
        }
        if let Some(heartbeat) = values.get_mut("heartbeat") {
            let base = spans::path(&[table, name, "heartbeat"]);
            found.add_outside(self.resolve(heartbeat, &base));
            found.add_text(heartbeat["token"].as_str());
        }
        found
    }

    fn inside(&mut self, value: &mut Value, path: &mut Vec<String>, depth: usize) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    path.push(key.clone());
                    self.value(value, path, depth);
                    path.pop();
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter_mut().enumerate() {
                    path.push(index.to_string());
                    self.value(value, path, depth);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    fn value(&mut self, value: &mut Value, path: &mut Vec<String>, depth: usize) {
        let resolved = match value {
            Value::String(text) if text.contains("${") => self.expand(text, path),
            Value::Object(table) if table.len() == 1 => match table.get("file") {
                Some(Value::String(name)) => self.file(name, path),
                _ => return self.inside(value, path, depth),
            },
            _ => return self.inside(value, path, depth),
        };
        match resolved {
            Some((text, is_secret)) => {
                *value = Value::String(text);
                if is_secret {
                    self.found.paths.push(path[depth..].to_vec());
                }
            }
            // The mistake is recorded, so the config is not used; the rest of it is validated.
            None => {
                *value = Value::String(String::new());
                self.found.unresolved.push(path[depth..].to_vec());
            }
        }
    }

    /// Returns the text with its variables replaced, and `true` if it had one.
    fn expand(&mut self, text: &str, path: &[String]) -> Option<(String, bool)> {
        let (mut expanded, mut rest, mut is_secret) = (String::new(), text, false);
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                expanded.push_str(&rest[..at]);
                expanded.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            expanded.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let name = inner.split_once('}').map(|(name, _)| name);
            if let Some(own) = name.and_then(|name| self.own.get(name)) {
                expanded.push_str(own);
                self.found.name_own_address = true;
                rest = inner.split_once('}').map_or("", |(_, rest)| rest);
                continue;
            }
            let Some(name) = name.filter(|name| is_name(name)) else {
                let message = format!(
                    "{}: a `${{` that names no variable of the environment",
                    self.places.name(path)
                );
                let help = "write ${NAME}, of letters, digits and `_`, or ${self.url} or ${self.address} for this host itself; where the text itself is meant, write $${";
                self.refuse(path, message, help);
                return None;
            };
            match env::var(name) {
                Ok(secret) if secret.is_empty() => {
                    let message = format!(
                        "{}: the environment's variable {name} is empty",
                        self.places.name(path)
                    );
                    self.refuse(path, message, set_it(name));
                    return None;
                }
                Ok(secret) => {
                    expanded.push_str(&secret);
                    self.found.texts.push(secret);
                }
                Err(error) => {
                    let what = match error {
                        VarError::NotPresent => "is not set",
                        VarError::NotUnicode(_) => "is not UTF-8",
                    };
                    let message = format!(
                        "{}: the environment's variable {name} {what}",
                        self.places.name(path)
                    );
                    self.refuse(path, message, set_it(name));
                    return None;
                }
            }
            is_secret = true;
            rest = &inner[name.len() + 1..];
        }
        expanded.push_str(rest);
        Some((expanded, is_secret))
    }

    fn file(&mut self, name: &str, path: &[String]) -> Option<(String, bool)> {
        if cfg!(windows)
            && let Some(mistake) = escapes::control_in(name, None)
        {
            let place = self.places.value_at(path);
            self.faults.push(mistake.at(place));
            return None;
        }
        let file = self.base_dir.join(name);
        let shown = printable::path(&file);
        let read = match self.read.get(&file) {
            Some(read) => Ok(read.clone()),
            None => read_secret(&file),
        };
        let (secret, is_world_readable) = match read {
            Ok(read) => {
                self.read.insert(file.clone(), read.clone());
                read
            }
            Err((why, help)) => {
                let message = format!("{}: the file {shown} {why}", self.places.name(path));
                self.refuse(path, message, help);
                return None;
            }
        };
        if is_world_readable {
            let warning = format!(
                "{}: secret is readable by all users: run `chmod o-r {shown}`",
                self.places.name(path)
            );
            self.warnings.push((self.places.value_at(path), warning));
        }
        self.found.texts.push(secret.clone());
        self.found.files.push(file);
        Some((secret, true))
    }

    fn refuse(&mut self, path: &[String], message: String, help: impl Into<String>) {
        let place = self.places.value_at(path);
        self.faults
            .push(ConfigMistake::new(message).help(help).at(place));
    }
}

fn set_it(name: &str) -> String {
    format!(
        "set {name} for the host before it starts ({}), or use {{ file = \"…\" }}",
        if cfg!(windows) {
            "as a variable of the system, or of the service's user"
        } else {
            "with systemd: EnvironmentFile="
        }
    )
}

/// Returns the content of a secret file without a byte order mark and trailing newlines, and `true` if every user can
/// read it; or the error and its fix.
fn read_secret(file: &Path) -> Result<(String, bool), (String, String)> {
    let cannot = |error: ReadError| {
        let cure = match &error {
            ReadError::NotAFile(_) | ReadError::TooLarge(_) => {
                "name the file that holds the secret"
            }
            ReadError::NotUtf8(_) => "a secret is text",
            ReadError::TimedOut(_) | ReadError::StillWaiting => {
                "mount it again, or move the secret to a disk of this machine"
            }
            ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                "paths are relative to the folder of the config"
            }
            ReadError::Io(_) => "the user the host runs as must be able to read it",
        };
        (format!("cannot be read: {error}"), cure.to_owned())
    };
    let content = file_reader::read(file, LARGEST_SECRET).map_err(cannot)?;
    let is_world_readable = content.is_world_readable();
    let text = content.into_text().map_err(cannot)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(("is empty".to_owned(), "write the secret into it".to_owned()));
    }
    Ok((secret.to_owned(), is_world_readable))
}

fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
}

/// In bytes; a certificate chain fits.
const LARGEST_SECRET: u64 = 64 << 10;
