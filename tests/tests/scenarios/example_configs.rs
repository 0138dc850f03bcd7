//! The configs in `examples/`, which operators start from.

use std::fs;

use crate::harness::{Setup, conductor, ported, shown, workspace};

#[test]
fn every_example_config_passes_config_check() {
    let setup = Setup::without_plugins();
    let folder = fs::read_dir(workspace().join("examples")).unwrap();
    let files: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|end| end == "toml"))
        .collect();
    assert!(!files.is_empty());
    for file in files {
        // What they watch is where it is on the system under test.
        let copy = setup.path(file.file_name().unwrap().to_str().unwrap());
        fs::write(&copy, ported(&fs::read_to_string(&file).unwrap())).unwrap();
        let output = conductor(&["config", "check"])
            .arg(shown(&copy))
            .env("XDG_STATE_HOME", setup.folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", file.display());
    }
}
