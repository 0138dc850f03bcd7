//! Trust and the store on Windows, with the access lists of real files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    super::{
        RuleOutcome, Store, TrustPolicy, VettingRule, inspect, security,
        trust::access_list::{
            ANY, AccessEntry, OtherWriter, TrustedSids, UserSid, tests::everyone,
        },
        vet,
    },
    objects,
};

const READ: u32 = 0x12_00a9;
const CHANGE: u32 = 0x13_01ff;

fn own(rights: u32) -> AccessEntry {
    AccessEntry {
        sid: security::current_user().unwrap(),
        ..everyone(rights)
    }
}

fn library(folder: &Path) -> PathBuf {
    let file = folder.join("x.dll");
    fs::write(&file, objects::dll(0x8664)).unwrap();
    file
}

/// Returns finding and cure of a rule, without the name of the folder and of this user.
fn refusal(file: &Path, folder: &Path, rule: VettingRule) -> Option<String> {
    let verdicts = inspect(file).verdicts;
    let verdict = verdicts.into_iter().find(|verdict| verdict.rule == rule);
    match verdict.unwrap().outcome {
        RuleOutcome::Refused { found, cure } => {
            let user = security::current_user().unwrap();
            let said = format!("{found}; {cure}");
            let said = said.replace(folder.to_str().unwrap(), "DIR");
            Some(said.replace(&user.text(), "OWN"))
        }
        _ => None,
    }
}

#[test]
fn a_library_that_only_its_owner_can_write_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let file = library(dir.path());
    security::tests::set_access(&file, &[own(0x1f_01ff), everyone(READ)]);
    let store = Store::open(&dir.path().join("state")).unwrap();
    let vetted = vet(&file, &TrustPolicy::none(), &store).unwrap();
    assert_eq!(fs::read(&vetted.path).unwrap(), objects::dll(0x8664));
}

/// Mode 666 under wine.
#[test]
fn a_library_that_everybody_can_write_is_refused_with_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let file = library(dir.path());
    security::tests::set_access(&file, &[own(0x1f_01ff), everyone(CHANGE)]);
    let said = refusal(&file, dir.path(), VettingRule::Permissions).unwrap();
    let rights = said.split_once(" (rights ").unwrap().1.split_once(')');
    let said = said.replace(rights.unwrap().0, "RIGHTS");
    insta::assert_snapshot!(said, @r"Everyone (S-1-1-0) can write to it (rights RIGHTS); if you trust it as it is now: icacls DIR\x.dll /remove:g *S-1-1-0");
}

/// Mode 777 under wine.
#[test]
fn a_folder_in_which_everybody_can_replace_files_is_refused_with_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("open it");
    let inner = folder.join("inner");
    fs::create_dir_all(&inner).unwrap();
    let file = library(&inner);
    assert_eq!(refusal(&file, dir.path(), VettingRule::Folder), None);
    security::tests::set_access(&folder, &[own(0x1f_01ff), everyone(CHANGE)]);
    let said = refusal(&file, dir.path(), VettingRule::Folder).unwrap();
    let rights = said.split_once(" (rights ").unwrap().1.split_once(')');
    let said = said.replace(rights.unwrap().0, "RIGHTS");
    insta::assert_snapshot!(said, @r#"another user can replace it through the folder DIR\open it: Everyone (S-1-1-0) can write to it (rights RIGHTS); move it elsewhere, or icacls "DIR\open it" /remove:g *S-1-1-0"#);
    assert!(Store::open(&folder).is_err(), "nor is it a state folder");
}

/// Under wine, where a program of the system below can give a file away.
#[test]
fn a_library_of_another_user_is_refused_with_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let file = library(dir.path());
    assert_eq!(refusal(&file, dir.path(), VettingRule::Owner), None);
    let found = security::of_file(&fs::File::open(&file).unwrap()).unwrap();
    let stranger = TrustedSids {
        user: Some(UserSid::of(5, &[21, 1, 2, 3, 4])),
    };
    let is_administrators = found.owner == Some(UserSid::of(5, &[32, 544]));
    assert_eq!(stranger.foreign_owner(&found).is_some(), !is_administrators);

    let chown = r"Z:\bin\chown";
    if !Path::new(chown).exists() {
        return;
    }
    let unix = Command::new("winepath").arg("-u").arg(&file).output();
    let unix = String::from_utf8(unix.unwrap().stdout).unwrap();
    // Wine does not report the end of such a program.
    let _ = Command::new(chown).args(["12345", unix.trim()]).status();
    let said = (0..500).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        refusal(&file, dir.path(), VettingRule::Owner)
    });
    insta::assert_snapshot!(said.unwrap(), @r"it belongs to Anonymous (S-1-5-7), the host runs as OWN; if you trust it: icacls DIR\x.dll /setowner *OWN");
}

#[test]
fn the_private_folders_admit_no_other_user_also_when_they_existed() {
    let dir = tempfile::tempdir().unwrap();
    let libraries = dir.path().join("libraries");
    fs::create_dir(&libraries).unwrap();
    security::tests::set_access(&libraries, &[own(0x1f_01ff), everyone(READ)]);
    let who = TrustedSids {
        user: Some(security::current_user().unwrap()),
    };
    let other = |folder: &Path| -> Option<OtherWriter> {
        use std::os::windows::fs::OpenOptionsExt as _;
        let backup_semantics = 0x0200_0000;
        let opened = fs::File::options()
            .read(true)
            .custom_flags(backup_semantics)
            .open(folder);
        who.other_writer(&security::of_file(&opened.unwrap()).unwrap(), ANY)
    };
    assert!(other(&libraries).is_some(), "before");
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(other(&libraries), None);
    assert_eq!(other(store.folder()), None);
    let base = dir.path().join("not/there/yet");
    let _new = Store::open(&base).unwrap();
    assert_eq!(other(&base), None);
    assert_eq!(other(&base.join("libraries")), None);
}
