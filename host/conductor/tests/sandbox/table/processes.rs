//! Attempts on processes: tracing, signalling, slowing down or starting them, gaining rights, escaping the host's
//! control.

use std::{ffi::c_long, fs, io, process::Command};

use super::{
    Attempt, Need,
    kernel::{address, call, forked, text},
    victims::{at, host, neighbour},
};

pub(super) fn attempts() -> Vec<Attempt> {
    let mut all = Vec::new();
    for (who, pid) in [
        ("host", host as fn() -> i64),
        ("neighbour", neighbour),
        ("init", || 1),
    ] {
        all.extend(on(who, pid));
    }
    all.extend(on_everyone());
    all.extend(rights());
    all.extend(threads());
    all.extend(programs());
    all
}

/// Attempts of a process on another one of the same user.
fn on(who: &'static str, pid: fn() -> i64) -> Vec<Attempt> {
    let to = |kind: &'static str, name: &str, act: fn(i64) -> io::Result<String>| {
        Attempt::refused(kind, format!("{who}: {name}"), move || act(pid()))
    };
    vec![
        to("trace", "attach", |pid| {
            call(libc::SYS_ptrace, &[16, pid, 0, 0])
        }),
        to("trace", "seize", |pid| {
            call(libc::SYS_ptrace, &[0x4206, pid, 0, 0])
        }),
        to("copy memory", "read", |pid| {
            call(libc::SYS_process_vm_readv, &[pid, 0, 0, 0, 0, 0])
        }),
        to("copy memory", "write", |pid| {
            call(libc::SYS_process_vm_writev, &[pid, 0, 0, 0, 0, 0])
        }),
        to("compare", "kcmp", |pid| {
            call(libc::SYS_kcmp, &[pid, pid, 0, 0, 0])
        }),
        to("take a descriptor", "pidfd_getfd", |pid| {
            let pidfd = pidfd(pid)?;
            call(438, &[pidfd, 0, 0])
        }),
        to("signal", "kill", |pid| call(libc::SYS_kill, &[pid, 0])),
        to("signal", "kill its group", |pid| {
            call(libc::SYS_kill, &[-pid, 0])
        })
        .unless(&[Need::Run]),
        to("signal", "tkill", |pid| call(libc::SYS_tkill, &[pid, 0])),
        to("signal", "tgkill", |pid| {
            call(libc::SYS_tgkill, &[pid, pid, 0])
        }),
        to("signal", "sigqueue", |pid| {
            let info = SIGNAL_INFO;
            call(libc::SYS_rt_sigqueueinfo, &[pid, 0, address(info.as_ptr())])
        }),
        to("signal", "tgsigqueue", |pid| {
            let info = SIGNAL_INFO;
            call(
                libc::SYS_rt_tgsigqueueinfo,
                &[pid, pid, 0, address(info.as_ptr())],
            )
        }),
        to("signal", "pidfd_send_signal", |pid| {
            let pidfd = pidfd(pid)?;
            call(424, &[pidfd, 0, 0, 0])
        }),
        to("limits of others", "prlimit", |pid| {
            let new = [64_u64, 64];
            call(libc::SYS_prlimit64, &[pid, 7, address(new.as_ptr()), 0])
        }),
        to("scheduling of others", "setpriority", |pid| {
            call(libc::SYS_setpriority, &[0, pid, 19])
        }),
        to("scheduling of others", "ioprio_set", |pid| {
            call(libc::SYS_ioprio_set, &[1, pid, 3 << 13])
        }),
        to("scheduling of others", "sched_setscheduler", |pid| {
            let priority = [0_i32];
            call(
                libc::SYS_sched_setscheduler,
                &[pid, 5, address(priority.as_ptr())],
            )
        }),
        to("scheduling of others", "sched_setparam", |pid| {
            let priority = [0_i32];
            call(libc::SYS_sched_setparam, &[pid, address(priority.as_ptr())])
        }),
        to("scheduling of others", "sched_setaffinity", |pid| {
            let cpus = [1_u64];
            call(
                libc::SYS_sched_setaffinity,
                &[pid, 8, address(cpus.as_ptr())],
            )
        }),
        to("scheduling of others", "sched_setattr", |pid| {
            call(libc::SYS_sched_setattr, &[pid, 0, 0])
        }),
        to("process groups", "setpgid", |pid| {
            call(libc::SYS_setpgid, &[0, pid])
        }),
    ]
}

fn on_everyone() -> Vec<Attempt> {
    let one = |kind, name: &str, number: c_long, arguments: &'static [c_long]| {
        Attempt::refused(kind, name, move || call(number, arguments))
    };
    vec![
        // If it may run programs, the signal reaches the processes of its own domain.
        one("signal", "every process", libc::SYS_kill, &[-1, 0]).unless(&[Need::Run]),
        one(
            "scheduling of others",
            "every process of the user",
            libc::SYS_setpriority,
            &[2, 0, 19],
        ),
        one(
            "scheduling of others",
            "the process group",
            libc::SYS_setpriority,
            &[1, 0, 19],
        ),
        one(
            "scheduling of others",
            "I/O of the user",
            libc::SYS_ioprio_set,
            &[3, 0, 3 << 13],
        ),
        one("process groups", "setsid", libc::SYS_setsid, &[]),
        one(
            "process groups",
            "a group of its own",
            libc::SYS_setpgid,
            &[0, 0],
        ),
        one("trace", "be traced", libc::SYS_ptrace, &[0, 0, 0, 0]),
    ]
}

fn rights() -> Vec<Attempt> {
    let mut all = Vec::new();
    all.push(Attempt::refused(
        "real-time scheduling",
        "SCHED_FIFO",
        || {
            let priority = [50_i32];
            call(
                libc::SYS_sched_setscheduler,
                &[0, 1, address(priority.as_ptr())],
            )
        },
    ));
    all.push(Attempt::refused("real-time scheduling", "SCHED_RR", || {
        let priority = [1_i32];
        call(
            libc::SYS_sched_setscheduler,
            &[0, 2, address(priority.as_ptr())],
        )
    }));
    all.push(Attempt::refused("real-time scheduling", "nice -5", || {
        call(libc::SYS_setpriority, &[0, 0, -5])
    }));
    all.push(Attempt::refused(
        "real-time scheduling",
        "I/O class 1",
        || call(libc::SYS_ioprio_set, &[1, 0, 1 << 13]),
    ));
    for (name, resource) in [
        ("memory", 2),
        ("stack", 3),
        ("open files", 7),
        ("locked memory", 8),
        ("address space", 9),
        ("pending signals", 11),
        ("message queues", 12),
        ("nice", 13),
        ("real-time", 14),
        ("cores", 4),
    ] {
        all.push(Attempt::refused("raise a limit", name, move || {
            let new = [i64::MAX, i64::MAX];
            call(
                libc::SYS_prlimit64,
                &[0, resource, address(new.as_ptr()), 0],
            )
        }));
        all.push(Attempt::refused(
            "raise a limit",
            format!("{name}, setrlimit"),
            move || {
                let new = [i64::MAX, i64::MAX];
                call(libc::SYS_setrlimit, &[resource, address(new.as_ptr())])
            },
        ));
    }
    all.push(Attempt::refused("gain capabilities", "capset", || {
        let (header, all) = ([0x2008_0522_u32, 0], [u32::MAX; 6]);
        call(
            libc::SYS_capset,
            &[address(header.as_ptr()), address(all.as_ptr())],
        )
    }));
    for capability in [1, 7, 12, 21] {
        all.push(Attempt::refused(
            "gain capabilities",
            format!("ambient {capability}"),
            move || call(libc::SYS_prctl, &[47, 2, capability, 0, 0]),
        ));
    }
    for (name, number) in [
        ("setgroups", libc::SYS_setgroups),
        ("setuid", libc::SYS_setuid),
        ("setgid", libc::SYS_setgid),
    ] {
        all.push(Attempt::refused(
            "become another user",
            name,
            move || match number {
                libc::SYS_setgroups => {
                    let groups = [42_u32];
                    call(number, &[1, address(groups.as_ptr())])
                }
                _ => call(number, &[65533]),
            },
        ));
    }
    all
}

fn threads() -> Vec<Attempt> {
    const THREAD: c_long = 0x0001_0000 | 0x100 | 0x800;
    let mut all = Vec::new();
    for (name, flags) in [
        ("without CLONE_FILES", THREAD | 0x200),
        ("without CLONE_FS", THREAD | 0x400),
        ("without either", THREAD),
        ("without either, with SYSVSEM", THREAD | 0x0004_0000),
        ("with a namespace", THREAD | 0x600 | 0x0400_0000),
        ("as a child of the host", 0x8000 | 17),
    ] {
        // Without CLONE_VM, which a thread must have: if the filter lets it through, the kernel rejects it as invalid.
        all.push(Attempt::refused("threads apart", name, move || {
            forked(&[flags & !0x100, 0, 0, 0, 0])
        }));
    }
    all.push(Attempt::refused("threads apart", "clone3", || {
        call(435, &[0, 0])
    }));
    all
}

fn programs() -> Vec<Attempt> {
    let mut all = Vec::new();
    for (name, flags) in [
        ("clone", 17),
        ("clone, vfork", 0x4000 | 17),
        ("clone, no signal", 0),
        ("clone, shared files", 0x400 | 17),
    ] {
        all.push(
            Attempt::refused("fork", name, move || forked(&[flags, 0, 0, 0, 0]))
                .unless(&[Need::Run]),
        );
    }
    all.push(
        Attempt::refused("fork", "fork", || {
            let told = call(libc::SYS_fork, &[])?;
            if told == "went through: 0" {
                // SAFETY: it only ends the copy.
                unsafe { libc::_exit(0) };
            }
            Ok(told)
        })
        .unless(&[Need::Run]),
    );
    for program in ["/bin/true", "/usr/bin/true"] {
        let run = Attempt::refused("run a program", program, move || run(program));
        all.push(run.unless(&[Need::Run]));
    }
    for program in [
        "/bin/ls",
        "/usr/bin/env",
        "/bin/sh",
        "/usr/bin/passwd",
        "/bin/su",
        "/bin/mount",
        "/usr/bin/python3",
    ] {
        let run = Attempt::refused("run a program", program, move || run(program));
        all.push(run.where_there());
    }
    all.push(Attempt::refused(
        "run a program",
        "a file that it reads",
        || run(at("open/file")),
    ));
    all.push(Attempt::refused("run in place", "execve", || {
        let (path, none) = (text("/bin/ls"), [0_i64]);
        let list = address(none.as_ptr());
        call(libc::SYS_execve, &[address(path.as_ptr()), list, list])
    }));
    all.push(Attempt::refused(
        "run in place",
        "execveat, by descriptor",
        || {
            use std::os::fd::AsRawFd as _;
            let (file, empty, none) = (fs::File::open("/bin/ls")?, text(""), [0_i64]);
            let list = address(none.as_ptr());
            call(
                libc::SYS_execveat,
                &[
                    file.as_raw_fd().into(),
                    address(empty.as_ptr()),
                    list,
                    list,
                    0x1000,
                ],
            )
        },
    ));
    all
}

fn run(program: impl AsRef<std::ffi::OsStr>) -> io::Result<String> {
    Ok(format!(
        "went through: {}",
        Command::new(program).output()?.status
    ))
}

fn pidfd(pid: i64) -> io::Result<c_long> {
    let told = call(434, &[pid, 0])?;
    let number = told
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other("no number"))
}

/// The data of a queued signal, of signal 0.
const SIGNAL_INFO: [i32; 32] = {
    let mut info = [0; 32];
    info[2] = -1;
    info
};
