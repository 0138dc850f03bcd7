//! Attempts on files: reading hidden ones, changing any, blocking others at shared ones.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use super::{
    Attempt, Need,
    kernel::{address, call},
    victims::{at, host, neighbour},
};

pub(super) fn attempts() -> Vec<Attempt> {
    let mut all = Vec::new();
    all.extend(reading());
    all.extend(through_proc());
    all.extend(writing());
    all.extend(changing());
    all.extend(blocking());
    all.extend(commands());
    all
}

fn reading() -> Vec<Attempt> {
    let mut all = Vec::new();
    for file in ["state/lock", "open/secret", "closed/file"] {
        all.push(read("read a closed file", file, move || at(file)));
    }
    all.push(read("read a closed file", "open/file", || at("open/file")).unless(&[Need::Read]));
    for path in [
        "/etc/shadow",
        "/etc/gshadow",
        "/root/.bashrc",
        "/root/.profile",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/port",
        "/dev/zero",
        "/dev/tty",
        "/dev/ptmx",
        "/dev/net/tun",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/loop-control",
        "/dev/vda",
        "/dev/shm",
        "/var/log/dpkg.log",
        "/var/lib/dpkg/status",
        "/boot",
        "/tmp",
        "/home",
        "/srv",
    ] {
        all.push(read("read outside", path, move || path.into()).where_there());
    }
    all
}

fn through_proc() -> Vec<Attempt> {
    let mut all = Vec::new();
    for way in [
        "/proc/self/root",
        "/proc/thread-self/root",
        "/proc/self/cwd/../../../../../../..",
        "/proc/1/root",
        "/dev/fd/../root",
    ] {
        let path = move || {
            let closed = at("closed/file");
            PathBuf::from(format!("{way}{}", closed.display()))
        };
        all.push(read("read through /proc", way, path));
    }
    for (who, pid) in [("host", host as fn() -> i64), ("neighbour", neighbour)] {
        for name in [
            "mem", "environ", "maps", "smaps", "auxv", "stack", "syscall", "pagemap", "io",
        ] {
            let path = move || PathBuf::from(format!("/proc/{}/{name}", pid()));
            all.push(read("look into a process", format!("{who}: {name}"), path));
        }
        for name in ["root", "cwd", "exe"] {
            all.push(Attempt::refused(
                "follow a link of a process",
                format!("{who}: {name}"),
                move || shown(fs::read_link(format!("/proc/{}/{name}", pid()))?),
            ));
        }
        all.push(Attempt::refused(
            "take a descriptor",
            format!("{who}: fd/0"),
            move || shown(File::open(format!("/proc/{}/fd/0", pid()))?),
        ));
        for name in [
            "mem",
            "oom_score_adj",
            "coredump_filter",
            "comm",
            "timerslack_ns",
            "autogroup",
        ] {
            all.push(Attempt::refused(
                "write to a process",
                format!("{who}: {name}"),
                move || {
                    let path = format!("/proc/{}/{name}", pid());
                    shown(OpenOptions::new().write(true).open(path)?)
                },
            ));
        }
    }
    all
}

fn writing() -> Vec<Attempt> {
    let mut all = Vec::new();
    for path in [
        "/etc/passwd",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/ld.so.cache",
        "/usr/bin/env",
        "/proc/self/mem",
        "/proc/self/oom_score_adj",
        "/proc/self/coredump_filter",
        "/proc/self/uid_map",
        "/proc/self/clear_refs",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/net/ipv4/ip_forward",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
        "/sys/fs/cgroup/cgroup.procs",
    ] {
        let write = Attempt::refused("open for writing", path, move || {
            shown(OpenOptions::new().write(true).open(path)?)
        });
        all.push(write.where_there());
    }
    for (name, file) in [("closed", "closed/file"), ("open", "open/file")] {
        all.push(Attempt::refused("write", name, move || {
            shown(OpenOptions::new().write(true).open(at(file))?)
        }));
        all.push(Attempt::refused(
            "write",
            format!("append, {name}"),
            move || shown(OpenOptions::new().append(true).open(at(file))?),
        ));
        all.push(Attempt::refused(
            "truncate",
            format!("O_TRUNC, {name}"),
            move || {
                let read = OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_TRUNC)
                    .open(at(file))?;
                shown(read)
            },
        ));
        all.push(with_path(
            "truncate",
            format!("truncate, {name}"),
            file,
            |path| call(libc::SYS_truncate, &[path, 0]),
        ));
    }
    for (name, folder) in [("closed", "closed"), ("open", "open"), ("own", ".")] {
        all.push(Attempt::refused(
            "make a file",
            format!("O_CREAT, {name}"),
            move || shown(File::create(at(folder).join("new"))?),
        ));
        all.push(Attempt::refused(
            "make a file",
            format!("O_TMPFILE, {name}"),
            move || {
                let mut options = OpenOptions::new();
                let options = options.read(true).write(true).custom_flags(libc::O_TMPFILE);
                shown(options.open(at(folder))?)
            },
        ));
        all.push(with_path(
            "make a file",
            format!("creat, {name}"),
            folder,
            |path| {
                let _ = path;
                let new = c_string(&at("new"));
                call(libc::SYS_creat, &[address(new.as_ptr()), 0o600])
            },
        ));
    }
    for path in [
        "/tmp/conductor-attempt",
        "/dev/shm/conductor-attempt",
        "/var/tmp/conductor-attempt",
        "/run/conductor-attempt",
    ] {
        all.push(Attempt::refused("make a file", path, move || {
            shown(File::create(path)?)
        }));
    }
    all.push(Attempt::refused(
        "write through own descriptor",
        "/proc/self/fd",
        || {
            let file = File::open("/etc/hosts")?;
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            shown(OpenOptions::new().write(true).open(again)?)
        },
    ));
    all.push(Attempt::refused(
        "write through own descriptor",
        "O_PATH",
        || {
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_PATH)
                .open(at("closed/file"))?;
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            shown(File::open(again)?)
        },
    ));
    all.push(Attempt::refused(
        "write through own descriptor",
        "own memory",
        || {
            let mut memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
            shown(memory.write(&[0])?)
        },
    ));
    all
}

fn changing() -> Vec<Attempt> {
    let mut all = Vec::new();
    for (name, file) in [("closed", "closed/file"), ("open", "open/file")] {
        let (folder, cwd) = (i64::from(libc::AT_FDCWD), i64::from(libc::AT_FDCWD));
        let named = |what: &str| format!("{what}, {name}");
        all.push(with_path("remove", named("unlink"), file, |path| {
            call(libc::SYS_unlink, &[path])
        }));
        all.push(with_path("remove", named("unlinkat"), file, move |path| {
            call(libc::SYS_unlinkat, &[cwd, path, 0])
        }));
        all.push(with_path("remove", named("rmdir"), file, |path| {
            call(libc::SYS_rmdir, &[path])
        }));
        for (way, number) in [
            ("rename", libc::SYS_rename),
            ("link", libc::SYS_link),
            ("symlink", libc::SYS_symlink),
        ] {
            all.push(with_path(
                "rename and link",
                named(way),
                file,
                move |path| {
                    let new = c_string(&at("new"));
                    call(number, &[path, address(new.as_ptr())])
                },
            ));
        }
        for (way, number) in [
            ("renameat2", libc::SYS_renameat2),
            ("linkat", libc::SYS_linkat),
        ] {
            all.push(with_path(
                "rename and link",
                named(way),
                file,
                move |path| {
                    let new = c_string(&at("new"));
                    call(number, &[folder, path, cwd, address(new.as_ptr()), 0])
                },
            ));
        }
        all.push(with_path(
            "rename and link",
            named("linkat, by descriptor"),
            file,
            move |_| {
                let file = File::open("/etc/hosts")?;
                let (empty, new) = (CString::default(), c_string(&at("new")));
                let number = i64::from(file.as_raw_fd());
                call(
                    libc::SYS_linkat,
                    &[
                        number,
                        address(empty.as_ptr()),
                        cwd,
                        address(new.as_ptr()),
                        0x1000,
                    ],
                )
            },
        ));
        for (way, number, arguments) in [
            ("chmod", libc::SYS_chmod, [0o777, 0]),
            ("chown", libc::SYS_chown, [54321, 54321]),
            ("lchown", libc::SYS_lchown, [54321, 54321]),
            ("utime", libc::SYS_utime, [0, 0]),
            ("utimes", libc::SYS_utimes, [0, 0]),
            ("removexattr", libc::SYS_removexattr, [0, 0]),
        ] {
            all.push(with_path(
                "modes, owners and times",
                named(way),
                file,
                move |path| call(number, &[path, arguments[0], arguments[1]]),
            ));
        }
        for (way, number) in [
            ("fchmodat", libc::SYS_fchmodat),
            ("fchmodat2", 452),
            ("fchownat", libc::SYS_fchownat),
            ("utimensat", libc::SYS_utimensat),
            ("futimesat", libc::SYS_futimesat),
            ("setxattrat", 463),
            ("file_setattr", 469),
        ] {
            all.push(with_path(
                "modes, owners and times",
                named(way),
                file,
                move |path| call(number, &[cwd, path, 0, 0, 0, 0]),
            ));
        }
    }
    for (way, number) in [
        ("fchmod", libc::SYS_fchmod),
        ("fchown", libc::SYS_fchown),
        ("fsetxattr", libc::SYS_fsetxattr),
        ("fremovexattr", libc::SYS_fremovexattr),
    ] {
        all.push(with_readable("modes, owners and times", way, move |fd| {
            call(number, &[fd, 0o777, 0, 0, 0])
        }));
    }
    for (way, number, arguments) in [
        ("mkdir", libc::SYS_mkdir, [0o700, 0]),
        ("a FIFO", libc::SYS_mknod, [0o10600, 0]),
        ("a device", libc::SYS_mknod, [0o20600, 0x103]),
        ("a socket", libc::SYS_mknod, [0o140600, 0]),
    ] {
        all.push(Attempt::refused(
            "make a folder or device",
            way,
            move || {
                let new = c_string(&at("new"));
                call(number, &[address(new.as_ptr()), arguments[0], arguments[1]])
            },
        ));
    }
    all.push(Attempt::refused(
        "open by handle",
        "name_to_handle_at",
        || {
            let hosts = c_string(Path::new("/etc/hosts"));
            call(
                libc::SYS_name_to_handle_at,
                &[libc::AT_FDCWD.into(), address(hosts.as_ptr()), 0, 0, 0],
            )
        },
    ));
    all.push(Attempt::refused(
        "open by handle",
        "open_by_handle_at",
        || call(libc::SYS_open_by_handle_at, &[libc::AT_FDCWD.into(), 0, 0]),
    ));
    all
}

/// Files that every plugin and other programs can read.
fn blocking() -> Vec<Attempt> {
    let mut all = Vec::new();
    for (name, how) in [
        ("read lease", libc::F_RDLCK),
        ("write lease", libc::F_WRLCK),
    ] {
        all.push(with_readable("lease", name, move |fd| {
            call(libc::SYS_fcntl, &[fd, libc::F_SETLEASE.into(), how.into()])
        }));
    }
    all.push(with_readable("directory notices", "F_NOTIFY", |fd| {
        call(libc::SYS_fcntl, &[fd, libc::F_NOTIFY.into(), 0x8000_0001])
    }));
    for (name, how) in [("shared", 1), ("exclusive", 2), ("exclusive, at once", 6)] {
        all.push(with_readable("flock", name, move |fd| {
            call(libc::SYS_flock, &[fd, how])
        }));
    }
    for (name, command) in [
        ("F_SETLK", libc::F_SETLK),
        ("F_SETLKW", libc::F_SETLKW),
        ("F_OFD_SETLK", libc::F_OFD_SETLK),
        ("F_OFD_SETLKW", libc::F_OFD_SETLKW),
    ] {
        let attempt = with_readable("lock on a range", name, move |fd| {
            let lock = [0_i16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            call(
                libc::SYS_fcntl,
                &[fd, command.into(), address(lock.as_ptr())],
            )
        });
        // Databases are read under a reader's lock.
        all.push(if command == libc::F_SETLK {
            attempt.unless(&[Need::Read])
        } else {
            attempt
        });
    }
    for (name, number) in [
        ("sync", libc::SYS_sync),
        ("syncfs", libc::SYS_syncfs),
        ("fsync", libc::SYS_fsync),
        ("fdatasync", libc::SYS_fdatasync),
        ("sync_file_range", libc::SYS_sync_file_range),
        ("msync", libc::SYS_msync),
    ] {
        all.push(with_readable("flush the disks", name, move |fd| {
            call(number, &[fd, 0, 0, 7])
        }));
    }
    all.push(with_readable("evict the page cache", "fadvise", |fd| {
        call(
            libc::SYS_fadvise64,
            &[fd, 0, 0, libc::POSIX_FADV_DONTNEED.into()],
        )
    }));
    all.push(with_readable("evict the page cache", "cachestat", |fd| {
        call(451, &[fd, 0, 0, 0])
    }));
    for (name, advice) in [
        ("MADV_COLD", 20),
        ("MADV_PAGEOUT", 21),
        ("MADV_MERGEABLE", 12),
        ("MADV_HWPOISON", 100),
        ("MADV_SOFT_OFFLINE", 101),
        ("MADV_REMOVE", 9),
    ] {
        all.push(Attempt::refused("evict the page cache", name, move || {
            call(libc::SYS_madvise, &[0, 4096, advice])
        }));
    }
    all
}

/// Commands on a file descriptor that is only read.
fn commands() -> Vec<Attempt> {
    let mut all = Vec::new();
    for (name, command) in [
        ("F_SETOWN", 8),
        ("F_SETOWN_EX", 15),
        ("F_SETSIG", 10),
        ("F_SETPIPE_SZ", 1031),
        ("F_ADD_SEALS", 1033),
        ("F_SET_RW_HINT", 1036),
        ("F_SET_FILE_RW_HINT", 1038),
        ("F_CANCELLK", 1029),
        ("an unknown one", 1999),
    ] {
        all.push(with_readable("fcntl", name, move |fd| {
            call(libc::SYS_fcntl, &[fd, command, 1 << 20])
        }));
    }
    all.push(with_readable("fcntl", "F_SETFL with O_ASYNC", |fd| {
        call(
            libc::SYS_fcntl,
            &[fd, libc::F_SETFL.into(), libc::O_ASYNC.into()],
        )
    }));
    for (name, request) in [
        ("FS_IOC_SETFLAGS", 0x4008_6602),
        ("FS_IOC_FSSETXATTR", 0x401c_5820),
        ("FS_IOC_SETVERSION", 0x4008_7602),
        ("FS_IOC_ENABLE_VERITY", 0x4080_6685),
        ("FS_IOC_SET_ENCRYPTION_POLICY", 0x800c_6613),
        ("FS_IOC_ADD_ENCRYPTION_KEY", 0xc050_6617),
        ("FS_IOC_FIEMAP", 0xc020_660b),
        ("FICLONE", 0x4004_9409),
        ("FIFREEZE", 0xc004_5877),
        ("FITRIM", 0xc018_5879),
        ("FIOASYNC", 0x5452),
        ("TIOCSTI", 0x5412),
        ("TIOCSCTTY", 0x540e),
        ("TIOCLINUX", 0x541c),
        ("TIOCSETD", 0x5423),
        ("TIOCSWINSZ", 0x5414),
        ("SIOCSPGRP", 0x8902),
        ("FIOSETOWN", 0x8901),
        ("SIOCSIFADDR", 0x8916),
        ("SIOCSIFFLAGS", 0x8914),
        ("SIOCETHTOOL", 0x8946),
        ("SIOCADDRT", 0x890b),
        ("NS_GET_USERNS", 0xb701),
        ("BLKRRPART", 0x125f),
        ("LOOP_CTL_GET_FREE", 0x4c82),
        ("RNDADDTOENTCNT", 0x4004_5201),
        ("USERFAULTFD_IOC_NEW", 0xaa00),
        ("an unknown one", 0x1234),
    ] {
        all.push(with_readable("ioctl", name, move |fd| {
            call(libc::SYS_ioctl, &[fd, request, 0])
        }));
    }
    all
}

fn read(
    kind: &'static str,
    name: impl Into<String>,
    path: impl Fn() -> PathBuf + 'static,
) -> Attempt {
    Attempt::refused(kind, name, move || {
        let path = path();
        // A dangling link, or one that is already gone, proves nothing.
        let mut file = File::open(&path)?;
        let mut byte = [0];
        match file.metadata()?.is_dir() {
            true => shown(fs::read_dir(&path)?.count()),
            false => shown(file.read(&mut byte)?),
        }
    })
}

fn with_path(
    kind: &'static str,
    name: impl Into<String>,
    file: &'static str,
    act: impl Fn(i64) -> io::Result<String> + 'static,
) -> Attempt {
    Attempt::refused(kind, name, move || {
        let path = c_string(&at(file));
        act(address(path.as_ptr()))
    })
}

fn with_readable(
    kind: &'static str,
    name: impl Into<String>,
    act: impl Fn(i64) -> io::Result<String> + 'static,
) -> Attempt {
    Attempt::refused(kind, name, move || {
        let file = File::open("/etc/hosts")?;
        act(file.as_raw_fd().into())
    })
}

fn shown<T>(_: T) -> io::Result<String> {
    Ok("went through".to_owned())
}

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}
