//! Lets a worker signal the programs that it runs, where landlock does not know signals: before Linux 6.12.
//!
//! A filter sees a process ID, but not whose it is. So it passes `kill` on to a broker, which sends the signal if the
//! target is in the worker's process group: that contains the programs that the worker runs and nothing else, because
//! `setpgid` and `setsid` are closed. `seccomp_unotify(2)` describes the mechanism.
//!
//! The broker is a copy of the worker from before it has filters: a process of the same process group and control group,
//! under the same landlock rules and limits. It has no file open, reads only process ID and signal from the kernel, and
//! ends with the last process under the filter.
#![expect(
    unsafe_code,
    reason = "a copy of the process, and calls of seccomp that no safe crate has"
)]

use std::{
    ffi::{c_int, c_long},
    io::{self, IoSlice, IoSliceMut},
    mem::{self, MaybeUninit},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    panic, ptr,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::{
        Pid, PidfdFlags, Resource, Signal, WaitOptions, getpgrp, getpid, getrlimit, pidfd_open,
        set_parent_process_death_signal, waitpid,
    },
};
use seccompiler::BpfProgram;

/// Starts the broker, and installs `filter`, which passes calls of `kill` on to it.
///
/// # Errors
/// When the kernel cannot pass calls on, or this process does not lead its process group: then no call is passed on.
pub(super) fn start(filter: &BpfProgram) -> io::Result<()> {
    let group = getpgrp();
    if group != getpid() {
        return Err(io::Error::other(
            "the worker does not lead its process group",
        ));
    }
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: this process has one thread, so the copy is not left with a lock that another thread holds.
    let broker = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            drop(ours);
            // The copy must not return into the worker's code.
            let _ = panic::catch_unwind(|| serve(theirs, group));
            // SAFETY: it only ends the copy.
            unsafe { libc::_exit(0) }
        }
        pid => Pid::from_raw(pid),
    };
    drop(theirs);
    let installed = install(filter).and_then(|listener| send(&ours, listener.as_fd()));
    if installed.is_err() {
        // It ends when it finds the socket closed.
        drop(ours);
        let _ = retry_on_intr(|| waitpid(broker, WaitOptions::empty()));
    }
    installed
}

/// Replaces the action `Trace(0)` by that of passing the call on, which the compiler of filters does not know.
pub(super) fn pass_on_traced(program: &mut BpfProgram) {
    for instruction in program {
        if instruction.code == RETURN && instruction.k == libc::SECCOMP_RET_TRACE {
            instruction.k = libc::SECCOMP_RET_USER_NOTIF;
        }
    }
}

/// Installs a filter; returns the descriptor by which calls are passed on.
fn install(filter: &BpfProgram) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: filter
            .len()
            .try_into()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // A caller that waits for the broker is then interrupted only by its death, not by the signal that it sends itself.
    // Linux 5.19 and later.
    let installed = install_with(&program, WAIT_KILLABLE);
    match installed {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install_with(&program, 0),
        installed => installed,
    }
}

fn install_with(program: &libc::sock_fprog, flags: libc::c_ulong) -> io::Result<OwnedFd> {
    // SAFETY: the kernel only reads the program, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | flags,
            ptr::from_ref(program),
        )
    };
    let descriptor = positive(result)?;
    // SAFETY: the kernel has just opened it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn send(socket: &OwnedFd, listener: BorrowedFd<'_>) -> io::Result<()> {
    let listener = [listener];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&listener));
    sendmsg(
        socket,
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    retry_on_intr(|| recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// The life of the broker: waits for the listener, then judges calls until no process is left to make them.
fn serve(socket: OwnedFd, group: Pid) {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // Shown in lists of processes.
    let _ = rustix::thread::set_name(c"signal-broker");
    block_signals();
    close_all_but(&socket);
    let Some(listener) = receive(&socket) else {
        return;
    };
    drop(socket);
    while is_in_use(&listener) {
        if judge_next(&listener, group).is_err() {
            return;
        }
    }
}

/// Waits for a call; returns `false` once no process is left that could make one. Linux 5.9 and later; before, the
/// broker ends with its parent.
fn is_in_use(listener: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    match retry_on_intr(|| poll(&mut polled, None)) {
        Ok(_) => !polled[0].revents().contains(PollFlags::HUP),
        Err(_) => false,
    }
}

/// Reads one call and responds to it.
fn judge_next(listener: &OwnedFd, group: Pid) -> io::Result<()> {
    // SAFETY: all of its fields are numbers. The kernel requires zeros.
    let mut call: libc::seccomp_notif = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes a value of this type.
    let read = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &mut call,
        )
    };
    if read < 0 {
        return match io::Error::last_os_error() {
            // The caller was interrupted or has ended.
            error if [libc::ENOENT, libc::EINTR].contains(&error.raw_os_error().unwrap_or(0)) => {
                Ok(())
            }
            error => Err(error),
        };
    }
    // The kernel reads these arguments as 32 bits.
    let [target, signal] = [call.data.args[0], call.data.args[1]].map(low_word);
    let mut response = libc::seccomp_notif_resp {
        id: call.id,
        val: 0,
        error: 0,
        flags: 0,
    };
    if u32::try_from(target) == Ok(call.pid) {
        // To itself: the call continues, as if it had not been passed on. Its arguments are in registers, where no
        // other thread can change them.
        response.flags = CONTINUE;
    } else if let Err(refusal) = deliver(target, signal, group) {
        response.error = -refusal.raw_os_error();
    }
    // SAFETY: the kernel only reads it. It fails if the caller has ended.
    unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &response,
        )
    };
    Ok(())
}

/// Sends a signal to a process of the group other than this one.
fn deliver(target: c_int, signal: c_int, group: Pid) -> Result<(), Errno> {
    // Zero and below are groups.
    let process_id = (target > 0).then(|| Pid::from_raw(target)).flatten();
    let target = match process_id {
        Some(pid) if pid != getpid() => pid,
        _ => return Err(Errno::PERM),
    };
    let process = match pidfd_open(target, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Err(Errno::SRCH),
        Err(_) => return Err(Errno::PERM),
    };
    // If the ID has passed to another process since, the descriptor is that of a dead one.
    // SAFETY: it only reads the number of a group. The safe wrapper does not know 0, that of a process outside the
    // container.
    let its_group = unsafe { libc::getpgid(target.as_raw_pid()) };
    if its_group != group.as_raw_pid() {
        return Err(Errno::PERM);
    }
    // SAFETY: it has no pointer but the null one.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match sent {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::PERM)),
    }
}

/// A signal to the whole group, which a worker may handle, must not end the broker alone.
fn block_signals() {
    // SAFETY: both calls only change the set and the mask of this thread, the only one.
    unsafe {
        let mut all = mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &all, ptr::null_mut());
    }
}

/// Closes the worker's channel to the host, and everything else that the copy has.
fn close_all_but(socket: &OwnedFd) {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = c_int::try_from(most).unwrap_or(c_int::MAX);
    for descriptor in (0..most).filter(|&descriptor| descriptor != socket.as_raw_fd()) {
        // SAFETY: the code that owns it does not run in the copy.
        unsafe { libc::close(descriptor) };
    }
}

fn low_word(argument: u64) -> c_int {
    let low = u32::try_from(argument & u64::from(u32::MAX));
    low.unwrap_or_default().cast_signed()
}

fn positive(result: c_long) -> io::Result<c_int> {
    match c_int::try_from(result) {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The instruction that returns an action: `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const CONTINUE: u32 = 1;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;
