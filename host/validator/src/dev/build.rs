//! The project of a plugin, and how it is built: by cargo or make.

use std::{
    env::consts::DLL_SUFFIX,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use conductor_library::printable;
use serde_json::Value;

/// A plugin's folder, with its build tool.
pub(super) struct PluginProject {
    folder: PathBuf,
    tool: BuildTool,
    /// The library that the author named.
    library: Option<PathBuf>,
}

/// The program that builds a plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum BuildTool {
    Cargo,
    Make,
}

/// A folder that is no plugin's project.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProjectError {
    #[error("{0}: cannot be opened: {1}; name the plugin's folder")]
    Folder(String, #[source] io::Error),
    #[error(
        "{0} has neither Cargo.toml nor Makefile: name the plugin's folder, or make one with `conductor plugin new`"
    )]
    NoProject(String),
}

/// The reason why there is no library.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error("cannot start {tool}: {error}; install it, or add its folder to PATH")]
    Start {
        tool: &'static str,
        error: io::Error,
    },
    #[error("{tool} ended with {status}")]
    Failed {
        tool: &'static str,
        status: ExitStatus,
    },
    #[error(
        "the package has no shared library: add `crate-type = [\"cdylib\"]` to [lib] in Cargo.toml"
    )]
    NoCdylib,
    #[error("several packages make shared libraries: name one with --library ({0})")]
    SeveralCdylibs(String),
    #[error("{0} has no *{DLL_SUFFIX}: make it there, or name it with --library")]
    NoLibrary(String),
}

impl PluginProject {
    /// Finds the build tool of a folder.
    ///
    /// # Errors
    /// When the folder cannot be opened, or has no file of a build tool.
    pub(super) fn at(folder: &Path, library: Option<&Path>) -> Result<Self, ProjectError> {
        let shown = printable::path(folder);
        let folder = dunce::canonicalize(folder)
            .map_err(|error| ProjectError::Folder(shown.clone(), error))?;
        let has = |name: &str| folder.join(name).is_file();
        let tool = match () {
            () if has("Cargo.toml") => BuildTool::Cargo,
            () if ["Makefile", "makefile", "GNUmakefile"].into_iter().any(has) => BuildTool::Make,
            () => return Err(ProjectError::NoProject(shown)),
        };
        Ok(Self {
            folder,
            tool,
            library: library.map(Path::to_owned),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the name of the build tool.
    pub(super) fn tool(&self) -> &'static str {
        match self.tool {
            BuildTool::Cargo => "cargo",
            BuildTool::Make => "make",
        }
    }

    /// Builds the plugin, and returns the path of its library. What the tool prints is shown.
    ///
    /// # Errors
    /// When the build fails, or makes no library.
    pub(super) fn build(&self) -> Result<PathBuf, BuildError> {
        let tool = self.tool();
        let mut command = Command::new(tool);
        command.current_dir(&self.folder).stdin(Stdio::null());
        if self.tool == BuildTool::Cargo {
            command.args(["build", "--message-format", "json-render-diagnostics"]);
            command.stdout(Stdio::piped());
        }
        let output = command
            .stderr(Stdio::inherit())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .map_err(|error| BuildError::Start { tool, error })?;
        if !output.status.success() {
            return Err(BuildError::Failed {
                tool,
                status: output.status,
            });
        }
        if let Some(library) = &self.library {
            return Ok(library.clone());
        }
        match self.tool {
            BuildTool::Cargo => cdylib(&String::from_utf8_lossy(&output.stdout), &self.folder),
            BuildTool::Make => newest(&self.folder),
        }
    }
}

/// Returns the shared library of the package in a folder, from the messages of cargo.
fn cdylib(messages: &str, folder: &Path) -> Result<PathBuf, BuildError> {
    let mut all = Vec::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let has_kind = message["target"]["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"));
        if message["reason"] != "compiler-artifact" || !has_kind {
            continue;
        }
        let files = message["filenames"].as_array().into_iter().flatten();
        let mut files = files.filter_map(Value::as_str);
        let Some(library) = files.find(|file| file.ends_with(DLL_SUFFIX)) else {
            continue;
        };
        let manifest = message["manifest_path"].as_str().unwrap_or_default();
        let own = Path::new(manifest).parent() == Some(folder);
        if own {
            return Ok(library.into());
        }
        all.push(library.to_owned());
    }
    match &all[..] {
        [] => Err(BuildError::NoCdylib),
        [library] => Ok(library.into()),
        _ => Err(BuildError::SeveralCdylibs(all.join(", "))),
    }
}

/// Returns the newest shared library in a folder.
fn newest(folder: &Path) -> Result<PathBuf, BuildError> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let libraries = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let is_library = entry.file_name().to_str()?.ends_with(DLL_SUFFIX);
        let modified = entry.metadata().ok()?.modified().ok()?;
        is_library.then(|| (modified, entry.path()))
    });
    match libraries.max() {
        Some((_, library)) => Ok(library),
        None => Err(BuildError::NoLibrary(printable::path(folder))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(manifest: &str, kind: &str, file: &str) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": manifest,
            "target": { "kind": [kind] },
            "filenames": [file],
        })
        .to_string()
    }

    #[test]
    fn the_library_is_the_one_of_the_package_in_the_folder() {
        let of = |name: &str| format!("/t/lib{name}{DLL_SUFFIX}");
        let messages = [
            artifact("/a/Cargo.toml", "lib", "/t/liba.rlib"),
            artifact("/b/Cargo.toml", "cdylib", &of("b")),
            artifact("/a/Cargo.toml", "cdylib", &of("a")),
            "{\"reason\":\"build-finished\"}".to_owned(),
        ];
        let all = messages.join("\n");
        let found = |folder: &str, messages: &str| cdylib(messages, Path::new(folder));
        assert_eq!(found("/a", &all).unwrap(), PathBuf::from(of("a")));
        assert_eq!(found("/x", &messages[1]).unwrap(), PathBuf::from(of("b")));
        let several = found("/x", &all).unwrap_err().to_string();
        assert!(several.contains("--library"), "{several}");
        let none = found("/a", &messages[0]).unwrap_err().to_string();
        assert!(none.contains("cdylib"), "{none}");
    }

    #[test]
    fn a_folder_without_a_build_file_is_refused_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let error = PluginProject::at(folder.path(), None).err().unwrap();
        assert!(
            error
                .to_string()
                .contains("neither Cargo.toml nor Makefile")
        );
    }
}
