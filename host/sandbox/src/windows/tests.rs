//! Tests of a restricted process: its privileges, and the access of others to it.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_CREATE_THREAD, PROCESS_DUP_HANDLE, PROCESS_TERMINATE, PROCESS_VM_READ,
    PROCESS_VM_WRITE,
};

use super::*;

#[test]
fn a_token_has_the_privilege_to_pass_through_folders_and_others() {
    let privileges = ProcessToken::open().unwrap().privileges().unwrap();
    let count = privileges.len();
    assert!((2..64).contains(&count), "{count} privileges");
    let passes = |p: &LUID_AND_ATTRIBUTES| p.Luid.LowPart == PASS_THROUGH_FOLDERS;
    assert!(privileges.iter().any(passes));
}

#[test]
fn a_restricted_process_keeps_one_privilege_and_others_can_only_end_it() {
    let mut child = RestrictedChild::start();
    // What wine only accepts is not asserted: integrity and mitigations.
    assert_eq!(child.line(), "privileges: [23]");
    assert_eq!(child.line(), format!("unconfined: {OPEN}"));
    for access in [
        PROCESS_VM_READ,
        PROCESS_VM_WRITE,
        PROCESS_DUP_HANDLE,
        PROCESS_CREATE_THREAD,
    ] {
        let error = open(child.0.id(), access).expect_err("it can be looked into");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{access:#x}");
    }
    open(child.0.id(), PROCESS_TERMINATE).unwrap();
}

/// The restricted process of the test before, if that started it.
#[test]
fn restricted_child() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let lines = apply(&SandboxPolicy::default());
    let left = ProcessToken::open().unwrap().privileges().unwrap();
    let left: Vec<_> = left.iter().map(|p| p.Luid.LowPart).collect();
    println!("{MARK}privileges: {left:?}");
    for line in lines {
        println!("{MARK}unconfined: {line}");
    }
    // Until the other test has looked.
    let _ = io::stdin().read(&mut [0]);
}

struct RestrictedChild(Child);

impl RestrictedChild {
    fn start() -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "windows::tests::restricted_child", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// Returns its next line that is not one of the test harness.
    fn line(&mut self) -> String {
        let output = self.0.stdout.as_mut().unwrap();
        // One byte at a time, so that nothing after the line is lost.
        let mut lines = BufReader::with_capacity(1, output).lines();
        lines
            .find_map(|line| Some(line.unwrap().split_once(MARK)?.1.to_owned()))
            .expect("it ended")
    }
}

impl Drop for RestrictedChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open(pid: u32, access: u32) -> io::Result<OwnedHandle> {
    // SAFETY: returns a handle without another owner, or null.
    unsafe {
        let handle = OpenProcess(access, 0, pid);
        match handle.is_null() {
            true => Err(io::Error::last_os_error()),
            false => Ok(OwnedHandle::from_raw_handle(handle)),
        }
    }
}

const CHILD: &str = "CONDUCTOR_RESTRICTED_CHILD";
const MARK: &str = "> ";
