//! The host's handling of a library's struct, and of finished calls.

use std::{
    collections::BTreeMap,
    mem::offset_of,
    sync::{Mutex, mpsc},
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_plugin_api::MAX_STATE;

use super::{exported::MANDATORY, *};
use crate::{DeclaredValue, SetError, SetValues, call_context, door::HostFunctions};

unsafe extern "C" fn create(_: *const c::Call, _: *const c_char) -> *mut c_void {
    ptr::null_mut()
}

unsafe extern "C" fn on_probe(_: *mut c_void, _: *const c::Call) {}

fn plugin() -> c::Plugin {
    c::Plugin {
        size: u32::try_from(size_of::<c::Plugin>()).unwrap(),
        reserved: 0,
        id: c"x".as_ptr(),
        version: c"1.0.0".as_ptr(),
        host: ptr::null_mut(),
        config_schema: c"{}".as_ptr(),
        create: Some(create),
        check: Some(on_probe),
        destroy: Some(on_probe),
        begin: Some(on_probe),
        cancel: Some(on_probe),
        metrics: ptr::null(),
    }
}

fn read_as(size: usize) -> Result<c::Plugin, ExportError> {
    let plugin = c::Plugin {
        size: u32::try_from(size).unwrap(),
        ..plugin()
    };
    // SAFETY: never longer than a newer API's struct, of which only members known to this host are read.
    unsafe { read(&plugin) }
}

fn data() -> CallContext {
    let clock = Clock::start();
    let spec = Arc::new(ProbeSpec::new("p", "{}"));
    CallContext::new(spec, clock.now() + Duration::from_secs(60), clock)
}

fn platform() -> Arc<CallSubject> {
    let declared = r#"[{"name":"used","kind":"gauge","help":"x","labels":["mount"]}]"#;
    let spec = ProbeSpec {
        labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        ..ProbeSpec::new("p", "{}")
    };
    CallSubject::new(&spec, &Arc::new(DeclaredMetrics::new(declared).unwrap()))
}

/// Returns the host's functions as a plugin gets them.
fn host() -> &'static c::Host {
    // SAFETY: the table is never freed.
    unsafe { &*functions::table("x", HostFunctions::Current) }
}

#[test]
fn members_beyond_the_librarys_size_are_not_looked_at() {
    let whole = read_as(size_of::<c::Plugin>()).unwrap();
    assert!(whole.begin.is_some() && whole.cancel.is_some());
    let without_cancel = read_as(offset_of!(c::Plugin, cancel)).unwrap();
    assert!(without_cancel.begin.is_some() && without_cancel.cancel.is_none());
    let oldest = read_as(MANDATORY).unwrap();
    assert!(oldest.destroy.is_some() && oldest.begin.is_none());
    let newer = read_as(size_of::<c::Plugin>() + 64).unwrap();
    assert!(newer.cancel.is_some());
}

#[test]
fn a_size_that_cannot_be_is_refused() {
    for size in [0, 4, MANDATORY - 8, MANDATORY + 1] {
        let refused = read_as(size).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("says it has {size} bytes")),
            "{refused}"
        );
    }
}

#[test]
fn a_plugin_without_a_function_is_refused_by_its_name() {
    let refused = |plugin: c::Plugin| PluginFunctions::of(&plugin).err().unwrap().to_string();
    let plugin = plugin();
    let create = c::Plugin {
        create: None,
        ..plugin
    };
    assert!(refused(create).contains("`create`"));
    let destroy = c::Plugin {
        destroy: None,
        ..plugin
    };
    assert!(refused(destroy).contains("`destroy`"));
    let check = c::Plugin {
        check: None,
        ..plugin
    };
    assert!(PluginFunctions::of(&check).is_ok(), "it has `begin`");
    let neither = c::Plugin {
        begin: None,
        ..check
    };
    assert!(refused(neither).contains("`check`"));
}

#[test]
fn what_was_said_last_counts() {
    let host = host();
    let mut report = CheckReport::empty();
    let ((), outcome) = calls::wait(&data(), &platform(), None, None, |call| {
        // SAFETY: texts of this program.
        unsafe {
            (host.report)(call, 0, c"first".as_ptr());
            (host.measure)(call, c"n".as_ptr(), 1.0);
            (host.fail)(call, 0, c"second".as_ptr());
            (host.report)(call, 1, c"third".as_ptr());
        }
    });
    outcome.fill(&mut report, None).unwrap();
    assert_eq!(report.message, "third");
    assert_eq!(report.measurements, [("n".to_owned(), 1.0)]);
}

#[test]
fn declared_values_labels_interval_and_state_are_the_platforms() {
    let host = host();
    let mut report = CheckReport::empty();
    let subject = platform();
    let ((), outcome) = calls::wait(&data(), &subject, None, None, |call| {
        let labels = [c"/home".as_ptr(), ptr::null()];
        let fields = [c"status".as_ptr(), c"503".as_ptr(), ptr::null()];
        let mut state = [0_u8; 4];
        // SAFETY: texts of this program, lists that end with null, and buffers of the given lengths.
        unsafe {
            (host.set)(call, c"used".as_ptr(), labels.as_ptr(), 2.0);
            (host.set)(call, c"used".as_ptr(), ptr::null(), 3.0);
            (host.report)(call, 0, c"fine".as_ptr());
            (host.log_fields)(host, call, 3, c"line".as_ptr(), fields.as_ptr());
            let team = (host.label)(call, c"team".as_ptr(), ptr::null());
            assert_eq!(CStr::from_ptr(team), c"a");
            assert!((host.label)(call, c"tier".as_ptr(), ptr::null()).is_null());
            assert_eq!((host.interval_ns)(call), 5_000_000_000);
            assert_eq!((host.state)(call, ptr::null_mut(), 0), 0);
            assert!((host.store_state)(call, c"stored".as_ptr().cast(), 6));
            assert!(!(host.store_state)(
                call,
                c"long".as_ptr().cast(),
                MAX_STATE + 1
            ));
            assert_eq!((host.state)(call, state.as_mut_ptr().cast(), 4), 6);
            assert_eq!(&state, b"stor");
        }
    });
    outcome.fill(&mut report, None).unwrap();
    let home = DeclaredValue {
        metric: 0,
        labels: vec!["/home".to_owned()],
        value: 2.0,
    };
    assert_eq!(
        (report.declared.kept, report.declared.dropped),
        (vec![home], 1)
    );
}

#[test]
fn a_call_that_is_over_is_nobodys() {
    let host = host();
    let (over, _) = calls::wait(&data(), &platform(), None, None, |call| call);
    let ((), outcome) = calls::wait(&data(), &platform(), None, None, |_| {
        // SAFETY: texts of this program; a call's name is looked up.
        unsafe {
            (host.report)(over, 0, c"late".as_ptr());
            (host.measure)(over, c"n".as_ptr(), 1.0);
            (host.complete)(over);
            assert_eq!((host.remaining_ns)(over), 0);
            assert!((host.is_cancelled)(over));
            assert_eq!(CStr::from_ptr((host.platform)(over)), c"");
            assert_eq!(
                CStr::from_ptr((host.label)(over, c"team".as_ptr(), c"".as_ptr())),
                c""
            );
            assert_eq!((host.interval_ns)(over), 0);
            assert!(!(host.store_state)(over, c"x".as_ptr().cast(), 1));
            assert_eq!((host.config_number)(over, c"x".as_ptr(), 7.0), 7.0);
        }
    });
    let failed = outcome.fill(&mut CheckReport::empty(), None).unwrap_err();
    assert!(failed.message.contains("without a report"), "{failed}");
}

#[test]
fn a_check_that_was_begun_is_completed_once_from_any_thread() {
    let host = host();
    let (send, ended) = mpsc::channel();
    let begun = call_context::begin(data(), Box::new(move |result| send.send(result).unwrap()));
    let name = calls::begin(begun, &platform(), None);
    std::thread::spawn(move || {
        // SAFETY: texts of this program; a call's name is looked up.
        unsafe {
            assert!((host.remaining_ns)(name.as_ptr()) > 0);
            (host.report)(name.as_ptr(), 2, c"down".as_ptr());
            (host.complete)(name.as_ptr());
            (host.report)(name.as_ptr(), 0, c"again".as_ptr());
            (host.complete)(name.as_ptr());
        }
    })
    .join()
    .unwrap();
    let ended: Vec<_> = ended.iter().collect();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].as_ref().unwrap().message, "down");
}

#[test]
fn texts_that_are_null_or_endless_are_taken_in_part() {
    let host = host();
    let long = CString::new(vec![b'x'; 10_000]).unwrap();
    let mut report = CheckReport::empty();
    for (text, starts) in [(ptr::null(), ""), (long.as_ptr(), "xxx")] {
        let ((), outcome) = calls::wait(&data(), &platform(), None, None, |call| {
            // SAFETY: null or texts of this program.
            unsafe {
                (host.report)(call, 0, text);
                (host.log)(host, ptr::null(), 99, text);
                (host.log)(ptr::null(), call, 3, text);
            }
        });
        outcome.fill(&mut report, None).unwrap();
        assert!(report.message.starts_with(starts));
        assert!(report.message.len() < 2100);
    }
}

#[test]
fn a_status_that_no_byte_holds_is_refused_by_its_number() {
    let host = host();
    let ((), outcome) = calls::wait(&data(), &platform(), None, None, |call| {
        // SAFETY: a text of this program.
        unsafe { (host.report)(call, 256, c"?".as_ptr()) };
    });
    let failed = outcome.fill(&mut CheckReport::empty(), None).unwrap_err();
    assert_eq!(failed.kind, ErrorType::Protocol);
    assert!(failed.message.contains("status 256"), "{failed}");
}

/// The misuses that an observer was shown.
#[derive(Default)]
struct Misuses(Mutex<Vec<ContractViolation>>);

impl CallObserver for Misuses {
    fn report(&self, _: u8, _: &[u8], _: &[(&[u8], f64)], _: &SetValues) {}
    fn set(&self, _: &[u8], _: &[&[u8]], _: Result<(), &SetError>) {}

    fn failure(&self, _: &[u8]) {}

    fn misuse(&self, misuse: ContractViolation) {
        self.0.lock().unwrap().push(misuse);
    }
}

#[test]
fn an_observer_is_shown_each_misuse_of_a_call() {
    let host = host();
    let misuses = Arc::new(Misuses::default());
    let observer: Arc<dyn CallObserver> = Arc::clone(&misuses) as _;
    let seen = || std::mem::take(&mut *misuses.0.lock().unwrap());
    let wait = |run: fn(&c::Host, *const c::Call)| {
        let run = |call| run(host, call);
        let ((), outcome) = calls::wait(&data(), &platform(), None, Some(&observer), run);
        let _ = outcome.fill(&mut CheckReport::empty(), Some(&*observer));
        seen()
    };
    assert_eq!(wait(|_, _| ()), [ContractViolation::NoReport]);
    let unknown = wait(|host, call| {
        // SAFETY: a text of this program.
        unsafe { (host.fail)(call, 77, c"".as_ptr()) };
    });
    assert_eq!(
        unknown,
        [ContractViolation::UnknownKind, ContractViolation::NoReason]
    );
    let completed = wait(|host, call| {
        // SAFETY: a text of this program.
        unsafe {
            (host.report)(call, 0, c"fine".as_ptr());
            (host.complete)(call);
        }
    });
    assert_eq!(completed, [ContractViolation::NotBegun]);

    let (send, ended) = mpsc::channel();
    let begun = call_context::begin(data(), Box::new(move |result| send.send(result).unwrap()));
    let name = calls::begin(begun, &platform(), Some(&observer));
    // SAFETY: texts of this program; a call's name is looked up.
    unsafe {
        (host.report)(name.as_ptr(), 0, c"fine".as_ptr());
        (host.complete)(name.as_ptr());
        (host.report)(name.as_ptr(), 2, c"again".as_ptr());
        assert_eq!(seen(), []);
        (host.complete)(name.as_ptr());
    }
    assert_eq!(seen(), [ContractViolation::NotBegun]);
    assert_eq!(ended.iter().count(), 1);
}
