//! A plugin folder whose libraries change, and the catalog that scans it.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;

use super::{super::*, objects};

pub(super) struct Folder {
    dir: tempfile::TempDir,
    pub(super) catalog: Arc<Catalog>,
}

impl Folder {
    /// Creates a folder that `prepare` fills before the first scan.
    pub(super) fn new(prepare: impl Fn(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugins = dir.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        fs::set_permissions(&plugins, fs::Permissions::from_mode(0o755)).unwrap();
        prepare(&plugins);
        let policy = TrustPolicy {
            lock_file: Some(dir.path().join("plugins.lock")),
            ..TrustPolicy::none()
        };
        let state = dir.path().join("state");
        let catalog = Catalog::open(&[plugins], false, policy, Some(&state)).unwrap();
        Self {
            dir,
            catalog: Arc::new(catalog),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn plugin(&self, name: &str) -> PathBuf {
        self.path("plugins").join(name)
    }

    /// Returns the name in the manifest of the plugin's current library.
    pub(super) fn found(&self, id: &str) -> Option<String> {
        Some(self.catalog.find(id)?.manifest.name.clone())
    }

    /// Returns the private copies.
    pub(super) fn copies(&self) -> Vec<PathBuf> {
        let list = |path: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(path).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        };
        let runs = list(&self.path("state/libraries"));
        let runs = runs.iter().filter(|run| run.is_dir());
        let files = runs.flat_map(|run| list(run));
        files
            .filter(|file| file.extension().is_some_and(|e| e == "so"))
            .collect()
    }

    /// Scans until a condition is met, which must happen eventually.
    pub(super) fn look_until(&self, what: &str, is: impl Fn() -> bool) {
        self.until(what, || {
            self.catalog.scan();
            is()
        });
    }

    pub(super) fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let clock = Clock::start();
        while !is() {
            assert!(
                clock.now() < PATIENCE,
                "{what} did not happen; refused: {:#?}",
                self.catalog.refused()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns a library of plugin `specimen`, named by this letter.
pub(super) fn version(letter: u8) -> Vec<u8> {
    objects::library_with(&[(objects::NAME, letter)])
}

/// Returns a library of another plugin.
pub(super) fn other_plugin() -> Vec<u8> {
    objects::library_with(&[(objects::ID, b'x')])
}

/// Overwrites a file in place, like `cp`.
pub(super) fn cp(bytes: &[u8], to: &Path) {
    let mut file = File::create(to).unwrap();
    file.write_all(bytes).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o644))
        .unwrap();
}

/// Replaces a file by another, like `mv`.
pub(super) fn mv(bytes: &[u8], to: &Path) {
    let aside = to.with_extension("new");
    cp(bytes, &aside);
    fs::rename(aside, to).unwrap();
}

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

#[test]
#[cfg(target_os = "linux")]
fn a_library_that_needs_its_neighbour_is_refused_by_name() {
    use std::process::Command;

    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("dep.c"), "int dep(void) { return 42; }").unwrap();
    fs::write(
        at("own.c"),
        "int dep(void); int own(void) { return dep(); }",
    )
    .unwrap();
    let cc = |arguments: &[&str]| {
        let status = Command::new("cc")
            .current_dir(dir.path())
            .args(arguments)
            .status();
        assert!(status.unwrap().success(), "{arguments:?}");
    };
    cc(&["-shared", "-fPIC", "-o", "libdep.so", "dep.c"]);
    let beside = ["-shared", "-fPIC", "-o", "own.so", "own.c", "-L.", "-ldep"];
    cc(&[&beside[..], &["-Wl,-rpath,$ORIGIN"]].concat());
    let verdict = |inspection: LibraryInspection| {
        let mut verdicts = inspection.verdicts.into_iter();
        verdicts
            .find(|verdict| verdict.rule == VettingRule::Dependencies)
            .unwrap()
            .outcome
    };
    let RuleOutcome::Refused { found, cure } = verdict(inspect(&at("own.so"))) else {
        panic!("it was taken");
    };
    assert!(
        found.contains("libdep.so") && found.contains("$ORIGIN"),
        "{found}"
    );
    assert!(cure.contains("statically"), "{cure}");
    // If the system has it instead, the private copy finds the same one.
    fs::rename(at("libdep.so"), at("elsewhere.so")).unwrap();
    assert_eq!(verdict(inspect(&at("own.so"))), RuleOutcome::Passed);
}
