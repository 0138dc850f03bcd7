//! The sampler against the real machine, and against disks that hang.
use std::{
    sync::mpsc::{Sender, channel},
    thread::JoinHandle,
};

use super::*;

/// Far longer than anything here takes: only a failed test waits for it.
const TOO_LONG: Duration = Duration::from_secs(60);

type Samples = Receiver<(MachineSample, thread::ThreadId)>;

fn sampler_with(
    disks: &[&str],
    measure: impl FnMut(&Path) -> io::Result<Option<DiskUsage>> + Clone + Send + 'static,
) -> (MachineSampler, Samples) {
    let (send, samples) = channel();
    let disks = disks.iter().map(PathBuf::from).collect();
    let on_sample = move |sample| {
        // A finished test no longer receives.
        let _ = send.send((sample, thread::current().id()));
    };
    let sampler = MachineSampler::start_with(Clock::start(), disks, measure, on_sample);
    (sampler.expect("threads to be had"), samples)
}

fn sampler() -> (MachineSampler, Samples) {
    sampler_with(&["/"], fullness)
}

fn next(sampler: &MachineSampler, samples: &Samples) -> MachineSample {
    assert!(sampler.request(), "nothing is under way");
    samples.recv_timeout(TOO_LONG).expect("a sample").0
}

fn half_full(path: &Path) -> io::Result<Option<DiskUsage>> {
    Ok(Some(DiskUsage {
        place: path.display().to_string(),
        percent: 50.0,
    }))
}

/// Measures `/dead` only once the returned sender is used or dropped; other paths immediately.
fn a_dead_mount() -> (
    Sender<()>,
    impl FnMut(&Path) -> io::Result<Option<DiskUsage>> + Clone + Send + 'static,
) {
    let (revive, dead) = channel::<()>();
    let dead = Arc::new(std::sync::Mutex::new(dead));
    let measure = move |path: &Path| {
        if path == Path::new("/dead") {
            let dead = dead.lock().expect("no panics here");
            let _ = dead.recv();
        }
        half_full(path)
    };
    (revive, measure)
}

/// Keeps every CPU busy until dropped.
struct Burner(Arc<AtomicBool>, Vec<JoinHandle<()>>);

impl Burner {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cpus = thread::available_parallelism().map_or(2, usize::from);
        let burn = |_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..cpus).map(burn).collect();
        Self(stop, threads)
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        for thread in self.1.drain(..) {
            thread.join().expect("it only spins");
        }
    }
}

#[test]
fn sampling_never_runs_on_the_thread_that_asks_for_it() {
    // The original's CPU reading blocked its event loop for 100 ms. Here the disk hangs until `request` has returned:
    // if anything were measured on this thread, this test would never reach the line that revives the disk.
    let (revive, measure) = a_dead_mount();
    let (sampler, samples) = sampler_with(&["/dead"], measure);
    assert!(sampler.request());
    drop(revive);
    let (_, sampled_on) = samples.recv_timeout(TOO_LONG).expect("a sample");
    assert_ne!(sampled_on, thread::current().id());
}

#[test]
fn burning_the_cpu_shows() {
    let (sampler, samples) = sampler();
    // Other tests run at the same time: the quietest of a few readings is the idle one.
    let cpu = |sample: MachineSample| sample.cpu_percent.expect("CPU usage is known here");
    let idle = (0..4).map(|_| cpu(next(&sampler, &samples)));
    let idle = idle.reduce(f64::min).expect("four readings");

    let burner = Burner::start();
    // Requested back to back: if readings were returned twice, these would all still be the idle one.
    let [_, _, burning] = [(); 3].map(|()| cpu(next(&sampler, &samples)));
    drop(burner);

    assert!(burning > 60.0, "{burning} % with every CPU busy");
    assert!(
        burning >= idle + 20.0 || idle > 60.0,
        "from {idle} % to {burning} % only"
    );
}

#[test]
fn the_first_sample_is_not_the_mean_since_boot() {
    let burner = Burner::start();
    let (sampler, samples) = sampler();
    let first = next(&sampler, &samples).cpu_percent;
    drop(burner);
    let first = first.expect("known, and not thrown away unseen");
    assert!(first > 60.0, "{first} % with every CPU busy");
}

#[test]
fn this_machine_has_memory_and_a_disk() {
    let (sampler, samples) = sampler();
    let sample = next(&sampler, &samples);
    let memory = sample.memory_percent.expect("memory usage is known here");
    assert!(memory > 0.0 && memory <= 100.0, "{memory}");
    assert!(sample.disks_stuck.is_empty());
    if let Some(disk) = sample.disk {
        assert!(Path::new(&disk.place).is_absolute(), "{disk:?}");
        assert!((0.0..=100.0).contains(&disk.percent), "{disk:?}");
    }
}

#[test]
fn a_request_while_one_is_under_way_is_dropped_and_says_so() {
    let (revive, mut dead) = a_dead_mount();
    let (entered, under_way) = channel();
    let measure = move |path: &Path| {
        let _ = entered.send(());
        dead(path)
    };
    let (sampler, samples) = sampler_with(&["/dead"], measure);
    assert!(sampler.request());
    under_way.recv_timeout(TOO_LONG).expect("it has begun");
    assert!(!sampler.request(), "the first is held up by the disk");
    drop(revive);
    samples.recv_timeout(TOO_LONG).expect("the first");
    next(&sampler, &samples);
    let more = samples.try_recv();
    assert!(more.is_err(), "the dropped one came after all");
}

#[test]
fn a_dead_mount_is_unknown_and_named_and_hides_no_other_disk() {
    let (revive, measure) = a_dead_mount();
    let (sampler, samples) = sampler_with(&["/dead", "/alive"], measure);
    for _ in 0..2 {
        let sample = next(&sampler, &samples);
        assert_eq!(sample.disks_stuck, ["/dead"]);
        let disk = sample.disk.expect("the other one answers");
        assert_eq!(disk.place, "/alive");
        assert!(sample.memory_percent.is_some());
    }
    drop(revive);
    let answered = (0..50).any(|_| next(&sampler, &samples).disks_stuck.is_empty());
    assert!(answered, "a mount that came back stays unknown");
}

#[test]
fn the_fullest_disk_is_reported() {
    let measure = |path: &Path| {
        let percent = match path.to_str() {
            Some("/full") => 85.0,
            Some("/half") => 50.0,
            Some("/empty") => 0.0,
            _ => return Ok(None),
        };
        let place = path.display().to_string();
        Ok(Some(DiskUsage { place, percent }))
    };
    let (sampler, samples) = sampler_with(&["/none", "/empty"], measure);
    let disk = next(&sampler, &samples).disk.expect("one that says");
    assert_eq!(disk.place, "/empty");
    let (sampler, samples) = sampler_with(&["/empty", "/full", "/half", "/none"], measure);
    let disk = next(&sampler, &samples).disk.expect("two that say");
    assert_eq!(disk.place, "/full");
}

#[cfg(unix)]
#[test]
fn a_disk_that_cannot_be_measured_is_unknown_rather_than_stuck() {
    let (sampler, samples) = sampler_with(&["/no/such/path"], fullness);
    let sample = next(&sampler, &samples);
    assert_eq!(sample.disk, None);
    assert!(sample.disks_stuck.is_empty());
}

#[test]
fn dropping_the_sampler_ends_its_threads_and_waits_for_no_stuck_one() {
    let (revive, measure) = a_dead_mount();
    let (ended, all_ended) = channel::<()>();
    let measure = {
        let mut measure = measure;
        move |path: &Path| {
            let _held_while_the_thread_lives = &ended;
            measure(path)
        }
    };
    let (sampler, samples) = sampler_with(&["/dead", "/alive"], measure);
    next(&sampler, &samples);
    drop(sampler);

    let end = samples.recv_timeout(TOO_LONG);
    let disconnected = std::sync::mpsc::RecvTimeoutError::Disconnected;
    assert_eq!(
        end.err(),
        Some(disconnected),
        "the sampling thread lives on"
    );
    drop(revive);
    let end = all_ended.recv_timeout(TOO_LONG);
    assert_eq!(end, Err(disconnected), "a disk thread lives on");
}

#[test]
fn percent_survives_every_number() {
    assert_eq!(percent_of(1, 3), Some(33.33));
    assert_eq!(percent_of(7, 0), None, "of nothing");
    assert_eq!(percent_of(u64::MAX, u64::MAX), Some(100.0));
    assert_eq!(percent_of(u64::MAX, 1), Some(100.0));
    assert_eq!(percent_of(0, 1), Some(0.0));
}

#[cfg(unix)]
#[test]
fn disks_are_counted_as_df_counts_them() {
    // 1000 blocks of which 100 are reserved for root: 450 used and 450 available are half full.
    assert_eq!(used(1000, 550, 450), Some(50.0));
    assert_eq!(used(0, 0, 0), None, "a file system without inodes");
    assert_eq!(used(10, 20, 5), None, "more free than there are");
    assert_eq!(used(5079, u64::MAX, u64::MAX), None, "CephFS");
    assert_eq!(used(u64::MAX, u64::MAX, u64::MAX), None, "-1 of -1");
    assert_eq!(used(1000, 10, u64::MAX - 4), Some(100.0), "minus five");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_system_that_only_this_process_sees_read_only_takes_writes() {
    let mounts = "23 1 254:0 / / ro,relatime shared:1 - ext4 /dev/vda rw,discard\n\
                  30 23 8:1 / /mnt ro,relatime - ext4 /dev/sda1 ro,errors=remount-ro\n";
    assert_eq!(takes_writes(mounts, 23), Some(true));
    assert_eq!(takes_writes(mounts, 30), Some(false));
    assert_eq!(takes_writes(mounts, 31), None);
}

/// Memory that the kernel could give to a new program without swapping is not used.
#[cfg(target_os = "linux")]
#[test]
fn the_machines_memory_is_used_as_far_as_it_is_not_available() {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib = |key: &str| -> u64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    };
    let (total, available) = (kib("MemTotal:"), kib("MemAvailable:"));
    let expected = percent_of(total - available, total).unwrap();
    let found = memory_percent(&mut System::new().unwrap()).unwrap();
    // Other programs allocate and free memory meanwhile.
    assert!(
        (found - expected).abs() < 15.0,
        "{found}, expected {expected}"
    );
}

#[cfg(unix)]
#[test]
fn the_real_root_agrees_with_df() {
    let Ok(output) = std::process::Command::new("df").args(["-P", "/"]).output() else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let df = text
        .split_ascii_whitespace()
        .find_map(|word| word.strip_suffix('%'));
    let (Some(df), Ok(Some(disk))) = (df.and_then(|df| df.parse().ok()), fullness(Path::new("/")))
    else {
        return;
    };
    let df: f64 = df;
    if disk.place == "/" {
        // `df` rounds up, and the disk is in use meanwhile.
        assert!((disk.percent - df).abs() <= 2.0, "{disk:?}, df {df} %");
    }
}
