//! Linux pressure stall information (PSI): the time that work lost to waiting for CPU, memory or disk.
//!
//! A machine can be in trouble at 70 % of memory (thrashing) and healthy at 95 % (caches); pressure distinguishes the
//! two. Format: the kernel's `Documentation/accounting/psi.rst`.
use std::{fs, path::Path};

/// The time that work waited for each resource. `None`: this OS or kernel does not report it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResourcePressure {
    /// Waiting for a CPU.
    pub cpu: Option<PressureStall>,
    /// Waiting for memory: page faults that hit the disk, reclaim, swap.
    pub memory: Option<PressureStall>,
    /// Waiting for disks.
    pub io: Option<PressureStall>,
}

/// The share of the last ten seconds lost to waiting, in percent, 0–100.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PressureStall {
    /// At least one task waited.
    pub some: f64,
    /// Every task that was not idle waited: no work was done.
    pub full: f64,
}

impl ResourcePressure {
    /// Reads the pressure on the machine, or on the control group at `cgroup` if that is worse.
    ///
    /// A group's own pressure counts because a tight memory limit makes the group thrash on an idle machine.
    pub(super) fn read(cgroup: Option<&Path>) -> Self {
        let worst = |resource: &str| {
            let machine = read_stall(&Path::new("/proc/pressure").join(resource));
            let group =
                cgroup.and_then(|dir| read_stall(&dir.join(format!("{resource}.pressure"))));
            worse(machine, group)
        };
        Self {
            cpu: worst("cpu"),
            memory: worst("memory"),
            io: worst("io"),
        }
    }
}

/// Returns `None` also for a kernel booted with `psi=0`, which has the files but refuses to read them.
fn read_stall(file: &Path) -> Option<PressureStall> {
    parse(&fs::read_to_string(file).ok()?)
}

fn worse(a: Option<PressureStall>, b: Option<PressureStall>) -> Option<PressureStall> {
    match (a, b) {
        (Some(a), Some(b)) => Some(PressureStall {
            some: a.some.max(b.some),
            full: a.full.max(b.full),
        }),
        (a, b) => a.or(b),
    }
}

/// Kernels before 5.13 write no `full` line for the CPU; for a whole machine it means nothing and is 0 in later ones.
fn parse(text: &str) -> Option<PressureStall> {
    let line = |kind: &str| {
        text.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some(kind)).then(|| words.find_map(|word| word.strip_prefix("avg10=")))
        })
    };
    Some(PressureStall {
        some: percent(line("some")??)?,
        full: match line("full") {
            Some(full) => percent(full?)?,
            None => 0.0,
        },
    })
}

fn percent(word: &str) -> Option<f64> {
    word.parse()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_second_averages_are_read() {
        let text = "some avg10=7.25 avg60=0.64 avg300=0.81 total=8853885\n\
                    full avg10=3.00 avg60=0.00 avg300=0.00 total=0\n";
        let stall = PressureStall {
            some: 7.25,
            full: 3.0,
        };
        assert_eq!(parse(text), Some(stall));
    }

    #[test]
    fn an_old_kernels_cpu_file_has_no_full_line() {
        let text = "some avg10=100.00 avg60=0.64 avg300=0.81 total=8853885\n";
        let stall = PressureStall {
            some: 100.0,
            full: 0.0,
        };
        assert_eq!(parse(text), Some(stall));
    }

    #[test]
    fn what_is_not_pressure_is_unknown_rather_than_zero() {
        for garbage in [
            "",
            "\n\n",
            "some",
            "some avg10=",
            "some avg10=x",
            "some avg10=NaN",
            "some avg10=inf",
            "some avg10=-1.00",
            "some avg10=100.01",
            "some avg60=1.00",
            "somewhat avg10=1.00",
            "full avg10=1.00",
            "some avg10=1.00\nfull avg10=oops",
            "some avg10=1.00\nfull",
            "\0\0\0",
        ] {
            assert_eq!(parse(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn a_groups_pressure_counts_where_it_is_worse_than_the_machines() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |text: &str| fs::write(dir.path().join("memory.pressure"), text);
        let read = || ResourcePressure::read(Some(dir.path())).memory;

        write("some avg10=100.00\nfull avg10=100.00\n").expect("written");
        let worst = PressureStall {
            some: 100.0,
            full: 100.0,
        };
        assert_eq!(read(), Some(worst));

        write("garbage").expect("written");
        let machine = fs::read_to_string("/proc/pressure/memory").is_ok();
        assert_eq!(read().is_some(), machine, "garbage hides the machine's");
    }
}
