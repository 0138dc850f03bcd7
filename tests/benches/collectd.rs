//! collectd with callbacks that do nothing, the peer that checks are compared with.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use tempfile::TempDir;

use crate::machine::CpuReading;

/// Returns the CPU time of a callback in seconds, measured for some time with so many callbacks; `None` where collectd is
/// not installed.
pub(crate) fn cpu_of_a_callback(callbacks: usize, interval: f64, time: Duration) -> Option<f64> {
    let folder = tempfile::tempdir().unwrap();
    compile(&folder)?;
    let counters = folder.path().join("counters");
    let mut process = start(&folder, &counters, callbacks, interval)?;
    let clock = Clock::start();
    while count(&counters) == 0 && clock.now() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_secs(2));
    let pid = [process.id().to_string()];
    let (calls, cpu) = (count(&counters), CpuReading::of(&pid));
    thread::sleep(time);
    let spent = CpuReading::of(&pid).since(&cpu);
    let calls = count(&counters) - calls;
    // It may take long to end by itself.
    process.kill().unwrap();
    process.wait().unwrap();
    (calls > 0).then(|| spent.as_secs_f64() / calls as f64)
}

/// Compiles the plugin, if there are a compiler and collectd's headers.
fn compile(folder: &TempDir) -> Option<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/noop.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-DHAVE_CONFIG_H=0"])
        .args(["", "/core", "/core/daemon"].map(|part| format!("-I/usr/include/collectd{part}")))
        .arg(source)
        .arg("-o")
        .arg(folder.path().join("noop.so"))
        .stderr(Stdio::null())
        .status()
        .ok()?;
    compiled.success().then_some(())
}

fn start(folder: &TempDir, counters: &Path, callbacks: usize, interval: f64) -> Option<Child> {
    let place = folder.path().display();
    let config = folder.path().join("collectd.conf");
    let text = format!(
        "Hostname \"localhost\"\nFQDNLookup false\nBaseDir \"{place}\"\nPluginDir \"{place}\"\n\
         TypesDB \"/usr/share/collectd/types.db\"\nInterval {interval}\nReadThreads 5\nWriteThreads 1\n\
         <LoadPlugin noop>\n  Interval {interval}\n</LoadPlugin>\n\
         <Plugin noop>\n  Callbacks {callbacks}\n  Interval {interval}\n  Counters \"{}\"\n</Plugin>\n",
        counters.display()
    );
    fs::write(&config, text).unwrap();
    Command::new("collectd")
        .arg("-f")
        .arg("-C")
        .arg(config)
        .arg("-P")
        .arg(folder.path().join("pid"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

fn count(counters: &Path) -> u64 {
    let bytes = fs::read(counters).unwrap_or_default();
    let (counts, _) = bytes.as_chunks();
    counts.iter().map(|count| u64::from_ne_bytes(*count)).sum()
}
