//! The judged calls: the refused arguments, and the plugins each rule applies to.

use libc::c_int;
use seccompiler::{
    BackendError, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompRule,
};

use super::{FilterEnvironment, SignalControl, allowed};
use crate::PluginCapabilities;

/// A call's number and its rules: it is refused when any of them matches; without rules, always.
pub(super) type Refused = (i64, Vec<SeccompRule>);

/// Returns rules for every judged call that a worker with these capabilities may not make freely.
pub(super) fn refused(
    capabilities: &PluginCapabilities,
    surroundings: &FilterEnvironment,
) -> Result<Vec<Refused>, BackendError> {
    let runs = !capabilities.run.is_empty();
    let mut calls = lists(capabilities)?;
    calls.extend(sockets(capabilities)?);
    calls.push(socket_options()?);
    calls.extend(processes(runs)?);
    calls.extend(scheduling_of_others(surroundings.own_pid)?);
    if surroundings.signals != SignalControl::Landlock {
        let mut signals = signals(surroundings.own_pid)?;
        if surroundings.signals == SignalControl::Broker {
            signals.retain(|(call, _)| *call != libc::SYS_kill);
        }
        calls.extend(signals);
    }
    calls.extend(memory(surroundings.stack_bottom)?);
    // The list of fcntl commands lets F_SETFL through, but not this flag: it sends signals.
    let asynchronous = vec![
        is(1, libc::F_SETFL)?,
        with_bits(2, libc::O_ASYNC, libc::O_ASYNC)?,
    ];
    calls.push((libc::SYS_fcntl, vec![all([asynchronous])?]));
    Ok(calls)
}

/// Refuses every value that is not on the list of its call.
fn lists(capabilities: &PluginCapabilities) -> Result<Vec<Refused>, BackendError> {
    allowed::lists()
        .map(|list| {
            let mut values: Vec<c_int> = list
                .values
                .iter()
                .map(|(_, value)| value.cast_signed())
                .collect();
            // Databases are read under a lock. Without write access to the file, it can only be a read lock.
            if list.number == libc::SYS_fcntl && !capabilities.read.is_empty() {
                values.push(libc::F_SETLK);
            }
            Ok((list.number, vec![none_of(list.argument, &values)?]))
        })
        .collect()
}

/// Restricts sockets. Names are looked up over UDP, and addresses of this machine over netlink, whose sockets are raw.
fn sockets(capabilities: &PluginCapabilities) -> Result<[Refused; 2], BackendError> {
    let mut families = vec![libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    if capabilities.unix_sockets {
        families.push(libc::AF_UNIX);
    }
    let mut rules = vec![none_of(0, &families)?];
    // Not every platform has a constant for MPTCP.
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
    // A pair is a pipe within the process unless an end can be reconnected, as a datagram socket's can.
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

/// Refuses options that attach programs, pin memory outside the worker's limits, or use up a machine-wide table.
fn socket_options() -> Result<Refused, BackendError> {
    let refused = REFUSED_OPTIONS
        .iter()
        .map(|(_, level, option)| all([vec![is(1, *level)?, is(2, *option)?]]));
    Ok((libc::SYS_setsockopt, refused.collect::<Result<_, _>>()?))
}

/// The refused socket options, by name, level and number.
pub(super) const REFUSED_OPTIONS: [(&str, c_int, c_int); 9] = [
    ("SO_ATTACH_FILTER", libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
    ("SO_ATTACH_BPF", libc::SOL_SOCKET, 50),
    ("SO_ATTACH_REUSEPORT_CBPF", libc::SOL_SOCKET, 51),
    ("SO_ATTACH_REUSEPORT_EBPF", libc::SOL_SOCKET, 52),
    ("SO_ZEROCOPY", libc::SOL_SOCKET, 60),
    ("IPV6_FLOWLABEL_MGR", libc::IPPROTO_IPV6, 32),
    ("TCP_ULP", libc::IPPROTO_TCP, 31),
    ("TCP_REPAIR", libc::IPPROTO_TCP, 19),
    ("UDP_ENCAP", libc::IPPROTO_UDP, 100),
];

/// Allows threads always; children and programs only if the plugin may run some.
fn processes(runs: bool) -> Result<Vec<Refused>, BackendError> {
    let mut flags = vec![
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWUTS,
        // The host would get a child that it never started.
        libc::CLONE_PARENT,
    ]
    .into_iter()
    .map(|flag| all([vec![with_bits(0, flag, flag)?]]))
    .collect::<Result<Vec<_>, _>>()?;
    // A thread with its own descriptor table would have its own limit.
    for shared in [libc::CLONE_FILES, libc::CLONE_FS] {
        let thread = libc::CLONE_THREAD;
        flags.push(all([vec![with_bits(0, thread | shared, thread)?]])?);
    }
    if runs {
        return Ok(vec![(libc::SYS_clone, flags)]);
    }
    flags.push(all([vec![with_bits(0, libc::CLONE_THREAD, 0)?]])?);
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_mut, reason = "the calls that are added exist there only")
    )]
    let mut calls = vec![
        (libc::SYS_clone, flags),
        (libc::SYS_execve, Vec::new()),
        (libc::SYS_execveat, Vec::new()),
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([(libc::SYS_fork, Vec::new()), (libc::SYS_vfork, Vec::new())]);
    Ok(calls)
}

/// Restricts signals to the worker itself, as for `abort`, and its process group, which contains only its own children.
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
        calls.push((call, vec![signal_to_others(own)?]));
    }
    Ok(calls)
}

/// Matches a signal whose target, the first argument, is neither the worker nor its process group.
pub(super) fn signal_to_others(own: u32) -> Result<SeccompRule, BackendError> {
    all([vec![other_than(0, own)?, other_than(0, 0)?]])
}

/// Refuses changing limits, priorities and CPUs of the user's other processes.
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
    // The argument before the number gives its kind: a process, a group, or a user.
    for (call, process) in [(libc::SYS_setpriority, 0), (libc::SYS_ioprio_set, 1)] {
        let many = all([isnt(0, &[process])?])?;
        let others = all([vec![other_than(1, own)?], isnt(1, &[0])?])?;
        calls.push((call, vec![many, others]));
    }
    Ok(calls)
}

/// Refuses memory that no limit of the process counts.
fn memory(stack_bottom: u64) -> Result<[Refused; 2], BackendError> {
    let unlimited = [
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        // Counted as a stack, and so not at all.
        libc::MAP_GROWSDOWN,
        // From a machine-wide pool, even if only read.
        libc::MAP_HUGETLB,
    ];
    let maps = unlimited.map(|bits| all([vec![with_bits(3, bits, bits)?]]));
    // A part of the stack still counts as stack wherever it is moved.
    let of_the_stack = SeccompCondition::new(0, Len::Qword, Op::Ge, stack_bottom)?;
    Ok([
        (libc::SYS_mmap, maps.into_iter().collect::<Result<_, _>>()?),
        (libc::SYS_mremap, vec![all([vec![of_the_stack]])?]),
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

/// Bits of a socket's type that are not flags.
const KIND: c_int = 0xf;
