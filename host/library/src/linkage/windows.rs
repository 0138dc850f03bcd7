//! The loader's search by name on Windows: the folders of the program and of the system, and `PATH`.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folders that the loader searches.
#[derive(Debug, Default)]
pub(super) struct LoaderCache {
    folders: Vec<PathBuf>,
}

impl LoaderCache {
    pub(super) fn read() -> Self {
        let program = env::current_exe().ok();
        let program = program
            .as_deref()
            .and_then(Path::parent)
            .map(Path::to_owned);
        let system = env::var_os("SystemRoot").map(PathBuf::from);
        let system = system.map(|root| [root.join("System32"), root]);
        let path = env::var_os("PATH").unwrap_or_default();
        Self {
            folders: program
                .into_iter()
                .chain(system.into_iter().flatten())
                .chain(env::split_paths(&path))
                .collect(),
        }
    }

    /// Returns the first file of this name that the loader would load.
    pub(super) fn find(&self, name: &str, _: &[String]) -> Option<PathBuf> {
        let mut places = self.folders.iter().map(|folder| folder.join(name));
        places.find(|path| path.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_system_are_found_and_invented_names_are_not() {
        let cache = LoaderCache::read();
        assert!(cache.find("kernel32.dll", &[]).is_some(), "{cache:?}");
        assert_eq!(cache.find("no-such-library-at-all.dll", &[]), None);
    }
}
