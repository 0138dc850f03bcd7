//! Allow-lists for multiplexed calls, each value by its name.

use libc::c_int;

/// The allowed values of one argument; every other value is refused.
pub(super) struct AllowedValues {
    /// Name of the call.
    pub(super) call: &'static str,
    pub(super) number: i64,
    /// Index of the argument.
    pub(super) argument: u8,
    pub(super) values: &'static [(&'static str, u32)],
}

/// The lists of this architecture.
pub(super) fn lists() -> impl Iterator<Item = &'static AllowedValues> {
    COMMON.iter().chain(OWN)
}

macro_rules! values {
    ($($name:ident $(= $value:literal)?),* $(,)?) => {
        &[$(value!($name $(= $value)?)),*]
    };
}

macro_rules! value {
    ($name:ident) => {
        (stringify!($name), word(libc::$name))
    };
    ($name:ident = $value:literal) => {
        (stringify!($name), $value)
    };
}

const COMMON: &[AllowedValues] = &[
    // No leases, which make others wait in open(); no notifications, owners and signals; no bigger pipes; no seals.
    AllowedValues {
        call: "fcntl",
        number: libc::SYS_fcntl,
        argument: 1,
        values: values![
            F_DUPFD,
            F_DUPFD_CLOEXEC,
            F_DUPFD_QUERY = 1027,
            F_GETFD,
            F_GETFL,
            F_GETLEASE,
            F_GETLK,
            F_GETOWN,
            F_GETOWN_EX = 16,
            F_GETPIPE_SZ,
            F_GETSIG = 11,
            F_GET_RW_HINT = 1035,
            F_GET_SEALS,
            F_OFD_GETLK,
            F_SETFD,
            F_SETFL,
        ],
    },
    // Terminals, pending bytes, descriptor flags, and queries for interface addresses. Nothing that changes a file or a
    // device: landlock only covers devices.
    AllowedValues {
        call: "ioctl",
        number: libc::SYS_ioctl,
        argument: 1,
        values: values![
            FIOCLEX = 0x5451,
            FIONBIO = 0x5421,
            FIONCLEX = 0x5450,
            FIONREAD = 0x541b,
            FIOQSIZE = 0x5460,
            FS_IOC_FSGETXATTR = 0x801c_581f,
            FS_IOC_GETFLAGS = 0x8008_6601,
            RNDGETENTCNT = 0x8004_5200,
            SIOCATMARK = 0x8905,
            SIOCGIFADDR = 0x8915,
            SIOCGIFBRDADDR = 0x8919,
            SIOCGIFCONF = 0x8912,
            SIOCGIFDSTADDR = 0x8917,
            SIOCGIFFLAGS = 0x8913,
            SIOCGIFHWADDR = 0x8927,
            SIOCGIFINDEX = 0x8933,
            SIOCGIFMAP = 0x8970,
            SIOCGIFMETRIC = 0x891d,
            SIOCGIFMTU = 0x8921,
            SIOCGIFNAME = 0x8910,
            SIOCGIFNETMASK = 0x891b,
            SIOCGIFTXQLEN = 0x8942,
            SIOCGSTAMP = 0x8906,
            SIOCGSTAMPNS = 0x8907,
            TCGETS = 0x5401,
            TCGETS2 = 0x802c_542a,
            TIOCGPGRP = 0x540f,
            TIOCGWINSZ = 0x5413,
            TIOCOUTQ = 0x5411,
        ],
    },
    // The worker dies with its host, stays closed to others, and gets no scheduling cookie, which would idle the
    // sibling hardware thread.
    AllowedValues {
        call: "prctl",
        number: libc::SYS_prctl,
        argument: 0,
        values: values![
            PR_CAPBSET_DROP,
            PR_CAPBSET_READ,
            PR_CAP_AMBIENT,
            PR_GET_AUXV = 0x4155_5856,
            PR_GET_CHILD_SUBREAPER,
            PR_GET_DUMPABLE,
            PR_GET_KEEPCAPS,
            PR_GET_MDWE = 66,
            PR_GET_NAME,
            PR_GET_NO_NEW_PRIVS,
            PR_GET_PDEATHSIG,
            PR_GET_SECCOMP,
            PR_GET_SECUREBITS,
            PR_GET_SPECULATION_CTRL = 52,
            PR_GET_TAGGED_ADDR_CTRL = 56,
            PR_GET_THP_DISABLE,
            PR_GET_TID_ADDRESS,
            PR_GET_TIMERSLACK,
            PR_GET_TIMING,
            PR_GET_TSC,
            PR_MCE_KILL_GET,
            PR_PAC_RESET_KEYS = 54,
            PR_RISCV_V_GET_CONTROL = 70,
            PR_RISCV_V_SET_CONTROL = 69,
            PR_SET_KEEPCAPS,
            PR_SET_MDWE = 65,
            PR_SET_NAME,
            PR_SET_NO_NEW_PRIVS,
            PR_SET_SPECULATION_CTRL = 53,
            PR_SET_TAGGED_ADDR_CTRL = 55,
            PR_SET_THP_DISABLE,
            PR_SET_TIMERSLACK,
            PR_SET_VMA = 0x5356_4d41,
            PR_SME_GET_VL = 64,
            PR_SME_SET_VL = 63,
            PR_SVE_GET_VL = 51,
            PR_SVE_SET_VL = 50,
        ],
    },
    // Nothing that pages out, merges or poisons memory shared with other processes.
    AllowedValues {
        call: "madvise",
        number: libc::SYS_madvise,
        argument: 2,
        values: values![
            MADV_COLLAPSE = 25,
            MADV_DODUMP,
            MADV_DOFORK,
            MADV_DONTDUMP,
            MADV_DONTFORK,
            MADV_DONTNEED,
            MADV_DONTNEED_LOCKED = 24,
            MADV_FREE,
            MADV_GUARD_INSTALL = 102,
            MADV_GUARD_REMOVE = 103,
            MADV_HUGEPAGE,
            MADV_KEEPONFORK,
            MADV_NOHUGEPAGE,
            MADV_NORMAL,
            MADV_POPULATE_READ = 22,
            MADV_POPULATE_WRITE = 23,
            MADV_RANDOM,
            MADV_SEQUENTIAL,
            MADV_WILLNEED,
            MADV_WIPEONFORK,
        ],
    },
    // POSIX_FADV_DONTNEED drops pages that other processes have read.
    AllowedValues {
        call: "fadvise64",
        number: libc::SYS_fadvise64,
        argument: 3,
        values: values![
            POSIX_FADV_NOREUSE,
            POSIX_FADV_NORMAL,
            POSIX_FADV_RANDOM,
            POSIX_FADV_SEQUENTIAL,
            POSIX_FADV_WILLNEED,
        ],
    },
    AllowedValues {
        call: "personality",
        number: libc::SYS_personality,
        argument: 0,
        values: values![PER_LINUX = 0, query = 0xffff_ffff],
    },
    AllowedValues {
        call: "close_range",
        number: 436,
        argument: 2,
        values: values![none = 0, CLOSE_RANGE_CLOEXEC = 4],
    },
];

/// Thread-local storage, shadow stacks, and CPU features that programs request.
#[cfg(target_arch = "x86_64")]
const OWN: &[AllowedValues] = &[AllowedValues {
    call: "arch_prctl",
    number: libc::SYS_arch_prctl,
    argument: 0,
    values: values![
        ARCH_CET_STATUS = 0x3001,
        ARCH_GET_CPUID = 0x1011,
        ARCH_GET_FS = 0x1003,
        ARCH_GET_GS = 0x1004,
        ARCH_GET_MAX_TAG_BITS = 0x4003,
        ARCH_GET_UNTAG_MASK = 0x4001,
        ARCH_GET_XCOMP_PERM = 0x1022,
        ARCH_GET_XCOMP_SUPP = 0x1021,
        ARCH_REQ_XCOMP_PERM = 0x1023,
        ARCH_SET_FS = 0x1002,
        ARCH_SET_GS = 0x1001,
        ARCH_SHSTK_DISABLE = 0x5002,
        ARCH_SHSTK_ENABLE = 0x5001,
        ARCH_SHSTK_LOCK = 0x5003,
        ARCH_SHSTK_STATUS = 0x5005,
    ],
}];
#[cfg(not(target_arch = "x86_64"))]
const OWN: &[AllowedValues] = &[];

const fn word(value: c_int) -> u32 {
    value.cast_unsigned()
}
