//! File systems that do not respond, in place of dead network mounts.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    examination::{ExamineError, PathExamination},
    examiner::PathExaminer,
    mounts::MountTable,
};

/// True while the file systems below `/dead` respond.
static ANSWERING: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();
/// The numbers of calls started and finished.
static BEGUN: AtomicUsize = AtomicUsize::new(0);
static OVER: AtomicUsize = AtomicUsize::new(0);

fn examine(path: &Path, _: &MountTable) -> PathExamination {
    if path.starts_with("/dead") {
        BEGUN.fetch_add(1, Ordering::SeqCst);
        let answering = ANSWERING.lock().unwrap();
        drop(CHANGED.wait_while(answering, |answering| !*answering));
        OVER.fetch_add(1, Ordering::SeqCst);
    }
    PathExamination {
        mount: None,
        is_mount_point: true,
        file_system: Err(ExamineError::NoSpace(path.to_owned())),
    }
}

fn set_answering(answering: bool) {
    *ANSWERING.lock().unwrap() = answering;
    CHANGED.notify_all();
}

#[test]
fn dead_mounts_keep_a_thread_each_and_no_other_mount_from_being_examined() {
    let mut examiner = PathExaminer::with(examine);
    let paths: Vec<PathBuf> = ["/dead/a", "/b", "/dead/c", "/d"].map(Into::into).into();
    let table = Arc::new(MountTable::default());
    let mut answered = |patience| {
        let found = examiner.examine(&paths, &table, &|| patience);
        found.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    let patience = Duration::from_millis(200);
    for _ in 0..3 {
        assert_eq!(answered(patience), [false, true, false, true]);
    }
    assert_eq!(
        BEGUN.load(Ordering::SeqCst),
        2,
        "a stuck call is not repeated"
    );

    set_answering(true);
    // The first results are old; the check after them queries again.
    let mut now = answered(Duration::from_secs(10));
    while now != [true; 4] {
        now = answered(Duration::from_secs(10));
    }
    let begun = BEGUN.load(Ordering::SeqCst);
    assert!(begun >= 4, "asked again: {begun}");
    assert_eq!(OVER.load(Ordering::SeqCst), begun);
}
