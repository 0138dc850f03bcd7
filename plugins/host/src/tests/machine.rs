//! The machine: this one, and others that folders describe.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use conductor_plugin_api::{Report, Status, testing::TestHost};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::check;
use crate::{HostProbe, linux::KernelFolders, metrics::*};

/// The folders of a machine with two CPUs and 1000 MiB of memory, of which 200 MiB are available.
fn machine(changes: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("proc/loadavg", "1.00 4.00 3.00 1/100 1234\n"),
        ("proc/stat", STAT),
        ("proc/meminfo", MEMINFO),
        (
            "proc/pressure/cpu",
            "some avg10=1.00 avg60=12.50 avg300=3.00 total=1\n",
        ),
        ("proc/pressure/memory", PRESSURE_LINES),
        ("proc/pressure/io", PRESSURE_LINES),
        ("proc/uptime", "600.25 1000.00\n"),
        ("proc/sys/kernel/random/entropy_avail", "256\n"),
        ("proc/sys/fs/file-nr", "850\t0\t1000\n"),
        ("sys/class/hwmon/hwmon0/name", "coretemp\n"),
        ("sys/class/hwmon/hwmon0/temp1_input", "61500\n"),
        ("sys/class/hwmon/hwmon0/temp1_label", "Package id 0\n"),
        ("sys/class/hwmon/hwmon0/temp2_input", "-273000\n"),
        ("sys/class/hwmon/hwmon1/name", "coretemp\n"),
        ("sys/class/hwmon/hwmon1/temp1_input", "40000\n"),
        ("sys/class/hwmon/hwmon1/temp1_label", "Package id 0\n"),
        ("sys/class/thermal/thermal_zone0/type", "acpitz\n"),
        ("sys/class/thermal/thermal_zone0/temp", "27800\n"),
    ];
    let mut files: BTreeMap<_, _> = files.into_iter().collect();
    files.extend(changes.iter().copied());
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if content != MISSING {
            fs::write(path, content).unwrap();
        }
    }
    folder
}

fn probe(folder: &Path, config: &Value) -> (TestHost, HostProbe) {
    // The first check measures the CPUs for a quarter of its time.
    let host = TestHost::new("there").timeout(Duration::from_millis(40));
    let mut probe = host.create::<HostProbe>(&config.to_string()).unwrap();
    probe.inner.folders = KernelFolders {
        proc: folder.join("proc"),
        sys: folder.join("sys"),
    };
    (host, probe)
}

fn judged(changes: &[(&str, &str)], config: &Value) -> Result<Report, String> {
    let folder = machine(changes);
    let (host, mut probe) = probe(folder.path(), config);
    host.check(&mut probe)
        .map_err(|failure| failure.message().to_owned())
}

const MISSING: &str = "(no such file)";
const STAT: &str = "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 50 0 50 400 0 0 0 0 0 0\ncpu1 50 0 50 400 0 0 0 0 0 0\n\
                    ctxt 1\nbtime 1\nprocesses 1\n";
const LATER_STAT: &str = "cpu  130 0 110 840 10 0 0 10 0 0\ncpu0 50 0 50 400 0 0 0 0 0 0\n\
                          cpu1 50 0 50 400 0 0 0 0 0 0\nctxt 1\nbtime 1\nprocesses 1\n";
const MEMINFO: &str = "MemTotal: 1024000 kB\nMemFree: 1000 kB\nMemAvailable: 204800 kB\nBuffers: 0 kB\nCached: 0 kB\n\
                       SwapCached: 0 kB\nActive: 0 kB\nInactive: 0 kB\nSwapTotal: 1000 kB\nSwapFree: 400 kB\nDirty: 0 kB\n\
                       Writeback: 0 kB\nMapped: 0 kB\nSlab: 0 kB\nCommitted_AS: 0 kB\nVmallocTotal: 0 kB\nVmallocUsed: 0 kB\n\
                       VmallocChunk: 0 kB\n";
const PRESSURE_LINES: &str = "some avg10=0.00 avg60=7.25 avg300=0.00 total=1\n\
                              full avg10=0.00 avg60=3.10 avg300=0.00 total=1\n";

#[test]
fn this_machine_is_measured() {
    let report = check(&json!({
        "memory_available_percent": { "unhealthy_below": 0 },
        "file_handles_percent": { "unhealthy_above": 100 },
    }))
    .unwrap();
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    let value = |found: Option<f64>| found.unwrap_or_else(|| panic!("{report:?}"));
    assert!(value(report.value(&CPUS, [])) >= 1.0);
    let busy = value(report.value(&CPU, ["busy"]));
    assert!((0.0..=100.0).contains(&busy), "{busy}");
    let size = value(report.value(&MEMORY_SIZE, []));
    let available = value(report.value(&MEMORY_AVAILABLE, []));
    assert!(available > 0.0 && available < size, "{available} {size}");
    assert!(value(report.value(&UPTIME, [])) > 1.0);
    assert!(value(report.value(&FILE_HANDLES, [])) > 1.0);
    let synchronized = value(report.value(&CLOCK_SYNCHRONIZED, []));
    assert!([0.0, 1.0].contains(&synchronized));
}

#[test]
fn the_figures_are_those_of_the_kernel() {
    let report = judged(
        &[],
        &json!({ "file_handles_percent": { "unhealthy_above": 90 } }),
    )
    .unwrap();
    for (found, expected) in [
        (report.value(&LOAD, ["5m"]), 4.0),
        (report.value(&CPUS, []), 2.0),
        (report.value(&MEMORY_AVAILABLE, []), 200.0 * 1_048_576.0),
        (report.value(&SWAP_USED, []), 600.0 * 1024.0),
        (report.value(&PRESSURE, ["cpu", "some"]), 12.5),
        (report.value(&PRESSURE, ["io", "all"]), 3.1),
        (report.value(&UPTIME, []), 600.25),
        (report.value(&ENTROPY, []), 256.0),
        (report.value(&TEMPERATURE, ["coretemp Package id 0"]), 61.5),
        (
            report.value(&TEMPERATURE, ["coretemp Package id 0 2"]),
            40.0,
        ),
        (report.value(&TEMPERATURE, ["acpitz"]), 27.8),
        (report.value(&FILE_HANDLES_LIMIT, []), 1000.0),
    ] {
        assert_eq!(found, Some(expected), "{report:?}");
    }
    assert_eq!(report.value(&PRESSURE, ["cpu", "all"]), None);
    assert_eq!(
        report.value(&TEMPERATURE, ["coretemp temp2"]),
        None,
        "implausible"
    );
    assert_eq!(
        report.message(),
        "load 2.00 per CPU, 20.0 % of 1000.0 MiB memory available, 62 °C, up for 10 min 0 s"
    );
}

#[test]
fn each_value_is_judged_by_its_limits() {
    for (limits, said) in [
        (
            json!({ "load_per_cpu": { "unhealthy_above": 1.5 } }),
            "load 2.00 per CPU (`load_per_cpu.unhealthy_above` is 1.5)",
        ),
        (
            json!({ "memory_available_percent": { "unhealthy_below": 25 } }),
            "20.0 % of 1000.0 MiB memory available (`memory_available_percent.unhealthy_below` is 25)",
        ),
        (
            json!({ "swap_used_percent": { "unhealthy_above": 50 } }),
            "60.0 % of 1000.0 KiB swap space used (`swap_used_percent.unhealthy_above` is 50)",
        ),
        (
            json!({ "cpu_pressure_percent": { "unhealthy_above": 12 } }),
            "cpu pressure 12.5 % (`cpu_pressure_percent.unhealthy_above` is 12)",
        ),
        (
            json!({ "memory_pressure_percent": { "unhealthy_above": 7 } }),
            "memory pressure 7.2 % (`memory_pressure_percent.unhealthy_above` is 7)",
        ),
        (
            json!({ "io_pressure_percent": { "unhealthy_above": 7 } }),
            "io pressure 7.2 % (`io_pressure_percent.unhealthy_above` is 7)",
        ),
        (
            json!({ "uptime": { "unhealthy_below": "15m" } }),
            "up for 10 min 0 s (`uptime.unhealthy_below` is 15m)",
        ),
        (
            json!({ "entropy_bits": { "unhealthy_below": 300 } }),
            "256 bits of entropy (`entropy_bits.unhealthy_below` is 300)",
        ),
        (
            json!({ "temperature_celsius": { "unhealthy_above": 60 } }),
            "sensor coretemp Package id 0 at 61.5 °C (`temperature_celsius.unhealthy_above` is 60)",
        ),
        (
            json!({ "file_handles_percent": { "unhealthy_above": 84 } }),
            "85.0 % of 1000 file handles in use (`file_handles_percent.unhealthy_above` is 84)",
        ),
    ] {
        let mut config = limits;
        let keys = config.as_object_mut().unwrap();
        keys.entry("file_handles_percent")
            .or_insert(json!({ "unhealthy_above": 90 }));
        let report = judged(&[], &config).unwrap();
        assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
        assert_eq!(report.message(), said);
    }
}

#[test]
fn memory_and_file_handles_have_limits_without_a_config() {
    let report = judged(&[], &json!({})).unwrap();
    assert_eq!(report.status(), Status::Degraded);
    assert_eq!(
        report.message(),
        "85.0 % of 1000 file handles in use (`file_handles_percent.degraded_above` is 80)"
    );
    let little = MEMINFO.replace("MemAvailable: 204800", "MemAvailable: 51199");
    let report = judged(&[("proc/meminfo", &little)], &json!({})).unwrap();
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
}

#[test]
fn the_use_of_the_cpus_is_that_between_two_checks() {
    let folder = machine(&[]);
    let config = json!({ "cpu_busy_percent": { "degraded_above": 49 }, "file_handles_percent": { "unhealthy_above": 90 } });
    let (host, mut probe) = probe(folder.path(), &config);
    let failure = host.check(&mut probe).unwrap_err();
    assert_eq!(
        failure.message(),
        "cannot judge `cpu_busy_percent`: this machine has no CPU time between two samples"
    );
    fs::write(folder.path().join("proc/stat"), LATER_STAT).unwrap();
    let report = host.check(&mut probe).unwrap();
    assert_eq!(
        report.message(),
        "CPU 50.0 % busy (`cpu_busy_percent.degraded_above` is 49)"
    );
    assert_eq!(report.value(&CPU, ["steal"]), Some(10.0));
    assert_eq!(report.value(&CPU, ["iowait"]), Some(10.0));
}

#[test]
fn a_value_with_limits_that_the_machine_does_not_have_is_a_failure() {
    let nothing = [
        ("sys/class/hwmon/hwmon0/temp1_input", MISSING),
        ("sys/class/hwmon/hwmon0/temp2_input", MISSING),
        ("sys/class/hwmon/hwmon1/temp1_input", MISSING),
        ("sys/class/thermal/thermal_zone0/temp", MISSING),
        ("proc/pressure/io", MISSING),
    ];
    let plain = json!({ "file_handles_percent": { "unhealthy_above": 90 } });
    let report = judged(&nothing, &plain).unwrap();
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert!(!report.message().contains("°C"), "{report:?}");

    let mut config = plain;
    config["temperature_celsius"] = json!({ "degraded_above": 80 });
    config["io_pressure_percent"] = json!({ "degraded_above": 80 });
    let said = judged(&nothing, &config).unwrap_err();
    assert!(
        said.contains("cannot judge `temperature_celsius`: this machine has no temperature sensor")
            && said.contains("cannot judge `io_pressure_percent`: this machine has no"),
        "{said}"
    );

    config["load_per_cpu"] = json!({ "unhealthy_above": 1 });
    let report = judged(&nothing, &config).unwrap();
    assert_eq!(report.status(), Status::Unhealthy);
    assert!(
        report.message().starts_with("load 2.00") && report.message().contains("temperature"),
        "{report:?}"
    );
}

#[test]
fn a_value_that_cannot_be_read_is_named_and_has_no_metric() {
    let plain = json!({ "file_handles_percent": { "unhealthy_above": 90 } });
    for (file, content) in [
        ("proc/loadavg", ""),
        ("proc/uptime", "soon"),
        ("proc/pressure/memory", "none"),
        ("proc/sys/kernel/random/entropy_avail", "a lot"),
    ] {
        let report = judged(&[(file, content)], &plain).unwrap();
        assert_eq!(report.status(), Status::Healthy);
        assert!(
            report.message().contains("cannot read /") && report.message().contains(file),
            "{report:?}"
        );
    }
    let without = MEMINFO.replace("MemAvailable", "MemUnheardOf");
    let said = judged(&[("proc/meminfo", &without)], &plain).unwrap_err();
    assert!(said.contains("no `MemAvailable`"), "{said}");
}
