//! The catalog's contents while files, pins and policies change.

use std::{fs, sync::Arc};

use super::{
    super::*,
    folder::{Folder, cp, mv, other_plugin, version},
};

#[test]
fn what_lies_there_at_the_start_is_taken_at_once() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    assert_eq!(folder.found("specimen").unwrap(), "A specimen");
}

#[test]
fn a_copy_goes_with_the_last_that_uses_the_library() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    let old = folder.catalog.find("specimen").unwrap();
    mv(&version(b'B'), &folder.plugin("x.so"));
    let is_new = || folder.found("specimen").unwrap() == "B specimen";
    folder.look_until("the replacement", is_new);
    assert_eq!(fs::read(&old.path).unwrap(), version(b'A'));
    assert_eq!(folder.copies().len(), 2);
    drop(old);
    assert_eq!(folder.copies().len(), 1);
    fs::remove_file(folder.plugin("x.so")).unwrap();
    folder.look_until("the removal", || folder.found("specimen").is_none());
    assert!(folder.copies().is_empty());
}

#[test]
fn without_room_for_a_new_copy_the_old_library_stays() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    let run = folder.copies()[0].parent().unwrap().to_owned();
    let new = LibraryHash::of(&version(b'B'));
    // Simulates a full disk: a folder in the copy's place also keeps it from being written.
    fs::create_dir(run.join(format!("{new}.so"))).unwrap();
    cp(&version(b'B'), &folder.plugin("x.so"));
    folder.look_until("the refusal", || !folder.catalog.refused().is_empty());
    let refusal = &folder.catalog.refused()[0];
    assert_eq!(refusal.rule, VettingRule::Store);
    let said = refusal.to_string();
    assert!(
        said.ends_with("; version 1.2.3, taken from there before, stays in use"),
        "{said}"
    );
    let held = folder.catalog.find("specimen").unwrap();
    assert_eq!(fs::read(&held.path).unwrap(), version(b'A'));
}

#[test]
fn a_new_library_that_is_not_pinned_leaves_the_pinned_one_in_use_until_it_is() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    let lock = folder.path("plugins.lock");
    LibraryPins::read(&lock)
        .replace(&folder.catalog.libraries())
        .unwrap();
    mv(&version(b'B'), &folder.plugin("x.so"));
    folder.look_until("the refusal", || !folder.catalog.refused().is_empty());
    assert_eq!(folder.catalog.refused()[0].rule, VettingRule::Pin);
    assert_eq!(folder.found("specimen").unwrap(), "A specimen");

    let pinned = fs::read_to_string(&lock).unwrap();
    let (old, new) = (
        LibraryHash::of(&version(b'A')),
        LibraryHash::of(&version(b'B')),
    );
    let pinned = pinned.replace(&old.to_string(), &new.to_string());
    fs::write(&lock, pinned).unwrap();
    folder.look_until("the replacement", || {
        let found = folder.found("specimen");
        assert!(found.is_some(), "there was a gap");
        found.unwrap() == "B specimen"
    });
    assert!(folder.catalog.refused().is_empty());

    fs::write(&lock, "[libraries").unwrap();
    folder.catalog.scan();
    cp(&other_plugin(), &folder.plugin("y.so"));
    // By then it has been damaged for so long that missing libraries would be dropped.
    folder.look_until("the refusal", || {
        let refused = folder.catalog.refused();
        refused
            .iter()
            .any(|refusal| refusal.file == folder.plugin("y.so"))
    });
    assert_eq!(folder.found("specimen").unwrap(), "B specimen");
    assert_eq!(folder.found("xpecimen"), None);
    fs::remove_file(folder.plugin("y.so")).unwrap();
    fs::write(&lock, "[libraries]").unwrap();
    folder.look_until("the withdrawal", || folder.found("specimen").is_none());
    assert_eq!(folder.catalog.refused()[0].rule, VettingRule::Pin);
}

#[test]
fn a_new_policy_is_asked_of_what_is_there_already() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    let plugins = [folder.path("plugins")];
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let signed = TrustPolicy {
        signers: vec![TrustedSigner::parse(key).unwrap()],
        require_signature: true,
        ..TrustPolicy::none()
    };
    folder.catalog.reconfigure(&plugins, false, signed).unwrap();
    folder.look_until("the withdrawal", || folder.found("specimen").is_none());
    let said = folder.catalog.refused()[0].to_string();
    assert!(
        said.contains("refused by rule signature: it has no signature"),
        "{said}"
    );
    folder
        .catalog
        .reconfigure(&plugins, false, TrustPolicy::none())
        .unwrap();
    folder.look_until("its return", || folder.found("specimen").is_some());
}

#[test]
fn new_folders_are_searched_at_once_and_old_ones_left_at_once() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    let elsewhere = folder.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    cp(&other_plugin(), &elsewhere.join("y.so"));
    let before = folder.catalog.find("specimen");
    let dirs = [elsewhere.clone()];
    folder
        .catalog
        .reconfigure(&dirs, false, TrustPolicy::none())
        .unwrap();
    assert!(folder.found("specimen").is_none());
    assert!(folder.found("xpecimen").is_some());
    assert_eq!(folder.catalog.dirs(), [elsewhere]);
    assert!(
        before.unwrap().path.exists(),
        "whoever uses it still has it"
    );
}

#[test]
fn a_folder_that_lost_its_mount_keeps_its_libraries() {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    let folder = Folder::new(|_| {});
    // A link to another filesystem and back replaces a mount, which only root could create.
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(elsewhere.path()) == device(&folder.path("")) {
        return;
    }
    let plugins = folder.path("plugins");
    cp(&version(b'A'), &elsewhere.path().join("x.so"));
    fs::rename(&plugins, folder.path("below")).unwrap();
    symlink(elsewhere.path(), &plugins).unwrap();
    folder.look_until("its arrival", || folder.found("specimen").is_some());
    fs::remove_file(&plugins).unwrap();
    fs::rename(folder.path("below"), &plugins).unwrap();
    folder.look_until("the refusal", || !folder.catalog.refused().is_empty());
    assert_eq!(folder.catalog.refused()[0].file, plugins);
    assert!(folder.found("specimen").is_some());
}

#[test]
fn changes_are_told_once_and_whoever_looked() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    assert!(
        folder.catalog.changes().is_empty(),
        "what was there at the start is known"
    );
    cp(&other_plugin(), &folder.plugin("y.so"));
    folder.look_until("its arrival", || folder.found("xpecimen").is_some());
    let changes = folder.catalog.changes();
    let added = folder.catalog.find("xpecimen").unwrap();
    let expected = [(
        "xpecimen".to_owned(),
        PluginChange::Added(Arc::clone(&added)),
    )];
    assert_eq!(changes.plugins, expected.into());
    assert!(folder.catalog.changes().is_empty());
}
