//! Distinguishes boots of the machine, and detects low memory.

use std::fs;

use super::layout::MachineFacts;

/// Returns the current facts; unknown ones are 0.
pub(super) fn now() -> MachineFacts {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    MachineFacts {
        boot: boot(&read("/proc/sys/kernel/random/boot_id")),
        oom_kills: oom_kills(&read("/proc/vmstat")),
    }
}

fn boot(id: &str) -> u128 {
    u128::from_str_radix(&id.trim().replace('-', ""), 16).unwrap_or(0)
}

fn oom_kills(vmstat: &str) -> u64 {
    let line = vmstat
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let id = "0d7f3b5a-0000-4a3e-9c1d-000000000001\n";
        assert_eq!(boot(id), 0x0d7f_3b5a_0000_4a3e_9c1d_0000_0000_0001);
        assert_eq!(boot("not there"), 0);
        assert_eq!(oom_kills("pgfault 3\noom_kill 7\noom_kill_x 8\n"), 7);
        assert_eq!(oom_kills(""), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_a_boot_id() {
        assert_ne!(now().boot, 0);
        assert_eq!(now().boot, now().boot);
    }
}
