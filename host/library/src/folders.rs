//! Folders that are searched for plugins when the config names none.

use std::path::{Path, PathBuf};

/// Returns the folders around the program in `program_dir` and those of the system, in search order: its own, `plugins`
/// in it, `../lib/conductor/plugins`, and the same in `/usr/local/lib` and `/usr/lib`.
pub fn default_folders(program_dir: &Path) -> Vec<PathBuf> {
    let mut folders = vec![program_dir.to_owned(), program_dir.join("plugins")];
    folders.extend(program_dir.parent().map(|prefix| prefix.join(INSTALLED)));
    if cfg!(unix) {
        for prefix in ["/usr/local", "/usr"] {
            let folder = Path::new(prefix).join(INSTALLED);
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    folders
}

/// Returns the folder of the running program, following links.
///
/// # Errors
/// When the operating system does not report it.
pub fn program_folder() -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().map_or_else(PathBuf::new, PathBuf::from))
}

const INSTALLED: &str = "lib/conductor/plugins";

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_comes_first_and_none_twice() {
        let of = |program_dir: &str| -> Vec<String> {
            let folders = default_folders(Path::new(program_dir));
            folders.iter().map(|f| f.display().to_string()).collect()
        };
        assert_eq!(
            of("/opt/conductor/bin"),
            [
                "/opt/conductor/bin",
                "/opt/conductor/bin/plugins",
                "/opt/conductor/lib/conductor/plugins",
                "/usr/local/lib/conductor/plugins",
                "/usr/lib/conductor/plugins",
            ]
        );
        assert_eq!(of("/usr/bin").len(), 4);
    }
}
