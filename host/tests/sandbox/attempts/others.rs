//! What reaches beyond the worker: to the host, to the kernel, to programs.

use std::{
    env,
    ffi::c_long,
    fs::{self, File},
    io,
    path::Path,
    process::{Command, Stdio},
};

use super::{Attempt, address, attempt, c_string, call, name_of};
use crate::child::variable;

pub(super) fn host() -> Vec<Attempt> {
    let file = |name: &'static str| move || File::open(of_host(name)).map(drop);
    let to_host = |number: c_long, rest: &'static [c_long]| {
        move || call(number, &[&[host_pid()], rest].concat()).map(drop)
    };
    vec![
        attempt("read the host's memory", file("mem")),
        attempt("read the host's environment", file("environ")),
        attempt("read the host's maps", file("maps")),
        attempt("list the host's files", || {
            fs::read_dir(of_host("fd"))?.next().transpose()?;
            fs::read_link(of_host("fd/0")).map(drop)
        }),
        attempt("see the host's program", || {
            fs::read_link(of_host("exe")).map(drop)
        }),
        attempt("trace the host", || {
            let attach = c_long::from(libc::PTRACE_SEIZE);
            call(libc::SYS_ptrace, &[attach, host_pid(), 0, 0]).map(drop)
        }),
        attempt(
            "copy from the host's memory",
            to_host(libc::SYS_process_vm_readv, &[0, 0, 0, 0, 0]),
        ),
        attempt("take a file of the host's", || {
            let host = call(libc::SYS_pidfd_open, &[host_pid(), 0])?;
            call(libc::SYS_pidfd_getfd, &[host, 0, 0]).map(drop)
        }),
        attempt("signal the host", to_host(libc::SYS_kill, &[0])),
        attempt("signal the host's thread", || {
            call(libc::SYS_tgkill, &[host_pid(), host_pid(), 0]).map(drop)
        }),
        attempt("queue a signal for the host", || {
            let host = call(libc::SYS_pidfd_open, &[host_pid(), 0])?;
            call(libc::SYS_pidfd_send_signal, &[host, 0, 0, 0]).map(drop)
        }),
        attempt("limit the host", to_host(libc::SYS_prlimit64, &[7, 0, 0])),
        attempt("renice the host", || {
            call(libc::SYS_setpriority, &[0, host_pid(), 19]).map(drop)
        }),
        attempt("reschedule the host", || {
            let batch = [0_i32; 1];
            call(
                libc::SYS_sched_setscheduler,
                &[host_pid(), 3, address(batch.as_ptr())],
            )
            .map(drop)
        }),
    ]
}

pub(super) fn kernel() -> Vec<Attempt> {
    let tried =
        |number: c_long, arguments: &'static [c_long]| move || call(number, arguments).map(drop);
    vec![
        attempt("bpf", tried(libc::SYS_bpf, &[0, 0, 0])),
        attempt("io_uring", tried(libc::SYS_io_uring_setup, &[1, 0])),
        attempt("mount", tried(libc::SYS_mount, &[0, 0, 0, 0, 0])),
        attempt("a user namespace", tried(libc::SYS_unshare, &[0x1000_0000])),
        attempt("a cloned namespace", || {
            forked(libc::SYS_clone, &[0x1000_0000 | 17, 0, 0, 0, 0])
        }),
        attempt("keyrings", tried(libc::SYS_keyctl, &[0, -3, 0])),
        attempt("kexec", tried(libc::SYS_kexec_load, &[0, 0, 0, 0])),
        attempt("a module", tried(libc::SYS_init_module, &[0, 0, 0])),
        attempt(
            "perf events",
            tried(libc::SYS_perf_event_open, &[0, 0, -1, -1, 0]),
        ),
        attempt("userfaultfd", tried(libc::SYS_userfaultfd, &[0])),
        attempt("leave the session", tried(libc::SYS_setsid, &[])),
        attempt("leave the process group", tried(libc::SYS_setpgid, &[0, 0])),
        attempt("outlive the host", tried(libc::SYS_prctl, &[1, 0])),
        attempt("become dumpable", tried(libc::SYS_prctl, &[4, 1])),
        attempt("own a file's signals", || {
            call(libc::SYS_fcntl, &[0, libc::F_SETOWN.into(), host_pid()]).map(drop)
        }),
        attempt("memory in a file of its own", || {
            let name = c_string(Path::new("x"));
            call(libc::SYS_memfd_create, &[address(name.as_ptr()), 0]).map(drop)
        }),
        attempt(
            "shared memory",
            tried(libc::SYS_mmap, &[0, 4096, 3, 0x21, -1, 0]),
        ),
        attempt(
            "shared memory of System V",
            tried(libc::SYS_shmget, &[0, 4096, 0o1600]),
        ),
        attempt("a message queue", || {
            let name = c_string(Path::new("conductor-test"));
            call(
                libc::SYS_mq_open,
                &[address(name.as_ptr()), 0o100, 0o600, 0],
            )
            .map(drop)
        }),
        attempt("clone3", tried(libc::SYS_clone3, &[0, 0])),
        attempt(
            "a call of the x32 ABI",
            tried(0x4000_0000 + libc::SYS_getpid, &[]),
        ),
    ]
}

pub(super) fn programs(dir: &Path) -> Vec<Attempt> {
    let script = dir.join("script");
    let run = |program: &Path| {
        let program = program.to_owned();
        move || match Command::new(&program).status() {
            Ok(status) => status.to_string(),
            Err(error) => name_of(&error),
        }
    };
    vec![
        attempt("fork", || {
            #[cfg(target_arch = "x86_64")]
            forked(libc::SYS_fork, &[])?;
            forked(libc::SYS_clone, &[17, 0, 0, 0, 0])
        }),
        ("run /bin/true", Box::new(run(Path::new("/bin/true")))),
        ("run /bin/ls", Box::new(run(Path::new("/bin/ls")))),
        ("run the script", Box::new(run(&script))),
        (
            "end a program",
            Box::new(|| {
                let mut sleep = match Command::new("/bin/sleep")
                    .arg("30")
                    // One that cannot be ended must not hold the attempts' own output open.
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                {
                    Ok(sleep) => sleep,
                    Err(error) => return name_of(&error),
                };
                sleep
                    .kill()
                    .and_then(|()| sleep.wait())
                    .map_or_else(|e| name_of(&e), |s| s.to_string())
            }),
        ),
    ]
}

/// A call that is a second process where it is not refused.
fn forked(number: c_long, arguments: &[c_long]) -> io::Result<()> {
    let pid = call(number, arguments)?;
    if pid == 0 {
        // SAFETY: it only ends the copy, which must not go on with the attempts.
        unsafe { libc::_exit(0) };
    }
    Ok(())
}

fn host_pid() -> c_long {
    let pid = env::var(variable("HOST")).ok();
    pid.and_then(|pid| pid.parse().ok()).unwrap_or(1)
}

fn of_host(name: &str) -> String {
    format!("/proc/{}/{name}", host_pid())
}
