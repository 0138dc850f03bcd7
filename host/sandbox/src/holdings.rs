//! Memory and kernel resources in use by processes, as read from `/proc`.
//!
//! Memory counts what the kernel cannot reclaim by itself: anonymous and shared pages, including swapped-out ones, and
//! page tables, but not mapped files. A process that has exited or is closed to the host counts as zero.

use std::{
    fs::{self, File},
    io::{self, Read as _},
};

/// The resources that processes use together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeldResources {
    /// Bytes.
    pub memory: u64,
    /// Number of threads.
    pub threads: u64,
}

/// The descriptors that processes have open together. Only a privileged host can see those of a worker.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeldDescriptors {
    /// Number of sockets.
    pub sockets: u64,
    /// Descriptors registered with their epoll instances.
    pub watches: u64,
}

/// Returns the process `leader` and all others of its process group.
pub fn group(leader: u32) -> Vec<u32> {
    let others = fs::read_dir("/proc").into_iter().flatten();
    let others = others
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != leader && group_of(pid) == Some(leader));
    std::iter::once(leader).chain(others).collect()
}

/// Returns the resources of these processes; the group leader comes first.
pub fn of(members: &[u32]) -> HeldResources {
    let each: Vec<HeldResources> = members.iter().filter_map(|&pid| held(pid)).collect();
    let threads = each.iter().map(|held| held.threads).sum();
    let memory = each.iter().map(|held| held.memory).sum();
    HeldResources { memory, threads }
}

/// Returns the bytes of memory of the leader, plus the other processes' own: a forked child shares most of its
/// parent's.
pub fn memory_without_sharing(members: &[u32]) -> u64 {
    let (leader, others) = members.split_at(1.min(members.len()));
    others.iter().map(|&pid| own_share(pid)).sum::<u64>() + of(leader).memory
}

/// Returns 0 if the process is closed to the host, as a fork of a worker is to an ordinary user's host.
fn own_share(pid: u32) -> u64 {
    let rollup = text_of(&format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let fields = rollup.lines().filter_map(|line| line.split_once(':'));
    let counted = fields.filter(|(name, _)| ["Pss_Anon", "Pss_Shmem", "SwapPss"].contains(name));
    counted.map(|(_, value)| number(value) << 10).sum()
}

fn number(value: &str) -> u64 {
    let digits = value.split_whitespace().next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Returns their sockets and watches.
pub fn descriptors(members: &[u32]) -> HeldDescriptors {
    let mut sum = HeldDescriptors::default();
    for pid in members {
        let open = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        for entry in open.filter_map(Result::ok) {
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let target = target.as_os_str().as_encoded_bytes();
            if target.starts_with(b"socket:") {
                sum.sockets += 1;
            } else if target == b"anon_inode:[eventpoll]" {
                let number = entry.file_name();
                let info = format!("/proc/{pid}/fdinfo/{}", number.display());
                let info = text_of(&info).unwrap_or_default();
                let watches = info.lines().filter(|line| line.starts_with("tfd:"));
                sum.watches += watches.count() as u64;
            }
        }
    }
    sum
}

/// Returns the number of locks they have on ranges of files.
pub fn locks(members: &[u32]) -> u64 {
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    let owners = table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(4)?.parse::<u32>().ok());
    owners.filter(|owner| members.contains(owner)).count() as u64
}

/// Reads a file of `/proc`, which has no size, in one call for most of them: each worker is looked at several times a
/// second.
fn text_of(path: &str) -> io::Result<String> {
    let mut text = String::with_capacity(4 << 10);
    File::open(path)?.take(u64::MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn held(pid: u32) -> Option<HeldResources> {
    let status = text_of(&format!("/proc/{pid}/status")).ok()?;
    Some(parse(&status))
}

fn parse(status: &str) -> HeldResources {
    let mut held = HeldResources::default();
    for (name, value) in status.lines().filter_map(|line| line.split_once(':')) {
        match name {
            "RssAnon" | "RssShmem" | "VmSwap" | "VmPTE" => held.memory += number(value) << 10,
            "Threads" => held.threads = number(value),
            _ => {}
        }
    }
    held
}

fn group_of(pid: u32) -> Option<u32> {
    let stat = text_of(&format!("/proc/{pid}/stat")).ok()?;
    // The name may contain spaces and parentheses; after it come the state, the parent and the group.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_cannot_take_back() {
        let status = "Name:\tx\nVmRSS:\t 9000 kB\nRssAnon:\t 100 kB\nRssFile:\t 8000 kB\nRssShmem:\t 20 kB\nVmPTE:\t 3 kB\nVmSwap:\t 4 kB\nThreads:\t7\n";
        let expected = HeldResources {
            memory: 127 << 10,
            threads: 7,
        };
        assert_eq!(parse(status), expected);
    }

    #[test]
    fn this_process_is_seen_with_its_sockets_and_group() {
        let pid = std::process::id();
        let sockets = descriptors(&[pid]).sockets;
        let _pair = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(descriptors(&[pid]).sockets >= sockets + 2);
        assert!(of(&[pid]).memory > 64 << 10);
        assert!(group_of(pid).is_some());
        assert_eq!(of(&[u32::MAX >> 2]), HeldResources::default());
    }
}
