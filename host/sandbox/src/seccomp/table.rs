//! The decision for each system call of the kernel, in groups with a reason.
//!
//! This table is the filter: [`super::apply`] compiles it, and the list in `SECURITY.md` is printed from it. A call
//! that is not in it does not exist for a worker. On x86-64 a test checks the table against every number of the kernel.

/// Calls with one decision for one reason.
pub(super) struct SystemCallGroup {
    pub(super) decision: FilterDecision,
    /// The reason, as shown in `SECURITY.md`.
    pub(super) why: &'static str,
    pub(super) calls: &'static [SystemCall],
}

/// The filter's decision on a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FilterDecision {
    /// Allowed with any arguments.
    Open,
    /// Allowed with some arguments, or for some plugins; see `rules`.
    Judged,
    /// EPERM.
    Refused,
    /// ENOSYS, so that libraries fall back to another call.
    Absent,
}

/// A system call, under the name of its number in libc.
pub(super) struct SystemCall {
    name: &'static str,
    pub(super) number: i64,
}

impl SystemCall {
    pub(super) fn name(&self) -> &'static str {
        self.name.trim_start_matches("SYS_")
    }
}

/// Returns every group with calls of this architecture.
pub(super) fn groups() -> impl Iterator<Item = &'static SystemCallGroup> {
    COMMON.iter().chain(OLD)
}

macro_rules! calls {
    ($($name:ident $(= $number:literal)?),* $(,)?) => {
        &[$(call!($name $(= $number)?)),*]
    };
}

macro_rules! call {
    ($name:ident) => {
        SystemCall {
            name: stringify!($name),
            number: libc::$name,
        }
    };
    // A call that libc does not name everywhere yet; the numbers from 424 on are the same on all architectures.
    ($name:ident = $number:literal) => {
        SystemCall {
            name: stringify!($name),
            number: $number,
        }
    };
}

use FilterDecision::{Absent, Judged, Open, Refused};

const COMMON: &[SystemCallGroup] = &[
    SystemCallGroup {
        decision: Open,
        why: "reads and writes files and pipes that are open",
        calls: calls![
            SYS_close,
            SYS_copy_file_range,
            SYS_dup,
            SYS_dup3,
            SYS_fallocate,
            SYS_ftruncate,
            SYS_lseek,
            SYS_pipe2,
            SYS_pread64,
            SYS_preadv,
            SYS_preadv2,
            SYS_pwrite64,
            SYS_pwritev,
            SYS_pwritev2,
            SYS_read,
            SYS_readahead,
            SYS_readv,
            SYS_sendfile,
            SYS_splice,
            SYS_tee,
            SYS_write,
            SYS_writev,
        ],
    },
    SystemCallGroup {
        decision: Open,
        why: "finds files and opens those that landlock leaves open",
        calls: calls![
            SYS_chdir,
            SYS_faccessat,
            faccessat2 = 439,
            SYS_fchdir,
            SYS_fgetxattr,
            file_getattr = 468,
            SYS_flistxattr,
            SYS_fstat,
            SYS_fstatfs,
            SYS_getcwd,
            SYS_getdents64,
            SYS_getxattr,
            getxattrat = 464,
            SYS_lgetxattr,
            listmount = 458,
            SYS_listxattr,
            listxattrat = 465,
            SYS_llistxattr,
            SYS_newfstatat,
            SYS_openat,
            openat2 = 437,
            SYS_readlinkat,
            SYS_statfs,
            statmount = 457,
            SYS_statx,
            SYS_umask,
        ],
    },
    SystemCallGroup {
        decision: Open,
        why: "waits for descriptors, timers and events",
        calls: calls![
            SYS_epoll_create1,
            SYS_epoll_ctl,
            SYS_epoll_pwait,
            epoll_pwait2 = 441,
            SYS_eventfd2,
            SYS_ppoll,
            SYS_pselect6,
            SYS_signalfd4,
            SYS_timerfd_create,
            SYS_timerfd_gettime,
            SYS_timerfd_settime,
        ],
    },
    SystemCallGroup {
        decision: Open,
        why: "manages its own memory, within the limits",
        calls: calls![
            SYS_brk,
            SYS_get_mempolicy,
            map_shadow_stack = 453,
            SYS_mbind,
            SYS_membarrier,
            SYS_mincore,
            SYS_mlock,
            SYS_mlock2,
            SYS_mlockall,
            SYS_mprotect,
            mseal = 462,
            SYS_munlock,
            SYS_munlockall,
            SYS_munmap,
            SYS_pkey_alloc,
            SYS_pkey_free,
            SYS_pkey_mprotect,
            SYS_set_mempolicy,
            set_mempolicy_home_node = 450,
            SYS_shmdt,
        ],
    },
    SystemCallGroup {
        decision: Open,
        why: "reads clocks and sleeps; setting a clock needs a privilege that a worker has given up",
        calls: calls![
            SYS_adjtimex,
            SYS_clock_adjtime,
            SYS_clock_getres,
            SYS_clock_gettime,
            SYS_clock_nanosleep,
            SYS_getitimer,
            SYS_gettimeofday,
            SYS_nanosleep,
            SYS_setitimer,
            SYS_times,
        ],
    },
    SystemCallGroup {
        decision: Open,
        why: "runs and ends its own threads and children",
        calls: calls![
            SYS_exit,
            SYS_exit_group,
            SYS_futex,
            futex_requeue = 456,
            futex_wait = 455,
            futex_waitv = 449,
            futex_wake = 454,
            SYS_get_robust_list,
            SYS_getcpu,
            pidfd_open = 434,
            SYS_restart_syscall,
            SYS_rseq,
            SYS_sched_yield,
            SYS_set_robust_list,
            SYS_set_tid_address,
            SYS_wait4,
            SYS_waitid,
        ],
    },
    SystemCallGroup {
        decision: Open,
        why: "asks about itself and the machine",
        calls: calls![
            SYS_capget,
            SYS_getegid,
            SYS_geteuid,
            SYS_getgid,
            SYS_getgroups,
            SYS_getpgid,
            SYS_getpid,
            SYS_getppid,
            SYS_getpriority,
            SYS_getrandom,
            SYS_getresgid,
            SYS_getresuid,
            SYS_getrusage,
            SYS_getsid,
            SYS_gettid,
            SYS_getuid,
            SYS_ioprio_get,
            lsm_get_self_attr = 459,
            lsm_list_modules = 461,
            SYS_sched_get_priority_max,
            SYS_sched_get_priority_min,
            SYS_sched_getaffinity,
            SYS_sched_getattr,
            SYS_sched_getparam,
            SYS_sched_getscheduler,
            SYS_sched_rr_get_interval,
            SYS_sysinfo,
            SYS_uname,
        ],
    },
    SystemCallGroup {
        decision: Open,
        why: "changes its user or capabilities, which can only give up more: it has no privilege left",
        calls: calls![
            SYS_capset,
            SYS_setfsgid,
            SYS_setfsuid,
            SYS_setgid,
            SYS_setgroups,
            SYS_setregid,
            SYS_setresgid,
            SYS_setresuid,
            SYS_setreuid,
            SYS_setuid,
        ],
    },
    SystemCallGroup {
        decision: Open,
        why: "handles signals that it gets",
        calls: calls![
            SYS_rt_sigaction,
            SYS_rt_sigpending,
            SYS_rt_sigprocmask,
            SYS_rt_sigreturn,
            SYS_rt_sigsuspend,
            SYS_rt_sigtimedwait,
            SYS_sigaltstack,
        ],
    },
    SystemCallGroup {
        decision: Open,
        why: "uses sockets that it was allowed to make",
        calls: calls![
            SYS_accept,
            SYS_accept4,
            SYS_bind,
            SYS_connect,
            SYS_getpeername,
            SYS_getsockname,
            SYS_getsockopt,
            SYS_listen,
            SYS_recvfrom,
            SYS_recvmmsg,
            SYS_recvmsg,
            SYS_sendmmsg,
            SYS_sendmsg,
            SYS_sendto,
            SYS_shutdown,
        ],
    },
    SystemCallGroup {
        decision: Judged,
        why: "judged by its arguments",
        calls: calls![
            SYS_clone,
            close_range = 436,
            SYS_fadvise64,
            SYS_fcntl,
            SYS_ioctl,
            SYS_ioprio_set,
            SYS_kill,
            SYS_madvise,
            SYS_mmap,
            SYS_mremap,
            SYS_personality,
            pidfd_send_signal = 424,
            SYS_prctl,
            SYS_prlimit64,
            SYS_rt_sigqueueinfo,
            SYS_rt_tgsigqueueinfo,
            SYS_sched_setaffinity,
            SYS_sched_setattr,
            SYS_sched_setparam,
            SYS_sched_setscheduler,
            SYS_setpriority,
            SYS_setsockopt,
            SYS_socket,
            SYS_socketpair,
            SYS_tgkill,
            SYS_tkill,
        ],
    },
    SystemCallGroup {
        decision: Judged,
        why: "allowed to plugins that run programs",
        calls: calls![SYS_execve, SYS_execveat],
    },
    SystemCallGroup {
        decision: Refused,
        why: "reaches into other processes of the same user",
        calls: calls![
            SYS_kcmp,
            SYS_migrate_pages,
            SYS_move_pages,
            SYS_perf_event_open,
            pidfd_getfd = 438,
            process_madvise = 440,
            process_mrelease = 448,
            SYS_process_vm_readv,
            SYS_process_vm_writev,
            SYS_ptrace,
        ],
    },
    SystemCallGroup {
        decision: Refused,
        why: "changes names, modes, owners, times or attributes of files; landlock knows only some of it",
        calls: calls![
            SYS_fchmod,
            SYS_fchmodat,
            fchmodat2 = 452,
            SYS_fchown,
            SYS_fchownat,
            file_setattr = 469,
            SYS_fremovexattr,
            SYS_fsetxattr,
            SYS_linkat,
            SYS_lremovexattr,
            SYS_lsetxattr,
            SYS_mkdirat,
            SYS_mknodat,
            SYS_name_to_handle_at,
            SYS_open_by_handle_at,
            SYS_removexattr,
            removexattrat = 466,
            SYS_renameat2,
            SYS_setxattr,
            setxattrat = 463,
            SYS_symlinkat,
            SYS_truncate,
            SYS_unlinkat,
            SYS_utimensat,
        ],
    },
    SystemCallGroup {
        decision: Refused,
        why: "blocks others at files that both may read, or makes the disks work",
        calls: calls![
            cachestat = 451,
            SYS_fdatasync,
            SYS_flock,
            SYS_fsync,
            SYS_msync,
            SYS_sync,
            SYS_sync_file_range,
            SYS_syncfs,
        ],
    },
    SystemCallGroup {
        decision: Refused,
        why: "takes from a table that the user or the machine has one of: watches, timers, keys, asynchronous I/O, message queues",
        calls: calls![
            SYS_add_key,
            SYS_fanotify_init,
            SYS_fanotify_mark,
            SYS_inotify_add_watch,
            SYS_inotify_init1,
            SYS_inotify_rm_watch,
            SYS_io_cancel,
            SYS_io_destroy,
            SYS_io_getevents,
            SYS_io_setup,
            SYS_io_submit,
            SYS_keyctl,
            SYS_mq_getsetattr,
            SYS_mq_notify,
            SYS_mq_open,
            SYS_mq_timedreceive,
            SYS_mq_timedsend,
            SYS_mq_unlink,
            SYS_msgctl,
            SYS_msgget,
            SYS_msgrcv,
            SYS_msgsnd,
            SYS_request_key,
            SYS_semctl,
            SYS_semget,
            SYS_semop,
            SYS_semtimedop,
            SYS_timer_create,
            SYS_timer_delete,
            SYS_timer_getoverrun,
            SYS_timer_gettime,
            SYS_timer_settime,
        ],
    },
    SystemCallGroup {
        decision: Refused,
        why: "holds memory that no limit of the process counts",
        calls: calls![
            SYS_memfd_create,
            memfd_secret = 447,
            SYS_remap_file_pages,
            SYS_shmat,
            SYS_shmctl,
            SYS_shmget,
            SYS_vmsplice,
        ],
    },
    SystemCallGroup {
        decision: Refused,
        why: "leaves the process group, which the host ends the worker by",
        calls: calls![SYS_setpgid, SYS_setsid],
    },
    SystemCallGroup {
        decision: Refused,
        why: "makes namespaces and mounts, changes the machine, or has a long record of holes",
        calls: calls![
            SYS_acct,
            SYS_bpf,
            SYS_chroot,
            SYS_clock_settime,
            SYS_delete_module,
            SYS_finit_module,
            fsconfig = 431,
            fsmount = 432,
            fsopen = 430,
            fspick = 433,
            SYS_init_module,
            io_uring_enter = 426,
            io_uring_register = 427,
            io_uring_setup = 425,
            SYS_kexec_load,
            listns = 470,
            lsm_set_self_attr = 460,
            SYS_mount,
            mount_setattr = 442,
            move_mount = 429,
            open_tree = 428,
            open_tree_attr = 467,
            SYS_pivot_root,
            SYS_quotactl,
            quotactl_fd = 443,
            SYS_reboot,
            SYS_setdomainname,
            SYS_sethostname,
            SYS_setns,
            SYS_settimeofday,
            SYS_swapoff,
            SYS_swapon,
            SYS_syslog,
            SYS_umount2,
            SYS_unshare,
            SYS_userfaultfd,
            SYS_vhangup,
        ],
    },
    SystemCallGroup {
        decision: Absent,
        why: "has arguments that a filter cannot see; the C library falls back to clone",
        calls: calls![clone3 = 435],
    },
    SystemCallGroup {
        decision: Absent,
        why: "fills kernel memory that all sandboxes of the machine share",
        calls: calls![
            landlock_add_rule = 445,
            landlock_create_ruleset = 444,
            landlock_restrict_self = 446,
            SYS_seccomp,
        ],
    },
];

/// Calls that newer architectures no longer have.
#[cfg(target_arch = "x86_64")]
const OLD: &[SystemCallGroup] = &[
    SystemCallGroup {
        decision: Open,
        why: "is an older form of an allowed call",
        calls: calls![
            SYS_access,
            SYS_alarm,
            SYS_dup2,
            SYS_epoll_create,
            SYS_epoll_wait,
            SYS_eventfd,
            SYS_getdents,
            SYS_getpgrp,
            SYS_getrlimit,
            SYS_lstat,
            SYS_open,
            SYS_pause,
            SYS_pipe,
            SYS_poll,
            SYS_readlink,
            SYS_select,
            SYS_setrlimit,
            SYS_signalfd,
            SYS_stat,
            SYS_time,
        ],
    },
    SystemCallGroup {
        decision: Open,
        why: "is made by the kernel's own tracing code inside the process",
        calls: calls![uprobe = 336, uretprobe = 335],
    },
    SystemCallGroup {
        decision: Judged,
        why: "judged by its arguments",
        calls: calls![SYS_arch_prctl],
    },
    SystemCallGroup {
        decision: Judged,
        why: "allowed to plugins that run programs",
        calls: calls![SYS_fork, SYS_vfork],
    },
    SystemCallGroup {
        decision: Refused,
        why: "is an older form of a refused call, or enters the hardware",
        calls: calls![
            SYS_chmod,
            SYS_chown,
            SYS_creat,
            SYS_futimesat,
            SYS_inotify_init,
            io_pgetevents = 333,
            SYS_ioperm,
            SYS_iopl,
            SYS_kexec_file_load,
            SYS_lchown,
            SYS_link,
            SYS_mkdir,
            SYS_mknod,
            SYS_modify_ldt,
            SYS_rename,
            SYS_renameat,
            SYS_rmdir,
            SYS_symlink,
            SYS_unlink,
            SYS_uselib,
            SYS_utime,
            SYS_utimes,
        ],
    },
    SystemCallGroup {
        decision: Absent,
        why: "is not implemented by the kernel either, or only for programs of its own time",
        calls: calls![
            _sysctl = 156,
            afs_syscall = 183,
            create_module = 174,
            epoll_ctl_old = 214,
            epoll_wait_old = 215,
            get_kernel_syms = 177,
            get_thread_area = 211,
            getpmsg = 181,
            lookup_dcookie = 212,
            nfsservctl = 180,
            putpmsg = 182,
            query_module = 178,
            security = 185,
            set_thread_area = 205,
            SYS_sysfs,
            tuxcall = 184,
            SYS_ustat,
            vserver = 236,
        ],
    },
];
#[cfg(target_arch = "aarch64")]
const OLD: &[SystemCallGroup] = &[
    SystemCallGroup {
        decision: Open,
        why: "is an older form of an allowed call",
        calls: calls![SYS_getrlimit, SYS_setrlimit],
    },
    SystemCallGroup {
        decision: Refused,
        why: "is an older form of a refused call, or enters the hardware",
        calls: calls![io_pgetevents = 292, SYS_kexec_file_load, SYS_renameat],
    },
];
#[cfg(target_arch = "riscv64")]
const OLD: &[SystemCallGroup] = &[SystemCallGroup {
    decision: Open,
    why: "asks about the processor, or keeps its caches right",
    calls: calls![riscv_hwprobe = 258, riscv_flush_icache = 259],
}];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_call_is_decided_once() {
        let mut known = BTreeMap::new();
        for call in groups().flat_map(|group| group.calls) {
            let before = known.insert(call.number, call.name());
            assert_eq!(before, None, "{} has two decisions", call.name());
        }
    }

    /// Linux 6.19; the numbers from 337 to 423 are of other architectures.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn every_number_of_the_kernel_has_a_decision() {
        let decided: Vec<i64> = groups()
            .flat_map(|group| group.calls)
            .map(|call| call.number)
            .collect();
        let undecided: Vec<i64> = (0..=336)
            .chain(424..=470)
            .filter(|number| !decided.contains(number))
            .collect();
        assert_eq!(undecided, Vec::<i64>::new());
    }
}
