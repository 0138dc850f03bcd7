//! Tests of a record as found by the next host.
#![cfg(target_os = "linux")]

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use conductor_library::Store;

use super::{layout::JournalContents, *};

const HASH: LibraryHash = LibraryHash([7; 32]);

/// Returns the records of earlier runs that the next store keeps, as a host reads them.
fn records(base: &Path) -> CrashRecords {
    CrashRecords::read(&Store::open(base).unwrap().records())
}

fn named(records: &CrashRecords) -> Vec<(&str, Option<&str>, CallPhase)> {
    let suspects = records.suspects.iter();
    suspects
        .map(|s| (&*s.plugin, s.platform.as_deref(), s.phase))
        .collect()
}

/// Runs `act` in a separate process, which is this test started again.
fn in_another_process(test: &str, act: &str, base: &Path) -> Child {
    let (_, module) = module_path!().split_once("::").unwrap();
    let test = format!("{module}::{test}");
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &test])
        .env("CONDUCTOR_TEST_ACT", act)
        .env("CONDUCTOR_TEST_BASE", base)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Returns the action and the state folder, if this is that process.
fn to_act() -> Option<(String, PathBuf)> {
    let act = env::var("CONDUCTOR_TEST_ACT").ok()?;
    Some((act, env::var_os("CONDUCTOR_TEST_BASE")?.into()))
}

/// Simulates a host that makes a call and performs `act` inside it.
fn act(act: &str, base: &Path) {
    let store = Store::open(base).unwrap();
    let record = CallJournal::create(store.folder()).unwrap();
    let mut before = record.slot("tcp", &HASH);
    drop(before.enter("other", CallPhase::Check));
    let mut loading = record.slot("disk", &HASH);
    let loading = (act == "abort-of-two").then(|| loading.enter("", CallPhase::Load));
    let mut slot = record.slot("http", &HASH);
    let call = slot.enter("chat.gateway", CallPhase::Check);
    match act {
        "wait" | "wait-leaving" => {
            if act == "wait-leaving" {
                record.leaving();
            }
            println!("\ninside the call");
            std::thread::park();
        }
        "leave" => drop((call, loading)),
        "exit" => signal_hook::low_level::exit(0),
        _ => signal_hook::low_level::abort(),
    }
}

#[test]
fn a_host_that_dies_inside_a_call_leaves_the_plugin_and_one_that_ends_in_order_leaves_nobody() {
    if let Some((what, base)) = to_act() {
        return act(&what, &base);
    }
    let chat = ("http", Some("chat.gateway"), CallPhase::Check);
    for (what, expected) in [
        ("abort", vec![chat]),
        ("exit", vec![chat]),
        ("abort-of-two", vec![("disk", None, CallPhase::Load), chat]),
        ("leave", vec![]),
    ] {
        let base = tempfile::tempdir().unwrap();
        let mut child = in_another_process(
            "a_host_that_dies_inside_a_call_leaves_the_plugin_and_one_that_ends_in_order_leaves_nobody",
            what,
            base.path(),
        );
        child.wait().unwrap();
        let found = records(base.path());
        assert_eq!(named(&found), expected, "{what}");
        assert!(found.suspects.iter().all(|s| s.sha256 == HASH));
        assert!(found.suspects.iter().all(|s| s.of == expected.len()));
        // Until they are stored elsewhere, they are found again.
        let again = records(base.path());
        assert_eq!(named(&again), expected, "{what}");
        again.discard();
        assert_eq!(named(&records(base.path())), [], "{what}");
    }
}

#[test]
fn a_host_that_is_killed_leaves_the_plugin_unless_it_had_been_asked_to_end() {
    if let Some((what, base)) = to_act() {
        return act(&what, &base);
    }
    for (what, expected) in [("wait", 1), ("wait-leaving", 0)] {
        let base = tempfile::tempdir().unwrap();
        let mut child = in_another_process(
            "a_host_that_is_killed_leaves_the_plugin_unless_it_had_been_asked_to_end",
            what,
            base.path(),
        );
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "inside the call"));
        assert_eq!(named(&records(base.path())), [], "the host still lives");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(named(&records(base.path())).len(), expected, "{what}");
    }
}

#[test]
fn after_a_restart_of_the_machine_nobody_is_blamed() {
    let base = tempfile::tempdir().unwrap();
    let record = CallJournal::create(base.path()).unwrap();
    let mut slot = record.slot("http", &HASH);
    let _call = slot.enter("chat", CallPhase::Check);
    let died = base.path().join("died");
    let found = |bytes: &[u8]| {
        fs::create_dir_all(&died).unwrap();
        fs::write(died.join("1-x"), bytes).unwrap();
        named(&CrashRecords::read(&died)).len()
    };
    let mut bytes = fs::read(base.path().join(FILE)).unwrap();
    assert_eq!(found(&bytes), 1);
    // A byte of the boot id, after the magic.
    bytes[8] ^= 1;
    assert_eq!(found(&bytes), 0);
    bytes[8..24].fill(0);
    assert_eq!(found(&bytes), 0, "a machine that has no boot id");
}

#[test]
fn calls_are_read_back_as_they_were_noted() {
    let base = tempfile::tempdir().unwrap();
    let record = CallJournal::create(base.path()).unwrap();
    let left = || {
        let bytes = fs::read(base.path().join(FILE)).unwrap();
        JournalContents::read(&bytes).unwrap().calls
    };
    // An id has at most 63 bytes, a platform's name is kept to 64.
    let (id, longest) = ("p".repeat(63), "p".repeat(64));
    let mut slot = record.slot(&id, &HASH);
    for platform in [
        "",
        "a",
        "12345678",
        "123456789",
        &longest,
        &"x".repeat(70),
        "b",
    ] {
        for phase in [
            CallPhase::Load,
            CallPhase::Create,
            CallPhase::Check,
            CallPhase::Drop,
        ] {
            let call = slot.enter(platform, phase);
            let [found] = &left()[..] else {
                panic!("one call is under way");
            };
            let expected = platform.get(..64).unwrap_or(platform);
            assert_eq!(found.platform.as_deref().unwrap_or(""), expected);
            assert_eq!((&found.plugin, found.phase), (&id, phase));
            drop(call);
            assert_eq!(left(), []);
        }
    }
    drop(slot);
    let mut slot = record.slot("b", &HASH);
    let _call = slot.enter("", CallPhase::Load);
    assert_eq!(left()[0].plugin, "b", "nothing is left of a longer id");
}

#[test]
fn threads_beyond_the_last_slot_are_not_recorded_and_slots_are_used_again() {
    let base = tempfile::tempdir().unwrap();
    let record = CallJournal::create(base.path()).unwrap();
    let mut slots: Vec<_> = (0..SLOTS).map(|_| record.slot("http", &HASH)).collect();
    drop(record.slot("beyond", &HASH).enter("chat", CallPhase::Check));
    slots.pop();
    let mut again = record.slot("again", &HASH);
    let _call = again.enter("chat", CallPhase::Check);
    let bytes = fs::read(base.path().join(FILE)).unwrap();
    let calls = JournalContents::read(&bytes).unwrap().calls;
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].plugin, "again");
}

#[test]
fn a_spoilt_record_names_nobody_who_cannot_be() {
    let base = tempfile::tempdir().unwrap();
    let record = CallJournal::create(base.path()).unwrap();
    let mut slot = record.slot("http", &HASH);
    let _call = slot.enter("chat", CallPhase::Check);
    let good = fs::read(base.path().join(FILE)).unwrap();
    let slot_at = |word: usize| 4096 + word * 8;
    for (what, at, byte) in [
        ("magic", 0, 0),
        ("an unknown phase", slot_at(0), 9),
        ("a length beyond the field", slot_at(0) + 1, 65),
        ("a length of another kind", slot_at(0) + 2, 1),
        ("a control character", slot_at(1), 0x1b),
        ("an id that is none", slot_at(9), b'A'),
    ] {
        let mut bytes = good.clone();
        bytes[at] = byte;
        let calls = JournalContents::read(&bytes).map(|said| said.calls);
        assert!(calls.is_none_or(|calls| calls.is_empty()), "{what}");
    }
    for length in [0, 7, 4095, 4096, 4100, 4096 + 191] {
        let _ = JournalContents::read(&good[..length]);
    }
}

#[test]
fn every_block_of_the_record_is_there_before_the_first_call() {
    use std::os::unix::fs::MetadataExt as _;
    let base = tempfile::tempdir().unwrap();
    let _record = CallJournal::create(base.path()).unwrap();
    let file = fs::metadata(base.path().join(FILE)).unwrap();
    assert!(file.blocks() * 512 >= file.len(), "it has holes");
    assert_eq!(file.mode() & 0o777, 0o600);
    assert!(
        CallJournal::create(base.path()).is_err(),
        "two hosts share it"
    );
}
