//! The system calls that are refused, each with the reason.

use libc::c_int;
use seccompiler::{
    BackendError, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompRule,
};

use super::Capabilities;

/// A call's number, and when it is refused: when any of the rules holds; without rules, always.
pub(super) type Refused = (i64, Vec<SeccompRule>);

/// What a worker with the process id `own` is refused.
pub(super) fn refused(
    capabilities: &Capabilities,
    scopes_signals: bool,
    own: u32,
) -> Result<Vec<Refused>, BackendError> {
    let runs = !capabilities.run.is_empty();
    let mut calls: Vec<Refused> = Vec::new();
    let always = [
        LOOKING_INTO_OTHERS,
        CHANGING_FILES,
        SHARED_MEMORY,
        LEAVING_THE_GROUP,
        KERNEL,
        OLD_CALLS,
    ];
    calls.extend(always.concat().into_iter().map(|call| (call, Vec::new())));
    calls.extend(sockets(capabilities)?);
    calls.extend(processes(runs)?);
    calls.extend(scheduling_of_others(own)?);
    if !(runs && scopes_signals) {
        calls.extend(signals(own)?);
    }
    calls.extend(prctl()?);
    calls.extend(single_arguments()?);
    Ok(calls)
}

/// Memory and files of processes of the same user.
const LOOKING_INTO_OTHERS: &[i64] = &[
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
];

/// Names, modes, owners, times and attributes: landlock knows some of them, no probe needs any.
const CHANGING_FILES: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_linkat,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_removexattr,
    #[cfg(not(target_arch = "riscv64"))]
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_setxattr,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    // setxattrat, removexattrat and file_setattr, which libc has no names for yet.
    463,
    466,
    469,
];

/// Memory that no limit of the process counts, and messages that reach other programs by it.
const SHARED_MEMORY: &[i64] = &[
    libc::SYS_memfd_create,
    #[cfg(not(target_env = "musl"))]
    libc::SYS_memfd_secret,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmget,
];

/// Whoever left the group would outlive its end.
const LEAVING_THE_GROUP: &[i64] = &[libc::SYS_setpgid, libc::SYS_setsid];

/// What makes new namespaces and mounts, changes the machine, or has a long record of holes.
const KERNEL: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    #[cfg(not(target_arch = "riscv64"))]
    libc::SYS_kexec_file_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Those that younger architectures have no longer.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_futimesat,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_modify_ldt,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_symlink,
    libc::SYS_unlink,
    libc::SYS_uselib,
    libc::SYS_utime,
    libc::SYS_utimes,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[i64] = &[];

/// Names are asked for over UDP, and addresses of this machine over netlink, which calls its sockets raw ones.
fn sockets(capabilities: &Capabilities) -> Result<[Refused; 2], BackendError> {
    let mut families = vec![libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    if capabilities.unix_sockets {
        families.push(libc::AF_UNIX);
    }
    let mut rules = vec![none_of(0, &families)?];
    // MPTCP has no constant everywhere.
    let (stream, datagram): (&[c_int], &[c_int]) = if capabilities.network {
        let ping = [libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6];
        (
            &[0, libc::IPPROTO_TCP, 262],
            &[0, libc::IPPROTO_UDP, ping[0], ping[1]],
        )
    } else {
        (&[], &[0, libc::IPPROTO_UDP])
    };
    let is_closed =
        |protocol: &c_int| capabilities.no_udp && [0, libc::IPPROTO_UDP].contains(protocol);
    let datagram: Vec<_> = datagram.iter().copied().filter(|p| !is_closed(p)).collect();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in 0..=KIND {
            let protocols = match kind {
                libc::SOCK_STREAM => stream,
                libc::SOCK_DGRAM => datagram.as_slice(),
                _ => &[],
            };
            let kind = with_bits(1, KIND, kind)?;
            rules.push(all([vec![is(0, family)?, kind], isnt(2, protocols)?])?);
        }
    }
    rules.push(all([
        vec![is(0, libc::AF_NETLINK)?],
        isnt(2, &[libc::NETLINK_ROUTE])?,
    ])?);
    // A pair is a pipe within the process, as long as neither end can be connected anew: a datagram's can.
    let mut pairs = vec![none_of(0, &[libc::AF_UNIX])?];
    if !capabilities.unix_sockets {
        for kind in 0..=KIND {
            if ![libc::SOCK_STREAM, libc::SOCK_SEQPACKET].contains(&kind) {
                pairs.push(all([vec![with_bits(1, KIND, kind)?]])?);
            }
        }
    }
    Ok([(libc::SYS_socket, rules), (libc::SYS_socketpair, pairs)])
}

/// Threads may always be started; children and programs where the plugin may run some.
fn processes(runs: bool) -> Result<Vec<Refused>, BackendError> {
    if runs {
        let flags = [
            libc::CLONE_NEWCGROUP,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWUTS,
            // The host would get a child that it never started.
            libc::CLONE_PARENT,
        ];
        let rules = flags.map(|flag| all([vec![with_bits(0, flag, flag)?]]));
        let rules = rules.into_iter().collect::<Result<_, _>>()?;
        return Ok(vec![(libc::SYS_clone, rules)]);
    }
    let child = all([vec![with_bits(0, libc::CLONE_THREAD, 0)?]])?;
    let mut calls = vec![
        (libc::SYS_clone, vec![child]),
        (libc::SYS_execve, Vec::new()),
        (libc::SYS_execveat, Vec::new()),
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([(libc::SYS_fork, Vec::new()), (libc::SYS_vfork, Vec::new())]);
    Ok(calls)
}

/// A worker may end itself, as `abort` does, and its process group, in which there are only its own children; nobody else.
fn signals(own: u32) -> Result<Vec<Refused>, BackendError> {
    let to_others = [
        libc::SYS_kill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_tgkill,
    ];
    let mut calls = vec![(libc::SYS_pidfd_send_signal, Vec::new())];
    // musl's `raise` needs it.
    #[cfg(not(target_env = "musl"))]
    calls.push((libc::SYS_tkill, Vec::new()));
    for call in to_others {
        calls.push((
            call,
            vec![all([vec![other_than(0, own)?, other_than(0, 0)?]])?],
        ));
    }
    Ok(calls)
}

/// Limits, priorities and CPUs of processes of the same user.
fn scheduling_of_others(own: u32) -> Result<Vec<Refused>, BackendError> {
    let first = [
        libc::SYS_prlimit64,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
    ];
    let mut calls = Vec::new();
    for call in first {
        let others = all([vec![other_than(0, own)?], isnt(0, &[0])?])?;
        calls.push((call, vec![others]));
    }
    // What the number means stands before it: a process, a group, or a user.
    for (call, process) in [(libc::SYS_setpriority, 0), (libc::SYS_ioprio_set, 1)] {
        let many = all([isnt(0, &[process])?])?;
        let others = all([vec![other_than(1, own)?], isnt(1, &[0])?])?;
        calls.push((call, vec![many, others]));
    }
    Ok(calls)
}

/// The worker dies with its host, and stays closed to others.
fn prctl() -> Result<[Refused; 1], BackendError> {
    let options = [
        libc::PR_SET_PDEATHSIG,
        libc::PR_SET_DUMPABLE,
        libc::PR_SET_PTRACER,
    ];
    let rules = options.map(|option| all([vec![is(0, option)?]]));
    let rules = rules.into_iter().collect::<Result<_, _>>()?;
    Ok([(libc::SYS_prctl, rules)])
}

/// Harmless calls with a harmful argument.
fn single_arguments() -> Result<Vec<Refused>, BackendError> {
    let (inject, console, owner, group) = (0x5412, 0x541c, 0x8901, 0x8902);
    let ioctls = [inject, console, owner, group].map(|request| all([vec![is(1, request)?]]));
    // A file's owner gets signals from it, SIGIO among them.
    let owners = [libc::F_SETOWN, 15].map(|command| all([vec![is(1, command)?]]));
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let query = -1;
    Ok(vec![
        (
            libc::SYS_ioctl,
            ioctls.into_iter().collect::<Result<_, _>>()?,
        ),
        (
            libc::SYS_fcntl,
            owners.into_iter().collect::<Result<_, _>>()?,
        ),
        (
            libc::SYS_mmap,
            vec![
                all([vec![with_bits(3, shared, shared)?]])?,
                // Counted as a stack, and so not at all.
                all([vec![with_bits(
                    3,
                    libc::MAP_GROWSDOWN,
                    libc::MAP_GROWSDOWN,
                )?]])?,
            ],
        ),
        (libc::SYS_personality, vec![none_of(0, &[0, query])?]),
    ])
}

fn all<const N: usize>(
    conditions: [Vec<SeccompCondition>; N],
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.concat())
}

fn none_of(argument: u8, values: &[c_int]) -> Result<SeccompRule, BackendError> {
    all([isnt(argument, values)?])
}

fn is(argument: u8, value: c_int) -> Result<SeccompCondition, BackendError> {
    condition(argument, Op::Eq, value)
}

fn isnt(argument: u8, values: &[c_int]) -> Result<Vec<SeccompCondition>, BackendError> {
    let conditions = values
        .iter()
        .map(|value| condition(argument, Op::Ne, *value));
    conditions.collect()
}

fn other_than(argument: u8, process: u32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Len::Dword, Op::Ne, process.into())
}

fn with_bits(argument: u8, mask: c_int, bits: c_int) -> Result<SeccompCondition, BackendError> {
    condition(argument, Op::MaskedEq(word(mask)), bits)
}

/// The kernel reads these arguments as 32 bits, so the filter does too.
fn condition(argument: u8, op: Op, value: c_int) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Len::Dword, op, word(value))
}

fn word(value: c_int) -> u64 {
    value.cast_unsigned().into()
}

/// The bits of a socket's type that are not flags.
const KIND: c_int = 0xf;
