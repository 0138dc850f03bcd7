//! The commented default configuration: one text for every OS, with the OS's own part filled in here.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Returns the commented default configuration, as `conductor config default` prints it.
#[must_use]
pub fn default_text() -> &'static str {
    static TEXT: OnceLock<Cow<'static, str>> = OnceLock::new();
    TEXT.get_or_init(|| for_disk(&system_disk()))
}

/// Returns the root of the file system that this machine runs from: `/`, or the system drive of Windows.
#[must_use]
pub fn system_disk() -> PathBuf {
    if cfg!(windows) {
        let drive = std::env::var("SystemDrive").ok();
        drive_root(drive.as_deref())
    } else {
        PathBuf::from("/")
    }
}

/// Returns the root folder of a drive such as `D:`; that of `C:` if this is none.
fn drive_root(drive: Option<&str>) -> PathBuf {
    let drive = drive
        .filter(|drive| matches!(drive.as_bytes(), [letter, b':'] if letter.is_ascii_alphabetic()));
    PathBuf::from(format!(r"{}\", drive.unwrap_or("C:")))
}

/// Returns the text with `disk` as the disk that it monitors.
fn for_disk(disk: &Path) -> Cow<'static, str> {
    match disk.to_str() {
        Some("/") | None => Cow::Borrowed(FOR_UNIX),
        // Single quotes: in double quotes, TOML reads a backslash as the start of an escape.
        Some(disk) => Cow::Owned(FOR_UNIX.replace(DISK_OF_UNIX, &format!("path = '{disk}'"))),
    }
}

const FOR_UNIX: &str = include_str!("../conductor.toml");
const DISK_OF_UNIX: &str = r#"path = "/""#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConductorConfig;

    #[test]
    fn only_the_disk_differs_between_systems() {
        let text = for_disk(Path::new(r"D:\"));
        let changed: Vec<_> = FOR_UNIX
            .lines()
            .zip(text.lines())
            .filter(|(unix, windows)| unix != windows)
            .collect();
        assert_eq!(
            changed,
            [(r#"config = { path = "/" }"#, r"config = { path = 'D:\' }")]
        );
        let config =
            ConductorConfig::parse(text.into_owned(), "conductor.toml", Path::new("")).unwrap();
        assert_eq!(config.platforms[0].config["path"], r"D:\");
    }

    #[test]
    fn the_system_disk_is_an_absolute_path_of_this_os() {
        assert!(system_disk().is_absolute());
        let config = ConductorConfig::builtin(Path::new("x"));
        let disk = config.platforms[0].config["path"].as_str().unwrap();
        assert_eq!(Path::new(disk), system_disk());
    }

    #[test]
    fn a_drive_that_is_none_is_not_used() {
        for (variable, root) in [
            (Some("D:"), r"D:\"),
            (Some(""), r"C:\"),
            (Some(r"D:\'"), r"C:\"),
            (None, r"C:\"),
        ] {
            assert_eq!(drive_root(variable), Path::new(root), "{variable:?}");
        }
    }
}
