//! File systems that do not respond, and surveys that do not end.

use std::{
    path::Path,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use conductor_plugin_api::{FailureKind, Status, testing::TestHost};
use serde_json::json;

use crate::{
    FileProbe,
    survey::{FileSurvey, SurveyError, SurveyPlan, TimeUp},
    surveyor::FileSurveyor,
};

fn probe(path: &Path) -> FileProbe {
    let config = json!({ "path": path }).to_string();
    TestHost::new("here").create::<FileProbe>(&config).unwrap()
}

/// Held by the test while the file system does not respond.
static DEAD: Mutex<()> = Mutex::new(());

static STARTED: AtomicUsize = AtomicUsize::new(0);

fn dead(_: &SurveyPlan, _: &TimeUp) -> Result<FileSurvey, SurveyError> {
    STARTED.fetch_add(1, Ordering::Relaxed);
    drop(DEAD.lock());
    Ok(FileSurvey {
        count: 1,
        ..FileSurvey::default()
    })
}

#[test]
fn a_file_system_that_does_not_respond_is_unhealthy_and_takes_one_thread() {
    let path = std::env::temp_dir().join("x");
    let mut probe = probe(&path);
    let plan = probe.config.plan().unwrap();
    probe.surveyor = FileSurveyor::with(plan, dead);
    let short = TestHost::new("here").timeout(Duration::from_millis(100));
    let server: MutexGuard<'_, ()> = DEAD.lock().unwrap();
    let report = short.check(&mut probe).unwrap();
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(
        report.message(),
        format!(
            "{}: no answer from the file system: its server or device may be gone",
            path.display()
        )
    );
    // As long as the call has not returned, no other one is made.
    let report = short.check(&mut probe).unwrap();
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    assert_eq!(STARTED.load(Ordering::Relaxed), 1);
    drop(server);
    // The abandoned call returns now; a later check is well again.
    let long = TestHost::new("here").timeout(Duration::from_secs(60));
    let well = |probe: &mut FileProbe| long.check(probe).unwrap().status() == Status::Healthy;
    for _ in 0..1000 {
        if well(&mut probe) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not recover");
}

fn endless(_: &SurveyPlan, time: &TimeUp) -> Result<FileSurvey, SurveyError> {
    loop {
        time.check()?;
        std::thread::yield_now();
    }
}

#[test]
fn more_files_than_can_be_read_in_time_are_a_timeout_that_says_so() {
    let mut probe = probe(&std::env::temp_dir().join("x"));
    let plan = probe.config.plan().unwrap();
    probe.surveyor = FileSurveyor::with(plan, endless);
    let host = TestHost::new("here").timeout(Duration::from_secs(2));
    let failure = host.check(&mut probe).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Timeout);
    assert!(
        failure
            .message()
            .contains("choose a narrower `path`, or raise `timeout`"),
        "{failure}"
    );
    assert!(!host.overran(), "the host's deadline");
}
