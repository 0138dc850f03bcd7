//! Prometheus's `file_sd`: files in JSON or YAML, named by paths and patterns.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use conductor_library::file_reader::{self, ReadError};
use thiserror::Error;

use crate::{GroupError, Target, TargetFormat, parse_groups};

/// The files of one discovery, with the last good result of each.
#[derive(Debug)]
pub struct FileSource {
    patterns: Vec<PathBuf>,
    limits: DiscoveryLimits,
    files: BTreeMap<PathBuf, KnownFile>,
}

#[derive(Debug, Default)]
struct KnownFile {
    /// The text that `targets` come from.
    text: Option<String>,
    targets: Arc<[Target]>,
    error: Option<String>,
}

/// Limits on one discovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DiscoveryLimits {
    /// Bytes in one file or response.
    pub bytes: u64,
    /// Targets of all files together.
    pub targets: usize,
}

/// One reading of all files.
#[derive(Clone, Debug, Default)]
pub struct SourceReading {
    /// The targets of all files, in the order of their paths; those of a file with an error are its last ones.
    pub targets: Vec<Target>,
    /// The errors that are new or have changed since the last reading, each to be logged once.
    pub new_errors: Vec<FileError>,
    /// The files that had an error at the last reading and have none now.
    pub recovered: Vec<PathBuf>,
    /// Number of files that have an error at present.
    pub failing: usize,
}

/// A file whose last targets are kept.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{}: {reason}: its last {kept} targets are kept", path.display())]
pub struct FileError {
    /// The file, or the pattern.
    pub path: PathBuf,
    /// The reason why it is not used.
    pub reason: String,
    /// Number of targets that are kept.
    pub kept: usize,
}

/// A path that is no pattern.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{}: not a pattern of files: {reason}", path.display())]
pub struct FilePatternError {
    /// The path.
    pub path: PathBuf,
    /// The part of the syntax that it breaks.
    pub reason: &'static str,
}

#[derive(Debug, Error)]
enum FileProblem {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Groups(#[from] GroupError),
    #[error("with its {found} targets there are more than {limit}: the discovery's limit")]
    TooMany { found: usize, limit: usize },
}

impl Default for DiscoveryLimits {
    /// 32 MiB and 100 000 targets.
    fn default() -> Self {
        Self {
            bytes: 32 << 20,
            targets: 100_000,
        }
    }
}

impl FileSource {
    /// Creates a source; `patterns` are paths, in which `*` and `?` match parts of a file's name, as in Prometheus.
    ///
    /// # Errors
    /// When a path is no pattern, for example because a `[` is not closed.
    pub fn try_new(
        patterns: Vec<PathBuf>,
        limits: DiscoveryLimits,
    ) -> Result<Self, FilePatternError> {
        for path in &patterns {
            let text = path.to_string_lossy();
            if let Err(error) = glob::Pattern::new(&text) {
                return Err(FilePatternError {
                    path: path.clone(),
                    reason: error.msg,
                });
            }
        }
        Ok(Self {
            patterns,
            limits,
            files: BTreeMap::new(),
        })
    }

    /// Reads all files.
    ///
    /// A file that cannot be used keeps its last targets. The targets of a file that no pattern matches any more are
    /// gone; a file that is named without a pattern is expected to exist, and a missing one is an error.
    pub fn read(&mut self) -> SourceReading {
        let mut reading = SourceReading::default();
        let mut found = self.found();
        // A folder that does not respond, or may not be read, does not take its files away.
        for (path, file) in &self.files {
            if found.contains_key(path) {
                continue;
            }
            if file.text.is_some() && may_exist(path) {
                let text = file_reader::read_text(path, self.limits.bytes);
                found.insert(path.clone(), text);
            } else if file.error.is_some() {
                reading.recovered.push(path.clone());
            }
        }
        self.files.retain(|path, _| found.contains_key(path));
        // Those not read yet count with the targets they had.
        let mut total: usize = self.files.values().map(|file| file.targets.len()).sum();
        for (path, text) in found {
            let file = self.files.entry(path.clone()).or_default();
            let others = total - file.targets.len();
            let result = file.update(text, &path, self.limits.targets - others);
            total = others + file.targets.len();
            let error = result.err().map(|problem| problem.to_string());
            let is_new = error != file.error;
            match &error {
                Some(reason) => {
                    reading.failing += 1;
                    if is_new {
                        reading.new_errors.push(FileError {
                            path,
                            reason: reason.clone(),
                            kept: file.targets.len(),
                        });
                    }
                }
                None if is_new => reading.recovered.push(path),
                None => {}
            }
            file.error = error;
        }
        let files = self.files.values();
        reading.targets = files
            .flat_map(|file| file.targets.iter().cloned())
            .collect();
        reading
    }

    /// Returns the text of each file that a pattern matches, or that is named without one, and the errors of folders.
    fn found(&self) -> BTreeMap<PathBuf, Result<String, ReadError>> {
        let mut found = BTreeMap::new();
        let mut paths: Vec<PathBuf> = Vec::new();
        for pattern in &self.patterns {
            let text = pattern.to_string_lossy().into_owned();
            if !text.contains(['*', '?', '[']) {
                paths.push(pattern.clone());
                continue;
            }
            match file_reader::within(pattern, file_reader::PATIENCE, move || matches(&text)) {
                Ok(matches) => {
                    for entry in matches {
                        match entry {
                            Ok(path) => paths.push(path),
                            Err(error) => {
                                let path = error.path().to_owned();
                                found.insert(path, Err(ReadError::Io(error.into())));
                            }
                        }
                    }
                }
                Err(error) => {
                    found.insert(pattern.clone(), Err(error));
                }
            }
        }
        for path in paths {
            let text = file_reader::read_text(&path, self.limits.bytes);
            found.insert(path, text);
        }
        found
    }
}

impl KnownFile {
    fn update(
        &mut self,
        text: Result<String, ReadError>,
        path: &Path,
        room: usize,
    ) -> Result<(), FileProblem> {
        let text = text?;
        if self.text.as_ref() == Some(&text) {
            return Ok(());
        }
        let targets = parse_groups(&text, format_of(path), &path.display().to_string())?;
        if targets.len() > room {
            return Err(FileProblem::TooMany {
                found: targets.len(),
                limit: room,
            });
        }
        self.text = Some(text);
        self.targets = targets.into();
        Ok(())
    }
}

/// Returns the files that a pattern matches, and the folders that cannot be read.
fn matches(pattern: &str) -> Vec<glob::GlobResult> {
    // `FileSource::try_new` has parsed it.
    glob::glob(pattern)
        .map(Iterator::collect)
        .unwrap_or_default()
}

/// Returns the format by the file's name, as Prometheus does.
fn format_of(path: &Path) -> TargetFormat {
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("json") => TargetFormat::Json,
        _ => TargetFormat::Yaml,
    }
}

/// Returns `false` if a file is certainly gone.
fn may_exist(path: &Path) -> bool {
    match file_reader::metadata(path) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LIMITS: DiscoveryLimits = DiscoveryLimits {
        bytes: 200,
        targets: 4,
    };

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        fn source(&self, pattern: &str) -> FileSource {
            FileSource::try_new(vec![self.path(pattern)], LIMITS).unwrap()
        }
    }

    fn names(reading: &SourceReading) -> String {
        reading.targets.iter().map(|t| t.target.as_str()).collect()
    }

    #[test]
    fn files_of_both_formats_are_found_by_pattern() {
        let folder = Folder::new();
        folder.write("a.json", r#"[{"targets": ["a", "b"]}]"#);
        folder.write("b.yml", "- targets: [c]\n");
        folder.write("c.txt", "neither");
        let patterns = vec![folder.path("*.json"), folder.path("*.yml")];
        let mut source = FileSource::try_new(patterns, LIMITS).unwrap();
        let reading = source.read();
        assert_eq!((names(&reading).as_str(), reading.failing), ("abc", 0));
        assert!(reading.targets[0].origin.ends_with("a.json, group 1"));
        fs::remove_file(folder.path("a.json")).unwrap();
        let reading = source.read();
        assert_eq!((names(&reading).as_str(), reading.failing), ("c", 0));
    }

    #[test]
    fn a_half_written_file_keeps_its_targets_and_is_reported_once() {
        let folder = Folder::new();
        folder.write("a.json", r#"[{"targets": ["a", "b"]}]"#);
        folder.write("b.json", r#"[{"targets": ["c"]}]"#);
        let mut source = folder.source("*.json");
        source.read();
        folder.write("a.json", r#"[{"targets": ["a", "#);
        folder.write("b.json", r#"[{"targets": ["d"]}]"#);
        let reading = source.read();
        assert_eq!((names(&reading).as_str(), reading.failing), ("abd", 1));
        let [error] = &reading.new_errors[..] else {
            panic!("{:?}", reading.new_errors);
        };
        let error = error.to_string();
        assert!(error.contains("a.json: not JSON: EOF"), "{error}");
        assert!(error.ends_with("its last 2 targets are kept"), "{error}");
        let reading = source.read();
        assert_eq!((reading.new_errors.len(), reading.failing), (0, 1));
        folder.write("a.json", r#"[{"targets": ["x"]}]"#);
        let reading = source.read();
        assert_eq!((names(&reading).as_str(), reading.failing), ("xd", 0));
        assert_eq!(reading.recovered, [folder.path("a.json")]);
    }

    #[test]
    fn a_file_restored_to_its_last_good_text_recovers() {
        let folder = Folder::new();
        let good = r#"[{"targets": ["a"]}]"#;
        folder.write("a.json", good);
        let mut source = folder.source("a.json");
        source.read();
        folder.write("a.json", "");
        assert_eq!(source.read().failing, 1);
        folder.write("a.json", good);
        let reading = source.read();
        assert_eq!((names(&reading).as_str(), reading.failing), ("a", 0));
        assert_eq!(reading.recovered.len(), 1);
    }

    #[test]
    fn a_named_file_that_is_missing_keeps_its_targets() {
        let folder = Folder::new();
        folder.write("a.json", r#"[{"targets": ["a"]}]"#);
        let mut source = folder.source("a.json");
        source.read();
        fs::remove_file(folder.path("a.json")).unwrap();
        let reading = source.read();
        assert_eq!((names(&reading).as_str(), reading.failing), ("a", 1));
        assert_eq!(reading.new_errors.len(), 1);
    }

    #[test]
    fn a_file_over_a_limit_keeps_its_targets() {
        let folder = Folder::new();
        folder.write("a.json", r#"[{"targets": ["a", "b"]}]"#);
        folder.write("b.json", r#"[{"targets": ["c", "d"]}]"#);
        let mut source = folder.source("*.json");
        assert_eq!(names(&source.read()), "abcd");
        folder.write("a.json", r#"[{"targets": ["1", "2", "3"]}]"#);
        let reading = source.read();
        assert_eq!((names(&reading).as_str(), reading.failing), ("abcd", 1));
        let error = reading.new_errors[0].to_string();
        assert!(error.contains("with its 3 targets there are"), "{error}");
        folder.write("a.json", &format!("[{}]", " ".repeat(200)));
        let reading = source.read();
        assert_eq!((names(&reading).as_str(), reading.failing), ("abcd", 1));
        assert_eq!(reading.new_errors.len(), 1);
    }

    #[test]
    fn a_bracket_that_is_not_closed_is_refused() {
        let error = FileSource::try_new(vec!["a[.json".into()], LIMITS).unwrap_err();
        assert!(error.to_string().starts_with("a[.json: not a pattern"));
    }

    /// As Kubernetes updates the files of a ConfigMap.
    #[cfg(unix)]
    #[test]
    fn a_swapped_symlink_is_followed() {
        let folder = Folder::new();
        let swap = |version: &str, target: &str| {
            fs::create_dir(folder.path(version)).unwrap();
            folder.write(
                &format!("{version}/a.json"),
                &format!(r#"[{{"targets": ["{target}"]}}]"#),
            );
            let (new, data) = (folder.path("..new"), folder.path("..data"));
            std::os::unix::fs::symlink(version, &new).unwrap();
            fs::rename(new, data).unwrap();
        };
        swap("..1", "a");
        std::os::unix::fs::symlink("..data/a.json", folder.path("a.json")).unwrap();
        let mut source = folder.source("*.json");
        assert_eq!(names(&source.read()), "a");
        swap("..2", "b");
        assert_eq!(names(&source.read()), "b");
    }
}
