//! The files and folders that are open to every worker.

/// The paths that every probe may read.
///
/// Rules for single entries of `/proc` and `/sys` would not last: the kernel drops their inodes under memory pressure.
pub(super) const READABLE: [&str; 53] = [
    "/proc",
    "/sys",
    // Files of programs and of the C library: libraries, locales, time zones, CAs.
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
    // Stateless devices. Not /dev/zero: a shared mapping of it is memory that no limit counts.
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    // Name lookup.
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/networks",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/connman/resolv.conf",
    "/run/resolvconf",
    "/run/systemd/resolve",
    // TLS trust anchors.
    "/etc/ca-certificates",
    "/etc/certs",
    "/etc/crypto-policies",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/static/ssl",
    "/var/lib/ca-certificates",
    // Files that the loader and the C library read.
    "/etc/alternatives",
    "/etc/group",
    "/etc/ld-musl-x86_64.path",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/passwd",
    "/etc/timezone",
    // Identification of the machine.
    "/etc/machine-id",
    "/etc/os-release",
];
