//! Measures the machine on separate threads; the scheduler requests a sample and gets it by callback.
//!
//! One thread measures CPU, memory and pressure. Each watched file system has a separate thread, because a `statvfs` of
//! a dead network mount hangs forever and cannot be interrupted by a signal: such a thread is left behind, and the
//! others continue measuring.
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use sysinfo::{CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, System};

#[cfg(windows)]
use self::windows::fullness;
use super::{DiskUsage, MachineSample, cgroup::ProcessCgroups, pressure::ResourcePressure};

#[cfg(test)]
mod tests;
#[cfg(windows)]
mod windows;

/// Takes one [`MachineSample`] per request.
///
/// Dropping it ends its threads as soon as their current work is done, and waits for none of them.
#[derive(Debug)]
pub struct MachineSampler {
    ask: SyncSender<()>,
    busy: Arc<AtomicBool>,
}

impl MachineSampler {
    /// Starts the threads; no sample is taken before the first request.
    ///
    /// `disks` are paths on the file systems to watch, such as `/` and the state folder. `on_sample` is called on the
    /// sampler's own thread; while it runs, no further sample is taken.
    ///
    /// # Errors
    /// If the OS refuses a thread.
    pub fn start(
        clock: Clock,
        disks: Vec<PathBuf>,
        on_sample: impl FnMut(MachineSample) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_with(clock, disks, fullness, on_sample)
    }

    /// [`MachineSampler::start`] with another way to measure a disk: tests have no dead mount.
    fn start_with(
        clock: Clock,
        disks: Vec<PathBuf>,
        measure_disk: impl FnMut(&Path) -> io::Result<Option<DiskUsage>> + Clone + Send + 'static,
        mut on_sample: impl FnMut(MachineSample) + Send + 'static,
    ) -> io::Result<Self> {
        let mut disks = disks
            .into_iter()
            .map(|path| DiskThread::start(path, measure_disk.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        let (ask, asked) = sync_channel(1);
        let busy = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&busy);
        thread::Builder::new()
            .name("resources".to_owned())
            .spawn(move || {
                let mut machine = MachineMeter::new(clock);
                while asked.recv().is_ok() {
                    let sample = take(&mut machine, &mut disks);
                    done.store(false, Ordering::Release);
                    on_sample(sample);
                }
            })?;
        Ok(Self { ask, busy })
    }

    /// Requests one sample and returns immediately.
    ///
    /// Returns `false` if none will come, because the previous one is still being taken or the callback panicked.
    #[must_use = "a request that was dropped brings no sample"]
    pub fn request(&self) -> bool {
        !self.busy.swap(true, Ordering::AcqRel) && self.ask.try_send(()).is_ok()
    }
}

fn take(machine: &mut MachineMeter, disks: &mut [DiskThread]) -> MachineSample {
    // Requested first and received last, so that disks and machine are measured at the same time.
    for disk in disks.iter_mut() {
        disk.ask();
    }
    let mut sample = machine.measure();
    for disk in disks {
        match disk.listen() {
            Ok(None) => {}
            Ok(Some(found)) => {
                let fullest = sample.disk.as_ref().map_or(0.0, |disk| disk.percent);
                if sample.disk.is_none() || found.percent > fullest {
                    sample.disk = Some(found);
                }
            }
            Err(DiskTimeout) => sample.disks_stuck.push(disk.path.display().to_string()),
        }
    }
    sample
}

/// Measures CPU, memory and pressure, which the OS reports without delay.
struct MachineMeter {
    clock: Clock,
    system: Option<System>,
    cpu_read_at: Duration,
    cgroup: ProcessCgroups,
}

impl MachineMeter {
    fn new(clock: Clock) -> Self {
        let mut system = System::new()
            .inspect_err(|error| tracing::warn!(%error, "CPU and memory cannot be measured here"))
            .ok();
        let mut cgroup = ProcessCgroups::of_this_process();
        // The first reading is the mean since boot. It is discarded, and the first sample is measured from here.
        if let Some(system) = &mut system {
            refresh_cpu(system);
        }
        let cpu_read_at = clock.now();
        cgroup.cpu_percent(cpu_read_at);
        Self {
            clock,
            system,
            cpu_read_at,
            cgroup,
        }
    }

    fn measure(&mut self) -> MachineSample {
        let (machine_cpu, machine_memory, machine_cores) = match &mut self.system {
            Some(system) => {
                // If asked any earlier, `sysinfo` would return its last reading again.
                let next = self.cpu_read_at + MINIMUM_CPU_UPDATE_INTERVAL;
                let wait = next.saturating_sub(self.clock.now());
                if !wait.is_zero() {
                    thread::sleep(wait);
                }
                refresh_cpu(system);
                (
                    cpu_percent(system),
                    memory_percent(system),
                    Some(cores(system)),
                )
            }
            None => (None, None, None),
        };
        self.cpu_read_at = self.clock.now();
        let group_cpu = self.cgroup.cpu_percent(self.cpu_read_at);
        MachineSample {
            cpu_percent: tighter(machine_cpu, group_cpu),
            cores: match (machine_cpu, group_cpu) {
                (Some(machine), Some(group)) if group > machine => self.cgroup.cores(),
                (None, Some(_)) => self.cgroup.cores(),
                _ => machine_cores,
            },
            memory_percent: tighter(machine_memory, self.cgroup.memory_percent()),
            pressure: ResourcePressure::read(self.cgroup.pressure_dir()),
            ..MachineSample::default()
        }
    }
}

fn refresh_cpu(system: &mut System) {
    system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
}

/// Returns the mean over the CPUs this process may run on: with one CPU of 64, only that one counts.
fn cpu_percent(system: &System) -> Option<f64> {
    let allowed = allowed_cpus();
    let usable = |cpu: &&sysinfo::Cpu| allowed(cpu.name());
    let usages = system.cpus().iter().filter(usable);
    let (sum, count) = usages.fold((0.0, 0.0), |(sum, count), cpu| {
        (sum + f64::from(cpu.usage()), count + 1.0)
    });
    let mean: f64 = sum / count;
    mean.is_finite().then(|| mean.clamp(0.0, 100.0))
}

/// Returns the number of CPUs this process may run on.
fn cores(system: &System) -> f64 {
    let allowed = allowed_cpus();
    let usable = system.cpus().iter().filter(|cpu| allowed(cpu.name()));
    usable.fold(0.0, |count, _| count + 1.0)
}

#[cfg(target_os = "linux")]
fn allowed_cpus() -> impl Fn(&str) -> bool {
    let allowed = rustix::thread::sched_getaffinity(None).ok();
    move |name| {
        let index = name.strip_prefix("cpu").and_then(|n| n.parse().ok());
        match (allowed, index) {
            (Some(allowed), Some(index)) => allowed.is_set(index),
            _ => true,
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allowed_cpus() -> impl Fn(&str) -> bool {
    |_| true
}

fn memory_percent(system: &mut System) -> Option<f64> {
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let total = system.total_memory();
    percent_of(total.saturating_sub(system.available_memory()), total)
}

fn tighter(machine: Option<f64>, group: Option<f64>) -> Option<f64> {
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.max(group)),
        (machine, group) => machine.or(group),
    }
}

/// Returns `part` of `whole` in percent, 0–100, to a hundredth; `None` if `whole` is 0.
pub(super) fn percent_of(part: u64, whole: u64) -> Option<f64> {
    let hundredths = (u128::from(part) * 10_000).checked_div(u128::from(whole))?;
    let hundredths = u32::try_from(hundredths.min(10_000)).ok()?;
    Some(f64::from(hundredths) / 100.0)
}

/// The thread that measures one file system.
struct DiskThread {
    path: PathBuf,
    ask: SyncSender<()>,
    answers: Receiver<Option<DiskUsage>>,
    state: DiskState,
}

#[derive(Clone, Copy)]
enum DiskState {
    /// Ready for a request.
    Idle,
    Asked,
    /// Has not returned a result in time.
    Late,
}

/// The file system did not respond in time.
#[derive(Debug, PartialEq)]
struct DiskTimeout;

impl DiskThread {
    fn start(
        path: PathBuf,
        mut measure: impl FnMut(&Path) -> io::Result<Option<DiskUsage>> + Send + 'static,
    ) -> io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let place = path.clone();
        thread::Builder::new()
            .name("resources-disk".to_owned())
            .spawn(move || {
                let mut warned = false;
                while asked.recv().is_ok() {
                    let found = measure(&place).unwrap_or_else(|error| {
                        if !warned {
                            tracing::warn!(path = %place.display(), %error, "cannot measure how full this disk is");
                        }
                        warned = true;
                        None
                    });
                    if answer.send(found).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            path,
            ask,
            answers,
            state: DiskState::Idle,
        })
    }

    fn ask(&mut self) {
        // A late result that has arrived meanwhile is old: it is dropped, and a new one is requested.
        let late = matches!(self.state, DiskState::Late);
        if late && self.answers.try_recv() == Err(TryRecvError::Empty) {
            return;
        }
        self.state = match self.ask.try_send(()) {
            Ok(()) => DiskState::Asked,
            Err(_) => DiskState::Late,
        };
    }

    fn listen(&mut self) -> Result<Option<DiskUsage>, DiskTimeout> {
        let answer = match self.state {
            DiskState::Asked => self.answers.recv_timeout(PATIENCE).map_err(|_| DiskTimeout),
            DiskState::Idle | DiskState::Late => Err(DiskTimeout),
        };
        self.state = match answer {
            Ok(_) => DiskState::Idle,
            Err(DiskTimeout) => DiskState::Late,
        };
        answer
    }
}

/// Returns the usage of the file system of `path`, of space or of inodes, whichever is worse.
///
/// `None` if that means nothing: a read-only file system is always full.
#[cfg(unix)]
fn fullness(path: &Path) -> io::Result<Option<DiskUsage>> {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    let stat = statvfs(path)?;
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) && !is_only_this_view_read_only(path) {
        return Ok(None);
    }
    let place = path.display().to_string();
    let space = used(stat.f_blocks, stat.f_bfree, stat.f_bavail);
    let inodes = used(stat.f_files, stat.f_ffree, stat.f_favail)
        .filter(|_| stat.f_ffree > 0 || has_inode_limit(path));
    Ok(match (space, inodes) {
        (space, Some(percent)) if space.is_none_or(|space| percent > space) => Some(DiskUsage {
            place: format!("{place} (inodes)"),
            percent,
        }),
        (space, _) => space.map(|percent| DiskUsage { place, percent }),
    })
}

/// Returns `true` if the file system is writable and only mounted read-only for this process, as by systemd's
/// `ProtectSystem`: other processes can fill it.
#[cfg(target_os = "linux")]
fn is_only_this_view_read_only(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let found = statx(CWD, path, AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.is_ok_and(|found| {
        let known = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        known && takes_writes(&mounts, found.stx_mnt_id) == Some(true)
    })
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_only_this_view_read_only(_: &Path) -> bool {
    false
}

/// Returns `true` if 0 free inodes means full: ceph-fuse and its like report their files and none free.
#[cfg(target_os = "linux")]
fn has_inode_limit(path: &Path) -> bool {
    const FUSE: rustix::fs::FsWord = 0x6573_5546;
    const CEPH: rustix::fs::FsWord = 0x00c3_6400;
    rustix::fs::statfs(path).is_ok_and(|found| ![FUSE, CEPH].contains(&found.f_type))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn has_inode_limit(_: &Path) -> bool {
    true
}

/// Reads the options of the file system itself, at the end of its line in `/proc/self/mountinfo`.
#[cfg(target_os = "linux")]
fn takes_writes(mounts: &str, id: u64) -> Option<bool> {
    let is_of = |line: &&str| line.split(' ').next().and_then(|id| id.parse().ok()) == Some(id);
    let line = mounts.lines().find(is_of)?;
    let options = line.split_once(" - ")?.1.split(' ').nth(2)?;
    Some(options.split(',').any(|option| option == "rw"))
}

/// Returns the percent used, as in `df`: space reserved for root is neither used nor free. `None` if the file system
/// does not know: those without a fixed number of inodes report 0 of 0, or -1 free.
#[cfg(unix)]
fn used(total: u64, free: u64, available: u64) -> Option<f64> {
    let used = total.checked_sub(free)?;
    i64::try_from(total).ok()?;
    // If root has written into its reserve, some systems report a negative number.
    let available = i64::try_from(available).map_or(0, |_| available);
    percent_of(used, used.saturating_add(available))
}

/// The time after which a sample is taken without a file system. A local one takes microseconds.
const PATIENCE: Duration = Duration::from_secs(1);
