//! States survive the host, whole, and one by one.

use super::*;

fn open(folder: &Path) -> ProbeStateFolder {
    ProbeStateFolder::open(folder, now())
}

#[expect(clippy::disallowed_methods, reason = "the age of files is real")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Opens the folder, runs `f`, and writes what it stored.
fn with_states<T>(folder: &Path, f: impl FnOnce(&ProbeStateFolder) -> T) -> T {
    let states = open(folder);
    let writer = states.start().unwrap();
    let result = f(&states);
    drop(writer);
    result
}

#[test]
fn a_state_is_there_after_a_restart_and_belongs_to_one_platform_and_plugin() {
    let dir = tempfile::tempdir().unwrap();
    with_states(dir.path(), |states| {
        let (http, tcp) = (states.of_plugin("http"), states.of_plugin("tcp"));
        http.store("Shop", b"first");
        http.store("Shop", b"second");
        http.store("shop", b"another");
        assert_eq!(http.load("Shop"), b"second");
        assert_eq!(tcp.load("Shop"), b"");
    });
    with_states(dir.path(), |states| {
        let http = states.of_plugin("http");
        assert_eq!(http.load("Shop"), b"second");
        assert_eq!(http.load("shop"), b"another");
        http.store("Shop", b"");
        assert_eq!(http.load("Shop"), b"");
    });
    with_states(dir.path(), |states| {
        assert_eq!(states.of_plugin("http").load("Shop"), b"");
    });
}

#[test]
fn an_unfinished_file_is_no_state_and_a_damaged_one_is_lost_alone() {
    let dir = tempfile::tempdir().unwrap();
    with_states(dir.path(), |states| {
        states.of_plugin("x").store("a", b"whole");
        states.of_plugin("x").store("b", b"too long soon");
    });
    let folder = dir.path().join(FOLDER);
    fs::write(folder.join("x.a.new"), b"hal").unwrap();
    fs::write(folder.join(file_name("x", "b")), vec![0; MAX_STATE + 1]).unwrap();
    with_states(dir.path(), |states| {
        assert_eq!(states.of_plugin("x").load("a"), b"whole");
        assert_eq!(states.of_plugin("x").load("b"), b"");
        states.of_plugin("x").store("a", b"whole again");
    });
    assert!(
        !folder.join("x.a.new").exists(),
        "it was used for the next one"
    );
}

#[test]
fn states_that_are_only_read_are_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        ProbeStateFolder::read_only(dir.path())
            .of_plugin("x")
            .load("a"),
        b""
    );
    with_states(dir.path(), |states| {
        states.of_plugin("x").store("a", b"a host's")
    });
    let read = ProbeStateFolder::read_only(dir.path());
    let writer = read.start().unwrap();
    assert_eq!(read.of_plugin("x").load("a"), b"a host's");
    read.of_plugin("x").store("a", b"another");
    drop(writer);
    with_states(dir.path(), |states| {
        assert_eq!(states.of_plugin("x").load("a"), b"a host's");
    });
}

#[test]
fn a_folder_that_cannot_be_used_leaves_states_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FOLDER), "a file").unwrap();
    with_states(dir.path(), |states| {
        let states = states.of_plugin("x");
        states.store("a", b"kept");
        assert_eq!(states.load("a"), b"kept");
    });
}

#[test]
fn an_old_state_is_removed_after_a_host_that_did_not_have_its_platform() {
    let dir = tempfile::tempdir().unwrap();
    with_states(dir.path(), |states| {
        states.of_plugin("x").store("here", b"old");
        states.of_plugin("x").store("gone", b"old");
    });
    let later = now() + MAX_AGE + Duration::from_secs(60);
    let states = ProbeStateFolder::open(dir.path(), later);
    let writer = states.start().unwrap();
    assert_eq!(states.of_plugin("x").load("here"), b"old");
    drop(writer);
    with_states(dir.path(), |states| {
        assert_eq!(states.of_plugin("x").load("here"), b"old");
        assert_eq!(states.of_plugin("x").load("gone"), b"");
    });
}

#[test]
fn a_state_that_cannot_be_written_is_written_once_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let states = open(dir.path());
    // A folder in the place of the file that is written first.
    let obstacle = folder.join("x.a.new");
    fs::create_dir(&obstacle).unwrap();
    states.of_plugin("x").store("a", b"late");
    assert!(states.shared.write(&folder, "x.a").is_err());
    fs::remove_dir(&obstacle).unwrap();
    drop(states.start().unwrap());
    assert_eq!(open(dir.path()).of_plugin("x").load("a"), b"late");
}

#[test]
fn each_platform_has_a_file_name_that_every_filesystem_allows() {
    let long = "ä".repeat(300);
    let names = [
        "a",
        "A",
        "a.b",
        "a/b",
        "a_2fb",
        "..",
        "",
        "con",
        &long,
        &format!("{long}x"),
    ];
    let files: HashSet<_> = names.iter().map(|name| file_name("http", name)).collect();
    assert_eq!(files.len(), names.len());
    for file in files {
        assert!(
            file.len() <= MAX_NAME && file.starts_with("http."),
            "{file}"
        );
        assert!(!file.contains(['/', '\\', ':']) && !file.ends_with('.') || file == "http.");
    }
}
