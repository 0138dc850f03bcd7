//! Attempts that reach beyond the worker: to the host, to calls that do not exist, to programs.

use std::{
    env,
    ffi::c_long,
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use super::{Attempt, attempt, call, name_of};
use crate::child::variable;

pub(super) fn beyond() -> Vec<Attempt> {
    let tried =
        |number: c_long, arguments: &'static [c_long]| move || call(number, arguments).map(drop);
    vec![
        attempt("signal the host", || {
            call(libc::SYS_kill, &[host_pid(), 0]).map(drop)
        }),
        attempt("signal the broker", || {
            let broker = broker().ok_or(io::ErrorKind::NotFound)?;
            call(libc::SYS_kill, &[broker, libc::SIGTERM.into()]).map(drop)
        }),
        (
            "the broker",
            Box::new(|| broker().map_or("none".to_owned(), |pid| pid.to_string())),
        ),
        attempt("signal init", tried(libc::SYS_kill, &[1, 0])),
        attempt("signal every process", tried(libc::SYS_kill, &[-1, 0])),
        attempt("signal the group of the host", || {
            call(libc::SYS_kill, &[-host_pid(), 0]).map(drop)
        }),
        attempt("leave the process group", tried(libc::SYS_setpgid, &[0, 0])),
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
            "a program signals itself",
            Box::new(|| {
                let script = "trap 'exit 7' USR1; kill -USR1 $$; exit 1";
                let status = Command::new("/bin/sh").args(["-c", script]).status();
                status.map_or_else(|error| name_of(&error), |status| status.to_string())
            }),
        ),
        attempt("signal a process that is gone", || {
            let mut gone = Command::new("/bin/sh").args(["-c", ":"]).spawn()?;
            gone.wait()?;
            call(libc::SYS_kill, &[gone.id().into(), 0]).map(drop)
        }),
        (
            "end a program",
            Box::new(|| {
                let mut sleep = match Command::new("/bin/sleep")
                    .arg("30")
                    // A program that cannot be ended must not keep the attempts' own output open.
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

/// Makes a call that creates a second process unless it is refused.
fn forked(number: c_long, arguments: &[c_long]) -> io::Result<()> {
    let pid = call(number, arguments)?;
    if pid == 0 {
        // SAFETY: it only ends the copy, which must not continue with the attempts.
        unsafe { libc::_exit(0) };
    }
    Ok(())
}

/// Returns the process that sends the signals of this one, if it has one.
fn broker() -> Option<c_long> {
    let parent = format!(" {} ", std::process::id());
    fs::read_dir("/proc").ok()?.find_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        // After the name come the state and the parent.
        (name.ends_with("(signal-broker") && rest.get(2..)?.starts_with(&parent)).then_some(pid)
    })
}

fn host_pid() -> c_long {
    let pid = env::var(variable("HOST")).ok();
    pid.and_then(|pid| pid.parse().ok()).unwrap_or(1)
}
