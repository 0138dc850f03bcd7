//! Attempts on the kernel: every forbidden call, and every command of multi-purpose calls.

use std::{
    ffi::{CString, c_long},
    io,
};

use super::Attempt;

pub(super) fn attempts() -> Vec<Attempt> {
    let mut all = Vec::new();
    for (kind, calls) in CALLS {
        for (name, number) in *calls {
            // Without arguments: a call that is not refused fails with another error.
            all.push(Attempt::refused(kind, *name, move || call(*number, &[])));
        }
    }
    for (name, flag) in NAMESPACES {
        all.push(Attempt::refused("unshare", *name, move || {
            call(libc::SYS_unshare, &[*flag])
        }));
        if !["files", "fs"].contains(name) {
            let child = *flag | i64::from(libc::SIGCHLD);
            all.push(Attempt::refused(
                "clone into a namespace",
                *name,
                move || forked(&[child, 0, 0, 0, 0]),
            ));
            let own = format!("/proc/self/ns/{name}");
            all.push(Attempt::refused("enter a namespace", *name, move || {
                use std::os::fd::AsRawFd as _;
                let namespace = std::fs::File::open(&own)?;
                call(libc::SYS_setns, &[namespace.as_raw_fd().into(), 0])
            }));
        }
    }
    for (name, option, value) in PRCTL {
        all.push(Attempt::refused("prctl", *name, move || {
            call(libc::SYS_prctl, &[*option, *value, 0, 0, 0])
        }));
    }
    for (name, code) in [
        ("ARCH_SET_CPUID", 0x1012),
        ("ARCH_MAP_VDSO_X32", 0x2001),
        ("ARCH_MAP_VDSO_64", 0x2003),
        ("ARCH_REQ_XCOMP_GUEST_PERM", 0x1025),
        ("an unknown one", 0x7777),
    ] {
        all.push(Attempt::refused("arch_prctl", name, move || {
            call(libc::SYS_arch_prctl, &[code, 0])
        }));
    }
    for (name, persona) in [
        ("ADDR_NO_RANDOMIZE", 0x004_0000),
        ("READ_IMPLIES_EXEC", 0x040_0000),
        ("MMAP_PAGE_ZERO", 0x010_0000),
        ("PER_LINUX32", 8),
        ("UNAME26", 0x002_0000),
    ] {
        all.push(Attempt::refused("personality", name, move || {
            call(libc::SYS_personality, &[persona])
        }));
    }
    for (name, flags) in [
        ("CLOSE_RANGE_UNSHARE", 2),
        ("UNSHARE and CLOEXEC", 6),
        ("an unknown flag", 8),
    ] {
        all.push(Attempt::refused("close_range", name, move || {
            call(436, &[900, 901, flags])
        }));
    }
    for (name, number) in [
        ("getpid", libc::SYS_getpid),
        ("ptrace", 521),
        ("execve", 520),
        ("process_vm_readv", 539),
    ] {
        all.push(Attempt::refused("x32 ABI", name, move || {
            call(0x4000_0000 + number, &[])
        }));
    }
    for number in [471, 472, 500, 511, 1000, 0x3fff_ffff] {
        all.push(Attempt::refused(
            "unknown calls",
            number.to_string(),
            move || call(number, &[]),
        ));
    }
    all.push(Attempt {
        expected: super::Expected::Killed,
        ..Attempt::refused("32-bit calls", "int 0x80", || {
            let answer: i64;
            // SAFETY: getpid in the 32-bit ABI takes no arguments and writes nowhere.
            unsafe {
                std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => answer,
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _);
            }
            Ok(format!("went through: {answer}"))
        })
    });
    all
}

/// Makes a system call with arguments that are numbers, or addresses that outlive it.
pub(super) fn call(number: c_long, arguments: &[c_long]) -> io::Result<String> {
    let argument = |at: usize| arguments.get(at).copied().unwrap_or(0);
    // SAFETY: the calls made here are either refused, or given no memory to write to.
    let result = unsafe {
        libc::syscall(
            number,
            argument(0),
            argument(1),
            argument(2),
            argument(3),
            argument(4),
            argument(5),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(format!("went through: {result}"))
}

/// Clones a second process, unless refused, which ends at once.
pub(super) fn forked(arguments: &[c_long]) -> io::Result<String> {
    let told = call(libc::SYS_clone, arguments)?;
    if told == "went through: 0" {
        // SAFETY: it only ends the copy, which must not continue with the attempts.
        unsafe { libc::_exit(0) };
    }
    Ok(told)
}

pub(super) fn address<T>(pointer: *const T) -> c_long {
    c_long::try_from(pointer.addr()).expect("addresses of programs are in the lower half")
}

pub(super) fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

const CALLS: &[(&str, &[(&str, c_long)])] = &[
    ("bpf", &[("bpf", libc::SYS_bpf)]),
    (
        "perf events",
        &[("perf_event_open", libc::SYS_perf_event_open)],
    ),
    (
        "io_uring",
        &[
            ("io_uring_setup", 425),
            ("io_uring_enter", 426),
            ("io_uring_register", 427),
        ],
    ),
    (
        "asynchronous I/O",
        &[
            ("io_setup", libc::SYS_io_setup),
            ("io_submit", libc::SYS_io_submit),
            ("io_getevents", libc::SYS_io_getevents),
            ("io_cancel", libc::SYS_io_cancel),
            ("io_destroy", libc::SYS_io_destroy),
            ("io_pgetevents", 333),
        ],
    ),
    (
        "keyrings",
        &[
            ("add_key", libc::SYS_add_key),
            ("request_key", libc::SYS_request_key),
            ("keyctl", libc::SYS_keyctl),
        ],
    ),
    (
        "shared memory of System V",
        &[
            ("shmget", libc::SYS_shmget),
            ("shmat", libc::SYS_shmat),
            ("shmctl", libc::SYS_shmctl),
        ],
    ),
    (
        "semaphores of System V",
        &[
            ("semget", libc::SYS_semget),
            ("semop", libc::SYS_semop),
            ("semctl", libc::SYS_semctl),
            ("semtimedop", libc::SYS_semtimedop),
        ],
    ),
    (
        "messages of System V",
        &[
            ("msgget", libc::SYS_msgget),
            ("msgsnd", libc::SYS_msgsnd),
            ("msgrcv", libc::SYS_msgrcv),
            ("msgctl", libc::SYS_msgctl),
        ],
    ),
    (
        "POSIX message queues",
        &[
            ("mq_open", libc::SYS_mq_open),
            ("mq_unlink", libc::SYS_mq_unlink),
            ("mq_timedsend", libc::SYS_mq_timedsend),
            ("mq_timedreceive", libc::SYS_mq_timedreceive),
            ("mq_notify", libc::SYS_mq_notify),
            ("mq_getsetattr", libc::SYS_mq_getsetattr),
        ],
    ),
    (
        "POSIX timers",
        &[
            ("timer_create", libc::SYS_timer_create),
            ("timer_settime", libc::SYS_timer_settime),
            ("timer_gettime", libc::SYS_timer_gettime),
            ("timer_delete", libc::SYS_timer_delete),
        ],
    ),
    (
        "inotify",
        &[
            ("inotify_init", libc::SYS_inotify_init),
            ("inotify_init1", libc::SYS_inotify_init1),
            ("inotify_add_watch", libc::SYS_inotify_add_watch),
            ("inotify_rm_watch", libc::SYS_inotify_rm_watch),
        ],
    ),
    (
        "fanotify",
        &[
            ("fanotify_init", libc::SYS_fanotify_init),
            ("fanotify_mark", libc::SYS_fanotify_mark),
        ],
    ),
    (
        "filters of its own",
        &[
            ("seccomp", libc::SYS_seccomp),
            ("landlock_create_ruleset", 444),
            ("landlock_add_rule", 445),
            ("landlock_restrict_self", 446),
        ],
    ),
    ("userfaultfd", &[("userfaultfd", libc::SYS_userfaultfd)]),
    (
        "memory in files",
        &[
            ("memfd_create", libc::SYS_memfd_create),
            ("memfd_secret", 447),
        ],
    ),
    (
        "pages of others",
        &[
            ("remap_file_pages", libc::SYS_remap_file_pages),
            ("vmsplice", libc::SYS_vmsplice),
            ("move_pages", libc::SYS_move_pages),
            ("migrate_pages", libc::SYS_migrate_pages),
            ("process_madvise", 440),
            ("process_mrelease", 448),
        ],
    ),
    (
        "mounts",
        &[
            ("mount", libc::SYS_mount),
            ("umount2", libc::SYS_umount2),
            ("pivot_root", libc::SYS_pivot_root),
            ("chroot", libc::SYS_chroot),
            ("open_tree", 428),
            ("move_mount", 429),
            ("fsopen", 430),
            ("fsconfig", 431),
            ("fsmount", 432),
            ("fspick", 433),
            ("mount_setattr", 442),
            ("open_tree_attr", 467),
            ("listns", 470),
        ],
    ),
    (
        "modules",
        &[
            ("init_module", libc::SYS_init_module),
            ("finit_module", libc::SYS_finit_module),
            ("delete_module", libc::SYS_delete_module),
            ("create_module", 174),
        ],
    ),
    (
        "another kernel",
        &[
            ("kexec_load", libc::SYS_kexec_load),
            ("kexec_file_load", libc::SYS_kexec_file_load),
            ("reboot", libc::SYS_reboot),
        ],
    ),
    (
        "clocks and names",
        &[
            ("settimeofday", libc::SYS_settimeofday),
            ("clock_settime", libc::SYS_clock_settime),
            ("sethostname", libc::SYS_sethostname),
            ("setdomainname", libc::SYS_setdomainname),
        ],
    ),
    (
        "swap, quotas and accounts",
        &[
            ("swapon", libc::SYS_swapon),
            ("swapoff", libc::SYS_swapoff),
            ("quotactl", libc::SYS_quotactl),
            ("quotactl_fd", 443),
            ("acct", libc::SYS_acct),
            ("syslog", libc::SYS_syslog),
            ("vhangup", libc::SYS_vhangup),
        ],
    ),
    (
        "hardware",
        &[
            ("iopl", libc::SYS_iopl),
            ("ioperm", libc::SYS_ioperm),
            ("modify_ldt", libc::SYS_modify_ldt),
        ],
    ),
    (
        "old calls",
        &[
            ("uselib", libc::SYS_uselib),
            ("ustat", libc::SYS_ustat),
            ("sysfs", libc::SYS_sysfs),
            ("_sysctl", 156),
            ("nfsservctl", 180),
            ("lookup_dcookie", 212),
            ("get_kernel_syms", 177),
            ("query_module", 178),
            ("getpmsg", 181),
            ("putpmsg", 182),
            ("afs_syscall", 183),
            ("tuxcall", 184),
            ("security", 185),
            ("vserver", 236),
        ],
    ),
    (
        "attributes of modules of security",
        &[("lsm_set_self_attr", 460)],
    ),
];

const NAMESPACES: &[(&str, c_long)] = &[
    ("user", 0x1000_0000),
    ("mnt", 0x0002_0000),
    ("net", 0x4000_0000),
    ("pid", 0x2000_0000),
    ("ipc", 0x0800_0000),
    ("uts", 0x0400_0000),
    ("cgroup", 0x0200_0000),
    ("files", 0x400),
    ("fs", 0x200),
];

const PRCTL: &[(&str, c_long, c_long)] = &[
    ("PR_SET_PDEATHSIG", 1, 0),
    ("PR_SET_DUMPABLE", 4, 1),
    ("PR_SET_UNALIGN", 6, 0),
    ("PR_SET_TIMING", 14, 0),
    ("PR_SET_SECCOMP", 22, 1),
    ("PR_SET_TSC", 26, 2),
    ("PR_SET_SECUREBITS", 28, 0),
    ("PR_TASK_PERF_EVENTS_ENABLE", 32, 0),
    ("PR_MCE_KILL", 33, 0),
    ("PR_SET_MM", 35, 0),
    ("PR_SET_CHILD_SUBREAPER", 36, 1),
    ("PR_SET_IO_FLUSHER", 57, 1),
    ("PR_SET_SYSCALL_USER_DISPATCH", 59, 0),
    ("PR_SCHED_CORE", 62, 1),
    ("PR_SET_MEMORY_MERGE", 67, 1),
    ("PR_TIMER_CREATE_RESTORE_IDS", 77, 1),
    ("PR_FUTEX_HASH", 78, 1),
    ("PR_SET_PTRACER", 0x5961_6d61, -1),
    ("an unknown one", 0x7777, 0),
];
