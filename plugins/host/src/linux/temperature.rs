//! The temperature sensors of this machine, from `/sys/class/hwmon` and `/sys/class/thermal`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::reading::{Reading, ReadingError};

/// The temperature of each sensor in degrees Celsius, by the name of its chip and its own.
///
/// A sensor that does not respond, such as that of a suspended device, or whose value is implausible is left out.
pub(crate) fn temperatures(sys: &Path) -> Reading<BTreeMap<String, f64>> {
    let mut found = BTreeMap::new();
    for chip in entries(&sys.join("class/hwmon"), "hwmon") {
        let name = text(&chip.join("name"));
        for input in entries(&chip, "temp") {
            let file = input.to_string_lossy();
            let Some(sensor) = file.strip_suffix("_input") else {
                continue;
            };
            let own = text(Path::new(&format!("{sensor}_label")))
                .or_else(|| Some(Path::new(sensor).file_name()?.to_str()?.to_owned()));
            add(&mut found, [name.clone(), own], &input);
        }
    }
    for zone in entries(&sys.join("class/thermal"), "thermal_zone") {
        add(
            &mut found,
            [text(&zone.join("type")), None],
            &zone.join("temp"),
        );
    }
    if found.is_empty() {
        let places = "temperature sensor that responds in /sys/class/hwmon or /sys/class/thermal";
        return Err(ReadingError::Absent(places.to_owned()));
    }
    Ok(found)
}

/// Adds a sensor; a second one of the same name gets a number.
fn add(found: &mut BTreeMap<String, f64>, name: [Option<String>; 2], input: &Path) {
    let millidegrees: Option<f64> = text(input).and_then(|text| text.parse().ok());
    let Some(value) = millidegrees.map(|value| value / 1000.0) else {
        return;
    };
    if !PLAUSIBLE.contains(&value) || found.len() >= MAX_SENSORS {
        return;
    }
    let name = name.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let mut unique = name.clone();
    let mut number = 1;
    while found.contains_key(&unique) {
        number += 1;
        unique = format!("{name} {number}");
    }
    found.insert(unique, value);
}

/// Returns the entries of a folder whose names start with `prefix`, in order; none if it cannot be read.
fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Sensors without a device report values such as -273 or 255 °C.
const PLAUSIBLE: std::ops::Range<f64> = -60.0..250.0;
/// Number of sensors with a series of their own.
const MAX_SENSORS: usize = 64;
